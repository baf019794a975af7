//! What is there after a write that worked, that failed, and that was killed.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ra3_files::{WriteError, cache_folder, remove_leftovers, write, write_folder, write_with};

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_last_write_that_worked_is_there(
        writes in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..50), any::<bool>()), 1..6,
        ),
        is_folder in any::<bool>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("it");
        let file = if is_folder { path.join("inner/file") } else { path.clone() };
        let mut expected = None;
        for (bytes, fails) in &writes {
            let fill = |target: &Path| -> std::io::Result<()> {
                if is_folder {
                    std::fs::create_dir(target.join("inner"))?;
                    std::fs::write(target.join("inner/file"), bytes)?;
                } else {
                    std::fs::write(target, bytes)?;
                }
                if *fails { Err(std::io::Error::other("the disk is full")) } else { Ok(()) }
            };
            let done = if is_folder { write_folder(&path, fill) } else { write_with(&path, fill) };
            prop_assert_eq!(done.is_err(), *fails);
            if !fails {
                expected = Some(bytes.clone());
            }
            prop_assert_eq!(std::fs::read(&file).ok(), expected.clone());
            let n_there = usize::from(expected.is_some());
            prop_assert_eq!(names(root.path()).len(), n_there, "nothing is left over");
        }
    }
}

#[test]
fn a_failure_names_what_was_to_be_written_and_why() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model");
    let failed = write_folder(&path, |_| Err("no space left on device"));
    let WriteError {
        path: named,
        source,
    } = failed.unwrap_err();
    assert_eq!(
        (named, source.to_string().as_str()),
        (path.clone(), "no space left on device")
    );
    let error = write(&path.join("not/there"), b"x").unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("model/not/there"), "{error}");
    assert!(write(Path::new("/"), b"x").is_err());
}

#[test]
fn what_is_written_may_be_read_as_any_file_may() {
    let root = tempfile::tempdir().unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let (plain, plain_folder) = (root.path().join("plain"), root.path().join("plain_folder"));
    std::fs::write(&plain, "").unwrap();
    std::fs::create_dir(&plain_folder).unwrap();
    let (file, folder) = (root.path().join("file"), root.path().join("folder"));
    write(&file, b"").unwrap();
    write_folder(&folder, |_| Ok::<(), std::io::Error>(())).unwrap();
    assert_eq!(mode(&file), mode(&plain));
    assert_eq!(mode(&folder), mode(&plain_folder));
    // As some writers do, which make a file of their own beside and put it there.
    let replaced = root.path().join("replaced");
    let fill = |target: &Path| -> std::io::Result<()> {
        let own = tempfile::NamedTempFile::new_in(target.parent().unwrap())?;
        std::fs::write(own.path(), "another file")?;
        own.persist(target)?;
        Ok(())
    };
    write_with(&replaced, fill).unwrap();
    assert_eq!(mode(&replaced), mode(&plain));
    assert_eq!(std::fs::read_to_string(&replaced).unwrap(), "another file");
}

#[test]
fn leftovers_of_a_kill_are_removed_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    // What a kill in the middle leaves: the temporary things themselves, kept.
    let (folder, file) = (root.path().join("folder"), root.path().join("file"));
    let mut seen: Vec<PathBuf> = Vec::new();
    for is_folder in [true, false] {
        let fill = |temporary: &Path| {
            seen.push(temporary.to_owned());
            Err("killed")
        };
        let done = if is_folder {
            write_folder(&folder, fill)
        } else {
            write_with(&file, fill)
        };
        assert!(done.is_err());
    }
    std::fs::create_dir(&seen[0]).unwrap();
    std::fs::write(seen[0].join("half"), "half").unwrap();
    std::fs::write(&seen[1], "half").unwrap();
    std::fs::write(root.path().join("ledger.jsonl"), "whole").unwrap();
    std::fs::create_dir(root.path().join("models")).unwrap();
    remove_leftovers(root.path()).unwrap();
    assert_eq!(names(root.path()), ["ledger.jsonl", "models"]);
    remove_leftovers(&root.path().join("not there")).unwrap();
}

#[test]
fn the_cache_folder_is_where_xdg_says() {
    let with = |variables: &[(&str, &str)]| {
        let set: BTreeMap<&str, &str> = variables.iter().copied().collect();
        cache_folder(|name| set.get(name).map(OsString::from))
    };
    let home = ("HOME", "/home/a");
    assert_eq!(with(&[home]), Path::new("/home/a/.cache"));
    assert_eq!(with(&[home, ("XDG_CACHE_HOME", "/c")]), Path::new("/c"));
    let blank = with(&[home, ("XDG_CACHE_HOME", " ")]);
    assert_eq!(blank, Path::new("/home/a/.cache"));
    assert_eq!(with(&[]), Path::new(".cache"));
}
