//! Python files below a folder, and the standard library of an interpreter.
//!
//! Links to files are followed, links to folders are not: a folder that holds a link to itself
//! would have no end.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{OnError, Reading, document, read_error};
use crate::error::CorpusError;
use crate::filter::Rejected;

/// Folders of the standard library whose files are no code that one would learn from.
const LIBRARY_SKIPS: &[&str] = &["site-packages", "test", "tests", "idle_test"];

pub(super) fn read_folder(
    root: &Path,
    n_files_max: usize,
    on_error: OnError,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let paths = files_below(root, &[".py"], &[])?;
    read_files(root, &paths, n_files_max, on_error, reading)
}

pub(super) fn read_library(
    python: &Path,
    n_files_max: usize,
    on_error: OnError,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let root = library_of(python)?;
    let paths = files_below(&root, &[".py"], LIBRARY_SKIPS)?;
    read_files(&root, &paths, n_files_max, on_error, reading)
}

/// Files whose names end in one of the suffixes, sorted by path.
///
/// # Errors
/// A folder cannot be listed.
pub(super) fn files_below(
    root: &Path,
    suffixes: &[&str],
    skips: &[&str],
) -> Result<Vec<PathBuf>, CorpusError> {
    let (mut paths, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|source| read_error(&folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| read_error(&folder, source))?;
            let kind = entry
                .file_type()
                .map_err(|source| read_error(&entry.path(), source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_skipped =
                name.starts_with('.') || name == "__pycache__" || skips.contains(&name.as_str());
            if kind.is_dir() && !is_skipped {
                folders.push(entry.path());
            } else if !kind.is_dir() && suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                paths.push(entry.path());
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_files(
    root: &Path,
    paths: &[PathBuf],
    n_files_max: usize,
    on_error: OnError,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let n_kept = paths.len().min(n_files_max);
    for index in 0..n_kept {
        let path = &paths[index * paths.len() / n_kept];
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(source) => {
                reading.fail(read_error(path, source), on_error)?;
                continue;
            }
        };
        let name = path.strip_prefix(root).unwrap_or(path);
        match String::from_utf8(bytes) {
            Ok(text) => {
                let name = name.display().to_string();
                reading.documents.push(document(name, String::new(), text));
            }
            Err(_) => reading.drop_one(Rejected::NotUtf8),
        }
    }
    Ok(())
}

fn library_of(python: &Path) -> Result<PathBuf, CorpusError> {
    let fail = |reason: String| CorpusError::Python {
        python: python.to_owned(),
        reason,
    };
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
    use crate::read::{Source, read};

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
        let source = Source::Folder {
            path: dir.path().to_owned(),
            n_files_max: usize::MAX,
        };
        let reading = read(&source, OnError::Drop).unwrap();
        let names: Vec<&str> = reading.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["a/c/y.py", "b/z.py", "tests/t.py", "x.py"]);
        assert_eq!(reading.documents[0].source, "folder");
        assert_eq!(reading.n_dropped[&Rejected::NotUtf8], 1);
        // The link to a folder has the name of a file, and cannot be read as one.
        assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        let error = read(&source, OnError::Stop).unwrap_err().to_string();
        assert!(error.contains("loop.py"), "{error}");
    }

    #[test]
    fn a_share_of_the_files_is_spread_over_the_paths() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..10 {
            std::fs::write(dir.path().join(format!("{index}.py")), "x").unwrap();
        }
        let mut reading = Reading::default();
        read_folder(dir.path(), 3, OnError::Stop, &mut reading).unwrap();
        let names: Vec<&str> = reading.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["0.py", "3.py", "6.py"]);
        let missing = read_folder(
            &dir.path().join("none"),
            3,
            OnError::Drop,
            &mut Reading::default(),
        );
        assert!(missing.is_err(), "a missing source is no dropped file");
    }

    #[test]
    fn an_interpreter_that_is_none_is_named() {
        for python in ["/nonexistent/python", "false"] {
            let error = library_of(Path::new(python)).unwrap_err().to_string();
            assert!(error.contains(python), "{error}");
        }
    }
}
