//! Nobody listens: standard error is gone, or standard output has had enough.

use std::process::Stdio;

use crate::support::{ra3, start, text_of};

#[test]
fn a_run_goes_on_where_standard_error_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let mut child = start(&directory, &["base.n_updates=2"]);
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(directory.join("report.html").exists());
}

#[test]
fn an_error_is_an_error_where_standard_error_is_closed() {
    let mut child = ra3(&["plan", "nowhere.toml"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_closed_output_ends_quietly() {
    for command in [&["plan", "runs/tiny.toml"][..], &["data", "list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = ra3(command)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(141), "{command:?}");
        assert_eq!(text_of(&output), "", "{command:?}");
    }
}

#[test]
fn an_output_that_is_full_is_an_error() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let output = ra3(&["plan", "runs/tiny.toml"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text_of(&output).contains("standard output"),
        "{}",
        text_of(&output)
    );
}
