//! The run directory: what a user looks at of a run.
//!
//! Stages lie in a store, the run's own or a shared one (`store`); here lies which they
//! are, and what they have made, under names that a user knows. All of it but `run.json` is made
//! again from the stages whenever one is done.
//!
//! ```text
//! run.json                           the plan's stages and their keys
//! plan.toml                          the resolved plan
//! ledger.jsonl  samples.jsonl  clock.jsonl   those of the stages, in order
//! report.html                        the page
//! tensorboard/<stage>/               the ledger's numbers as event files
//! models/<model>/                    finished models, Hugging Face layout, with their cards
//! corpus/                            tokenizer, shards, problems
//! stages/                            the store, where the plan names no other
//! worker.log                         what the last process of PyTorch printed, where it ran
//! ```

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::on_disk::{entries, read_json};
use crate::plan::Plan;
use crate::store::{CLOCK, LEDGER, LOCK, SAMPLES, Store, open_lock};

pub use crate::store::Unused;

const FILE: &str = "run.json";
const MODELS: &str = "models";
/// The store of a run that shares none.
const STAGES: &str = "stages";

/// What a run is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The plan as TOML, without its places.
    pub plan: String,
    /// Where its stages are kept; in the directory where it is not said.
    pub store: Option<PathBuf>,
    /// Its stages in order, as far as it has come: the last one may not be finished.
    pub stages: Vec<StageKey>,
    /// What lies under `models/`.
    #[serde(default)]
    pub models: BTreeSet<String>,
    /// Whether all of its stages are finished.
    pub is_finished: bool,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageKey {
    /// Its name.
    pub stage: String,
    /// The hash of what it depends on.
    pub key: String,
}

/// An open run directory. Holds the lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    root: PathBuf,
    store: Store,
    /// What the directory said when it was opened.
    before: RunState,
    state: RunState,
    _lock: File,
}

