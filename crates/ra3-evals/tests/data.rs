//! Data that cannot be graded with are refused by file, line and key, and editors' marks passed
//! over.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ra3_evals::bench::{self, Name};
use ra3_evals::evalplus::data::{self as evalplus, Benchmark, Rules};
use ra3_evals::evalplus::oracle::expected;
use ra3_evals::livecodebench::Mode;
use ra3_evals::outcome::{Part, grade_until};
use ra3_evals::samples;
use ra3_sandbox::{Level, Pool};
use serde_json::{Value, json};

const LIVE_CODE_BENCH: Name = Name::LiveCodeBench(Mode::Right);
const PLUS: Name = Name::HumanEvalPlus;

/// A record of a benchmark, and the task's name in messages.
fn record(name: Name, number: usize) -> (Value, String) {
    let task_id = format!("HumanEval/{number}");
    match name {
        Name::Mbpp => (
            json!({
                "task_id": 11 + number, "text": "Add.", "code": "def add(a):\n    return a",
                "test_list": ["assert add(1) == 1"],
            }),
            format!("{}", 11 + number),
        ),
        Name::LiveCodeBench(_) => (
            json!({
                "question_content": "Add them.", "platform": "atcoder", "question_id": task_id,
                "contest_date": "2024-03-02T00:00:00", "metadata": "{}",
                "public_test_cases": r#"[{"input": "1", "output": "1", "testtype": "stdin"}]"#,
                "private_test_cases": "[]",
            }),
            task_id,
        ),
        _ => (
            json!({
                "task_id": task_id, "prompt": "def f(a):\n", "entry_point": "f", "contract": "",
                "canonical_solution": "    return a\n", "base_input": [], "plus_input": [],
                "test": "def check(candidate):\n    assert candidate(1) == 1\n", "atol": 0,
            }),
            task_id,
        ),
    }
}

/// Reads data of a benchmark; the names of its tasks and the checksum.
fn read(name: Name, path: &Path) -> Result<(Vec<String>, String), String> {
    if name == PLUS {
        let read = evalplus::read(path, Benchmark::HumanEval, Rules::Current);
        let names = |tasks: Vec<evalplus::Task>| tasks.into_iter().map(|task| task.task_id);
        let read = read.map(|read| (names(read.tasks).collect(), read.checksum));
        return read.map_err(|error| error.to_string());
    }
    let read = bench::read(name, path).map_err(|error| error.to_string())?;
    let names = read.tasks.iter().map(|task| task.task_id().to_owned());
    Ok((names.collect(), read.checksum))
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        Just(Name::HumanEval),
        Just(Name::Mbpp),
        Just(LIVE_CODE_BENCH),
        Just(PLUS)
    ]
}

proptest! {
    #[test]
    fn a_task_that_is_there_twice_is_refused(
        name in name(), n in 1usize..6, twice in 0usize..6, blank in 0usize..3,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        let mut lines: Vec<String> = (0..n).map(|n| record(name, n).0.to_string()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        prop_assert_eq!(read(name, &path).unwrap().0.len(), n);
        lines.extend(std::iter::repeat_n(String::new(), blank));
        // Otherwise it is the same; the id alone counts.
        let (again, task_id) = record(name, twice % n);
        lines.push(again.to_string().replace("Add", "Add up").replace("return a", "return  a"));
        std::fs::write(&path, lines.join("\n")).unwrap();
        let error = read(name, &path).unwrap_err();
        let line = n + blank + 1;
        let words = format!("data.jsonl, line {line}: the task {task_id} is there for the second");
        prop_assert!(error.contains(&words), "{}", error);
    }

    #[test]
    fn a_mark_before_the_text_is_no_part_of_it(name in name(), n in 1usize..4, packs: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if packs { "data.jsonl.gz" } else { "data.jsonl" });
        let write = |text: &str| if packs {
            use std::io::Write as _;
            let file = std::fs::File::create(&path).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        };
        let lines: Vec<String> = (0..n).map(|n| record(name, n).0.to_string()).collect();
        for text in [lines.join("\n"), format!("[{}]", lines.join(","))] {
            write(&text);
            let plain = read(name, &path).unwrap();
            write(&format!("\u{feff}{text}"));
            prop_assert_eq!(read(name, &path).unwrap(), plain);
        }
        let sample = json!({"task_id": "a", "solution": "\u{feff}x = 1"}).to_string();
        write(&format!("\u{feff}{sample}\n{sample}\n"));
        let found = samples::read(&path).unwrap();
        prop_assert_eq!(found.len(), 2);
        prop_assert_eq!(found[0].program(""), "\u{feff}x = 1");
    }
}

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    let limits = Name::HumanEval.limits();
    Pool::with_helper(helper, 1, limits, Level::BestEffort).expect("there is Python")
}

