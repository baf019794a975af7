//! Contest problems: every record form is read, and every way to pass and to fail is graded as it
//! should be.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../benchmarks/mod.rs"]
mod benchmarks;
mod checkers;

use benchmarks::benchmarks;
use ra3_evals::bench::{Name, Selection, load};
use ra3_evals::contest::records;
use ra3_evals::contest::reward::Scheme;
use ra3_evals::contest::task::{Streams, Task, Test};
use ra3_evals::evalplus::data::Rules;
use ra3_evals::outcome::{Fault, Graded, Kind, Status, grade_all};
use ra3_sandbox::{Level, Limits, Pool};

const LIMITS: Limits = Limits {
    cpu_s: 10,
    wall_s: 30.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
}

fn read(name: &str, text: &str) -> Result<Vec<Task>, String> {
    let folder = std::env::temp_dir().join(format!("ra3-contest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    let tasks = records::read(&path).map(|(tasks, _)| tasks);
    tasks.map_err(|error| error.to_string())
}

/// The larger of two numbers, three tests.
fn larger() -> Task {
    let tests = [("1 2", "2"), ("7 3", "7"), ("-1 -5", "-1")];
    let test = |(input, output): (&str, &str)| Test {
        input: format!("{input}\n"),
        output: format!("{output}\n"),
    };
    Task {
        time_s: 0.8,
        ..Task::new(None, "Larger.".to_owned(), tests.map(test).to_vec())
    }
}

#[test]
fn programs_get_their_verdicts() {
    let pool = pool();
    let task = larger();
    for (program, status, index, got) in [
        ("print(max(map(int, input().split())))", Status::Pass, 0, ""),
        (
            "import sys\nprint(max(map(int, sys.stdin.buffer.readline().split())))\nexit()",
            Status::Pass,
            0,
            "",
        ),
        ("print(input().split()[1])", Status::Fail, 1, "3\n"),
        ("print(max(input().split()))", Status::Fail, 2, "-5\n"),
        (
            "print(1 / 0)",
            Status::Fail,
            0,
            "ZeroDivisionError: division by zero",
        ),
        ("print(", Status::Fail, 0, "does not compile: SyntaxError"),
        (
            "import sys\nprint(2)\nsys.exit(1)",
            Status::Fail,
            0,
            "exit code 1",
        ),
        ("", Status::Fail, 0, ""),
        (
            "x = [0] * 10**9\nprint(2)",
            Status::Fail,
            0,
            "out of memory",
        ),
        ("while True: pass", Status::Timeout, 0, "out of time"),
        (
            "while True: print('x' * 9999)",
            Status::Fail,
            0,
            "too much output",
        ),
        // State does not outlive a test.
        (
            "import builtins\nassert not hasattr(builtins, 'x')\nbuiltins.x = 1\n\
          print(max(map(int, input().split())))",
            Status::Pass,
            0,
            "",
        ),
    ] {
        let part = task.grade(program, &pool).unwrap().base;
        assert_eq!(part.status, status, "{program}: {part:?}");
        let failure = part.failure.as_ref();
        assert_eq!(
            failure.map_or(0, |failure| failure.index),
            index,
            "{program}"
        );
        assert!(
            failure.map_or("", |failure| &failure.got).starts_with(got),
            "{program}: {part:?}"
        );
    }
}

#[test]
fn rewards_count_all_tests() {
    let pool = pool();
    let task = larger();
    let second = "print(input().split()[1])";
    for (program, scheme, n_passed, verdict) in [
        (second, Scheme::Weighted, 1, "wrong_answer"),
        // The second test decides; the third is not run.
        (second, Scheme::Pass, 1, "wrong_answer"),
        ("print(", Scheme::Share, 0, "syntax_error"),
        (" \n", Scheme::Share, 0, "wrong_answer"),
        ("print(1 / 0)", Scheme::Share, 0, "raised"),
        // Of an older Python.
        (
            "from fractions import gcd\nprint(max(map(int, input().split())))",
            Scheme::Share,
            3,
            "passed",
        ),
    ] {
        let part = task.grade_for(scheme, program, &pool).unwrap().base;
        assert_eq!((part.n_right, part.n_tests), (n_passed, 3), "{program}");
        assert_eq!(part.kind.name(), verdict, "{program}");
    }
}

#[test]
fn functions_of_contests_are_called() {
    let pool = pool();
    let record = |first: &str| {
        format!(
            r#"[{{"problem": "Sum up.", "tests": [
            {{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"{first}}},
            {{"input": "[]\n0", "output": "0", "testtype": "functional"}}]}}]"#
        )
    };
    let task = read(
        "functions.json",
        &record(r#", "metadata": {"func_name": "total"}"#),
    );
    let task = task.unwrap().remove(0);
    assert_eq!(task.function.as_deref(), Some("total"));
    let method = "class Solution:\n    def total(self, numbers, more):\n        ";
    for (program, n_passed, verdict) in [
        (
            format!("{method}return sum(numbers) + more"),
            Some(2),
            "passed",
        ),
        (
            "def total(a, b):\n    return sum(a) + b".to_owned(),
            Some(2),
            "passed",
        ),
        (format!("{method}return 6"), Some(1), "wrong_answer"),
        (
            format!("{method}return numbers[0]"),
            Some(0),
            "wrong_answer",
        ),
        (format!("{method}return 1 / 0"), Some(0), "raised"),
        ("print(6)".to_owned(), Some(0), "raised"),
        (format!("{method}return ("), None, "syntax_error"),
    ] {
        let part = task.grade_for(Scheme::Share, &program, &pool).unwrap().base;
        assert_eq!(
            part.kind == Kind::SyntaxError,
            n_passed.is_none(),
            "{part:?}"
        );
        assert_eq!(
            (part.n_right, part.n_tests),
            (n_passed.unwrap_or(0), 2),
            "{part:?}"
        );
        assert_eq!(part.kind.name(), verdict, "{program}");
        let is_passed = task.grade(&program, &pool).unwrap().is_passed();
        assert_eq!(is_passed, n_passed == Some(2), "{program}");
    }
    let error = read("nameless.json", &record("")).unwrap_err();
    assert!(
        error.contains("record 1: `tests` should be with `func_name`"),
        "{error}"
    );
    let other =
        r#"[{"problem": "P", "tests": {"inputs": ["x y"], "outputs": ["1"], "fn_name": "f"}}]"#;
    let error = read("other.json", other).unwrap_err();
    assert!(
        error.contains("record 1: `tests` should be texts of JSON"),
        "{error}"
    );
}

#[test]
fn what_is_null_or_zero_is_as_what_is_not_there() {
    let open_r1 = |more: &str| {
        format!(
            r#"{{"id": "1/A", "title": null, "description": "Add.", "note": null, "rating": null,
            "input_mode": "stdio", "generated_checker": null, "memory_limit": null,
            "official_tests": [{{"input": "1", "output": "1"}}]{more}}}"#
        )
        .replace('\n', " ")
    };
    for more in [
        "",
        r#", "generated_tests": 0, "time_limit": null"#,
        r#", "generated_tests": 412, "time_limit": 0.0"#,
        r#", "generated_tests": null"#,
    ] {
        let task = &read("null.jsonl", &open_r1(more)).unwrap()[0];
        assert_eq!((task.tests.len(), task.time_s), (1, 2.0), "{more}");
        assert_eq!((task.memory_bytes, task.rating), (256 << 20, None));
    }
    let both = r#", "generated_tests": [{"input": "2", "output": "2"}]"#;
    assert_eq!(
        read("both.jsonl", &open_r1(both)).unwrap()[0].tests.len(),
        2
    );
    let wrong = read("wrong.jsonl", &open_r1(r#", "generated_tests": "2""#)).unwrap_err();
    assert!(wrong.contains("line 1: `generated_tests`"), "{wrong}");
    let code_contests = r#"{"name": "A", "description": "Add.", "private_tests": null,
        "public_tests": {"input": ["1 2"], "output": ["3"]}, "cf_rating": 0,
        "time_limit": {"seconds": 0, "nanos": null}, "memory_limit_bytes": 0}"#;
    let task = &read("nulls.jsonl", &code_contests.replace('\n', " ")).unwrap()[0];
    assert_eq!((task.time_s, task.memory_bytes), (2.0, 256 << 20));
}

