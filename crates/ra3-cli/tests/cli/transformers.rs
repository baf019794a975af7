//! What a run leaves behind is the same model in transformers: its card's five lines load it,
//! sample it and strip the programs; greedy programs are the same, and pass@1 agrees.
//!
//! It needs torch and transformers: in the interpreter that `RA3_PYTHON` names, in `python3`, or in
//! `target/peers`, where `RA3_PEERS=install` puts them. Without them it says that it is skipped.
#![expect(
    clippy::print_stdout,
    reason = "a test says what it measured, or that it is skipped"
)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{finish, python, ra3, start};

const N_PROBLEMS: usize = 24;
const N_SAMPLES: usize = 2;
const TEMPERATURES: [f64; 2] = [0.4, 0.8];

/// Runs a model's card: its first three lines once, the others for each prompt.
const PEER: &str = r#"
import json, sys, torch
folder, prompts = sys.argv[1], json.load(open(sys.argv[2]))
temperature, n_samples = float(sys.argv[3]), int(sys.argv[4])
card = open(folder + "/README.md").read().split("```python\n")[1].split("```")[0].splitlines()
loading, sampling = "\n".join(card[:3]), compile("\n".join(card[3:]), "card", "exec")
torch.manual_seed(1)
exec(loading)
model = model.float()
if temperature == 0:
    model.generation_config.do_sample = False
else:
    model.generation_config.temperature = temperature
found = []
for text in prompts:
    for _ in range(n_samples):
        exec(sampling)
        found.append({"raw": written, "program": program})
json.dump(found, sys.stdout)
"#;

/// A short run from the committed base, in which latents are learnt and RLVR moves.
fn run(directory: &Path) {
    let overrides = [
        "base={kind='checkpoint', path='assets/base', vocabulary_multiple=64}",
        "tokenizer={kind='base'}",
        "corpus.document_tokens_max=384",
        "corpus.testbed.n_documents=1000",
        "corpus.testbed.n_held_out_problems=40",
        "supervised.batch_documents=24",
        "arms.ntp-compute.evaluate=false",
        "ra3.cold_start_updates=40",
        "ra3.annotate_documents=96",
        "ra3.m_updates=6",
        "evaluate.decision_table=false",
        "held_out.n_documents=8",
        "rlvr.n_updates=2",
        "rlvr.batch_problems=4",
        "checkpoint_every=100",
    ];
    let (is_done, message) = finish(start(directory, &overrides));
    assert!(is_done, "{message}");
}

/// Programs of transformers: as they were written, and stripped.
fn written(
    python: &Path,
    model: &Path,
    prompts: &Path,
    temperature: f64,
    n: usize,
) -> Vec<(String, String)> {
    let output = Command::new(python)
        .args(["-c", PEER])
        .args([model, prompts])
        .args([temperature.to_string(), n.to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |program: &Value| (text(&program["raw"]), text(&program["program"]));
    found.iter().map(pair).collect()
}

/// Share of right programs, by the tests of their problems.
fn passed(problems: &[Value], programs: &[(String, String)]) -> f64 {
    let n_each = programs.len() / problems.len();
    let is_right = |(index, (_, program)): &(usize, &(String, String))| {
        let problem = &problems[index / n_each];
        let text = |key: &str| problem[key].as_str().unwrap().to_owned();
        let (prompt, tests, entry) = (text("prompt"), text("test"), text("entry_point"));
        let script = format!("{prompt}{program}\n{tests}\ncheck({entry})\n");
        let mut python = Command::new("timeout");
        let output = python.args(["10", "python3", "-c", &script]).output();
        output.unwrap().status.success()
    };
    let n_right = programs.iter().enumerate().filter(is_right).count();
    n_right as f64 / programs.len() as f64
}

fn json_of(arguments: &[&str]) -> Value {
    let output = ra3(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check_greedy(python: &Path, model: &Path, problems: &[Value], folder: &Path) {
    let texts: Vec<&Value> = problems.iter().take(8).map(|p| &p["prompt"]).collect();
    let prompts = folder.join("greedy.json");
    std::fs::write(&prompts, json!(texts).to_string()).unwrap();
    let theirs = written(python, model, &prompts, 0.0, 1);
    for (text, (raw, program)) in texts.iter().zip(theirs) {
        let model = model.to_str().unwrap();
        let prompt = text.as_str().unwrap();
        let fixed = ["sample", model, "--prompt", prompt, "--temperature", "0"];
        let ours = json_of(&[&fixed[..], &["--max-tokens", "200", "--json"]].concat());
        let ours = ours.get(0).unwrap_or(&ours);
        assert_eq!(ours["raw"], raw, "{prompt}");
        assert_eq!(ours["program"], program, "{prompt}");
    }
}

/// Two estimates of one share, each of `n` draws: within four standard errors of their difference.
fn check_pass(python: &Path, model: &Path, problems: &[Value], folder: &Path) {
    let texts: Vec<&Value> = problems.iter().map(|problem| &problem["prompt"]).collect();
    let prompts = folder.join("prompts.json");
    std::fs::write(&prompts, json!(texts).to_string()).unwrap();
    let file = folder.join("problems.jsonl");
    let lines: Vec<String> = problems.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    for temperature in TEMPERATURES {
        let theirs = written(python, model, &prompts, temperature, N_SAMPLES);
        let theirs = passed(problems, &theirs);
        let model = model.to_str().unwrap();
        let (n, at) = (N_SAMPLES.to_string(), temperature.to_string());
        let fixed = [
            "eval",
            model,
            "--problems",
            file.to_str().unwrap(),
            "--json",
        ];
        let how = ["-n", &n, "--temperature", &at, "--max-tokens", "200"];
        let score = json_of(&[&fixed[..], &how].concat());
        let ours = score["pass_at"]["1"]["mean"].as_f64().unwrap();
        let share = f64::midpoint(ours, theirs);
        let n = (problems.len() * N_SAMPLES) as f64;
        let error = (2.0 * share * (1.0 - share) / n).sqrt();
        println!("{model} at {temperature}: {ours:.3} here, {theirs:.3} in transformers");
        assert!(
            (ours - theirs).abs() <= 4.0 * error,
            "{ours} {theirs} ± {error}"
        );
        // A model that writes nothing that passes would agree with anything.
        assert!(ours > 0.1 && theirs > 0.1, "{ours} {theirs}");
    }
}

#[test]
fn a_model_is_the_same_in_transformers() {
    let Some(python) = python("torch, transformers") else {
        println!("skipped: no torch and transformers; set RA3_PYTHON, or RA3_PEERS=install");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    run(&directory);
    let text = std::fs::read_to_string(directory.join("corpus/held_out_problems.jsonl"));
    let text = text.expect("the run has held-out problems");
    let problems: Vec<Value> = text
        .lines()
        .take(N_PROBLEMS)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for arm in ["ra3", "rlvr-ra3"] {
        let model = directory.join("models").join(arm);
        check_greedy(&python, &model, &problems, folder.path());
        check_pass(&python, &model, &problems, folder.path());
    }
}