#[test]
fn a_cache_that_was_changed_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cache) = (folder.path().join("data.jsonl"), folder.path().join("kept"));
    let mut task = record(PLUS, 0).0;
    task["base_input"] = json!([[11], [22]]);
    std::fs::write(&path, task.to_string()).unwrap();
    let dataset = evalplus::read(&path, Benchmark::HumanEval, Rules::Current).unwrap();
    let pool = pool();
    let outputs = || {
        let mut n_computed = 0;
        let found = expected(&dataset, &pool, Some(&cache), &mut |_| n_computed += 1).unwrap();
        (found[0].base.outputs.clone(), n_computed)
    };
    let (right, n_computed) = outputs();
    assert_eq!((right.len(), n_computed), (2, 1));
    assert_eq!(outputs(), (right.clone(), 0));
    let file = std::fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    // Values, seconds, the checksum: each digit counts, and the file stays JSON.
    for nth in 0..12 {
        let mut bytes = std::fs::read(&file).unwrap();
        let digits: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at].is_ascii_digit())
            .collect();
        let at = digits[nth * (digits.len() - 1) / 11];
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        serde_json::from_slice::<Value>(&bytes).unwrap();
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(outputs(), (right.clone(), 1), "digit {at}");
        assert_eq!(outputs(), (right.clone(), 0), "it is kept anew");
    }
}

#[test]
fn nothing_begins_after_its_time() {
    let pool = pool();
    let items: Vec<usize> = (0..8).collect();
    let grade = |_: &usize| Ok(Part::passed(1).into());
    let graded = |until: Option<Instant>| {
        let mut heard = Vec::new();
        let all = grade_until(until, &items, &pool, grade, &mut |index| heard.push(index));
        let done = (0..8)
            .filter(|index| all[*index].is_some())
            .collect::<Vec<_>>();
        assert_eq!(heard, done);
        done
    };
    assert_eq!(graded(None), items);
    assert_eq!(
        graded(Some(Instant::now() + Duration::from_hours(1))),
        items
    );
    assert!(graded(Some(Instant::now())).is_empty());
}

#[test]
fn data_without_a_task_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.jsonl");
    let pool = pool();
    for name in Name::ALL {
        for text in ["", "\n \n", "[]", "\u{feff}"] {
            std::fs::write(&path, text).unwrap();
            let loaded = bench::load(name, Rules::Current, &path, &pool, None, &mut |_| {});
            let error = loaded.unwrap_err().to_string();
            let words = "empty.jsonl: the data file holds no task";
            assert!(error.contains(words), "{name:?} {text:?}: {error}");
        }
    }
}

#[test]
fn what_a_record_cannot_mean_is_refused_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let changed = |name: Name, key: &str, value: &str| {
        let mut second = record(name, 1).0;
        second[key] = value.into();
        std::fs::write(&path, format!("{}\n{second}\n", record(name, 0).0)).unwrap();
        read(name, &path)
    };
    let tests = |kind: &str| json!([{"input": "1", "output": "1", "testtype": kind}]).to_string();
    let (public, private) = ("public_test_cases", "private_test_cases");
    let (weird, none, function) = (tests("weird"), tests(""), tests("functional"));
    for (name, key, value, blamed) in [
        (LIVE_CODE_BENCH, public, &weird[..], public),
        (LIVE_CODE_BENCH, private, &none, private),
        (LIVE_CODE_BENCH, public, &function, "metadata"),
        (LIVE_CODE_BENCH, "contest_date", "yesterday", "contest_date"),
        (
            LIVE_CODE_BENCH,
            "contest_date",
            "2024-02-30T00:00:00",
            "contest_date",
        ),
        (Name::HumanEval, "entry_point", "x y", "entry_point"),
        (Name::HumanEval, "entry_point", "", "entry_point"),
        (Name::HumanEval, "entry_point", "Solution().", "entry_point"),
        (PLUS, "entry_point", "1x", "entry_point"),
    ] {
        let error = changed(name, key, value).unwrap_err();
        assert!(
            error.contains(&format!("line 2: `{blamed}` should be")),
            "{value}: {error}"
        );
    }
    for (name, key, value) in [
        (LIVE_CODE_BENCH, "contest_date", "2024-02-29"),
        (LIVE_CODE_BENCH, "contest_date", ""),
        (Name::HumanEval, "entry_point", "Solution().größe_2"),
    ] {
        let read = changed(name, key, value);
        assert_eq!(read.unwrap().0.len(), 2, "{value}");
    }
}
