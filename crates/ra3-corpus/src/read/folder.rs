//! Python files below a folder, and the standard library of an interpreter.
//!
//! Links to files are followed as long as they stay in the folder; links to folders are not: a
//! folder that holds a link to itself would have no end.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::regular::Regular;
use super::{OnError, Reading, document, not_utf8, read_error};
use crate::error::CorpusError;

/// How the names of Python files end.
pub(super) const SUFFIXES: &[&str] = &[".py"];
/// Folders of the standard library whose files are no code that one would learn from.
const LIBRARY_SKIPS: &[&str] = &["site-packages", "test", "tests", "idle_test"];

pub(super) fn read_folder(root: &Path, reading: &mut Reading) -> Result<(), CorpusError> {
    let paths = files_below(root, SUFFIXES, &[], reading)?;
    read_files(root, &paths, reading)
}

pub(super) fn read_library(
    python: &Path,
    n_files_max: usize,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    // An installation may keep parts elsewhere (Debian links a file into /etc), or to itself: such
    // parts are not the user's to mend, so they are dropped and counted.
    let mut listed = Reading::new(OnError::Drop);
    let (root, paths) = files_of_library(python, &mut listed)?;
    reading.n_dropped = listed.n_dropped;
    read_files(&root, &spread(&paths, n_files_max), reading)
}

/// At most so many paths, spread evenly.
fn spread(paths: &[PathBuf], n_max: usize) -> Vec<PathBuf> {
    let n_kept = paths.len().min(n_max);
    let kept = (0..n_kept).map(|index| paths[index * paths.len() / n_kept].clone());
    kept.collect()
}

/// An interpreter's standard library and its files.
pub(super) fn files_of_library(
    python: &Path,
    reading: &mut Reading,
) -> Result<(PathBuf, Vec<PathBuf>), CorpusError> {
    let root = library_of(python)?;
    let files = files_below(&root, SUFFIXES, LIBRARY_SKIPS, reading)?;
    Ok((root, files))
}

/// The files of a source that is a folder or one file. One file that cannot be opened is a source
/// that is missing.
pub(super) fn files_of(
    root: &Path,
    suffixes: &[&str],
    reading: &mut Reading,
) -> Result<Vec<PathBuf>, CorpusError> {
    if root.is_dir() {
        return files_below(root, suffixes, &[], reading);
    }
    Regular::open(root)?;
    Ok(vec![root.to_owned()])
}

/// Files whose names end in one of the suffixes, sorted by path.
fn files_below(
    root: &Path,
    suffixes: &[&str],
    skips: &[&str],
    reading: &mut Reading,
) -> Result<Vec<PathBuf>, CorpusError> {
    // Where links may lead: the folder, by whatever links it is itself reached.
    let inside = root
        .canonicalize()
        .map_err(|source| read_error(root, source))?;
    let entries = list(root)?;
    let (mut paths, mut folders) = (Vec::new(), vec![Ok(entries)]);
    while let Some(entries) = folders.pop() {
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                reading.fail(error)?;
                continue;
            }
        };
        for (path, kind) in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_skipped =
                name.starts_with('.') || name == "__pycache__" || skips.contains(&name.as_ref());
            let is_wanted = suffixes.iter().any(|suffix| name.ends_with(suffix));
            if kind.is_dir() && !is_skipped {
                folders.push(list(&path));
            } else if !kind.is_dir() && is_wanted {
                match stays_inside(&path, kind.is_symlink(), &inside) {
                    Ok(()) => paths.push(path),
                    Err(error) => reading.fail(error)?,
                }
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn list(folder: &Path) -> Result<Vec<(PathBuf, std::fs::FileType)>, CorpusError> {
    let fail = |source| read_error(folder, source);
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.path(), entry.file_type()?))
    };
    let entries = std::fs::read_dir(folder).map_err(fail)?;
    entries
        .map(entry)
        .collect::<std::io::Result<_>>()
        .map_err(fail)
}

fn stays_inside(path: &Path, is_link: bool, inside: &Path) -> Result<(), CorpusError> {
    if !is_link {
        return Ok(());
    }
    let target = path
        .canonicalize()
        .map_err(|source| read_error(path, source))?;
    if target.starts_with(inside) {
        return Ok(());
    }
    Err(CorpusError::Outside {
        path: path.to_owned(),
        target,
    })
}

