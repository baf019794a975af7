//! A study: the same run over seeds and settings, in one directory with one store.
//!
//! What the runs have in common is made once: stages are found by what they depend on. A study that
//! was killed goes on where it was; one whose results are kept goes on on any machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::event::{Event, Watcher};
use crate::kept_results;
use crate::pipeline::{self, Start};
use crate::plan::Plan;
use crate::run_file::{RunFile, StudySection, put, shown};

/// The store of a study that shares none.
const STAGES: &str = "stages";

/// A run of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRun {
    /// What it has otherwise than the others: `ra3.rounds=2`; empty where nothing is varied.
    pub variation: String,
    /// Its seed.
    pub seed: u64,
    /// What it does.
    pub plan: Plan,
}

/// The directory of a run file's study: beside that of its run.
pub fn directory(file: &RunFile) -> PathBuf {
    let name = file.directory.file_name().unwrap_or_default();
    let name = format!("{}-study", name.to_string_lossy());
    file.directory.with_file_name(name)
}

/// The arm that others are compared with.
pub fn against(file: &RunFile) -> Option<String> {
    let named = file.study.as_ref().and_then(|study| study.against.clone());
    named.or_else(|| Some(file.arms.first()?.name.clone()))
}

/// The runs of a study, all of them planned before any begins.
///
/// # Errors
/// There is no `[study]`, a key of it leads nowhere, or a plan is refused: the run is named.
pub fn runs(file: &RunFile) -> Result<Vec<StudyRun>> {
    let study = file.study.as_ref().context(
        "the run file has no [study]: add one, such as\n[study]\nseeds = [1, 2, 3]\nvary = { \
         \"ra3.e_step.penalty.cost\" = [0.1, 0.3] }",
    )?;
    study.check(&file.arms)?;
    let mut runs = Vec::new();
    for changes in combinations(study) {
        let shown = |(key, value): &(&str, &Value)| format!("{key}={}", shown(value));
        let variation: Vec<String> = changes.iter().map(shown).collect();
        let variation = variation.join(" ");
        for seed in &study.seeds {
            let plan = plan(file, &changes, *seed)
                .with_context(|| format!("study, seed {seed} {variation}"))?;
            let variation = variation.clone();
            let seed = *seed;
            runs.push(StudyRun {
                variation,
                seed,
                plan,
            });
        }
    }
    Ok(runs)
}

/// Runs what is not done yet of a study. Returns the run directories.
///
/// # Errors
/// As [`runs`]; other results are kept under the name of a run; a run fails: the same call
/// continues from there.
pub fn run(file: &RunFile, start: Start<'_>, watcher: &mut Watcher<'_>) -> Result<Vec<PathBuf>> {
    let runs = runs(file)?;
    let results = file.study.as_ref().and_then(|it| it.results.as_deref());
    let kept: Vec<Option<PathBuf>> = match results {
        Some(results) => {
            let kept = runs
                .iter()
                .map(|run| kept_results::find(&run.plan, results));
            kept.collect::<Result<_>>()?
        }
        None => vec![None; runs.len()],
    };
    // The page goes there, also where no run has to.
    let folder = directory(file);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut directories = Vec::new();
    for (place, (run, kept)) in runs.iter().zip(kept).enumerate() {
        let title = format!(
            "run {} of {}: seed {} {}",
            place + 1,
            runs.len(),
            run.seed,
            run.variation
        );
        if let Some(kept) = kept {
            let note = format!("{title}: its records are in {}", kept.display());
            watcher(Event::Note(note));
            directories.push(kept);
            continue;
        }
        watcher(Event::Note(title));
        pipeline::run(&run.plan, start, watcher)
            .with_context(|| format!("study, seed {} {}", run.seed, run.variation))?;
        if let Some(results) = results {
            kept_results::keep(&run.plan, results)?;
        }
        directories.push(run.plan.file.directory.clone());
    }
    Ok(directories)
}

/// Every combination of the values, the last key's changing first.
fn combinations(study: &StudySection) -> Vec<Vec<(&str, &Value)>> {
    let mut all = vec![Vec::new()];
    for (key, values) in &study.vary {
        let mut longer = Vec::new();
        for before in &all {
            for value in values {
                let mut changes: Vec<(&str, &Value)> = Vec::clone(before);
                changes.push((key, value));
                longer.push(changes);
            }
        }
        all = longer;
    }
    all
}

fn plan(file: &RunFile, changes: &[(&str, &Value)], seed: u64) -> Result<Plan> {
    let mut named = file.clone();
    named.name_measures();
    let mut table = Table::try_from(named).expect("a run file is made of TOML's types");
    table.remove("study");
    for (key, value) in changes {
        put(&mut table, key, (*value).clone())
            .map_err(|message| anyhow::anyhow!("study.vary, {key}: {message}"))?;
    }
    let own: RunFile = table.try_into().context("study.vary")?;
    let place = directory(file);
    Plan::new(RunFile {
        seed,
        directory: place.join(folder(changes, seed)),
        store: Some(own.store.clone().unwrap_or_else(|| place.join(STAGES))),
        ..own
    })
}

