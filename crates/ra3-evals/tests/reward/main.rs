//! Rewards by a command: what arrives, what comes back, and every way to fail.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

mod arriving;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ra3_evals::outcome::{Part, Verdict};
use ra3_evals::rlvr::reward_command::{Item, Reward, RewardCommand, RewardError};

/// Long enough for whatever comes at all.
pub(crate) const LONG: Duration = Duration::from_mins(2);
/// Long enough for a line from a shell.
const SOME: Duration = Duration::from_secs(5);
/// Short enough to wait for what never comes.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn start(command: &[&str], deadline: Duration) -> Result<RewardCommand, RewardError> {
    let command: Vec<String> = command.iter().copied().map(str::to_owned).collect();
    RewardCommand::start(&command, Path::new("/"), deadline)
}

fn shell(script: &str, deadline: Duration) -> RewardCommand {
    start(&["sh", "-c", script], deadline).unwrap()
}

/// Answers every line with this one.
fn says(answer: &str) -> RewardCommand {
    let script = r#"while read -r line; do printf '%s\n' "$0"; done"#;
    start(&["sh", "-c", script, answer], LONG).unwrap()
}

fn passed() -> Verdict {
    Part::passed(3).into()
}

/// Asks about so many programs.
fn ask(command: &mut RewardCommand, n_items: usize) -> Result<Vec<Reward>, RewardError> {
    ask_about(command, n_items, "return 1")
}

fn ask_about(
    command: &mut RewardCommand,
    n_items: usize,
    program: &str,
) -> Result<Vec<Reward>, RewardError> {
    let verdict = passed();
    let item = Item {
        task_id: "task/7",
        prompt: "def f():",
        program,
        latents: &[],
        verdict: &verdict,
    };
    command.rewards(&vec![item; n_items])
}

/// The error of a command that is asked about three programs, and that it is the end of it.
fn failure(command: &mut RewardCommand, n_right: usize) -> String {
    assert_eq!(ask(command, n_right).unwrap().len(), n_right);
    ask(command, 1).unwrap_err().to_string()
}

#[test]
fn answers_are_numbers_or_components() {
    let named = |pairs: &[(&str, f64)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        pairs.collect()
    };
    for (answer, total, components) in [
        ("0.25", 0.25, named(&[])),
        (" -3\r", -3.0, named(&[])),
        ("1e-3", 0.001, named(&[])),
        (
            r#"{"a": 1, "b": -0.25}"#,
            0.75,
            named(&[("a", 1.0), ("b", -0.25)]),
        ),
        (
            r#"{"a": 1, "reward": 0.5}"#,
            0.5,
            named(&[("a", 1.0), ("reward", 0.5)]),
        ),
    ] {
        let mut command = says(answer);
        let wanted = Reward { total, components };
        assert_eq!(
            ask(&mut command, 2).unwrap(),
            [wanted.clone(), wanted.clone()]
        );
        assert_eq!(ask(&mut command, 0).unwrap(), []);
        assert_eq!(ask(&mut command, 1).unwrap(), [wanted], "it is alive");
    }
}

