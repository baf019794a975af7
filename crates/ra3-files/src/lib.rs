//! Files and folders that are whole or not there, and the folder of copies that can be had again.
//!
//! A reader sees what was there before or all of what is written, never a part: it is written
//! beside its place, flushed, renamed, and the folder flushed. What a killed process leaves has a
//! name of its own and is removed by [`remove_leftovers`].
//! Not here: what stands in a file, locks, and bytes from elsewhere.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::Builder;

/// How the names of files and folders begin that are not whole yet.
const UNFINISHED: &str = ".writing-";

/// What could not be written: the disk is full, a folder missing, a permission. What was there
/// before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    /// The file or folder that was to be.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Replaces `path` by a file with these bytes; its folder has to be there.
///
/// # Errors
/// See [`WriteError`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replace_file(path, |file| std::fs::write(file, bytes)).map_err(at(path))
}

/// As [`write()`], with a file that `fill` writes at the path that it is given.
///
/// # Errors
/// See [`WriteError`]; what `fill` returns is its source.
pub fn write_with<E: Into<Box<dyn Error + Send + Sync>>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), WriteError> {
    replace_file(path, |file| fill(file).map_err(io::Error::other)).map_err(at(path))
}

/// Replaces `path` by a folder that `fill` fills at the path that it is given.
///
/// # Errors
/// See [`WriteError`]; what `fill` returns is its source.
pub fn write_folder<E: Into<Box<dyn Error + Send + Sync>>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), WriteError> {
    replace_folder(path, |folder| fill(folder).map_err(io::Error::other)).map_err(at(path))
}

/// Removes what a killed process left half written in a folder.
///
/// # Errors
/// The folder cannot be read, or a leftover not be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), WriteError> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if is_leftover(path.file_name().unwrap_or_default()) {
            let is_folder = path.is_dir() && !path.is_symlink();
            if is_folder {
                std::fs::remove_dir_all(&path).map_err(at(&path))?;
            } else {
                std::fs::remove_file(&path).map_err(at(&path))?;
            }
        }
    }
    Ok(())
}

/// True for the name of what a killed process left half written.
pub fn is_leftover(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// The folder of what can be had again, as the XDG base directories have it: `XDG_CACHE_HOME`, or
/// `.cache` in `HOME`, or `.cache` here. A variable that is blank is not set.
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let set = |name: &str| {
        let is_blank = |value: &OsString| value.to_string_lossy().trim().is_empty();
        variable(name).filter(|value| !is_blank(value))
    };
    let home = || Path::new(&set("HOME").unwrap_or_default()).join(".cache");
    set("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

/// The error of this path.
pub fn at(path: &Path) -> impl Fn(io::Error) -> WriteError {
    |source| WriteError {
        path: path.to_owned(),
        source,
    }
}

fn replace_file(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path)?;
    if !folder.is_dir() {
        let missing = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
    let file = Builder::new()
        .prefix(UNFINISHED)
        // As any file: the process's mask takes from it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    let mode = file.as_file().metadata()?.permissions();
    fill(file.path())?;
    // What fills it may have put another file in its place, with a mode of its own.
    let filled = File::open(file.path())?;
    filled.set_permissions(mode)?;
    filled.sync_all()?;
    file.persist(path)?;
    sync(folder)
}

fn replace_folder(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = folder_of(path)?;
    std::fs::create_dir_all(parent)?;
    let temporary = Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)?;
    fill(temporary.path())?;
    sync_all(temporary.path())?;
    if path.exists() {
        // They change places in one step; what was there before goes with the temporary name.
        match renameat_with(CWD, temporary.path(), CWD, path, RenameFlags::EXCHANGE) {
            Ok(()) => {
                sync(parent)?;
                return temporary.close();
            }
            // Some file systems cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => std::fs::remove_dir_all(path)?,
            Err(error) => return Err(error.into()),
        }
    }
    std::fs::rename(temporary.path(), path)?;
    // It has another name now, and nothing to remove.
    let _ = temporary.keep();
    sync(parent)
}

/// The folder of a path, `.` of a bare name.
fn folder_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(io::Error::other("it has no folder")),
    }
}

/// Flushes a folder and all below it.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(folder)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
