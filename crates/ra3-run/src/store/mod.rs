//! Where stages are kept: a folder for each, named by what it depends on ([`crate::recipe`]).
//!
//! A store belongs to one run or to several; they find each other's finished stages. It knows the
//! runs that use it, so that [`Store::unused`] can tell what none of them names any more.

mod progress;
mod stage_folder;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use progress::{checksum, read_progress};
pub(crate) use stage_folder::{CLOCK, LEDGER, SAMPLES, StageFolder};

use crate::event::Watcher;
use crate::on_disk::{entries, read_json};
use crate::recipe::Recipe;

/// The store's own file: without it a folder that holds something is not a store.
const FILE: &str = "store.json";
/// The file that a process locks that works in a folder.
pub(crate) const LOCK: &str = "lock";
/// Letters of a key in the name of its folder.
const N_KEY: usize = 16;

/// A store of stages.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// Who uses a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    /// The run directories.
    runs: BTreeSet<PathBuf>,
}

/// A stage that no run names any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// Its folder.
    pub path: PathBuf,
    /// Its size.
    pub n_bytes: u64,
}

impl Unused {
    /// Removes it.
    ///
    /// # Errors
    /// A process is at it, or it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let context = || format!("cannot remove {}", self.path.display());
        let lock = open_lock(&self.path.join(LOCK))?;
        lock.try_lock()
            .context("another process is at it")
            .with_context(context)?;
        std::fs::remove_dir_all(&self.path).with_context(context)
    }
}

impl Store {
    /// Opens or creates a store, and notes that a run uses it.
    pub(crate) fn open(root: &Path, run: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create the store {}", root.display()))?;
        let store = Self {
            root: root.to_owned(),
        };
        // A stranger's folder stays as it is.
        store.users()?;
        let lock = open_lock(&root.join(LOCK))?;
        // Two runs may begin at once.
        lock.lock().context("cannot lock the store")?;
        ra3_files::remove_leftovers(root)?;
        let mut users = store.users()?;
        let run = std::path::absolute(run).context("the run directory has no place")?;
        if users.runs.insert(run) || !root.join(FILE).exists() {
            store.write_users(&users)?;
        }
        Ok(store)
    }

    fn users(&self) -> Result<Users> {
        let path = self.root.join(FILE);
        if !path.exists() {
            let is_ours = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default();
                name == LOCK || ra3_files::is_leftover(name)
            };
            ensure!(
                entries(&self.root)?.iter().all(is_ours),
                "{} is neither empty nor a store of stages: choose another with --set store=PATH",
                self.root.display()
            );
            return Ok(Users::default());
        }
        read_json(&path, "is damaged")
    }

    fn write_users(&self, users: &Users) -> Result<()> {
        let json = serde_json::to_vec_pretty(users).expect("users are paths");
        Ok(ra3_files::write(&self.root.join(FILE), &json)?)
    }

    /// The folder of a stage.
    pub(crate) fn folder(&self, stage: &str, key: &str) -> PathBuf {
        self.root.join(format!("{stage}-{}", &key[..N_KEY]))
    }

    /// Opens the folder of a recipe, and waits where another process is at it.
    pub(crate) fn stage(
        &self,
        recipe: &Recipe,
        events: &Path,
        watcher: &mut Watcher<'_>,
    ) -> Result<StageFolder> {
        let folder = self.folder(&recipe.stage, &recipe.key());
        StageFolder::open(&folder, recipe, events, watcher)
    }

    /// The stages that no run of those that use the store names, by what `named` says of a run's
    /// directory; runs that are no longer there name none.
    pub(crate) fn unused(
        &self,
        forgets_missing: bool,
        named: impl Fn(&Path) -> Result<Vec<(String, String)>>,
    ) -> Result<Vec<Unused>> {
        let mut used = BTreeSet::new();
        for run in self.users()?.runs {
            ensure!(
                run.exists() || forgets_missing,
                "{} uses this store and is not there: what it needs is not known; put it back, or \
                 say with --forget-missing that it is gone",
                run.display()
            );
            if run.exists() {
                let stages = named(&run)?.into_iter();
                used.extend(stages.map(|(stage, key)| self.folder(&stage, &key)));
            }
        }
        let mut unused = Vec::new();
        for path in entries(&self.root)? {
            if path.is_dir() && !used.contains(&path) {
                let n_bytes = size(&path)?;
                unused.push(Unused { path, n_bytes });
            }
        }
        unused.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(unused)
    }
}

/// Opens a file to be locked, and makes it where it is not there.
pub(crate) fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true);
    options
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn size(folder: &Path) -> Result<u64> {
    let context = || format!("cannot read {}", folder.display());
    let mut n_bytes = 0;
    for path in entries(folder)? {
        n_bytes += if path.is_dir() {
            size(&path)?
        } else {
            path.metadata().with_context(context)?.len()
        };
    }
    Ok(n_bytes)
}