#[test]
fn answers_that_are_no_rewards_are_shown() {
    for (answer, reason) in [
        ("good", "it cannot be read as JSON"),
        ("", "it cannot be read as JSON"),
        ("NaN", "it cannot be read as JSON"),
        ("-Infinity", "it cannot be read as JSON"),
        ("1e999", "it cannot be read as JSON (number out of range"),
        ("0.5 0.5", "it cannot be read as JSON"),
        (r#"{"a": NaN}"#, "it cannot be read as JSON"),
        ("true", "it is neither a number nor an object"),
        ("null", "it is neither a number nor an object"),
        ("[1]", "it is neither a number nor an object"),
        (r#""1""#, "it is neither a number nor an object"),
        ("{}", "it names no component"),
        (r#"{"a": 1, "b": "x"}"#, r#"b: "x" is no number"#),
        (r#"{"a": {"b": 1}}"#, r#"a: {"b":1} is no number"#),
        ("1e39", "out of range"),
        (
            r#"{"a": 1e308, "b": 1e308}"#,
            "a reward of inf is out of range",
        ),
    ] {
        let error = ask(&mut says(answer), 1).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RewardError::Answer { .. }), "{text}");
        let said = format!("said {answer:?} about a program for task/7: ");
        assert!(
            text.contains(&said) && text.contains(reason),
            "{answer}: {text}"
        );
    }
    let long = ask(&mut says(&"x".repeat(100_000)), 1).unwrap_err();
    assert!(long.to_string().len() < 1000, "it is cut");
}

#[test]
fn what_cannot_be_started_is_an_error_at_once() {
    for (command, directory) in [
        (vec!["no-such-reward-command"], "/"),
        (vec!["./no-such-reward-command"], "/"),
        (vec!["sh"], "/no/such/directory"),
        (vec!["/"], "/"),
        (vec![], "/"),
        (vec!["a\0b"], "/"),
    ] {
        let words: Vec<String> = command.iter().copied().map(str::to_owned).collect();
        let error = RewardCommand::start(&words, Path::new(directory), LONG).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RewardError::Start { .. }), "{text}");
        assert!(text.contains(directory) && text.contains("PATH"), "{text}");
        let name = format!("{:?}", words.join(" "));
        assert!(text.contains(&name), "{text}");
    }
}

#[test]
fn paths_go_from_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("reward");
    fs::write(
        &script,
        "#!/bin/sh\nwhile read -r line; do cat number; done\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("number"), "2.5\n").unwrap();
    let command = ["./reward".to_owned()];
    let mut command = RewardCommand::start(&command, directory.path(), LONG).unwrap();
    assert_eq!(ask(&mut command, 2).unwrap()[1].total, 2.5);
}

#[test]
fn a_command_that_ends_is_quoted() {
    for (script, n_right, end, last_words) in [
        ("exit 3", 0, "exit status: 3", ""),
        ("true", 0, "exit status: 0", ""),
        (
            "read -r line; echo 1; read -r line; exit 4",
            1,
            "exit status: 4",
            "",
        ),
        ("read -r line; echo 1", 1, "exit status: 0", ""),
        ("kill -9 $$", 0, "signal: 9 (SIGKILL)", ""),
        ("read -r line; printf 1; exit 5", 0, "exit status: 5", ""),
        (
            "read -r line; echo one >&2; echo >&2; echo ' two' >&2; exit 1",
            0,
            "exit status: 1",
            "one /  two",
        ),
        (
            "seq 100000 >&2; exit 1",
            0,
            "exit status: 1",
            "99996 / 99997 / 99998 / 99999 / 100000",
        ),
        (
            "exec >&-; while read -r line; do :; done; sleep 100",
            0,
            "output was closed",
            "",
        ),
    ] {
        let mut command = shell(script, LONG);
        let text = failure(&mut command, n_right);
        for part in [
            script,
            end,
            "ended",
            "task/7",
            &format!("error: {last_words:?}"),
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let again = ask(&mut command, 1).unwrap_err();
        assert!(matches!(again, RewardError::Ended { .. }), "{again}");
    }
}

#[test]
fn a_command_that_is_late_is_killed() {
    for script in [
        "sleep 1000",
        "while read -r line; do :; done",
        "exec <&-; sleep 1000",
        "while :; do echo noise >&2; done",
        "trap '' TERM HUP INT; sleep 1000; sleep 1000",
        // Somebody else holds its pipes open.
        "sleep 1000 & exit 6",
    ] {
        // Lines that fit into a pipe, and lines that do not.
        for program in ["return 1", &"x".repeat(1 << 20)] {
            let mut command = shell(script, SHORT);
            let error = ask_about(&mut command, 1, program).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, RewardError::Late { .. }), "{text}");
            for part in ["within 300ms", "task/7", "(\"\" so far)"] {
                assert!(text.contains(part), "{script}: {text}");
            }
            let again = ask(&mut command, 1).unwrap_err();
            assert!(matches!(again, RewardError::Ended { .. }), "{again}");
        }
    }
    let half = "echo model >&2; read -r line; printf 0.5; sleep 1000";
    let text = ask(&mut shell(half, SOME), 1).unwrap_err().to_string();
    assert!(
        text.contains("within 5s") && text.contains("(\"0.5\" so far)"),
        "{text}"
    );
    assert!(text.ends_with("standard error: \"model\""), "{text}");
}

