//! Hostile programs, as data: each file names its verdict in the first line. None passes that
//! should not, none blocks the pool, nothing is left behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::Path;

use ra3_sandbox::value::Value;
use ra3_sandbox::{CallResult, End, Level, Limits, Pool, Program, RunResult};

const LIMITS: Limits = Limits {
    cpu_s: 2,
    wall_s: 4.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
}

/// `f(1)` should be 4.
fn verdict(result: &RunResult) -> &'static str {
    let four = CallResult::Value(Value::Int("4".to_owned()));
    match (&result.end, result.calls.as_slice()) {
        (End::Finished { .. }, [call]) if *call == four => "passed",
        (End::LoadError { error, .. }, _) if error == "SyntaxError" => "load_error",
        (End::Finished { .. } | End::LoadError { .. }, _) => "wrong",
        (End::TimedOut, _) => "timed_out",
        (End::OutputLimit, _) => "output_limit",
        (End::Died, _) => "died",
        (End::Infrastructure { .. }, _) => "infrastructure",
    }
}

#[test]
fn hostile_programs_get_their_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 40);
    let sources: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let programs: Vec<Program> = sources
        .iter()
        .map(|source| Program {
            source: source.clone(),
            entry_point: "f".to_owned(),
            inputs: vec!["(1,)".to_owned()],
            check: None,
        })
        .collect();
    let mut n_done = 0;
    let results = pool().run_all(&programs, &mut |_| n_done += 1);
    assert_eq!(n_done, programs.len());
    let mut wrong = Vec::new();
    for ((file, source), result) in files.iter().zip(&sources).zip(&results) {
        let expected = source
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("# expect: ");
        let found = verdict(result);
        // A program that fails may fail in more than one way, depending on what the kernel offers;
        // it never passes, and a clean failure never counts as the sandbox's fault.
        let alike = expected != "passed" && found != "passed" && found != "infrastructure";
        let exact = ["passed", "timed_out", "load_error"].contains(&expected);
        if found != expected && (exact || !alike) {
            wrong.push(format!(
                "{}: {found}, expected {expected}: {result:?}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!Path::new("/tmp/escaped-from-the-sandbox").exists());
}

#[test]
fn checks_pass_only_when_they_end() {
    let run = |source: &str, check: &str| {
        pool().run(&Program {
            source: source.to_owned(),
            entry_point: String::new(),
            inputs: Vec::new(),
            check: Some(check.to_owned()),
        })
    };
    let checked = |result: RunResult| match result.end {
        End::Finished {
            checked,
            check_error,
        } => (checked, check_error.is_some()),
        _ => (false, false),
    };
    assert_eq!(
        checked(run("def f(): return 1", "assert f() == 1")),
        (true, false)
    );
    assert_eq!(
        checked(run("def f(): return 1", "assert f() == 2")),
        (false, true)
    );
    assert_eq!(
        checked(run("import sys\ndef f(): sys.exit(0)", "assert f() == 2")),
        (false, true)
    );
}

#[test]
fn confinement_is_reported_and_required() {
    let pool = pool();
    assert!(pool.confinement.contains(&"limits".to_owned()));
    let helper = env!("CARGO_BIN_EXE_ra3-sandbox-helper").into();
    let strict = Pool::with_helper(helper, 1, LIMITS, Level::Require);
    let holds = |name: &str| pool.confinement.iter().any(|held| held == name);
    assert_eq!(
        strict.is_ok(),
        holds("seccomp") && holds("landlock"),
        "{:?}",
        pool.confinement
    );
}
