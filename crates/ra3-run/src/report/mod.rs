//! The report: records in, one page and one table out. Nothing else imports it, and it imports
//! records only.

mod page;
mod plot;
mod table;

use std::path::Path;

use anyhow::Result;

use crate::atomic;
use crate::clock;
use crate::directory::read_journal;
use crate::ledger::Record;
use crate::samples::Sample;

pub use table::Table;
pub(crate) use table::percent;

/// Writes `report.html` of a run directory from its journals, and returns the table.
///
/// # Errors
/// A journal is missing or damaged, or the page cannot be written.
pub fn write_from_directory(directory: &Path) -> Result<Table> {
    let ledger: Vec<Record> = read_journal(&directory.join("ledger.jsonl"))?;
    let samples: Vec<Sample> = read_journal(&directory.join("samples.jsonl"))?;
    let clock = clock::read(&directory.join("clock.jsonl"))?;
    let plan = std::fs::read_to_string(directory.join("plan.toml")).unwrap_or_default();
    let table = Table::new(&ledger, &clock);
    let page = page::page(&plan, &table, &ledger, &samples, &clock);
    atomic::write(&directory.join("report.html"), page.as_bytes())?;
    Ok(table)
}
