//! Starting the command as a user would, and comparing what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `ra3 ARGUMENTS` in the root of the workspace.
pub(crate) fn ra3(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ra3"));
    command.current_dir(root()).args(arguments);
    command
}

/// The arguments of a run of `runs/tiny.toml` in a directory.
pub(crate) fn run_arguments(directory: &Path, overrides: &[&str]) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), "runs/tiny.toml".to_owned()];
    let directory = format!("directory={}", directory.display());
    for change in [directory.as_str()].iter().chain(overrides) {
        arguments.extend(["--set".to_owned(), (*change).to_owned()]);
    }
    arguments
}

pub(crate) fn start(directory: &Path, overrides: &[&str]) -> Child {
    let arguments = run_arguments(directory, overrides);
    ra3(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was built for this test")
}

pub(crate) fn finish(child: Child) -> (bool, String) {
    let output = child
        .wait_with_output()
        .expect("the child was not waited for");
    (output.status.success(), text_of(&output))
}

/// Standard error.
pub(crate) fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file whose bits must be the same, with its contents.
pub(crate) fn all_bits(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    bits(directory, &mut files, directory);
    files
}

fn bits(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>, root: &Path) {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it lists").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Times differ between two runs, and the page shows them; plan and store name places.
        if [
            "clock.jsonl",
            "report.html",
            "plan.toml",
            "store.json",
            "lock",
            "tensorboard",
        ]
        .contains(&name.as_str())
        {
            continue;
        }
        if path.is_dir() {
            bits(&path, into, root);
        } else {
            let below = path.strip_prefix(root).expect("it is below").to_owned();
            into.push((below, std::fs::read(&path).expect("it is a file")));
        }
    }
}

/// Fails with the name of the first file that differs.
pub(crate) fn assert_same_bits(expected: &Path, found: &Path) {
    let (expected, found) = (all_bits(expected), all_bits(found));
    let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&expected), names(&found));
    for ((name, a), (_, b)) in expected.iter().zip(&found) {
        assert!(a == b, "{} differs", name.display());
    }
}

fn has_packages(python: &Path, packages: &str) -> bool {
    let import = format!("import {packages}");
    let found = Command::new(python).args(["-c", &import]).output();
    found.is_ok_and(|output| output.status.success())
}

/// An interpreter that has some packages, `torch, transformers` or `tensorboard`: the one that
/// `RA3_PYTHON` names, `python3`, or that of `target/peers`, where `RA3_PEERS=install` puts them.
pub(crate) fn python(packages: &str) -> Option<PathBuf> {
    let peers = root().join("target/peers");
    if std::env::var("RA3_PEERS").is_ok_and(|wish| wish == "install") && !peers.exists() {
        let run = |program: &Path, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status();
            status.is_ok_and(|status| status.success())
        };
        let place = peers.to_str().expect("the workspace has a name in UTF-8");
        run(Path::new("python3"), &["-m", "venv", place]);
        let packages = ["install", "--quiet", "torch", "transformers", "tensorboard"];
        run(&peers.join("bin/pip"), &packages);
    }
    let named = std::env::var("RA3_PYTHON").ok().map(PathBuf::from);
    let all = [
        named,
        Some("python3".into()),
        Some(peers.join("bin/python")),
    ];
    all.into_iter()
        .flatten()
        .find(|python| has_packages(python, packages))
}
