//! What sets have in common: prompts for base models, and splits that keep twins on one side.

use std::collections::BTreeSet;

use ra3::seed::Seed;

use crate::problem::Problem;

/// Questions that share so many of their words are twins (Jaccard's index).
pub const TWIN_SHARE: f64 = 0.8;

/// A text as comment lines.
pub(crate) fn commented(text: &str) -> String {
    let line = |line: &str| format!("# {line}").trim_end().to_owned() + "\n";
    text.lines()
        .map(line)
        .fold(String::new(), |all, line| all + &line)
}

/// A text as a docstring that is a file's first statement, as MBPP+ has it.
pub(crate) fn docstring(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace("\"\"\"", "'''");
    format!("\"\"\"\n{text}\n\"\"\"\n")
}

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

/// Problems to train on, and about this share of them held out: twins, twins of twins, and
/// instances of one puzzle on one side.
pub fn split(problems: Vec<Problem>, share: f64, seed: Seed) -> (Vec<Problem>, Vec<Problem>) {
    let groups = groups(&problems);
    let n_groups = groups.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0; n_groups];
    groups.iter().for_each(|group| sizes[*group] += 1);
    let n_wanted = (share * problems.len() as f64).round() as usize;
    let mut is_held_out = vec![false; n_groups];
    let mut n_held_out = 0;
    for group in seed.permutation(n_groups) {
        if n_held_out + sizes[group] <= n_wanted {
            n_held_out += sizes[group];
            is_held_out[group] = true;
        }
    }
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for (problem, group) in problems.into_iter().zip(groups) {
        let side = if is_held_out[group] {
            &mut held_out
        } else {
            &mut training
        };
        side.push(problem);
    }
    (training, held_out)
}

/// The number of each problem's group of twins, from 0 in the order of their first.
fn groups(problems: &[Problem]) -> Vec<usize> {
    let question = |problem: &Problem| {
        let prompt = &problem.prompt;
        words(
            prompt
                .strip_prefix(problem.prelude.trim_end())
                .unwrap_or(prompt),
        )
    };
    let texts: Vec<BTreeSet<String>> = problems.iter().map(question).collect();
    let mut groups: Vec<usize> = (0..problems.len()).collect();
    for later in 0..problems.len() {
        for earlier in 0..later {
            let is_instance = problems[later].task_id.starts_with("puzzle/")
                && problems[later].family == problems[earlier].family;
            let (from, to) = (groups[later], groups[earlier]);
            if from != to && (is_instance || are_twins(&texts[later], &texts[earlier])) {
                let members = groups.iter_mut().filter(|group| **group == from);
                members.for_each(|group| *group = to);
            }
        }
    }
    let mut names: Vec<usize> = groups.clone();
    names.sort_unstable();
    names.dedup();
    let number = |group: &usize| names.binary_search(group).expect("it is one of them");
    groups.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(task_id: &str, prompt: &str) -> Problem {
        Problem {
            task_id: task_id.to_owned(),
            prompt: prompt.to_owned(),
            entry_point: String::new(),
            canonical_solution: String::new(),
            test: String::new(),
            setup: String::new(),
            preamble: None,
            prelude: String::new(),
            family: task_id.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn twins_stay_together() {
        let problems = vec![
            problem("a", "one two three four five six seven eight nine ten"),
            problem("b", "something else entirely"),
            problem("c", "One two, three four five six seven eight nine."),
            problem("puzzle/P:0", "x"),
            problem("puzzle/Q:0", "y"),
            problem("puzzle/P:1", "z"),
        ];
        assert_eq!(groups(&problems), [0, 1, 0, 2, 3, 2]);
        for seed in 0..20 {
            let (training, held_out) = split(problems.clone(), 0.5, Seed::root(seed));
            assert_eq!(training.len() + held_out.len(), 6);
            assert!(held_out.len() <= 3 && held_out.len() >= 2);
            let is_out = |name: &str| held_out.iter().any(|problem| problem.task_id == name);
            assert_eq!(is_out("a"), is_out("c"));
            assert_eq!(is_out("puzzle/P:0"), is_out("puzzle/P:1"));
        }
    }

    #[test]
    fn prompts_by_hand() {
        assert_eq!(commented("a\n\nb"), "# a\n#\n# b\n");
        assert_eq!(docstring("a \"\"\" \\n"), "\"\"\"\na ''' \\\\n\n\"\"\"\n");
    }
}
