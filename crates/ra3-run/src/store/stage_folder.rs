//! The folder of a stage: where all that it makes lies, and how far it is.
//!
//! `progress.json` is the one commit point. It names what the stage depends on, the state of work
//! that is not finished, the length of each journal and the checksums of all of these; everything
//! that it does not name is cut off or removed when the stage is taken up again. So a kill at any
//! moment costs the work since the last commit and nothing else.
//!
//! ```text
//! progress.json                      the commit point
//! ledger.jsonl  samples.jsonl        journals
//! clock.jsonl                        wall times, which no bits depend on
//! state-<position>/                  the state of work that is not finished
//! model/  corpus/  reference/  …     what the stage makes
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ra3_records::clock::Clock;
use ra3_records::journal::{Journal, read_committed};
use ra3_records::ledger::{Record, StageRecord};
use ra3_records::samples::Sample;
use ra3_records::tensorboard::EventFile;

use super::progress::{self, Checksums, Progress, checksums, verify};
use super::{LOCK, open_lock};
use crate::event::{Event, Watcher};
use crate::on_disk::entries;
use crate::recipe::Recipe;

pub(crate) const LEDGER: &str = "ledger.jsonl";
pub(crate) const SAMPLES: &str = "samples.jsonl";
pub(crate) const CLOCK: &str = "clock.jsonl";

/// An open folder of a stage. Holds the lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct StageFolder {
    root: PathBuf,
    progress: Progress,
    ledger: Journal,
    samples: Journal,
    events: EventFile,
    clock: Clock,
    _lock: File,
}

impl StageFolder {
    /// Opens or creates the folder of a recipe, and cuts off what is not committed. What `events`
    /// names is where its numbers are copied to.
    pub(super) fn open(
        root: &Path,
        recipe: &Recipe,
        events: &Path,
        watcher: &mut Watcher<'_>,
    ) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create {}", root.display()))?;
        let lock = take_lock(root, watcher)?;
        ra3_files::remove_leftovers(root)?;
        let progress = if let Some(progress) = progress::read_progress(root)? {
            progress
        } else {
            let fresh = Progress::fresh(recipe.clone());
            progress::write(root, &fresh)?;
            fresh
        };
        if progress.recipe != *recipe {
            bail!("{} is the folder of another stage", root.display());
        }
        verify(root, &progress.files)?;
        let folder = Self {
            ledger: Journal::open(&root.join(LEDGER), &progress.ledger)?,
            samples: Journal::open(&root.join(SAMPLES), &progress.samples)?,
            events: EventFile::new(events, &recipe.key()),
            clock: Clock::started(&recipe.stage, progress.position),
            root: root.to_owned(),
            progress,
            _lock: lock,
        };
        folder.remove_what_is_not_named()?;
        Ok(folder)
    }

    /// The stage's name.
    pub(crate) fn stage(&self) -> &str {
        &self.progress.recipe.stage
    }

    /// True if it is finished.
    pub(crate) fn is_done(&self) -> bool {
        self.progress.is_done
    }

    /// What it has spent, if it trains and is finished.
    pub(crate) fn spent(&self) -> Option<&StageRecord> {
        self.progress.spent.as_ref()
    }

    /// A place in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The committed state of work that is not finished: its position and folder.
    pub(crate) fn state(&self) -> Option<(u64, PathBuf)> {
        let state = self.progress.state.as_ref()?;
        Some((self.progress.position, self.root.join(state)))
    }

    /// Copies the numbers of its ledger to where they are watched.
    pub(crate) fn replay(&self, events: &Path) -> Result<()> {
        let ledger = self.root.join(LEDGER);
        let mut events = EventFile::new(events, &self.progress.recipe.key());
        for record in read_committed::<Record>(&ledger, &self.progress.ledger)? {
            events.append(&record)?;
        }
        Ok(())
    }

    /// Forgets what is not finished.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.progress = Progress::fresh(self.progress.recipe.clone());
        progress::write(&self.root, &self.progress)?;
        self.ledger = Journal::open(&self.root.join(LEDGER), &self.progress.ledger)?;
        self.samples = Journal::open(&self.root.join(SAMPLES), &self.progress.samples)?;
        self.clock = Clock::started(self.stage(), 0);
        self.remove_what_is_not_named()
    }

    /// Appends to the ledger; it counts only after the next commit.
    pub(crate) fn record(&mut self, record: &Record) -> Result<()> {
        self.ledger.append(record)?;
        self.events.append(record)
    }

    /// Appends to the samples; it counts only after the next commit.
    pub(crate) fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.append(sample)
    }

    /// Records what the stage has spent in all; it counts after [`Self::commit_done`].
    pub(crate) fn spend(&mut self, spent: StageRecord) -> Result<()> {
        self.record(&Record::Stage(spent.clone()))?;
        self.progress.spent = Some(spent);
        Ok(())
    }

    /// Commits the state at a position, which `fill` writes into a fresh folder, and what the stage
    /// has written for good: the `outputs`, folders in its own.
    ///
    /// # Errors
    /// Anything that cannot be written; the last commit then stands.
    pub(crate) fn commit_state(
        &mut self,
        position: u64,
        outputs: &[String],
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let state = format!("state-{position}");
        ra3_files::write_folder(&self.root.join(&state), fill)?;
        let mut files = checksums(&self.root, &state)?;
        files.extend(self.output_checksums(outputs)?);
        self.commit(Progress {
            position,
            state: Some(state),
            files,
            ..self.progress.clone()
        })
    }

    /// The checksums of what was written for good; those that the last commit holds are not
    /// reckoned again.
    fn output_checksums(&self, outputs: &[String]) -> Result<Checksums> {
        let mut found = Checksums::new();
        for output in outputs {
            let below = format!("{output}/");
            let known = self.progress.files.iter();
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

    /// Commits that the stage is finished, with what it has written: the `outputs`.
    ///
    /// # Errors
    /// As [`Self::commit_state`].
    pub(crate) fn commit_done(&mut self, outputs: &[&str]) -> Result<()> {
        let mut files = Checksums::new();
        for output in outputs {
            if self.root.join(output).exists() {
                files.extend(checksums(&self.root, output)?);
            }
        }
        self.commit(Progress {
            is_done: true,
            state: None,
            files,
            ..self.progress.clone()
        })
    }

    fn commit(&mut self, mut progress: Progress) -> Result<()> {
        progress.ledger = self.ledger.flush()?;
        progress.samples = self.samples.flush()?;
        self.clock
            .append(&self.root.join(CLOCK), Instant::now(), progress.position)?;
        progress::write(&self.root, &progress)?;
        self.progress = progress;
        self.remove_what_is_not_named()
    }

    /// Removes the folders that no commit names: states that were overtaken, models that only they
    /// needed, what was being written.
    fn remove_what_is_not_named(&self) -> Result<()> {
        let is_named = |name: &str| {
            let below = format!("{name}/");
            self.progress
                .files
                .keys()
                .any(|file| file.starts_with(&below))
        };
        for path in entries(&self.root)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !is_named(&name) {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Waits for whoever is running the same stage.
fn take_lock(root: &Path, watcher: &mut Watcher<'_>) -> Result<File> {
    let path = root.join(LOCK);
    let file = open_lock(&path)?;
    let context = || format!("cannot lock {}", path.display());
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            watcher(Event::Note(format!(
                "another process is at {}: waiting for it",
                root.display()
            )));
            file.lock().with_context(context)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    Ok(file)
}
