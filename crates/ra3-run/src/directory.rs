//! The run directory: where everything lies, who may write to it, and how far the run is.
//!
//! `progress.json` is the one commit point. It names the plan, the stages that are done, the state
//! of the stage in progress, the length of each journal and the checksums of all of these;
//! everything that it does not name is cut off or removed when a run continues. So a kill at any
//! moment costs the work since the last commit and nothing else. It is written before anything
//! else, so a folder without it is not a run's.
//!
//! ```text
//! plan.toml  ledger.jsonl  samples.jsonl  clock.jsonl  report.html
//! tensorboard/<stage>/               the ledger's numbers as event files, a copy
//! progress.json                      the commit point
//! corpus/                            tokenizer, shards, problems
//! models/<arm>/                      finished models, Hugging Face layout
//! models/reference/  models/scorer-N/  copies that RA3 compares with; the second only meanwhile
//! work/<stage>-<position>/           the state of the stage in progress
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::arm::Stage;
use crate::changes::{Change, Kind, changes};
use crate::journal::Journal;
use crate::ledger::{Record, StageRecord};
use crate::plan::Plan;
use crate::progress::{self, Checksums, checksums, verify};
use crate::samples::Sample;
use crate::tensorboard::{self, EventFiles};

pub use crate::journal::{Mark, read_committed, read_journal};
pub use crate::progress::{InProgress, Progress, read_progress};

/// What a run leaves in its directory.
const OWN: [&str; 9] = [
    "ledger.jsonl",
    "samples.jsonl",
    "clock.jsonl",
    "plan.toml",
    "corpus",
    "models",
    "work",
    "report.html",
    tensorboard::FOLDER,
];
const LOCK: &str = "lock";
/// How the names of models begin that only the stage in progress needs.
pub(crate) const PASSING: &str = "scorer-";

/// An open run directory. Holds the lock for as long as it lives.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    progress: Progress,
    ledger: Journal,
    samples: Journal,
    events: EventFiles,
    changed: Vec<String>,
    _lock: File,
}

