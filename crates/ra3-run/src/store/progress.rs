//! `progress.json`: how far a stage is, and the checksums of what it has written. It carries a
//! checksum of itself.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ra3_records::journal::Mark;
use ra3_records::ledger::StageRecord;
use serde::{Deserialize, Serialize};

use crate::on_disk::{entries, read_json};
use crate::recipe::Recipe;

pub(super) const FILE: &str = "progress.json";

/// Checksums (blake3) of files by their path below a folder.
pub(super) type Checksums = BTreeMap<String, String>;

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// What it depends on.
    pub(crate) recipe: Recipe,
    /// Whether it is finished.
    pub(crate) is_done: bool,
    /// Its updates so far.
    pub(crate) position: u64,
    /// The folder of its state, while it is not finished and has been committed.
    pub(crate) state: Option<String>,
    /// The files of the state and of what it has written for good.
    pub(crate) files: Checksums,
    /// What it has spent in all, if it trains.
    pub(crate) spent: Option<StageRecord>,
    /// How far its `ledger.jsonl` counts.
    pub(crate) ledger: Mark,
    /// How far its `samples.jsonl` counts.
    pub(crate) samples: Mark,
}

impl Progress {
    /// Of a stage that has not begun.
    pub(super) fn fresh(recipe: Recipe) -> Self {
        Self {
            recipe,
            is_done: false,
            position: 0,
            state: None,
            files: Checksums::new(),
            spent: None,
            ledger: Mark::default(),
            samples: Mark::default(),
        }
    }
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
pub(super) fn write(root: &Path, progress: &Progress) -> Result<()> {
    let sealed = Sealed {
        progress: progress.clone(),
        blake3: seal(progress),
    };
    let json = serde_json::to_vec_pretty(&sealed).expect("progress has only plain fields");
    Ok(ra3_files::write(&root.join(FILE), &json)?)
}

/// How far the stage in a folder is, without opening it for writing.
pub(crate) fn read_progress(root: &Path) -> Result<Option<Progress>> {
    let path = root.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let is_wrong = "is damaged: remove its folder, and the stage runs again";
    let sealed: Sealed = read_json(&path, is_wrong)?;
    ensure!(
        seal(&sealed.progress) == sealed.blake3,
        "{} {is_wrong}",
        path.display()
    );
    Ok(Some(sealed.progress))
}

/// The checksums of all files below a folder or of one file, by their path below `root`.
pub(super) fn checksums(root: &Path, below: &str) -> Result<Checksums> {
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
    for entry in entries(&path)? {
        let name = entry.file_name().unwrap_or_default();
        collect(root, &format!("{below}/{}", name.display()), into)?;
    }
    Ok(())
}

/// blake3 of a file.
pub(crate) fn checksum(path: &Path) -> Result<String> {
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
pub(super) fn verify(root: &Path, files: &Checksums) -> Result<()> {
    for (name, expected) in files {
        let path = root.join(name);
        ensure!(
            checksum(&path)? == *expected,
            "{} is not as it was committed: it was changed from outside, or the disk is failing; \
             put a copy back, or remove {}, and the stage runs again",
            path.display(),
            root.display()
        );
    }
    Ok(())
}
