//! Writing so that a reader sees the old file or the new one, never a part: temporary file beside
//! the target, fsync, rename, fsync of the folder.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces `path` by a file with these bytes.
///
/// # Errors
/// The folder is missing, the disk is full, no permission: the old file is then still there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file to write has a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot create a file in {}", folder.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path)
        .with_context(|| format!("cannot replace {}", path.display()))?;
    sync_folder(folder)
}

/// Fills a folder under a temporary name and then gives it its name, replacing what was there.
///
/// # Errors
/// As [`write`], and whatever `fill` returns; the old folder is then still there.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().context("a folder to write has a parent")?;
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create {}", parent.display()))?;
    let temporary = tempfile::Builder::new()
        .prefix(".writing-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    fill(temporary.path()).with_context(|| format!("cannot write {}", path.display()))?;
    sync_files(temporary.path())?;
    if path.exists() {
        std::fs::remove_dir_all(path)
            .with_context(|| format!("cannot replace {}", path.display()))?;
    }
    std::fs::rename(temporary.keep(), path)
        .with_context(|| format!("cannot rename to {}", path.display()))?;
    sync_folder(parent)
}

/// Removes what a killed process left half written in a folder.
///
/// # Errors
/// The folder cannot be read, or a leftover not be removed.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(".writing-") {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        } else if name.starts_with(".tmp") && path.is_file() {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn sync_files(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .with_context(|| format!("cannot flush {}", path.display()))?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .with_context(|| format!("cannot flush {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_the_old_folder() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("model");
        write_folder(&target, |folder| {
            Ok(std::fs::write(folder.join("a"), "old")?)
        })
        .unwrap();
        let failed = write_folder(&target, |folder| {
            std::fs::write(folder.join("a"), "new")?;
            anyhow::bail!("no space left on device")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "old");
        assert_eq!(
            std::fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn leftovers_of_a_kill_are_removed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(".writing-abc")).unwrap();
        std::fs::write(root.path().join(".tmpXYZ"), "half").unwrap();
        std::fs::write(root.path().join("ledger.jsonl"), "whole").unwrap();
        remove_leftovers(root.path()).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