impl RunDirectory {
    /// Opens or creates a directory for a plan, and cuts off what is not committed. With
    /// `restart`, the stage in progress begins again, and its own settings may be others.
    ///
    /// # Errors
    /// Another process holds the directory, it is not a run's, a finished stage had other
    /// settings, something is not as it was committed, or it cannot be written.
    pub fn open(root: &Path, plan: &Plan, restart: bool) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create the run directory {}", root.display()))?;
        if !root.join(progress::FILE).exists() {
            refuse_what_is_not_ours(root)?;
        }
        let lock = take_lock(root)?;
        ra3_files::remove_leftovers(root)?;
        ra3_files::remove_leftovers(&root.join("models"))?;
        let mut progress = if let Some(progress) = read_progress(root)? {
            progress
        } else {
            let fresh = Progress {
                plan: plan.settings(),
                ..Progress::default()
            };
            progress::write(root, &fresh)?;
            fresh
        };
        let mut changed = Vec::new();
        if restart && let Some(current) = progress.current.take() {
            changed.push(format!("stage {} begins again", current.stage));
            progress.ledger = current.ledger_before;
            progress.samples = current.samples_before;
        }
        changed.extend(adopt(root, &mut progress, plan)?);
        check_stages(root, &progress, plan)?;
        let directory = Self {
            ledger: Journal::open(&root.join("ledger.jsonl"), &progress.ledger)?,
            samples: Journal::open(&root.join("samples.jsonl"), &progress.samples)?,
            events: EventFiles::new(root),
            root: root.to_owned(),
            progress,
            changed,
            _lock: lock,
        };
        directory.verify()?;
        directory.remove_stale_states()?;
        Ok(directory)
    }

    /// Compares everything that was committed with its checksums.
    fn verify(&self) -> Result<()> {
        if let Some(current) = &self.progress.current {
            verify(&self.root.join("work"), &current.files)?;
            verify(&self.root, &current.outputs)?;
        }
        verify(&self.root, &self.progress.files)
    }

    /// How far the run is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// True if nothing was recorded yet.
    pub fn is_new(&self) -> bool {
        self.progress.ledger.n_bytes == 0
    }

    /// What is not as it was the last time, for a reader.
    pub fn changed(&self) -> &[String] {
        &self.changed
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

    /// What a finished stage has spent.
    ///
    /// # Errors
    /// It is not done, or does not train.
    pub fn spent_by(&self, stage: &str) -> Result<&StageRecord> {
        let spent = self.progress.spent.get(stage);
        spent.with_context(|| format!("stage {stage} has left no word of what it spent"))
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
        self.ledger.append(record)?;
        self.events.append(record)
    }

    /// Appends to the samples; it counts only after the next commit.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.append(sample)
    }

    /// Commits the plan and what was recorded about it.
    ///
    /// # Errors
    /// As [`Self::commit_state`].
    pub fn commit_plan(&mut self) -> Result<()> {
        self.commit(self.progress.clone())
    }

    /// Commits the state of a stage in progress, which `fill` writes into a fresh folder, and what
    /// it has written for good elsewhere: the `outputs`, below the run directory.
    ///
    /// # Errors
    /// Anything that cannot be written; the last commit then stands.
    pub fn commit_state(
        &mut self,
        stage: &str,
        position: u64,
        outputs: &[String],
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let state = format!("{stage}-{position}");
        let work = self.root.join("work");
        ra3_files::write_folder(&work.join(&state), fill)?;
        let before = self.progress.current.as_ref();
        let (ledger_before, samples_before) = before.map_or_else(
            || (self.progress.ledger.clone(), self.progress.samples.clone()),
            |current| {
                (
                    current.ledger_before.clone(),
                    current.samples_before.clone(),
                )
            },
        );
        let current = InProgress {
            stage: stage.to_owned(),
            position,
            files: checksums(&work, &state)?,
            outputs: self.output_checksums(outputs)?,
            state,
            ledger_before,
            samples_before,
        };
        self.commit(Progress {
            current: Some(current),
            ..self.progress.clone()
        })
    }

    /// The checksums of what the stage in progress has written for good; those that the last commit
    /// holds are not reckoned again.
    fn output_checksums(&self, outputs: &[String]) -> Result<Checksums> {
        let mut found = Checksums::new();
        for output in outputs {
            let before = self.progress.current.as_ref().map(|it| &it.outputs);
            let known = before.into_iter().flatten();
            let below = format!("{output}/");
            let known: Checksums = known
                .filter(|(name, _)| name.starts_with(&below))
                .map(|(name, sum)| (name.clone(), sum.clone()))
                .collect();
            found.extend(if known.is_empty() {
                checksums(&self.root, output)?
            } else {
                known
            });
        }
        Ok(found)
    }

    /// Records what a stage has spent in all; it counts after [`Self::commit_done`].
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn spend(&mut self, spent: StageRecord) -> Result<()> {
        let stage = spent.stage.clone();
        self.record(&Record::Stage(spent.clone()))?;
        self.progress.spent.insert(stage, spent);
        Ok(())
    }

    /// Commits that a stage is done, with the files that it has written.
    ///
    /// # Errors
    /// As [`Self::commit_state`].
    pub fn commit_done(&mut self, stage: Stage) -> Result<()> {
        let mut progress = Progress {
            current: None,
            ..self.progress.clone()
        };
        progress.done.push(stage.name());
        for output in stage.outputs() {
            if self.root.join(&output).exists() {
                progress.files.extend(checksums(&self.root, &output)?);
            }
        }
        self.commit(progress)
    }

    fn commit(&mut self, mut progress: Progress) -> Result<()> {
        progress.ledger = self.ledger.flush()?;
        progress.samples = self.samples.flush()?;
        progress::write(&self.root, &progress)?;
        self.progress = progress;
        self.remove_stale_states()
    }

    /// Removes what belongs to a stage in progress and no commit names any more: its states, and
    /// the models that only it needs.
    fn remove_stale_states(&self) -> Result<()> {
        let current = self.progress.current.as_ref();
        let is_state = |name: &str| current.is_some_and(|current| current.state == name);
        remove_folders(&self.root.join("work"), |name| !is_state(name))?;
        let is_named = |name: &str| {
            let folder = format!("models/{name}/");
            let mut outputs = current.into_iter().flat_map(|it| it.outputs.keys());
            outputs.any(|path| path.starts_with(&folder))
        };
        let is_stale = |name: &str| name.starts_with(PASSING) && !is_named(name);
        remove_folders(&self.root.join("models"), is_stale)
    }
}

