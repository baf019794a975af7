//! The report of a run directory, and the cards of its models, from its records and its plan.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use ra3_records::clock;
use ra3_records::journal::read_journal;
use ra3_records::ledger::Record;
use ra3_records::samples::Sample;
use ra3_report::{ReportInputs, Table};

use crate::{card, directory};

/// Writes `report.html` of a run directory and the cards of its models from its journals, and
/// returns the table.
///
/// # Errors
/// A journal is missing or damaged, or the page cannot be written.
pub fn write(directory: &Path) -> Result<Table> {
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
    ra3_report::write(&inputs, &directory.join("report.html"))?;
    card::write_all(directory, &inputs.plan_toml, &ledger)?;
    Ok(ra3_report::summary(&ledger, &clock))
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
