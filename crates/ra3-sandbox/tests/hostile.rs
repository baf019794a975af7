//! Hostile programs, as data: each file names its verdict in the first line. None passes that
//! should not, none blocks the pool, none is taken for a fault of the sandbox, and nothing is left
//! behind. Each runs twice: compared by the caller, and by an assert in another process. Where the
//! tests run as root, all runs once more as an ordinary user; and both again without namespaces,
//! the ordinary user then with many threads elsewhere.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ra3_sandbox::value::Value;
use ra3_sandbox::{
    Arguments, CallResult, Check, Clock, End, Level, Limits, Pool, Program, RunResult,
};
use rustix::io::Errno;
use rustix::process::{WaitOptions, geteuid, waitpid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    cpu_s: 1,
    wall_s: 2.5,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

/// Set where namespaces cannot be had, as in many containers.
const WITHOUT_NAMESPACES: &str = "RA3_WITHOUT_NAMESPACES";
/// Threads of an ordinary user's other work, which the kernel counts with the sandbox's.
const N_OTHER_THREADS: usize = 600;
/// Names the folder of an ordinary user's test.
const FOLDER: &str = "RA3_ORDINARY_USER";
const NOBODY: u32 = 65534;

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
    let one = Value::Int("1".to_owned());
    Program {
        source: std::fs::read_to_string(file).unwrap(),
        entry_point: "f".to_owned(),
        inputs: (!is_check)
            .then(|| Arguments::of(&[one]))
            .into_iter()
            .collect(),
        check: is_check.then_some(check),
    }
}

fn check_verdicts(helper: &Path, files: &[PathBuf], is_check: bool) {
    let pool = Pool::with_helper(helper.to_owned(), 4, LIMITS, Level::BestEffort).unwrap();
    let has_namespaces = pool.confinement.iter().any(|layer| layer == "namespaces");
    assert!(!has_namespaces || std::env::var_os(WITHOUT_NAMESPACES).is_none());
    let programs: Vec<Program> = files.iter().map(|file| program(file, is_check)).collect();
    let mut n_done = 0;
    let mut results = pool.run_all(&programs, &mut |_| n_done += 1);
    assert_eq!(n_done, programs.len());
    // On a machine that is busy with other things a right program starves: alone it does not.
    for (program, result) in programs.iter().zip(&mut results) {
        let is_right = program.source.starts_with("# expect: passed");
        if is_right && matches!(result.end, End::TimedOut(Clock::Idle | Clock::Wall)) {
            *result = pool.run(program);
        }
    }
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

/// The programs of a folder.
fn programs_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 104, "{}", files.len());
    files
}

/// This test again, as a user without rights: with copies of all that it needs, since the
/// originals may stand where only root may look.
fn start_as_ordinary_user(
    helper: &Path,
    files: &[PathBuf],
    has_namespaces: bool,
) -> Option<(Child, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(folder.path());
    let hostile = folder.path().join("hostile");
    std::fs::create_dir(&hostile).unwrap();
    open(&hostile);
    let test = std::env::current_exe().unwrap();
    let copies = files.iter().map(|file| (file.as_path(), "hostile"));
    for (file, place) in copies.chain([(helper, "."), (&*test, ".")]) {
        let copy = folder.path().join(place).join(file.file_name().unwrap());
        std::fs::copy(file, &copy).unwrap();
        open(&copy);
    }
    let mut command = Command::new("python3");
    // The system's interpreter: another one may be at home with root.
    let is_there = command
        .env("PATH", "/usr/bin:/bin")
        .arg("--version")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped as an ordinary user: there is no python3 in /usr/bin");
        return None;
    }
    let child = test_again(
        &folder.path().join(test.file_name().unwrap()),
        has_namespaces,
    )
    .env("PATH", "/usr/bin:/bin")
    .env(FOLDER, folder.path())
    .current_dir("/")
    .uid(NOBODY)
    .gid(NOBODY)
    .spawn()
    .unwrap();
    Some((child, folder))
}

/// This test once more.
fn test_again(test: &Path, has_namespaces: bool) -> Command {
    let mut command = Command::new(test);
    command.args(["--nocapture", "hostile_programs_get_their_verdicts"]);
    if !has_namespaces {
        command.env(WITHOUT_NAMESPACES, "1");
    }
    command
}

/// This thread, and all that it starts, make no namespaces any more.
fn deny_namespaces() {
    let filter = SeccompFilter::new(
        [(libc::SYS_unshare, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&filter).unwrap();
}

/// Threads that wait for as long as this process lives.
fn crowd() {
    for _ in 0..N_OTHER_THREADS {
        let thread = std::thread::Builder::new().stack_size(1 << 16);
        thread.spawn(std::thread::park).unwrap();
    }
}

#[test]
fn hostile_programs_get_their_verdicts() {
    let is_without = std::env::var_os(WITHOUT_NAMESPACES).is_some();
    if is_without {
        deny_namespaces();
    }
    let original = PathBuf::from(env!("CARGO_BIN_EXE_ra3-sandbox-helper"));
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        assert!(!geteuid().is_root());
        if is_without {
            crowd();
        }
        let helper = folder.join(original.file_name().unwrap());
        let files = programs_in(&folder.join("hostile"));
        check_verdicts(&helper, &files, false);
        check_verdicts(&helper, &files, true);
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let files = programs_in(&folder);
    let mut others = Vec::new();
    if !is_without {
        let test = std::env::current_exe().unwrap();
        others.push((test_again(&test, false).spawn().unwrap(), None));
        let levels = [true, false].into_iter().filter(|_| geteuid().is_root());
        let ordinary = levels.filter_map(|has| start_as_ordinary_user(&original, &files, has));
        others.extend(ordinary.map(|(child, folder)| (child, Some(folder))));
    }
    check_verdicts(&original, &files, false);
    check_verdicts(&original, &files, true);
    for (mut child, _folder) in others {
        assert!(
            child.wait().unwrap().success(),
            "as another user, or without namespaces"
        );
    }
    assert!(!Path::new("/tmp/escaped-from-the-sandbox").exists());
    assert!(!Path::new("/escaped").exists());
    // This is the only test of its process: every child was waited for.
    assert_eq!(
        waitpid(None, WaitOptions::NOHANG).unwrap_err(),
        Errno::CHILD
    );
}
