//! Append-only files of JSON lines, with a checksum of what was committed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How far a journal was committed, and what it said up to there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its length in bytes.
    pub n_bytes: u64,
    /// blake3 of these bytes.
    pub blake3: String,
}

impl Default for Mark {
    /// Of an empty journal.
    fn default() -> Self {
        Self {
            n_bytes: 0,
            blake3: blake3::hash(&[]).to_hex().to_string(),
        }
    }
}

/// An append-only file of JSON lines.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    n_bytes: u64,
    hasher: blake3::Hasher,
}

impl Journal {
    /// Opens or creates a journal, and cuts off what was not committed.
    ///
    /// # Errors
    /// It cannot be written, or what was committed is not there as it was.
    pub fn open(path: &Path, committed: &Mark) -> Result<Self> {
        let context = || format!("cannot open {}", path.display());
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .with_context(context)?;
        let n_bytes = committed.n_bytes;
        let found = file.metadata().with_context(context)?.len();
        if found < n_bytes {
            bail!(
                "{} has {found} bytes where {n_bytes} were committed; it was changed from outside",
                path.display()
            );
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader((&file).take(n_bytes))
            .with_context(context)?;
        if hasher.finalize().to_hex().as_str() != committed.blake3 {
            bail!(
                "the first {n_bytes} bytes of {} are not those that were committed; it was \
                 changed from outside, or the disk is failing",
                path.display()
            );
        }
        file.set_len(n_bytes).with_context(context)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            n_bytes,
            hasher,
        })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let mut line = serde_json::to_vec(record).expect("a record has only plain fields");
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("cannot append to {}", self.path.display()))?;
        self.n_bytes += line.len() as u64;
        self.hasher.update(&line);
        Ok(())
    }

    /// Makes sure that everything is on the disk, and says how far that is.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn flush(&mut self) -> Result<Mark> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot flush {}", self.path.display()))?;
        Ok(Mark {
            n_bytes: self.n_bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

/// Reads a journal, committed or not.
///
/// # Errors
/// The file cannot be read, or a line is not a record: the line is named.
pub fn read_journal<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    read_to(path, u64::MAX)
}

/// Reads what was committed of a journal: a kill may have cut a line behind it.
///
/// # Errors
/// As [`read_journal`].
pub fn read_committed<T: for<'a> Deserialize<'a>>(path: &Path, mark: &Mark) -> Result<Vec<T>> {
    read_to(path, mark.n_bytes)
}

fn read_to<T: for<'a> Deserialize<'a>>(path: &Path, n_bytes: u64) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut records = Vec::new();
    for (index, line) in BufReader::new(file.take(n_bytes)).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("{}, line {}", path.display(), index + 1))?;
        records.push(record);
    }
    Ok(records)
}
