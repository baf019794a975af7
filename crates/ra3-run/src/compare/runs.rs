//! Run directories → the runs that are compared: what their settings have in common is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::RunRecords;
use crate::directory::{self, read_state};
use crate::journal::read_journal;
use crate::run_file::{RunFile, settings};

/// Settings that say nothing about what is compared.
const PASSED_OVER: [&str; 6] = [
    "name",
    "seed",
    "n_threads",
    "checkpoint_every",
    "training.cache_mib",
    "grading.n_workers",
];

/// Longest variation that is a title; where there are longer ones, they get letters and a table.
const TITLE_MAX: usize = 100;

/// Reads the runs in some directories.
///
/// # Errors
/// One is no run's, or not finished; a file of it cannot be read.
pub fn read(directories: &[PathBuf]) -> Result<Vec<RunRecords>> {
    let read = directories.iter().map(|directory| read_one(directory));
    let mut runs: Vec<RunRecords> = read.collect::<Result<_>>()?;
    keep_what_differs(&mut runs);
    name_variations(&mut runs);
    Ok(runs)
}

pub(super) fn keep_what_differs(runs: &mut [RunRecords]) {
    let all = runs.iter().flat_map(|run| run.settings.keys().cloned());
    let mut differing: BTreeSet<String> = all.collect();
    differing.retain(|key| {
        let first = runs[0].settings.get(key);
        runs.iter().any(|run| run.settings.get(key) != first)
    });
    for run in runs {
        run.settings.retain(|key, _| differing.contains(key));
    }
}

pub(super) fn name_variations(runs: &mut [RunRecords]) {
    let is_long = runs
        .iter()
        .any(|run| title(&run.settings).chars().count() > TITLE_MAX);
    let mut met: Vec<BTreeMap<String, String>> = Vec::new();
    for run in runs {
        let place = met.iter().position(|settings| *settings == run.settings);
        let place = place.unwrap_or_else(|| {
            met.push(run.settings.clone());
            met.len() - 1
        });
        run.variation = if is_long {
            format!("settings {}", place + 1)
        } else {
            title(&run.settings)
        };
    }
}

/// Settings in a line; where all have the same, nothing.
pub(super) fn title(settings: &BTreeMap<String, String>) -> String {
    let named = settings.iter().map(|(key, value)| format!("{key}={value}"));
    named.collect::<Vec<_>>().join(" ")
}

fn read_one(directory: &Path) -> Result<RunRecords> {
    let state = directory::state(directory)?;
    let file: RunFile = toml::from_str(&state.plan)
        .with_context(|| format!("{}: its plan is of another version", directory.display()))?;
    ensure!(
        state.is_finished,
        "the run in {} is not finished: `ra3 run` goes on with it",
        directory.display()
    );
    let is_compared = |key: &String| !PASSED_OVER.contains(&key.as_str());
    let mut settings = settings(&file);
    settings.retain(|key, _| is_compared(key) && !key.starts_with("study."));
    Ok(RunRecords {
        directory: directory.to_owned(),
        variation: String::new(),
        settings,
        seed: file.seed,
        ledger: read_journal(&directory.join("ledger.jsonl"))?,
    })
}

/// The run directories that some paths name: a study's directory stands for its runs.
///
/// # Errors
/// A path is no directory, or there is no run in it.
pub fn directories(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if read_state(path)?.is_some() {
            found.push(path.clone());
            continue;
        }
        let context = || format!("cannot read {}", path.display());
        let entries = std::fs::read_dir(path).with_context(context)?;
        let mut below = Vec::new();
        for entry in entries {
            let entry = entry.with_context(context)?.path();
            if entry.is_dir() && read_state(&entry)?.is_some() {
                below.push(entry);
            }
        }
        ensure!(
            !below.is_empty(),
            "{} is neither a run's directory nor a study's",
            path.display()
        );
        below.sort();
        found.extend(below);
    }
    Ok(found)
}
