//! `ra3 grade` and `ra3 eval` on data that are broken, which this test makes.

use std::fs::write;

use serde_json::{Value, json};

use crate::benchmarks::json_of;
use crate::support::{ra3, text_of};

/// A task in the form of HumanEval, and a right sample of it.
fn tested(number: usize, test: &str) -> [Value; 2] {
    let task_id = format!("HumanEval/{number}");
    let task = json!({
        "task_id": task_id, "prompt": "def double(n):\n", "entry_point": "double", "test": test,
    });
    [
        task,
        json!({"task_id": task_id, "completion": "    return 2 * n\n"}),
    ]
}

fn lines<'a>(records: impl IntoIterator<Item = &'a Value>) -> String {
    let records: Vec<String> = records.into_iter().map(ToString::to_string).collect();
    records.join("\n")
}

#[test]
fn tasks_of_broken_data_are_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (data, samples) = (at("data.jsonl"), at("samples.jsonl"));
    let graded = |bench: &str, tasks: &[[Value; 2]]| {
        write(&data, lines(tasks.iter().map(|[task, _]| task))).unwrap();
        write(&samples, lines(tasks.iter().map(|[_, sample]| sample))).unwrap();
        let arguments = [
            "grade", &samples, "--bench", bench, "--data", &data, "--json",
        ];
        let report = json_of(&ra3(&arguments).output().unwrap());
        assert_eq!(report["pass_at"][0]["mean"], json!(1.0), "{report}");
        let faults = report["faults"].as_array().unwrap().iter();
        let fault = |fault: &Value| {
            let text = |key: &str| fault[key].as_str().unwrap().to_owned();
            (text("task_id"), text("reason"))
        };
        (
            report["n_tasks"].clone(),
            faults.map(fault).collect::<Vec<_>>(),
        )
    };
    let broken = |bad: &str| format!("def check(candidate):\n    {bad}\n");
    let (n_tasks, faults) = graded(
        "humaneval",
        &[
            tested(0, &broken("assert candidate(1 == 2")),
            tested(1, &broken("assert candidate(1) == 2")),
            tested(2, "import absent_package\n"),
            tested(3, &broken("assert candidate(object()) != candidate(2)")),
            tested(4, &broken("assert candidate(1) < 3 and candidate(2) > 3")),
        ],
    );
    assert_eq!(n_tasks, json!(2));
    let words = [
        ("HumanEval/0", "SyntaxError"),
        ("HumanEval/2", "absent_package"),
        ("HumanEval/3", "argument"),
    ];
    assert_eq!(faults.len(), words.len(), "{faults:?}");
    for ((task_id, reason), (wanted, word)) in faults.iter().zip(words) {
        assert_eq!(task_id, wanted);
        assert!(
            reason.contains("cannot run") && reason.contains(word),
            "{reason}"
        );
    }
    let contest = |task_id: &str, tests: &str| {
        let task = json!({
            "question_content": "Add.", "platform": "atcoder", "question_id": task_id,
            "contest_date": "2024-03-02T00:00:00", "metadata": "{}",
            "public_test_cases": tests, "private_test_cases": "[]",
        });
        let program = "print(sum(map(int, input().split())))";
        [task, json!({"task_id": task_id, "solution": program})]
    };
    let tests = json!([{"input": "1 2", "output": "3", "testtype": "stdin"}]).to_string();
    for bench in ["livecodebench", "livecodebench-compatible"] {
        let (n_tasks, faults) = graded(bench, &[contest("a", "[]"), contest("b", &tests)]);
        assert_eq!(n_tasks, json!(1));
        let reason = "the problem's checker has no tests".to_owned();
        assert_eq!(faults, [("a".to_owned(), reason)]);
    }
}

#[test]
fn no_problems_are_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let problems = folder.path().join("problems.jsonl");
    write(&problems, "\n").unwrap();
    let problems = problems.display().to_string();
    let eval = ["eval", "assets/base", "--plain", "--problems", &problems];
    let output = ra3(&eval).output().unwrap();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("problems.jsonl: the data file holds no task"),
        "{text}"
    );
}
