//! The run directory: where everything lies, who may write to it, and how far the run is.
//!
//! `progress.json` is the one commit point. It names the stages that are done, the state of the
//! stage in progress and the length of each journal; everything that it does not name is cut off
//! or removed when a run continues. So a kill at any moment costs the work since the last commit
//! and nothing else.
//!
//! ```text
//! plan.toml  ledger.jsonl  samples.jsonl  clock.jsonl  report.html
//! progress.json                      the commit point
//! corpus/                            tokenizer, shards, problems
//! models/<arm>/                      finished models, Hugging Face layout
//! work/<stage>-<position>/           the state of the stage in progress
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::ledger::Record;
use crate::samples::Sample;

/// How far a run is: the contents of `progress.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Hash of the plan that the run was started with.
    pub plan_hash: String,
    /// Stages that are done, in order.
    pub done: Vec<String>,
    /// The stage in progress, if it has been committed at least once.
    pub current: Option<InProgress>,
    /// Length of `ledger.jsonl` in bytes.
    pub ledger_bytes: u64,
    /// Length of `samples.jsonl` in bytes.
    pub samples_bytes: u64,
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
}

/// An open run directory. Holds the lock for as long as it lives.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    progress: Progress,
    ledger: Journal,
    samples: Journal,
    _lock: File,
}

impl RunDirectory {
    /// Opens or creates a directory for the plan with this hash, and cuts off what is not
    /// committed.
    ///
    /// # Errors
    /// Another process holds the directory, it belongs to another plan, or it cannot be written.
    pub fn open(root: &Path, plan_hash: &str) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create the run directory {}", root.display()))?;
        let lock = take_lock(root)?;
        atomic::remove_leftovers(root)?;
        let progress = read_progress(root)?.unwrap_or_else(|| Progress {
            plan_hash: plan_hash.to_owned(),
            ..Default::default()
        });
        if progress.plan_hash != plan_hash {
            bail!(
                "{} holds a run of another plan (see its plan.toml); choose another directory \
                 with --set directory=PATH, or remove this one",
                root.display()
            );
        }
        let ledger = Journal::open(&root.join("ledger.jsonl"), progress.ledger_bytes)?;
        let samples = Journal::open(&root.join("samples.jsonl"), progress.samples_bytes)?;
        let directory = Self {
            root: root.to_owned(),
            progress,
            ledger,
            samples,
            _lock: lock,
        };
        directory.remove_stale_states()?;
        Ok(directory)
    }

    /// How far the run is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Tokenizer, shards and problems.
    pub fn corpus(&self) -> PathBuf {
        self.root.join("corpus")
    }

    /// A finished model.
    pub fn model(&self, arm: &str) -> PathBuf {
        self.root.join("models").join(arm)
    }

    /// Wall times.
    pub fn clock(&self) -> PathBuf {
        self.root.join("clock.jsonl")
    }

    /// True if the stage is done.
    pub fn is_done(&self, stage: &str) -> bool {
        self.progress.done.iter().any(|done| done == stage)
    }

    /// The committed state of a stage in progress: its position and folder.
    pub fn state_of(&self, stage: &str) -> Option<(u64, PathBuf)> {
        let current = self
            .progress
            .current
            .as_ref()
            .filter(|current| current.stage == stage)?;
        Some((
            current.position,
            self.root.join("work").join(&current.state),
        ))
    }

    /// Appends to the ledger; it counts only after the next commit.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        self.ledger.append(record)
    }

    /// Appends to the samples; it counts only after the next commit.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.append(sample)
    }

    /// Commits the state of a stage in progress, which `fill` writes into a fresh folder.
    ///
    /// # Errors
    /// Anything that cannot be written; the last commit then stands.
    pub fn commit_state(
        &mut self,
        stage: &str,
        position: u64,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let state = format!("{stage}-{position}");
        atomic::write_folder(&self.root.join("work").join(&state), fill)?;
        let current = InProgress {
            stage: stage.to_owned(),
            position,
            state,
        };
        self.commit(Progress {
            current: Some(current),
            ..self.progress.clone()
        })
    }

    /// Commits that a stage is done.
    ///
    /// # Errors
    /// As [`Self::commit_state`].
    pub fn commit_done(&mut self, stage: &str) -> Result<()> {
        let mut progress = Progress {
            current: None,
            ..self.progress.clone()
        };
        progress.done.push(stage.to_owned());
        self.commit(progress)
    }

    fn commit(&mut self, mut progress: Progress) -> Result<()> {
        progress.ledger_bytes = self.ledger.flush()?;
        progress.samples_bytes = self.samples.flush()?;
        let json = serde_json::to_vec_pretty(&progress).expect("progress has only plain fields");
        atomic::write(&self.root.join("progress.json"), &json)?;
        self.progress = progress;
        self.remove_stale_states()
    }

    fn remove_stale_states(&self) -> Result<()> {
        let work = self.root.join("work");
        if !work.exists() {
            return Ok(());
        }
        let kept = self
            .progress
            .current
            .as_ref()
            .map(|current| current.state.as_str());
        for entry in
            std::fs::read_dir(&work).with_context(|| format!("cannot read {}", work.display()))?
        {
            let entry = entry?;
            if entry.file_name().to_str() != kept {
                std::fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Reads every committed or uncommitted whole line of a journal.
///
/// # Errors
/// The file cannot be read, or a line is not a record: the line is named.
pub fn read_journal<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut records = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("{}, line {}", path.display(), index + 1))?;
        records.push(record);
    }
    Ok(records)
}

