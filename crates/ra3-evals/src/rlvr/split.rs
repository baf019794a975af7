//! Splits that keep twins on one side.

use std::collections::{BTreeMap, BTreeSet};

use ra3::seed::Seed;

use crate::task::Task;

/// Questions that share so many of their words are twins (Jaccard's index).
pub const TWIN_SHARE: f64 = 0.8;

/// The words of a text, in lower case.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// True if two texts share so many of their words that one gives the other away.
pub(crate) fn are_twins(a: &BTreeSet<String>, b: &BTreeSet<String>) -> bool {
    let n_common = a.intersection(b).count();
    let n_all = a.len() + b.len() - n_common;
    n_all > 0 && n_common as f64 >= TWIN_SHARE * n_all as f64
}

/// Tasks to train on, and about this share of them held out: twins, twins of twins, and
/// instances of one puzzle on one side.
pub fn split(tasks: Vec<Task>, share: f64, seed: Seed) -> (Vec<Task>, Vec<Task>) {
    let groups = groups(&tasks);
    let n_groups = groups.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0; n_groups];
    groups.iter().for_each(|group| sizes[*group] += 1);
    let n_wanted = (share * tasks.len() as f64).round() as usize;
    let mut is_held_out = vec![false; n_groups];
    let mut n_held_out = 0;
    for group in seed.permutation(n_groups) {
        if n_held_out + sizes[group] <= n_wanted {
            n_held_out += sizes[group];
            is_held_out[group] = true;
        }
    }
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for (task, group) in tasks.into_iter().zip(groups) {
        let side = if is_held_out[group] {
            &mut held_out
        } else {
            &mut training
        };
        side.push(task);
    }
    (training, held_out)
}

/// The number of each task's group of twins, from 0 in the order of their first.
fn groups(tasks: &[Task]) -> Vec<usize> {
    let texts: Vec<BTreeSet<String>> = tasks.iter().map(|task| words(task.question())).collect();
    // Each points to an earlier one of its group, or is the first.
    let mut earlier_of: Vec<usize> = (0..tasks.len()).collect();
    for (later, earlier) in twins(&texts) {
        join(&mut earlier_of, later, earlier);
    }
    let mut first_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, task) in tasks.iter().enumerate() {
        if task.task_id().starts_with("puzzle/") {
            let first = *first_of.entry(task.family()).or_insert(index);
            join(&mut earlier_of, index, first);
        }
    }
    let firsts: Vec<usize> = (0..tasks.len())
        .map(|index| first(&earlier_of, index))
        .collect();
    let mut names = firsts.clone();
    names.sort_unstable();
    names.dedup();
    let number = |first: &usize| names.binary_search(first).expect("it is one of them");
    firsts.iter().map(number).collect()
}

fn first(earlier_of: &[usize], mut index: usize) -> usize {
    while earlier_of[index] != index {
        index = earlier_of[index];
    }
    index
}

fn join(earlier_of: &mut [usize], a: usize, b: usize) {
    let (a, b) = (first(earlier_of, a), first(earlier_of, b));
    earlier_of[a.max(b)] = a.min(b);
}

/// All pairs of twins, the later first. Sets are tens of thousands of texts, so not every pair is
/// looked at: of two twins with n words in an order common to all texts, each shares one of its
/// first `n − ⌊TWIN_SHARE·n⌋ + 1` with the other's. With the rare words first few texts have any.
fn twins(texts: &[BTreeSet<String>]) -> Vec<(usize, usize)> {
    let mut n_texts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in texts.iter().flatten() {
        *n_texts.entry(word).or_default() += 1;
    }
    let mut with: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for (later, text) in texts.iter().enumerate() {
        let mut rare: Vec<&str> = text.iter().map(String::as_str).collect();
        rare.sort_by_key(|word| (n_texts[word], *word));
        let n_shared = (TWIN_SHARE * text.len() as f64).floor() as usize;
        rare.truncate(text.len() - n_shared + 1);
        let mut candidates = BTreeSet::new();
        for word in rare {
            let before = with.entry(word).or_default();
            candidates.extend(before.iter().copied());
            before.push(later);
        }
        let is_twin = |earlier: &usize| are_twins(text, &texts[*earlier]);
        found.extend(
            candidates
                .into_iter()
                .filter(is_twin)
                .map(|earlier| (later, earlier)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    fn problem((task_id, prompt): (&str, &str)) -> Problem {
        Problem {
            task_id: task_id.to_owned(),
            prompt: prompt.to_owned(),
            family: task_id.split(':').next().unwrap_or_default().to_owned(),
            ..Problem::default()
        }
    }

    #[test]
    fn twins_stay_together() {
        let problems = [
            ("a", "one two three four five six seven eight nine ten"),
            ("b", "something else entirely"),
            ("c", "One two, three four five six seven eight nine."),
            ("puzzle/P:0", "x"),
            ("puzzle/Q:0", "y"),
            ("puzzle/P:1", "z"),
        ]
        .map(problem);
        let tasks = || Task::functions(problems.to_vec());
        assert_eq!(groups(&tasks()), [0, 1, 0, 2, 3, 2]);
        for seed in 0..20 {
            let (training, held_out) = split(tasks(), 0.5, Seed::root(seed));
            assert_eq!(training.len() + held_out.len(), 6);
            assert!(held_out.len() <= 3 && held_out.len() >= 2);
            let is_out = |name: &str| held_out.iter().any(|problem| problem.task_id() == name);
            assert_eq!(is_out("a"), is_out("c"));
            assert_eq!(is_out("puzzle/P:0"), is_out("puzzle/P:1"));
        }
    }

    #[test]
    fn no_twins_are_missed() {
        // Texts of few words, of which many are alike, compared pair by pair.
        let text = |index: usize| {
            let seed = Seed::root(7).nth(index as u64);
            let n_words = 1 + index % 12;
            let order = seed.permutation(14);
            let words = order[..n_words].iter().map(usize::to_string);
            words.collect::<BTreeSet<String>>()
        };
        let texts: Vec<BTreeSet<String>> = (0..300).map(text).collect();
        let mut found = twins(&texts);
        found.sort_unstable();
        let pairs = (0..300).flat_map(|later| (0..later).map(move |earlier| (later, earlier)));
        let all: Vec<(usize, usize)> = pairs
            .filter(|(later, earlier)| are_twins(&texts[*later], &texts[*earlier]))
            .collect();
        assert!(all.len() > 20, "{}", all.len());
        assert_eq!(found, all);
    }
}
