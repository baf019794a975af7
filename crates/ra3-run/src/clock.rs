//! Wall time and peak memory of the stages, apart from the ledger because they differ between two
//! runs of the same plan.

use std::io::Write;
use std::path::Path;

use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::directory::RunDirectory;

/// One line of `clock.jsonl`: a stage as one process ran it (a continued stage has several).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockRecord {
    /// The stage.
    pub stage: String,
    /// Position at which this process took the stage up.
    pub from_position: u64,
    /// Seconds that this process spent on it.
    pub wall_s: f64,
    /// Peak resident memory of the process so far, in MiB.
    pub peak_rss_mib: u64,
}

/// Appends a record; a line that a kill cut short is repaired by starting on a fresh line.
///
/// # Errors
/// The file cannot be written.
pub fn append(path: &Path, record: &ClockRecord) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let line = serde_json::to_string(record).expect("a clock record has only plain fields");
    writeln!(file, "{line}")
}

/// Appends how long a stage of this process took.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn stage(
    directory: &RunDirectory,
    stage: &str,
    from_position: u64,
    began: Instant,
) -> anyhow::Result<()> {
    let record = ClockRecord {
        stage: stage.to_owned(),
        from_position,
        wall_s: began.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    };
    append(&directory.clock(), &record).context("cannot write clock.jsonl")
}

/// Reads every whole record.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> std::io::Result<Vec<ClockRecord>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Peak resident memory of this process in MiB, 0 where the system does not say.
pub fn peak_rss_mib() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return 0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}