/// The name of a run's folder: `ra3.rounds=2-seed-1`. What is no name of a file is left out, and
/// then a hash of the whole tells values apart.
fn folder(changes: &[(&str, &Value)], seed: u64) -> String {
    const LENGTH_MAX: usize = 80;
    let named = changes.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{key}={text}"),
        value => format!("{key}={}", shown(value)),
    });
    let whole = named.collect::<Vec<_>>().join("_");
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.=".contains(*c);
    let plain: String = whole.chars().filter(is_plain).take(LENGTH_MAX).collect();
    if plain.is_empty() {
        format!("seed-{seed}")
    } else if plain == whole {
        format!("{plain}-seed-{seed}")
    } else {
        let hash = blake3::hash(whole.as_bytes()).to_hex();
        format!("{plain}-{}-seed-{seed}", &hash[..8])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(study: &str) -> RunFile {
        let text = include_str!("../../../runs/tiny.toml");
        let text = format!("{text}\n[study]\n{study}");
        crate::run_file::parse(&text, Path::new("runs/tiny.toml"), &[]).unwrap()
    }

    #[test]
    fn every_seed_meets_every_combination() {
        let file = file(
            "seeds = [1, 2]\n[study.vary]\n\"ra3.rounds\" = [1, 2]\n\
             \"arms.ntp.rlvr\" = [true, false]\n",
        );
        let runs = runs(&file).unwrap();
        let names: Vec<(&str, u64)> = runs
            .iter()
            .map(|run| (run.variation.as_str(), run.seed))
            .collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], ("arms.ntp.rlvr=true ra3.rounds=1", 1));
        assert_eq!(names[3], ("arms.ntp.rlvr=true ra3.rounds=2", 2));
        let last = &runs[7].plan;
        assert_eq!((last.file.seed, last.file.ra3.rounds), (2, 2));
        assert!(!last.arms[1].goes_to_rlvr && runs[0].plan.arms[1].goes_to_rlvr);
        let place = "runs/out/tiny-study/arms.ntp.rlvr=false_ra3.rounds=2-seed-2";
        assert_eq!(last.file.directory, Path::new(place));
        let store = Path::new("runs/out/tiny-study/stages");
        assert_eq!(last.file.store.as_deref(), Some(store));
    }

    #[test]
    fn what_cannot_be_run_is_said_before_anything_runs() {
        for (key, value, expected) in [
            ("ra3.e_step.group_size", 1, "group_size=1"),
            ("arms.ntp.rlvr", 3, "study.vary"),
            ("arms.nobody.rlvr", 1, "nobody"),
        ] {
            let mut file = file("seeds = [1]\n");
            let study = file.study.as_mut().unwrap();
            study
                .vary
                .insert(key.to_owned(), vec![Value::Integer(value)]);
            let message = format!("{:#}", runs(&file).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
    }
    #[test]
    fn every_run_has_a_folder_of_its_own() {
        let value = |text: &str| Value::String(text.to_owned());
        let (odd, other) = (value("a b"), value("a/b"));
        let long = ["x", "y"].map(|end| value(&("long".repeat(40) + end)));
        let lists = [[1, 2], [1, 3]].map(|list| Value::Array(list.map(Value::Integer).into()));
        let plain = value("exact_kl");
        assert_eq!(folder(&[("kind", &plain)], 7), "kind=exact_kl-seed-7");
        let all = [
            &odd, &other, &long[0], &long[1], &lists[0], &lists[1], &plain,
        ];
        let folders = all.map(|value| folder(&[("key", value)], 7));
        let mut found = folders.to_vec();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), folders.len(), "{folders:?}");
        assert!(folders.iter().all(|name| name.len() < 120), "{folders:?}");
    }

    #[test]
    fn what_is_no_study_is_refused() {
        for (study, expected) in [
            ("seeds = []", "seeds is empty"),
            ("seeds = [1, 2, 1]", "has 1 twice"),
            (
                "seeds = [1]\nvary = { seed = [1, 2] }",
                "the seeds are study.seeds",
            ),
            (
                "seeds = [1]\nvary = { directory = [\"a\"] }",
                "folder of its own",
            ),
            ("seeds = [1]\nvary = { \"ra3.rounds\" = [] }", "is empty"),
            (
                "seeds = [1]\nvary = { \"ra3.rounds\" = [1, 2, 1] }",
                "has 1 twice",
            ),
            (
                "seeds = [1]\nvary = { \"study.against\" = [\"ntp\"] }",
                "varies no study",
            ),
            (
                "seeds = [1]\nagainst = \"nobody\"",
                "the arms are base, ntp",
            ),
        ] {
            let message = format!("{:#}", runs(&file(study)).unwrap_err());
            assert!(message.contains(expected), "{study}: {message}");
        }
    }
}
