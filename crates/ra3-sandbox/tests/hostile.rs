//! Hostile programs, as data: each file names its verdict in the first line. None passes that
//! should not, none blocks the pool, none is taken for a fault of the sandbox, and nothing is left
//! behind. Each runs twice: compared by the caller, and by an assert in another process.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::{Path, PathBuf};

use ra3_sandbox::value::Value;
use ra3_sandbox::{CallResult, Check, End, Level, Limits, Pool, Program, RunResult};
use rustix::io::Errno;
use rustix::process::{WaitOptions, waitpid};

const LIMITS: Limits = Limits {
    cpu_s: 1,
    wall_s: 2.5,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

/// `f(1)` should be 4.
fn verdict(result: &RunResult, is_check: bool) -> &'static str {
    let four = CallResult::Value(Value::Int("4".to_owned()));
    match &result.end {
        End::Finished if is_check || result.calls == [four] => "passed",
        End::LoadError { error, .. } if error == "SyntaxError" => "load_error",
        End::Finished | End::LoadError { .. } | End::CheckFailed { .. } => "wrong",
        End::TimedOut(_) => "timed_out",
        End::OutputLimit => "output_limit",
        End::Died => "died",
        End::Infrastructure { .. } => "infrastructure",
    }
}

/// A program that fails may fail in more than one way, depending on what the kernel offers.
fn is_as_expected(found: &str, expected: &str) -> bool {
    match expected {
        "passed" | "timed_out" | "load_error" => found == expected,
        _ => found != "passed" && found != "infrastructure",
    }
}

fn program(file: &Path, is_check: bool) -> Program {
    let check = Check {
        prelude: String::new(),
        test: "def check(candidate):\n    assert candidate(1) == 4\n".to_owned(),
    };
    Program {
        source: std::fs::read_to_string(file).unwrap(),
        entry_point: "f".to_owned(),
        inputs: (!is_check).then(|| "(1,)".to_owned()).into_iter().collect(),
        check: is_check.then_some(check),
    }
}

fn check_verdicts(files: &[PathBuf], is_check: bool) {
    let helper = env!("CARGO_BIN_EXE_ra3-sandbox-helper").into();
    let pool = Pool::with_helper(helper, 4, LIMITS, Level::BestEffort).unwrap();
    let programs: Vec<Program> = files.iter().map(|file| program(file, is_check)).collect();
    let mut n_done = 0;
    let results = pool.run_all(&programs, &mut |_| n_done += 1);
    assert_eq!(n_done, programs.len());
    let mut wrong = Vec::new();
    for ((file, program), result) in files.iter().zip(&programs).zip(&results) {
        let first = program.source.lines().next().unwrap();
        let expected = first.strip_prefix("# expect: ").unwrap();
        let found = verdict(result, is_check);
        if !is_as_expected(found, expected) {
            let name = file.file_name().unwrap().display();
            wrong.push(format!("{name}: {found}, expected {expected}: {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "check: {is_check}\n{}", wrong.join("\n"));
}

#[test]
fn hostile_programs_get_their_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 75, "{}", files.len());
    check_verdicts(&files, false);
    check_verdicts(&files, true);
    assert!(!Path::new("/tmp/escaped-from-the-sandbox").exists());
    assert!(!Path::new("/escaped").exists());
    // This is the only test of its process: every child was waited for.
    assert_eq!(
        waitpid(None, WaitOptions::NOHANG).unwrap_err(),
        Errno::CHILD
    );
}
