//! A run killed at random moments ends with the same bits as one that was left alone.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn start(directory: &Path, overrides: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ra3"));
    command
        .current_dir(root())
        .args(["run", "runs/tiny.toml", "--set"])
        .arg(format!("directory={}", directory.display()));
    for change in overrides {
        command.args(["--set", change]);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Every file whose bits must be the same, with its contents.
fn bits(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>, root: &Path) {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Times differ between two runs, and the page shows them.
        if ["clock.jsonl", "report.html", "plan.toml", "lock"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            bits(&path, into, root);
        } else {
            into.push((
                path.strip_prefix(root).unwrap().to_owned(),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
}

fn all_bits(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    bits(directory, &mut files, directory);
    files
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let began = std::time::Instant::now();
    let output = start(&whole, &[]).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let length = began.elapsed();
    let mut random = 0x9e37_79b9_u64;
    let mut n_kills = 0;
    for _ in 0..10 {
        // Moments from the very start to a quarter of the length; then one start to the end.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let share = 0.25 * (random >> 40) as f64 / (1u64 << 24) as f64;
        let mut child = start(&killed, &[]);
        std::thread::sleep(Duration::from_secs_f64(length.as_secs_f64() * share));
        n_kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = start(&killed, &[]).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(n_kills >= 3, "the run was killed {n_kills} times only");
    let (expected, found) = (all_bits(&whole), all_bits(&killed));
    let names = |files: &[(PathBuf, Vec<u8>)]| {
        files
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&expected), names(&found));
    for ((name, a), (_, b)) in expected.iter().zip(&found) {
        assert!(a == b, "{} differs", name.display());
    }
    assert!(whole.join("report.html").exists() && killed.join("report.html").exists());
}

#[test]
fn damage_is_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let fast = ["base.n_updates=2", "midtrain.rounds=1"];
    let output = start(&directory, &fast[..1]).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Another plan on the same directory.
    let output = start(&directory, &["base.n_updates=3"])
        .wait_with_output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("another plan"),
        "{text}"
    );
    // An unknown key.
    let output = start(&directory, &fast[1..]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("unknown field `rounds`"),
        "{text}"
    );
    // A finished run is shown again and not run again.
    let ledger = std::fs::read(directory.join("ledger.jsonl")).unwrap();
    let output = start(&directory, &fast[..1]).wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        std::fs::read(directory.join("ledger.jsonl")).unwrap(),
        ledger
    );
}
