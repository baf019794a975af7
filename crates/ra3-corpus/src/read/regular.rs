//! Opening files that users name: nothing that never ends, and nothing that changes meanwhile.
//!
//! A FIFO without a writer would hang, a device would never end.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::read_error;
use crate::error::CorpusError;

/// A file with what it was when it was opened.
#[derive(Debug)]
pub(super) struct Regular {
    pub(super) file: File,
    path: PathBuf,
    stamp: Stamp,
}

/// Changes with every write and with every other file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    n_bytes: u64,
    changed: (i64, i64),
}

impl Regular {
    pub(super) fn open(path: &Path) -> Result<Self, CorpusError> {
        let fail = |source| read_error(path, source);
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if let Some(kind) = other_kind(&metadata) {
            let path = path.to_owned();
            return Err(CorpusError::NotAFile(path, kind));
        }
        let file = File::open(path).map_err(fail)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            stamp: stamp(&metadata),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stamp.n_bytes == 0
    }

    pub(super) fn read_to_end(&mut self) -> Result<Vec<u8>, CorpusError> {
        let mut bytes = Vec::new();
        self.file
            .read_to_end(&mut bytes)
            .map_err(|source| read_error(&self.path, source))?;
        self.check()?;
        Ok(bytes)
    }

    /// Refuses what was read if the file is not what it was.
    pub(super) fn check(&self) -> Result<(), CorpusError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if stamp(&metadata) == self.stamp => Ok(()),
            _ => Err(CorpusError::Changed(self.path.clone())),
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        file: (metadata.dev(), metadata.ino()),
        n_bytes: metadata.len(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

/// What it is if it is no file.
fn other_kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_is_written_to_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.py");
        std::fs::write(&path, "x = 1\n").unwrap();
        let unchanged = Regular::open(&path).unwrap().read_to_end().unwrap();
        assert_eq!(unchanged, b"x = 1\n");

        let mut opened = Regular::open(&path).unwrap();
        let mut writer = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        writer.write_all(b"y = 2\n").unwrap();
        let error = opened.read_to_end().unwrap_err().to_string();
        assert!(error.contains("a.py changed"), "{error}");

        let mut opened = Regular::open(&path).unwrap();
        let fresh = dir.path().join("fresh");
        std::fs::write(&fresh, "z = 3\n").unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        assert!(opened.read_to_end().is_err());

        let opened = Regular::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(opened.check().is_err());
    }

    #[test]
    fn what_never_ends_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.py");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let cases = [
            (Path::new("/dev/zero"), "a device"),
            (dir.path(), "a folder"),
            (&socket, "a socket"),
        ];
        for (path, kind) in cases {
            let error = Regular::open(path).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
        }
    }
}
