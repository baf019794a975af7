//! Run directories → the runs that are compared: what their settings have in common is left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::RunRecords;
use crate::directory::{self, read_state};
use crate::journal::read_journal;
use crate::run_file::{RunFile, leaves, shown};

/// Settings that say nothing about what is compared.
const PASSED_OVER: [&str; 4] = ["name", "seed", "checkpoint_every", "grading.n_workers"];

/// Reads the runs in some directories.
///
/// # Errors
/// One is no run's, or not finished; a file of it cannot be read.
pub fn read(directories: &[PathBuf]) -> Result<Vec<RunRecords>> {
    let read: Vec<(BTreeMap<String, String>, u64, Vec<_>)> = directories
        .iter()
        .map(|directory| read_one(directory))
        .collect::<Result<_>>()?;
    let all: Vec<&BTreeMap<String, String>> = read.iter().map(|(settings, ..)| settings).collect();
    let mut differing: Vec<&String> = all.iter().flat_map(|settings| settings.keys()).collect();
    differing.sort();
    differing.dedup();
    differing.retain(|key| {
        let value = |settings: &&BTreeMap<String, String>| settings.get(*key).cloned();
        all.iter().any(|settings| value(settings) != value(&all[0]))
    });
    let variation = |settings: &BTreeMap<String, String>| {
        let named = differing.iter().map(|key| match settings.get(*key) {
            Some(value) => format!("{key}={value}"),
            None => format!("no {key}"),
        });
        named.collect::<Vec<_>>().join(" ")
    };
    let variations: Vec<String> = all.iter().map(|settings| variation(settings)).collect();
    let runs = read.into_iter().zip(variations);
    Ok(runs
        .map(|((_, seed, ledger), variation)| RunRecords {
            variation,
            seed,
            ledger,
        })
        .collect())
}

fn read_one(
    directory: &Path,
) -> Result<(BTreeMap<String, String>, u64, Vec<crate::ledger::Record>)> {
    let state = directory::state(directory)?;
    let file: RunFile = toml::from_str(&state.plan)
        .with_context(|| format!("{}: its plan is of another version", directory.display()))?;
    ensure!(
        state.is_finished,
        "the run in {} is not finished: `ra3 run` goes on with it",
        directory.display()
    );
    let settings = leaves(&file)
        .into_iter()
        .filter(|leaf| !PASSED_OVER.contains(&leaf.path.as_str()))
        .filter(|leaf| !leaf.path.starts_with("study."))
        .map(|leaf| (leaf.path, shown(&leaf.value)));
    let ledger = read_journal(&directory.join("ledger.jsonl"))?;
    Ok((settings.collect(), file.seed, ledger))
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