fn read_files(root: &Path, paths: &[PathBuf], reading: &mut Reading) -> Result<(), CorpusError> {
    reading.each(paths, |path, reading| {
        let text = text_of(path, Regular::open(path)?.read_to_end()?)?;
        let name = path.strip_prefix(root).unwrap_or(path).display();
        reading
            .documents
            .push(document(name.to_string(), "", &text));
        Ok(())
    })
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, CorpusError> {
    String::from_utf8(bytes).map_err(|error| {
        let place = format!("byte {}", error.utf8_error().valid_up_to() + 1);
        not_utf8(path, &place, error.as_bytes())
    })
}

fn library_of(python: &Path) -> Result<PathBuf, CorpusError> {
    let fail = |reason: String| CorpusError::Python(python.to_owned(), reason);
    let output = Command::new(python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('stdlib'))",
        ])
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&text).is_dir() {
        return Ok(PathBuf::from(text));
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(fail(format!("it said {text:?} {said:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Rejected;
    use crate::read::{Source, read};

    fn source(path: &Path) -> Source {
        Source::Folder {
            path: path.to_owned(),
        }
    }

    #[test]
    fn files_come_sorted_with_names_below_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b", "a/c", "__pycache__", ".git", "tests"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let files = [
            ("b/z.py", "z"),
            ("a/c/y.py", "y"),
            ("tests/t.py", "t"),
            ("x.py", "x"),
            ("__pycache__/no.py", "no"),
            (".git/no.py", "no"),
            ("x.txt", "no"),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("bad.py"), b"\xff\xfe").unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop.py")).unwrap();
        let reading = read(&source(dir.path()), OnError::Drop).unwrap();
        let names: Vec<&str> = reading.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["a/c/y.py", "b/z.py", "tests/t.py", "x.py"]);
        assert_eq!(reading.documents[0].source, "folder");
        assert_eq!(reading.n_dropped[&Rejected::NotUtf8], 1);
        // The link to a folder has the name of a file, and cannot be read as one.
        assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        let stop = || {
            read(&source(dir.path()), OnError::Stop)
                .unwrap_err()
                .to_string()
        };
        assert!(stop().contains("loop.py is a folder") || stop().contains("bad.py"));
        std::fs::remove_file(dir.path().join("b/loop.py")).unwrap();
        assert!(stop().contains("bad.py, byte 1: not UTF-8"), "{}", stop());
    }

    /// What of a library leads elsewhere is dropped, however strict the corpus is.
    #[test]
    fn a_library_may_link_out_of_its_folder() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("abc.py"), "x = 1\n").unwrap();
        std::fs::write(other.path().join("site.py"), "y = 1\n").unwrap();
        let link = dir.path().join("sitecustomize.py");
        std::os::unix::fs::symlink(other.path().join("site.py"), link).unwrap();
        let python = other.path().join("python");
        // Another process writes it: a file that this one has open for writing cannot be run.
        let script = "printf '#!/bin/sh\necho %s\n' \"$1\" > \"$2\"; chmod +x \"$2\"";
        let written = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([dir.path(), &python])
            .status();
        assert!(written.unwrap().success());
        let source = Source::PythonStandardLibrary {
            python,
            n_files_max: None,
        };
        let reading = read(&source, OnError::Stop).unwrap();
        let names: Vec<&str> = reading.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["abc.py"]);
        assert_eq!(reading.n_dropped[&Rejected::Outside], 1);
    }

    #[test]
    fn what_a_folder_may_hold_besides_files_is_named_or_counted() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        std::fs::write(dir.path().join("a.py"), "\u{feff}# a mark\n").unwrap();
        std::fs::write(other.path().join("secret.py"), "key = 1\n").unwrap();
        link(Path::new("a.py"), "inside.py");
        let kept = read(&source(dir.path()), OnError::Stop).unwrap();
        let texts: Vec<&str> = kept.documents.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["# a mark\n"; 2]);

        let check = |name: &str, part: &str, reason| {
            let error = read(&source(dir.path()), OnError::Stop).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains(part),
                "{message}"
            );
            let reading = read(&source(dir.path()), OnError::Drop).unwrap();
            assert_eq!(reading.n_dropped, [(reason, 1)].into(), "{name}");
            assert_eq!(reading.documents, kept.documents);
            std::fs::remove_file(dir.path().join(name)).unwrap();
        };
        link(&other.path().join("secret.py"), "out.py");
        check("out.py", "leads out of the folder", Rejected::Outside);
        link(
            &Path::new("..")
                .join(other.path().file_name().unwrap())
                .join("secret.py"),
            "up.py",
        );
        check("up.py", "leads out of the folder", Rejected::Outside);
        link(Path::new("self.py"), "self.py");
        check("self.py", "cannot read", Rejected::Unreadable);
        link(Path::new("nothing.py"), "dangling.py");
        check("dangling.py", "cannot read", Rejected::Unreadable);
        let made = Command::new("mkfifo")
            .arg(dir.path().join("fifo.py"))
            .status();
        assert!(made.unwrap().success());
        check("fifo.py", "is a FIFO", Rejected::Unreadable);
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.py"));
        check("socket.py", "is a socket", Rejected::Unreadable);
        drop(socket);
    }

    #[test]
    fn names_need_not_be_text_and_a_source_may_be_reached_by_a_link() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let name = std::ffi::OsStr::from_bytes(b"real/\xff.py");
        std::fs::write(dir.path().join(name), "x = 1\n").unwrap();
        std::fs::write(dir.path().join("real/empty.py"), "").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("linked")).unwrap();
        let reading = read(&source(&dir.path().join("linked")), OnError::Stop).unwrap();
        let found: Vec<_> = reading
            .documents
            .iter()
            .map(|d| (d.name.as_str(), d.text.as_str()))
            .collect();
        assert_eq!(found, [("empty.py", ""), ("\u{fffd}.py", "x = 1\n")]);
    }

    #[test]
    fn a_folder_or_file_without_permission_is_named_or_counted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for name in ["open", "closed"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("a.py"), "x = 1\n").unwrap();
        }
        let closed = dir.path().join("closed");
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        if std::fs::read_dir(&closed).is_ok() {
            eprintln!("skipped: this user may read everything");
            return;
        }
        let error = read(&source(dir.path()), OnError::Stop).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        let reading = read(&source(dir.path()), OnError::Drop).unwrap();
        assert_eq!(reading.documents.len(), 1);
        assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_share_of_the_files_is_spread_over_the_paths() {
        let paths: Vec<PathBuf> = (0..10).map(|n| format!("{n}.py").into()).collect();
        let kept = spread(&paths, 3);
        assert_eq!(kept, ["0.py", "3.py", "6.py"].map(PathBuf::from));
        assert_eq!(spread(&paths, usize::MAX), paths);
    }

    #[test]
    fn a_missing_source_is_no_dropped_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&source(&dir.path().join("none")), OnError::Drop).is_err());
    }

    #[test]
    fn an_interpreter_that_is_none_is_named() {
        for python in ["/nonexistent/python", "false"] {
            let error = library_of(Path::new(python)).unwrap_err().to_string();
            assert!(error.contains(python), "{error}");
        }
    }
}
