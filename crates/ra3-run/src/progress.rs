//! `progress.json`: how far a run is, of which plan, and the checksums of what it has written. It
//! carries a checksum of itself.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::journal::Mark;
use crate::ledger::StageRecord;

pub(crate) const FILE: &str = "progress.json";
/// Written beside finished models by the report, whenever it is written.
const CARD: &str = "README.md";

/// Checksums (blake3) of files by their path below a folder.
pub(crate) type Checksums = BTreeMap<String, String>;

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The plan as TOML, without its directory.
    pub plan: String,
    /// Stages that are done, in order.
    pub done: Vec<String>,
    /// What those of them that train have spent: the budgets of others follow from it.
    pub spent: BTreeMap<String, StageRecord>,
    /// The stage in progress, if it has been committed at least once.
    pub current: Option<InProgress>,
    /// How far `ledger.jsonl` counts.
    pub ledger: Mark,
    /// How far `samples.jsonl` counts.
    pub samples: Mark,
    /// The files of the stages that are done.
    pub files: BTreeMap<String, String>,
}

/// The committed state of the stage in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// The stage.
    pub stage: String,
    /// Its position.
    pub position: u64,
    /// Folder of its state, below `work/`.
    pub state: String,
    /// The files of that folder.
    pub files: BTreeMap<String, String>,
    /// The files that the stage has written elsewhere, for good.
    pub outputs: BTreeMap<String, String>,
    /// How far the ledger counted before the stage.
    pub ledger_before: Mark,
    /// How far the samples counted before the stage.
    pub samples_before: Mark,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    progress: Progress,
    blake3: String,
}

fn seal(progress: &Progress) -> String {
    let json = serde_json::to_vec(progress).expect("progress has only plain fields");
    blake3::hash(&json).to_hex().to_string()
}

/// Replaces `progress.json`: from here on the new state counts.
///
/// # Errors
/// It cannot be written; the old one is then still there.
pub(crate) fn write(root: &Path, progress: &Progress) -> Result<()> {
    let sealed = Sealed {
        progress: progress.clone(),
        blake3: seal(progress),
    };
    let json = serde_json::to_vec_pretty(&sealed).expect("progress has only plain fields");
    Ok(ra3_files::write(&root.join(FILE), &json)?)
}

/// How far the run in a directory is, without opening it for writing.
///
/// # Errors
/// `progress.json` is there and cannot be read, or is not as it was written.
pub fn read_progress(root: &Path) -> Result<Option<Progress>> {
    let path = root.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = || {
        format!(
            "{} is damaged, or of another version of ra3; the run cannot continue from it: choose \
             another directory with --set directory=PATH, or remove this one",
            path.display()
        )
    };
    let sealed: Sealed = serde_json::from_str(&text).with_context(damaged)?;
    ensure!(seal(&sealed.progress) == sealed.blake3, damaged());
    Ok(Some(sealed.progress))
}

/// The checksums of all files below a folder or of one file, by their path below `root`.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn checksums(root: &Path, below: &str) -> Result<Checksums> {
    let mut found = Checksums::new();
    collect(root, below, &mut found)?;
    Ok(found)
}

fn collect(root: &Path, below: &str, into: &mut Checksums) -> Result<()> {
    let path = root.join(below);
    if !path.is_dir() {
        into.insert(below.to_owned(), checksum(&path)?);
        return Ok(());
    }
    for entry in
        std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?
    {
        let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != CARD {
            collect(root, &format!("{below}/{name}"), into)?;
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(context)?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(BufReader::new(file))
        .with_context(context)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Compares files with their checksums.
///
/// # Errors
/// A file is missing or is not as it was: it is named.
pub(crate) fn verify(root: &Path, files: &Checksums) -> Result<()> {
    for (name, expected) in files {
        let path = root.join(name);
        ensure!(
            checksum(&path)? == *expected,
            "{} is not as it was committed: it was changed from outside, or the disk is failing; \
             put a copy back, or choose another directory with --set directory=PATH",
            path.display()
        );
    }
    Ok(())
}
