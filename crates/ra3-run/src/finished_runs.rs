//! Run directories → the finished runs that are compared, with their settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ra3_records::journal::read_journal;
use ra3_report::compare::{RunRecords, name_variations};

use crate::directory::{self, read_state};
use crate::on_disk::entries;
use crate::recipe::FREE;
use crate::run_file::{RunFile, settings};

/// Settings that say nothing about what is compared, beside those that are [`FREE`].
const PASSED_OVER: [&str; 4] = ["name", "seed", "n_threads", "checkpoint_every"];

/// Reads the runs in some directories.
///
/// # Errors
/// One is no run's, or not finished; a file of it cannot be read.
pub fn read(directories: &[PathBuf]) -> Result<Vec<RunRecords>> {
    let read = directories.iter().map(|directory| read_one(directory));
    let mut runs: Vec<RunRecords> = read.collect::<Result<_>>()?;
    name_variations(&mut runs);
    Ok(runs)
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
    Ok(RunRecords {
        directory: directory.to_owned(),
        variation: String::new(),
        settings: compared_settings(&file),
        seed: file.seed,
        ledger: read_journal(&directory.join("ledger.jsonl"))?,
    })
}

/// The settings that say what is compared, by name; the seed is not among them.
pub(crate) fn compared_settings(file: &RunFile) -> BTreeMap<String, String> {
    let is_compared = |key: &String| {
        let key = key.as_str();
        !PASSED_OVER.contains(&key) && !FREE.contains(&key) && !key.starts_with("study.")
    };
    let mut settings = settings(file);
    settings.retain(|key, _| is_compared(key));
    settings
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
        let mut below = Vec::new();
        for entry in entries(path)? {
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
