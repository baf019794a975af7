//! A run killed at random moments ends with the same bits as one that was left alone, and shows the
//! same in `TensorBoard`.

use std::time::Duration;

use crate::support::{assert_same_bits, finish, python, start};
use crate::tensorboard::assert_shows_the_ledger;

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let began = std::time::Instant::now();
    let (ok, text) = finish(start(&whole, &[]));
    assert!(ok, "{text}");
    let length = began.elapsed();
    let mut random = 0x9e37_79b9_u64;
    let mut n_kills = 0;
    for _ in 0..6 {
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
    let (ok, text) = finish(start(&killed, &[]));
    assert!(ok, "{text}");
    assert!(n_kills >= 2, "the run was killed {n_kills} times only");
    assert_same_bits(&whole, &killed);
    assert!(whole.join("report.html").exists() && killed.join("report.html").exists());
    match python("tensorboard") {
        None => println!("in part skipped: no tensorboard; set RA3_PYTHON, or RA3_PEERS=install"),
        Some(python) => {
            assert_shows_the_ledger(&python, &whole);
            assert_shows_the_ledger(&python, &killed);
        }
    }
}

#[test]
fn an_interrupted_run_says_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let child = start(&directory, &[]);
    while !directory.join("run.json").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = format!("kill -INT {}", child.id());
    let sent = std::process::Command::new("sh")
        .args(["-c", &interrupt])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("interrupted: what the stages"), "{said}");
    let (ok, text) = finish(start(&directory, &[]));
    assert!(ok, "{text}");
}