#[test]
fn what_was_not_asked_is_refused() {
    for (script, reason) in [
        (
            "read -r line; printf '1\\n2\\n'; read -r line",
            "more than one line",
        ),
        ("yes 1", ""),
        ("exec tr '\\0' x </dev/zero", ""),
        (
            "read -r line; exec tr '\\0' x </dev/zero",
            "a line without end",
        ),
    ] {
        let mut command = shell(script, LONG);
        let error = ask(&mut command, 1).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RewardError::Answer { .. }), "{text}");
        assert!(text.contains(reason) && text.contains("task/7"), "{text}");
        let again = ask(&mut command, 1).unwrap_err();
        assert!(matches!(again, RewardError::Ended { .. }), "{again}");
    }
}

#[test]
fn what_comes_before_the_question_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("said");
    let script = format!(
        "echo 0; : > {}; while read -r line; do :; done",
        note.display()
    );
    let mut command = shell(&script, LONG);
    assert!(comes_true(|| note.exists()));
    let text = ask(&mut command, 1).unwrap_err().to_string();
    assert!(
        text.contains(r#"said "0\n" about"#) && text.contains("nobody had asked"),
        "{text}"
    );
}

/// Much in every pipe at once: nobody waits for anybody.
#[test]
fn large_lines_both_ways_pass() {
    let script = r#"
import json, sys
for line in sys.stdin:
    sys.stderr.write("x" * 1000000 + "\n")
    item = json.loads(line)
    print(json.dumps({"n": len(item["program"]), "x" * 500000: 0}))
"#;
    let mut command = start(&["python3", "-c", script], LONG).unwrap();
    for n in [0, 1, 70_000, 5_000_000] {
        let rewards = ask_about(&mut command, 2, &"y".repeat(n)).unwrap();
        assert!(rewards.iter().all(|reward| reward.total == n as f64));
        assert_eq!(rewards.len(), 2);
    }
}

fn comes_true(is_true: impl Fn() -> bool) -> bool {
    (0..6000).any(|_| {
        let is_now = is_true();
        if !is_now {
            sleep(Duration::from_millis(10));
        }
        is_now
    })
}

/// True while a process runs that is no corpse.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

#[test]
fn the_whole_group_goes_with_the_command() {
    let directory = tempfile::tempdir().unwrap();
    for (index, is_late) in [false, true].into_iter().enumerate() {
        let note = directory.path().join(index.to_string());
        let script = format!(
            "sleep 1000 & echo $$ $! > {}; read -r line; echo 1; read -r line; sleep 1000",
            note.display()
        );
        let mut command = shell(&script, LONG);
        ask(&mut command, 1).unwrap();
        let pids = fs::read_to_string(&note).unwrap();
        assert!(pids.split_whitespace().all(is_alive) && pids.split_whitespace().count() == 2);
        if is_late {
            drop(command);
        } else {
            // It is dropped by a thread that panics, too.
            let owner = std::thread::spawn(move || {
                let _command = command;
                std::panic::resume_unwind(Box::new(0));
            });
            owner.join().unwrap_err();
        }
        assert!(comes_true(|| !pids.split_whitespace().any(is_alive)));
    }
}