/// How far the run in a directory is, without opening it for writing.
///
/// # Errors
/// `progress.json` is there and cannot be read.
pub fn read_progress(root: &Path) -> Result<Option<Progress>> {
    let path = root.join("progress.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let progress = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is damaged; the run cannot continue from it",
            path.display()
        )
    })?;
    Ok(Some(progress))
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another process is running in {}; wait for it or choose another directory with \
             --set directory=PATH",
            root.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// An append-only file of JSON lines.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

impl Journal {
    fn open(path: &Path, n_bytes: u64) -> Result<Self> {
        let context = || format!("cannot open {}", path.display());
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(context)?;
        let found = file.metadata().with_context(context)?.len();
        if found < n_bytes {
            bail!(
                "{} has {found} bytes where {n_bytes} were committed; it was changed from outside",
                path.display()
            );
        }
        file.set_len(n_bytes).with_context(context)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            n_bytes,
        })
    }

    fn append<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let mut line = serde_json::to_vec(record).expect("a record has only plain fields");
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("cannot append to {}", self.path.display()))?;
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<u64> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot flush {}", self.path.display()))?;
        Ok(self.n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StageRecord;

    fn record(stage: &str) -> Record {
        Record::Stage(StageRecord {
            stage: stage.to_owned(),
            n_corpus_tokens: 1,
            n_tokens_sampled: 2,
            n_tokens_run: 3,
            flops: 4.0,
        })
    }

    #[test]
    fn what_is_not_committed_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        {
            let mut run = RunDirectory::open(root.path(), "p").unwrap();
            run.record(&record("kept")).unwrap();
            run.commit_state("base", 3, |folder| {
                Ok(std::fs::write(folder.join("w"), "3")?)
            })
            .unwrap();
            run.record(&record("lost")).unwrap();
            std::fs::create_dir(root.path().join("work/base-5")).unwrap();
        }
        let run = RunDirectory::open(root.path(), "p").unwrap();
        let records: Vec<Record> = read_journal(&root.path().join("ledger.jsonl")).unwrap();
        assert_eq!(records, [record("kept")]);
        let (position, state) = run.state_of("base").unwrap();
        assert_eq!(
            (position, std::fs::read_to_string(state.join("w")).unwrap()),
            (3, "3".into())
        );
        assert!(!root.path().join("work/base-5").exists());
    }

    #[test]
    fn a_second_process_and_another_plan_are_refused() {
        let root = tempfile::tempdir().unwrap();
        {
            let mut run = RunDirectory::open(root.path(), "p").unwrap();
            let second = RunDirectory::open(root.path(), "p").unwrap_err();
            assert!(second.to_string().contains("another process"), "{second}");
            run.commit_done("corpus").unwrap();
        }
        let other = RunDirectory::open(root.path(), "q").unwrap_err();
        assert!(other.to_string().contains("another plan"), "{other}");
        assert!(
            RunDirectory::open(root.path(), "p")
                .unwrap()
                .is_done("corpus")
        );
    }

    #[test]
    fn a_shortened_ledger_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        {
            let mut run = RunDirectory::open(root.path(), "p").unwrap();
            run.record(&record("kept")).unwrap();
            run.commit_done("corpus").unwrap();
        }
        std::fs::write(root.path().join("ledger.jsonl"), "").unwrap();
        let error = RunDirectory::open(root.path(), "p").unwrap_err();
        assert!(
            error.to_string().contains("changed from outside"),
            "{error}"
        );
    }
}
