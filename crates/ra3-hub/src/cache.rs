//! The cache on disk: snapshots are folders of links to blobs, refs are files that hold a commit.
//!
//! Nothing here speaks to the network.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::{HubError, ModelName, REQUIRED_FILES, WEIGHTS, WEIGHTS_INDEX};

/// The part of the cache that belongs to one repository.
pub(super) struct Store {
    cache: Cache,
    repo: Repo,
    what: String,
}

impl Store {
    pub(super) fn new(folder: &Path, model: &ModelName) -> Self {
        let (id, revision) = (model.repository.clone(), model.revision.clone());
        Self {
            cache: Cache::new(folder.to_owned()),
            repo: Repo::with_revision(id, RepoType::Model, revision),
            what: model.to_string(),
        }
    }

    /// The commit that the revision meant when it was last asked for, or is.
    pub(super) fn commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        let named = std::fs::read_to_string(self.reference()).ok();
        let itself = || {
            let is_there = self.snapshot(revision).is_dir();
            is_there.then(|| revision.to_owned())
        };
        named.map(|text| text.trim().to_owned()).or_else(itself)
    }

    /// Repository and revision.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(etag)
    }

    /// Waits until no other process, of ours or of Python's, fetches the same blob.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        let folder = self.cache.path().join(".locks");
        let path = folder
            .join(self.repo.folder_name())
            .join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(|source| failure(&path, source))?;
        file.lock().map_err(|source| failure(&path, source))?;
        Ok(file)
    }

    /// Makes a blob a file of a snapshot.
    pub(super) fn link(&self, etag: &str, commit: &str, name: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(name);
        create_parent(&path)?;
        // From `snapshots/COMMIT` and the folders of the file's name up to the repository.
        let up = "../".repeat(2 + name.matches('/').count());
        match std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &path) {
            Err(error) if path.exists() && error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(())
            }
            result => result.map_err(|source| failure(&path, source)),
        }
    }

    /// Records the commit of a branch or tag; a commit needs no record.
    pub(super) fn point(&self, commit: &str) -> Result<(), HubError> {
        let path = self.reference();
        let is_known = std::fs::read_to_string(&path).is_ok_and(|text| text == commit);
        if self.repo.revision() == commit || is_known {
            return Ok(());
        }
        create_parent(&path)?;
        ra3_files::write(&path, commit.as_bytes()).map_err(|error| failure(&path, error.source))
    }

    /// The error of a cache that lacks files, or a revision where none is named.
    pub(super) fn not_cached(&self, missing: &[String]) -> HubError {
        let missing = if missing.is_empty() {
            "the revision was never fetched".to_owned()
        } else {
            format!("{} missing", missing.join(", "))
        };
        HubError::NotCached {
            what: self.what.clone(),
            cache: self.cache.path().clone(),
            missing,
        }
    }

    fn reference(&self) -> PathBuf {
        let repository = self.cache.path().join(self.repo.folder_name());
        repository.join("refs").join(self.repo.revision())
    }
}

/// What a folder lacks to be a model.
pub(super) fn missing_files(folder: &Path) -> Result<Vec<String>, HubError> {
    let mut needed: Vec<String> = REQUIRED_FILES.map(str::to_owned).to_vec();
    let index = folder.join(WEIGHTS_INDEX);
    if !folder.join(WEIGHTS).exists() && index.exists() {
        needed.extend(shards(&index)?);
    } else {
        needed.push(WEIGHTS.to_owned());
    }
    needed.retain(|name| !folder.join(name).exists());
    Ok(needed)
}

/// The files that an index names, in order.
pub(super) fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let wrong = |reason: String| HubError::Index(index.to_owned(), reason);
    let text = std::fs::read_to_string(index).map_err(|error| wrong(error.to_string()))?;
    let index: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let map = index["weight_map"].as_object();
    let map = map.ok_or_else(|| wrong("no weight_map".to_owned()))?;
    let names: BTreeSet<&str> = map.values().filter_map(|name| name.as_str()).collect();
    if names.is_empty() {
        return Err(wrong("weight_map names no shard".to_owned()));
    }
    if let Some(name) = names.iter().find(|name| !is_inside(name)) {
        return Err(wrong(format!("`{name}` leads out of the folder")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// True if a name from outside stays below the folder that it is joined to.
pub(super) fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn create_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().expect("paths in the cache have a folder");
    std::fs::create_dir_all(parent).map_err(|source| failure(parent, source))
}

pub(super) fn failure(path: &Path, source: std::io::Error) -> HubError {
    HubError::Write(path.to_owned(), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_shards_inside_its_folder_or_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WEIGHTS_INDEX);
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            shards(&path).map_err(|error| error.to_string())
        };
        let text = r#"{"weight_map": {"a": "2.safetensors", "b": "1", "c": "1"}}"#;
        assert_eq!(check(text).unwrap(), ["1", "2.safetensors"]);
        let outside = check(r#"{"weight_map": {"a": "../../token"}}"#).unwrap_err();
        assert!(outside.contains("leads out"), "{outside}");
        for wrong in ["{", "{}", r#"{"weight_map": {}}"#] {
            assert!(check(wrong).is_err());
        }
        let missing = missing_files(folder.path());
        assert!(missing.is_err(), "the index is still the wrong one");
    }
}
