//! Runs side by side: the same arms over seeds, for each variation of the settings.
//!
//! Records in, one comparison out: as text, as JSON, as a page. Only scores of the same problems,
//! samples and temperature are put together. Intervals hold for other seeds and other problems
//! ([`ra3_statistics::over_seeds`] says how); with one seed for other problems alone.

mod curves;
mod page;
mod scores;
#[cfg(test)]
mod tests;
mod text;
mod variations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use ra3_records::ledger::Record;
use serde::Serialize;

pub use curves::{ComparedCurve, Level};
pub use scores::{ComparedBenchmark, ComparedScore, HeldOutText};
pub use variations::name_variations;

/// A finished run, as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecords {
    /// Where it lies.
    pub directory: PathBuf,
    /// What its settings have otherwise than those of others, or a name for it where that is
    /// long; empty where nothing differs.
    pub variation: String,
    /// The settings that are not those of all.
    pub settings: BTreeMap<String, String>,
    /// Its seed.
    pub seed: u64,
    /// Its records.
    pub ledger: Vec<Record>,
}

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The name of the experiment.
    pub name: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The arm that others are compared with.
    pub against: Option<String>,
    /// The settings that differ, by variation; empty where nothing differs.
    pub settings: BTreeMap<String, BTreeMap<String, String>>,
    /// Scores on problems, before RLVR and after it.
    pub benchmarks: Vec<ComparedBenchmark>,
    /// Bits per byte of held-out documents.
    pub held_out: Vec<HeldOutText>,
    /// Held-out scores while RLVR goes on.
    pub curves: Vec<ComparedCurve>,
}

impl Comparison {
    /// Compares runs.
    ///
    /// # Errors
    /// There is none, a variation has a seed twice, or no run has the arm to compare with.
    pub fn new(runs: &[RunRecords], against: Option<&str>) -> Result<Self> {
        ensure!(!runs.is_empty(), "there is no run to compare");
        for (place, run) in runs.iter().enumerate() {
            let is_same =
                |other: &&RunRecords| (&other.variation, other.seed) == (&run.variation, run.seed);
            if let Some(other) = runs[..place].iter().find(is_same) {
                bail!(
                    "{} and {} have the same settings and seed {}: compare one of them",
                    other.directory.display(),
                    run.directory.display(),
                    run.seed
                );
            }
        }
        let arms = arms(runs);
        if let Some(against) = against {
            ensure!(
                arms.iter().any(|arm| arm == against),
                "no run has an arm {against:?} to compare with: they have {}",
                arms.join(", ")
            );
        }
        let settings = runs.iter().filter(|run| !run.variation.is_empty());
        let settings = settings.map(|run| (run.variation.clone(), run.settings.clone()));
        let mut seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        Ok(Self {
            name: name(runs),
            seeds,
            against: against.map(str::to_owned),
            settings: settings.collect(),
            benchmarks: scores::benchmarks(runs, &arms, against),
            held_out: scores::held_out(runs, &arms),
            curves: curves::curves(runs, &arms, against),
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a comparison has only plain fields")
    }

    /// As aligned columns.
    pub fn to_text(&self) -> String {
        text::text(self)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_page(&self, path: &Path) -> Result<()> {
        Ok(ra3_files::write(path, page::page(self).as_bytes())?)
    }
}

fn name(runs: &[RunRecords]) -> String {
    let named = runs.iter().flat_map(|run| &run.ledger);
    let name = named.filter_map(|record| match record {
        Record::Run(run) => Some(run.name.clone()),
        _ => None,
    });
    name.into_iter().next().unwrap_or_default()
}

/// The arms of all runs, in the order in which they are first met.
fn arms(runs: &[RunRecords]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for run in runs {
        for arm in crate::arms::arms(&run.ledger) {
            if !found.iter().any(|known| known == arm) {
                found.push(arm.to_owned());
            }
        }
    }
    found
}

/// The variations, in the order in which they are first met.
fn variations(runs: &[RunRecords]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for run in runs {
        if !found.contains(&run.variation.as_str()) {
            found.push(&run.variation);
        }
    }
    found
}
