//! The report: records in; a page, a table, and finished runs side by side out. It reads no run
//! directory and no settings.
//!
//! The same inputs give the same bytes, and the page needs nothing but itself: no network, no
//! fonts, no other file.

mod arms;
mod page;

mod curves;
mod differences;
mod facts;
mod held_out;
mod programs;
mod table;

mod bars;

pub mod compare;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use ra3_records::clock::ClockRecord;
use ra3_records::ledger::Record;
use ra3_records::samples::Sample;

pub use arms::scores;
pub use differences::Difference;
pub use table::{Benchmark, BenchmarkRow, Row, Table, percent};

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