impl RunDirectory {
    /// Opens or creates the directory of a plan.
    pub(crate) fn open(plan: &Plan) -> Result<Self> {
        let root = plan.file.directory.clone();
        std::fs::create_dir_all(&root)
            .with_context(|| format!("cannot create the run directory {}", root.display()))?;
        let before = read_state(&root)?;
        if before.is_none() {
            refuse_what_is_not_ours(&root)?;
        }
        let lock = take_lock(&root)?;
        ra3_files::remove_leftovers(&root)?;
        ra3_files::remove_leftovers(&root.join(MODELS))?;
        let store = plan.file.store.as_deref().map(std::path::absolute);
        let state = RunState {
            plan: plan.settings(),
            store: store.transpose().context("the store has no place")?,
            stages: Vec::new(),
            models: BTreeSet::new(),
            is_finished: false,
        };
        if before.is_none() {
            // From here on the folder is a run's.
            write_state(&root, &state)?;
        }
        Ok(Self {
            store: Store::open(&place_of_store(&root, &state), &root)?,
            root,
            before: before.unwrap_or_default(),
            state,
            _lock: lock,
        })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where its stages are.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The key that a stage had when the directory was opened.
    pub(crate) fn key_before(&self, stage: &str) -> Option<&str> {
        let stages = self.before.stages.iter();
        let mut named = stages.filter(|known| known.stage == stage);
        named.next().map(|known| known.key.as_str())
    }

    /// Where the event files of a stage lie.
    pub(crate) fn events(&self, stage: &str) -> PathBuf {
        self.root.join(ra3_records::tensorboard::FOLDER).join(stage)
    }

    /// Notes that a stage of this key begins, or is there already.
    pub(crate) fn begin(&mut self, plan: &Plan, stage: &str, key: &str) -> Result<()> {
        // Until its first stage is known, a run is what it was.
        if self.state.stages.is_empty() {
            let plan_file = self.root.join("plan.toml");
            ra3_files::write(&plan_file, plan.to_toml().as_bytes())?;
        }
        self.state.stages.push(StageKey {
            stage: stage.to_owned(),
            key: key.to_owned(),
        });
        self.write()
    }

    fn write(&self) -> Result<()> {
        // What is not reached yet is named as it was: nothing takes it for unused.
        let mut state = self.state.clone();
        let is_new = |old: &&StageKey| {
            let mut stages = self.state.stages.iter();
            !stages.any(|stage| stage.stage == old.stage)
        };
        let old = self.before.stages.iter().filter(is_new).cloned();
        state.stages.extend(old);
        state.models.extend(self.before.models.iter().cloned());
        write_state(&self.root, &state)
    }

    /// Puts the corpus that a stage has made where a user looks for it.
    pub(crate) fn publish_corpus(&self, made: &Path) -> Result<()> {
        let place = self.root.join("corpus");
        Ok(ra3_files::write_folder(&place, |folder| {
            link_all(made, folder)
        })?)
    }

    /// As [`Self::publish_corpus`], a model.
    pub(crate) fn publish_model(&mut self, made: &Path, name: &str) -> Result<()> {
        let place = self.root.join(MODELS).join(name);
        self.state.models.insert(name.to_owned());
        // Named before it is there: what is there is never without a name.
        self.write()?;
        ra3_files::write_folder(&place, |folder| link_all(made, folder))?;
        Ok(())
    }

    /// Writes the ledger, the samples and the clock of all stages so far.
    pub(crate) fn gather(&self, first: &[u8]) -> Result<()> {
        for (name, begin) in [(LEDGER, first), (SAMPLES, &[]), (CLOCK, &[])] {
            let mut bytes = begin.to_vec();
            for StageKey { stage, key } in &self.state.stages {
                let path = self.store.folder(stage, key).join(name);
                if path.exists() {
                    let part = std::fs::read(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    bytes.extend(part);
                }
            }
            ra3_files::write(&self.root.join(name), &bytes)?;
        }
        Ok(())
    }

    /// Says that the plan has no other stages than those that have begun, and takes the models and
    /// event files of those that it had away: the store has them until it is cleaned.
    pub(crate) fn finish(&mut self, plan: &Plan) -> Result<()> {
        let begun_from: Vec<PathBuf> = plan
            .checkpoints()
            .filter_map(|it| it.canonicalize().ok())
            .collect();
        let before = std::mem::take(&mut self.before);
        for StageKey { stage, .. } in before.stages {
            if self.state.stages.iter().all(|known| known.stage != stage) {
                remove_folder(&self.events(&stage))?;
            }
        }
        for model in before.models.difference(&self.state.models) {
            let place = self.root.join(MODELS).join(model);
            let place_itself = place.canonicalize();
            if !place_itself.is_ok_and(|place| begun_from.contains(&place)) {
                remove_folder(&place)?;
            }
        }
        self.state.is_finished = true;
        self.write()
    }
}

/// Replaces `place` by the records of a finished run: what a comparison reads, and the times. They
/// name no store and no models, so they may lie on any machine.
pub(crate) fn copy_records(root: &Path, place: &Path) -> Result<()> {
    let state = RunState {
        store: None,
        models: BTreeSet::new(),
        ..state(root)?
    };
    Ok(ra3_files::write_folder(place, |folder| -> Result<()> {
        for name in [LEDGER, CLOCK] {
            let from = root.join(name);
            std::fs::copy(&from, folder.join(name))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        write_state(folder, &state)
    })?)
}

fn remove_folder(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path)
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn write_state(root: &Path, state: &RunState) -> Result<()> {
    let json = serde_json::to_vec_pretty(state).expect("a run's state has only plain fields");
    Ok(ra3_files::write(&root.join(FILE), &json)?)
}

/// Fills a folder with the files of another: the same ones where the file system has links for
/// that, else copies.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    for source in entries(from)? {
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_dir() {
            std::fs::create_dir(&target)
                .with_context(|| format!("cannot create {}", target.display()))?;
            link_all(&source, &target)?;
        } else if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

fn place_of_store(root: &Path, state: &RunState) -> PathBuf {
    let own = || root.join(STAGES);
    state.store.clone().unwrap_or_else(own)
}

/// What the run in a directory is made of; `None` where there is none.
///
/// # Errors
/// `run.json` cannot be read.
pub fn read_state(root: &Path) -> Result<Option<RunState>> {
    let path = root.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let is_wrong = "is damaged, or of another version of ra3: choose another directory with \
                    --set directory=PATH, or remove this one";
    Ok(Some(read_json(&path, is_wrong)?))
}

/// Whether all stages of a run are done.
///
/// # Errors
/// As [`read_state`].
pub fn is_finished(root: &Path) -> Result<bool> {
    Ok(read_state(root)?.is_some_and(|state| state.is_finished))
}

/// As [`read_state`], of a directory that has to be a run's.
pub(crate) fn state(root: &Path) -> Result<RunState> {
    read_state(root)?
        .with_context(|| format!("{} is no run's directory: it has no {FILE}", root.display()))
}

/// The stages in the store of a run directory that neither it nor another run names. With
/// `forgets_missing`, runs that are no longer where they were name none.
///
/// # Errors
/// It is no run's directory, another process is running there, a run that uses the store is not
/// where it was, or something cannot be read.
pub fn unused(root: &Path, forgets_missing: bool) -> Result<Vec<Unused>> {
    let state = state(root)?;
    let _lock = take_lock(root)?;
    let place = place_of_store(root, &state);
    ensure!(place.is_dir(), "the store {} is not there", place.display());
    let store = Store::open(&place, root)?;
    store.unused(forgets_missing, |run| {
        let state = read_state(run)?.unwrap_or_default();
        let stages = state.stages.into_iter();
        Ok(stages.map(|stage| (stage.stage, stage.key)).collect())
    })
}

/// Refuses a folder that holds something and has no `run.json`.
fn refuse_what_is_not_ours(root: &Path) -> Result<()> {
    let name = |path: PathBuf| path.file_name().unwrap_or_default().display().to_string();
    let mut names: Vec<String> = entries(root)?.into_iter().map(name).collect();
    // A process that was killed at its very start leaves these.
    let is_locked = root.join(LOCK).metadata().is_ok_and(|lock| lock.len() == 0);
    names.retain(|name| !(is_locked && (name == LOCK || ra3_files::is_leftover(name.as_ref()))));
    names.sort();
    let first = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let is_older = names.iter().any(|name| name == "progress.json");
    ensure!(
        !is_older,
        "{} holds a run of an older version of ra3; choose another directory with --set \
         directory=PATH",
        root.display()
    );
    ensure!(
        names.is_empty(),
        "{} is neither empty nor a run's (it has no {FILE}): it holds {first}; nothing is \
         overwritten: choose another directory with --set directory=PATH",
        root.display()
    );
    Ok(())
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
    let file = open_lock(&path)?;
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