#[test]
fn files_stand_for_streams() {
    let pool = pool();
    let streams = Streams::Files {
        input: "sum.in".to_owned(),
        output: "sum.out".to_owned(),
    };
    let task = Task {
        streams,
        ..larger()
    };
    let right = "a = map(int, open('sum.in').read().split())\n\
                 print(max(a), file=open('sum.out', 'w'))";
    assert_eq!(task.grade(right, &pool).unwrap().base.status, Status::Pass);
    let printed = "print(max(map(int, open('sum.in').read().split())))";
    assert_eq!(
        task.grade(printed, &pool).unwrap().base.status,
        Status::Fail
    );
}

#[test]
fn every_form_of_record_is_read() {
    let open_r1 = r#"{"id": "852/A", "title": "Digits", "description": "Split it.",
        "input_format": "A number.", "output_format": "Parts.", "note": null, "time_limit": 1.5,
        "memory_limit": 256.0, "input_mode": "file", "rating": 2500,
        "official_tests_complete": true, "generated_checker": "print(1)",
        "official_tests": [{"input": "1", "output": "1"}, {"input": "1 2...", "output": "x"}]}"#;
    let task = &read("open_r1.jsonl", &open_r1.replace('\n', " ")).unwrap()[0];
    assert_eq!(task.task_id, "852/A");
    assert_eq!(
        task.statement,
        "# Digits\n\nSplit it.\n\n## Input Format\nA number.\n\n## Output Format\nParts."
    );
    assert_eq!((task.tests.len(), task.n_tests_cut), (1, 1));
    assert_eq!((task.time_s, task.memory_bytes), (1.5, 256_000_000));
    assert_eq!(
        (task.rating, task.checker.as_deref()),
        (Some(2500), Some("print(1)"))
    );
    assert!(matches!(&task.streams, Streams::Files { input, .. } if input == "input.txt"));

    let code_contests = r#"{"name": "1_A. Sum", "description": "Add.", "cf_rating": 800,
        "public_tests": {"input": ["1 2"], "output": ["3"]},
        "private_tests": {"input": ["4 5"], "output": ["9"]},
        "generated_tests": {"input": [], "output": []},
        "time_limit": {"seconds": 1, "nanos": 500000000}, "memory_limit_bytes": 64000000,
        "input_file": "", "output_file": ""}"#;
    let task = &read("code_contests.json", &format!("[{code_contests}]")).unwrap()[0];
    assert_eq!(
        (task.tests.len(), task.time_s, task.memory_bytes),
        (2, 1.5, 64_000_000)
    );
    assert_eq!(
        (task.rating, &task.streams),
        (Some(800), &Streams::Standard)
    );

    let rllm = r#"[{"problem": "P", "tests": [{"input": "1", "output": "2"}]},
        {"problem": "Q", "tests": {"inputs": ["1", "2"], "outputs": ["3", "4"]}},
        {"problem": "R", "tests": "[{\"input\": \"5\", \"output\": \"6\"}]"}]"#;
    let counts: Vec<usize> = read("rllm.json", rllm)
        .unwrap()
        .iter()
        .map(|t| t.tests.len())
        .collect();
    assert_eq!(counts, [1, 2, 1]);

    let fusion = r#"{"content": "C", "labels": "{\"source\": \"CF\", \"name\": \"1_A\"}",
        "test": "[{\"input\": {\"stdin\": \"1\"}, \"output\": {\"stdout\": \"2\"}}]"}"#;
    let task = &read("fusion.jsonl", &fusion.replace('\n', " ")).unwrap()[0];
    assert_eq!((task.task_id.as_str(), task.tests.len()), ("CF/1_A", 1));
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    for (name, text, message) in [
        ("a.jsonl", "{\"x\": 1}", "line 1: `official_tests`"),
        (
            "b.json",
            "[{\"problem\": \"P\"}]",
            "record 1: `tests` should be there",
        ),
        (
            "c.json",
            "[{\"problem\": \"P\", \"tests\": [{\"input\": 1}]}]",
            "record 1: `tests`",
        ),
        (
            "d.jsonl",
            "\n{\"problem\": 1}",
            "line 2: `problem` should be a text",
        ),
        ("e.jsonl", "{", "line 1: not JSON"),
    ] {
        let error = read(name, text).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn published_records_are_read() {
    let Some(folder) = benchmarks() else { return };
    let read = |name: &str| {
        records::read(&folder.join("codeforces").join(name))
            .unwrap()
            .0
    };
    let codeforces = read("rllm_codeforces_test.json");
    assert_eq!(codeforces.len(), 408);
    let n_tests: usize = codeforces.iter().map(|task| task.tests.len()).sum();
    let n_cut: usize = codeforces.iter().map(|task| task.n_tests_cut).sum();
    // One ends in dots, and is a grid of them.
    assert_eq!((n_tests, n_cut), (468, 0));
    let contests = read("rllm_code_contests_test.json");
    assert_eq!(contests.len(), 165);
    let fusion = read("sandboxfusion_code_contests_sample.jsonl");
    assert_eq!(fusion.len(), 20);
    assert!(fusion.iter().all(|task| task.tests.len() >= 35));
}

/// The answer to 1198/A of the samples, "MP3": 143 tests.
const MP3: &str = "
n, size = map(int, input().split())
bits = 8 * size // n
counts = {}
for value in map(int, input().split()):
    counts[value] = counts.get(value, 0) + 1
counts = [counts[value] for value in sorted(counts)]
width = min(len(counts), 2 ** min(bits, 30))
kept = sum(counts[:width])
best = kept
for i in range(width, len(counts)):
    kept += counts[i] - counts[i - width]
    best = max(best, kept)
print(n - best)
";

#[test]
fn a_published_problem_is_solved() {
    let Some(folder) = benchmarks() else {
        return;
    };
    let pool = pool();
    let path = folder.join("codeforces/sandboxfusion_code_contests_sample.jsonl");
    let (tasks, _) = records::read(&path).unwrap();
    let task = tasks
        .into_iter()
        .find(|task| task.task_id.contains("1198_A"))
        .unwrap();
    let verdict = task.grade(MP3, &pool).unwrap();
    assert_eq!(verdict.base.status, Status::Pass, "{verdict:?}");
    let wrong = MP3.replace("8 * size // n", "8 * size // n + 1");
    assert_ne!(task.grade(&wrong, &pool).unwrap().base.status, Status::Pass);
}