/// Removes the folders in a folder whose name is one of those.
fn remove_folders(folder: &Path, is_removed: impl Fn(&str) -> bool) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        if is_removed(&entry.file_name().to_string_lossy()) {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Refuses a folder that holds something and has no `progress.json`.
fn refuse_what_is_not_ours(root: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?
    {
        let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    // A process that was killed at its very start leaves these.
    let is_locked = root.join(LOCK).metadata().is_ok_and(|lock| lock.len() == 0);
    names.retain(|name| !(is_locked && (name == LOCK || ra3_files::is_leftover(name.as_ref()))));
    names.sort();
    let first = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    ensure!(
        !names.iter().any(|name| OWN.contains(&name.as_str())),
        "{} has no progress.json and holds {first}: if they are a run's, put its progress.json \
         back; nothing is overwritten, so else choose another directory with --set directory=PATH",
        root.display()
    );
    ensure!(
        names.is_empty(),
        "{} is neither empty nor a run's: it holds {first}; choose another directory with --set \
         directory=PATH",
        root.display()
    );
    Ok(())
}

/// Takes over a plan whose differences no stage has read yet; what differs, for a reader.
fn adopt(root: &Path, progress: &mut Progress, plan: &Plan) -> Result<Vec<String>> {
    let settings = plan.settings();
    if progress.plan == settings {
        return Ok(Vec::new());
    }
    let old = toml::from_str(&progress.plan).with_context(|| {
        format!(
            "{} holds a run of another version of ra3; choose another directory with --set \
             directory=PATH",
            root.display()
        )
    })?;
    let mut all = changes(&old, &plan.file);
    // A run may be moved: its plan is kept without its place.
    all.retain(|change| change.key != "directory");
    let kind = |name: &String| {
        let of_plan = plan.stages.iter().find(|stage| stage.name() == *name);
        of_plan.map(|stage| Kind::of(*stage))
    };
    let read_by = |names: &[String]| -> Vec<Change> {
        let last = names.iter().filter_map(kind).max();
        let is_read = |change: &&Change| change.reader.is_some_and(|reader| Some(reader) <= last);
        all.iter().filter(is_read).cloned().collect()
    };
    let texts = |changes: &[Change]| -> Vec<String> {
        changes.iter().map(|change| change.text.clone()).collect()
    };
    let fixed = read_by(&progress.done);
    ensure!(
        fixed.is_empty(),
        "{} holds a run of another plan, whose finished stages ({}) have read what differs: {}; \
         take the old values, or choose another directory with --set directory=PATH",
        root.display(),
        progress.done.join(", "),
        texts(&fixed).join("; ")
    );
    if let Some(current) = &progress.current {
        let held = read_by(std::slice::from_ref(&current.stage));
        ensure!(
            held.is_empty(),
            "{} holds a run of another plan, whose stage {} is at {}: {}; take the old values, or \
             begin that stage again with --restart-stage",
            root.display(),
            current.stage,
            current.position,
            texts(&held).join("; ")
        );
    }
    progress.plan = settings;
    Ok(texts(&all))
}

/// The stages of `progress.json` must be the plan's, in its order.
fn check_stages(root: &Path, progress: &Progress, plan: &Plan) -> Result<()> {
    let expected: Vec<String> = plan.stages.iter().map(|stage| stage.name()).collect();
    let current = progress.current.as_ref().map(|current| &current.stage);
    let named: Vec<&String> = progress.done.iter().chain(current).collect();
    for (place, name) in named.iter().enumerate() {
        ensure!(
            expected.get(place) == Some(*name),
            "{}: stage {name} is not the plan's stage {}, which are {}; choose another directory \
             with --set directory=PATH",
            root.join(progress::FILE).display(),
            place + 1,
            expected.join(", ")
        );
    }
    Ok(())
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
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

#[cfg(test)]
mod tests;
