//! The report: records in; one page, one table and a card a model out. Nothing else imports it,
//! and it imports records only.
//!
//! The same inputs give the same bytes, and the page needs nothing but itself: no network, no
//! fonts, no other file.

mod arms;
mod card;
mod page;

mod curves;
mod differences;
mod facts;
mod held_out;
mod programs;
mod table;

mod bars;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::clock::{self, ClockRecord};
use crate::directory;
use crate::journal::read_journal;
use crate::ledger::Record;
use crate::samples::Sample;

pub(crate) use arms::{arms, held_out as held_out_of, plain_scores as scores_of, series};
pub use differences::Difference;
pub(crate) use page::STYLE;
pub use table::{Benchmark, BenchmarkRow, Row, Table};
pub(crate) use table::{aligned, percent};

/// What a page is made of.
#[derive(Clone, Debug)]
pub struct ReportInputs<'a> {
    /// Name of the run.
    pub name: String,
    /// The resolved plan, without its directory: where a run lies says nothing about it.
    pub plan_toml: String,
    /// What the run ran on, by name.
    pub environment: BTreeMap<String, String>,
    /// Whether all stages are done.
    pub is_finished: bool,
    /// The run's records.
    pub ledger: &'a [Record],
    /// Documents and programs to page through.
    pub samples: &'a [Sample],
    /// Wall times of the stages.
    pub clock: &'a [ClockRecord],
}

/// Writes the page; a reader sees the old one or the new one.
///
/// # Errors
/// The file cannot be written; what was there before is then still there.
pub fn write(inputs: &ReportInputs<'_>, path: &Path) -> Result<()> {
    Ok(ra3_files::write(path, page::page(inputs).as_bytes())?)
}

/// The table of arms, for a terminal ([`Table::to_text`]) or a program ([`Table::to_json`]).
pub fn summary(ledger: &[Record], clock: &[ClockRecord]) -> Table {
    Table::new(ledger, clock)
}

/// Writes `report.html` of a run directory and the cards of its models from its journals, and
/// returns the table.
///
/// # Errors
/// A journal is missing or damaged, or the page cannot be written.
pub fn write_from_directory(directory: &Path) -> Result<Table> {
    let state = directory::state(directory)?;
    let path = directory.join("ledger.jsonl");
    ensure!(
        state.is_finished || path.exists(),
        "the run in {} has done no stage yet: there is nothing to report",
        directory.display()
    );
    let ledger: Vec<Record> = read_journal(&path)?;
    let samples: Vec<Sample> = read_journal(&directory.join("samples.jsonl"))?;
    let clock = clock::read(&directory.join("clock.jsonl"))?;
    let (name, environment) = described(&ledger);
    let inputs = ReportInputs {
        name,
        plan_toml: without_directory(&state.plan),
        environment,
        is_finished: state.is_finished,
        ledger: &ledger,
        samples: &samples,
        clock: &clock,
    };
    write(&inputs, &directory.join("report.html"))?;
    card::write_all(directory, &inputs.plan_toml, &ledger)?;
    Ok(summary(&ledger, &clock))
}

fn without_directory(plan: &str) -> String {
    let lines = plan
        .lines()
        .filter(|line| !line.starts_with("directory = "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Name and environment as the ledger's last record of a start has them.
fn described(ledger: &[Record]) -> (String, BTreeMap<String, String>) {
    let run = ledger.iter().rev().find_map(|record| match record {
        Record::Run(run) => Some(run),
        _ => None,
    });
    let Some(run) = run else {
        return ("run".to_owned(), BTreeMap::new());
    };
    let environment = [
        ("plan", run.plan_hash.clone()),
        ("seed", run.seed.to_string()),
        ("processor", run.processor.clone()),
        ("threads", run.n_threads.to_string()),
        ("version", format!("ra3 {}", run.version)),
    ];
    let named = environment.map(|(name, value)| (name.to_owned(), value));
    let title = format!("{}, seed {}", run.name, run.seed);
    (title, BTreeMap::from(named))
}
