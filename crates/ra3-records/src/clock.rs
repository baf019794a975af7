//! Wall time and peak memory of the stages, apart from the ledger because they differ between two
//! runs of the same plan.

use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One line of `clock.jsonl`: what a process did of a stage between two commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockRecord {
    /// The stage.
    pub stage: String,
    /// When this process took the stage up, in seconds since 1970: its records share it.
    pub since: f64,
    /// Updates of the stage at the commit before.
    pub from_position: u64,
    /// Updates at this commit.
    pub to_position: u64,
    /// Seconds between the two.
    pub wall_s: f64,
    /// Peak resident memory of the process so far, in MiB.
    pub peak_rss_mib: u64,
}

/// The clock of a stage in this process.
#[derive(Debug)]
pub struct Clock {
    stage: String,
    since: f64,
    position: u64,
    last: Instant,
}

impl Clock {
    /// Starts now.
    pub fn started(stage: &str, position: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            stage: stage.to_owned(),
            since: since.map_or(0.0, |since| since.as_secs_f64()),
            position,
            last: Instant::now(),
        }
    }

    /// Appends the time since the last commit.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, path: &Path, now: Instant, position: u64) -> Result<()> {
        let record = ClockRecord {
            stage: self.stage.clone(),
            since: self.since,
            from_position: self.position,
            to_position: position,
            wall_s: (now - self.last).as_secs_f64(),
            peak_rss_mib: peak_rss_mib(),
        };
        (self.position, self.last) = (position, now);
        append(path, &record).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn append(path: &Path, record: &ClockRecord) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let line = serde_json::to_string(record).expect("a clock record has only plain fields");
    writeln!(file, "{line}")
}

/// Reads every whole record; a line that a kill cut short is passed over.
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
