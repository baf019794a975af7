//! The commands beside `run`, on the committed base model.

use std::fs::write;
use std::path::Path;

use crate::support::{ra3, text_of};
use serde_json::Value;

/// Standard output of a command that succeeds.
fn output_of(arguments: &[&str]) -> String {
    let output = ra3(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}\n{}",
        text_of(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and standard error of one that does not.
fn failure_of(arguments: &[&str]) -> (Option<i32>, String) {
    let output = ra3(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    assert!(output.stdout.is_empty(), "errors go to standard error");
    (output.status.code(), text_of(&output))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const PROMPT: &str = "def add(a, b):\n    ";

#[test]
fn a_plan_is_printed_whole_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("directory={}", path(&folder.path().join("run")));
    let plan = ["plan", "runs/tiny.toml", "--set", &directory];
    let text = output_of(&plan);
    assert!(
        text.contains("n_updates = 6") && text.contains("memory"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&output_of(&[&plan[..], &["--json"]].concat())).unwrap();
    assert_eq!(json["plan"]["base"]["n_updates"], 6);
    let defaults = json["defaults"].as_array().unwrap();
    let is_default = |key: &str| defaults.iter().any(|default| default == key);
    assert!(is_default("seed") && !is_default("base.n_updates"));
    assert!(text.contains("\nseed = 1  # default\n"), "{text}");
    assert!(json["estimate"]["memory_mib"].as_u64().unwrap() > 0);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn keys_sections_and_symbols_are_explained() {
    let sections = output_of(&["explain"]);
    assert!(sections.contains("[ra3.e_step.penalty]"), "{sections}");
    let section = output_of(&["explain", "ra3.e_step"]);
    let key = output_of(&["explain", "horizon"]);
    assert!(section.contains(key.trim_end()), "{key} in {section}");
    let json = output_of(&["explain", "γ", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["key"], "ra3.e_step.discount");
    let (code, error) = failure_of(&["explain", "horizn"]);
    assert!(
        code == Some(1) && error.contains("did you mean \"horizon\"?"),
        "{error}"
    );
}

#[test]
fn samples_follow_from_their_seed() {
    let sample = [
        "sample",
        "assets/base",
        "--prompt",
        PROMPT,
        "-n",
        "2",
        "--json",
    ];
    let limits = ["--max-tokens", "20"];
    let first = output_of(&[&sample[..], &limits].concat());
    assert_eq!(first, output_of(&[&sample[..], &limits].concat()));
    assert_ne!(
        first,
        output_of(&[&sample[..], &limits, &["--seed", "1"]].concat())
    );
    let rows: Vec<Value> = first
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["logprob"].as_f64().unwrap() < 0.0);
        let program = row["program"].as_str().unwrap();
        assert!(!program.contains("<act>") && !program.contains("<think>"));
        // The base was never taught to decide, and nothing decides for it.
        assert_eq!(row["raw"], row["program"]);
    }
    let plain = output_of(&[&sample[..], &limits, &["--plain", "--temperature", "0"]].concat());
    assert!(!plain.contains("<act>"), "{plain}");
}

#[test]
fn a_model_is_examined() {
    let json = output_of(&["doctor", "assets/base", "--train-tokens", "32", "--json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["architecture"], "Qwen2");
    assert_eq!(
        found["precision"],
        serde_json::json!(["bfloat16", "bfloat16"])
    );
    assert_eq!(found["ends"], serde_json::json!(["<|endoftext|>"]));
    assert!(
        found["bits_per_byte"].as_f64().unwrap() < 4.0,
        "it has read some Python"
    );
    let loss = &found["train_step"]["loss"];
    assert!(loss[1].as_f64() < loss[0].as_f64(), "{loss}");
    assert!(output_of(&["doctor", "assets/base"]).contains("chat template  none"));
    let (code, text) = failure_of(&["sample", "assets/base", "--chat", "--prompt", "x"]);
    assert!(
        code == Some(1) && text.contains("has no chat template"),
        "{text}"
    );
}

/// A model under its name on the Hub, from a cache laid out as the Python client's.
#[test]
fn a_name_of_the_hub_is_found_in_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--small");
    let snapshot = model.join("snapshots/0123456789012345678901234567890123456789");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    write(
        model.join("refs/main"),
        "0123456789012345678901234567890123456789",
    )
    .unwrap();
    for file in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        let from = crate::support::root().join("assets/base").join(file);
        std::fs::copy(from, snapshot.join(file)).unwrap();
    }
    write(
        snapshot.join("chat_template.jinja"),
        "{% for m in messages %}# {{ m.content }}\n{% endfor %}def f(",
    )
    .unwrap();
    let run = |name: &str| {
        ra3(&[
            "sample",
            name,
            "--chat",
            "--plain",
            "--temperature",
            "0",
            "--prompt",
            "Add.",
        ])
        .args(["--max-tokens", "8"])
        .env("HF_HUB_CACHE", cache.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap()
    };
    let output = run("org/small");
    assert!(output.status.success(), "{}", text_of(&output));
    let output = run("org/other");
    let text = text_of(&output);
    assert!(
        !output.status.success() && text.contains("org/other"),
        "{text}"
    );
}

#[test]
fn a_document_is_shown_with_its_latents() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.py");
    write(&file, "x = 1\nfor i in range(3):\n    x += i\n").unwrap();
    let inspect = ["inspect", "assets/base", path(&file)];
    let text = output_of(&inspect);
    assert!(text.contains("for i in range(3):"), "{text}");
    let said = text_of(&ra3(&inspect).output().unwrap());
    assert!(said.contains("never trained with latents"), "{said}");
    let json = output_of(&[&inspect[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&json).unwrap();
    let lines = document["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 4, "three lines and the end");
}

#[test]
fn a_model_is_graded() {
    let folder = tempfile::tempdir().unwrap();
    let problems = folder.path().join("problems.jsonl");
    let problem = serde_json::json!({
        "task_id": "T/0",
        "prompt": PROMPT.trim_end_matches(' '),
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    });
    write(&problems, format!("{problem}\n")).unwrap();
    let eval = [
        "eval",
        "assets/base",
        "--problems",
        path(&problems),
        "--json",
    ];
    let score: Value =
        serde_json::from_str(&output_of(&[&eval[..], &["--max-tokens", "20"]].concat())).unwrap();
    let mean = score["pass_at"]["1"]["mean"].as_f64();
    assert!(
        mean.is_some_and(|mean| (0.0..=100.0).contains(&mean)),
        "{score}"
    );
    write(&problems, "{\"task_id\": \"T/0\"}\n").unwrap();
    let (code, text) = failure_of(&eval);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("problems.jsonl") && text.contains("line 1"),
        "{text}"
    );
}

#[test]
fn wrong_arguments_and_missing_files_are_told_apart() {
    assert_eq!(failure_of(&["run"]).0, Some(2));
    assert_eq!(failure_of(&["sample", "assets/base"]).0, Some(2));
    let (code, text) = failure_of(&["run", "runs/none.toml"]);
    assert!(code == Some(1) && text.contains("runs/none.toml"), "{text}");
    let (code, text) = failure_of(&["sample", "nowhere/model", "--prompt", "x"]);
    assert!(code == Some(1) && text.contains("nowhere/model"), "{text}");
    let (code, text) = failure_of(&["report", "nowhere/run"]);
    assert!(code == Some(1) && text.contains("nowhere/run"), "{text}");
    for command in ["run", "plan", "sample", "eval", "report", "inspect"] {
        assert!(
            output_of(&[command, "--help"]).contains("Example"),
            "{command}"
        );
    }
}

/// What no model can do is an argument out of its range, before anything is loaded or written.
#[test]
fn numbers_have_ranges() {
    let huge = "18446744073709551615";
    for (arguments, option) in [
        (
            ["doctor", "assets/base", "--train-tokens", "0"],
            "--train-tokens",
        ),
        (
            ["doctor", "assets/base", "--train-tokens", "1"],
            "--train-tokens",
        ),
        (
            ["doctor", "assets/base", "--train-tokens", huge],
            "--train-tokens",
        ),
        (
            ["sample", "assets/base", "--prompt=x", "-n=0"],
            "--n-samples",
        ),
        (
            ["sample", "assets/base", "--prompt=x", "-n=100000000000"],
            "--n-samples",
        ),
        (
            ["sample", "assets/base", "--prompt=x", "--temperature=nan"],
            "--temperature",
        ),
        (
            ["sample", "assets/base", "--prompt=x", "--temperature=-1"],
            "--temperature",
        ),
        (
            ["sample", "assets/base", "--prompt=x", "--max-tokens=0"],
            "--max-tokens",
        ),
        (
            ["eval", "assets/base", "--problems=x", "-n=0"],
            "--n-samples",
        ),
        (
            ["eval", "assets/base", "--bench=humaneval", "--tasks=0"],
            "--tasks",
        ),
        (
            [
                "eval",
                "assets/base",
                "--bench=humaneval",
                "--workers=100000",
            ],
            "--workers",
        ),
        (
            ["grade", "x.jsonl", "--bench=humaneval", "--workers=0"],
            "--workers",
        ),
        (
            ["inspect", "assets/base", "x.py", "--rationale-tokens=0"],
            "--rationale-tokens",
        ),
    ] {
        let (code, text) = failure_of(&arguments);
        assert!(
            code == Some(2) && text.contains(option),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn an_empty_document_is_not_scored() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("empty.py");
    write(&document, "").unwrap();
    let (code, text) = failure_of(&["doctor", "assets/base", "--document", path(&document)]);
    assert!(
        code == Some(1) && text.contains("the document is empty"),
        "{text}"
    );
}

/// A job's tokens and sharing are known; how long it takes is not.
#[test]
fn the_engine_is_measured_on_the_shape_of_a_checkpoint() {
    let bench = [
        "bench",
        "assets/base",
        "--runs",
        "1",
        "--jobs",
        "score,generate-1",
    ];
    let lines = output_of(&[&bench[..], &["--json"]].concat());
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines[0]["gflops"].as_f64() > Some(0.0), "{lines:?}");
    let jobs: Vec<&str> = lines[1..]
        .iter()
        .map(|line| line["job"].as_str().unwrap())
        .collect();
    assert_eq!(jobs, ["score", "generate-1"]);
    assert_eq!(lines[1]["n_tokens_run"], 8 * 256);
    let bounds = lines[1..]
        .iter()
        .map(|line| line["share_of_bound"].as_f64().unwrap());
    assert!(bounds.into_iter().all(|share| share > 0.0), "{lines:?}");
    assert!(output_of(&bench).contains("share"));
    let (_, text) = failure_of(&["bench", "--jobs", "sleep"]);
    assert!(text.contains("no job begins with sleep"), "{text}");
}
