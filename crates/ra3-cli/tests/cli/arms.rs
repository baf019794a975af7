//! Runs that are not the whole comparison: what a user brings and asks for is what is run.

use std::fs::{create_dir_all, read_to_string, write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{ra3, root, text_of};

/// A folder with a checkpoint, a corpus whose text has another key, and problems.
fn own_files(folder: &Path) {
    let model = folder.join("model");
    create_dir_all(&model).unwrap();
    for entry in std::fs::read_dir(root().join("assets/base")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let functions = (0..60).map(|i| {
        let text = format!(
            "# Adds {i}.\ndef add_{i}(x):\n    # the sum\n    y = x + {i}\n    return y * {}\n",
            i * i
        );
        json!({"content": text, "id": format!("f{i}")}).to_string()
    });
    write(
        folder.join("code.jsonl"),
        functions.collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    let words = [
        "rain", "gold", "harbour", "violin", "desert", "candle", "engine", "meadow", "copper",
        "ladder",
    ];
    let problems = words.iter().enumerate().map(|(i, word)| {
        json!({
            "task_id": format!("own/{i}"),
            "prompt": format!("def {word}(x):\n    \"\"\"The {word} of x, {i} more.\"\"\"\n"),
            "entry_point": word,
            "canonical_solution": format!("    return x + {i}\n"),
            "test": format!("def check(candidate):\n    assert candidate(1) == {}\n", i + 1),
        })
        .to_string()
    });
    write(
        folder.join("problems.jsonl"),
        problems.collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
}

/// As little of everything as there can be.
const QUICK: &[&str] = &[
    "n_threads=2",
    "corpus.held_out_share=0.1",
    "held_out.n_documents=2",
    "held_out.iwae=[1]",
    "supervised.batch_documents=4",
    "ra3.cold_start_updates=1",
    "ra3.rounds=1",
    "ra3.e_updates=1",
    "ra3.annotate_documents=4",
    "ra3.m_updates=1",
    "ra3.e_step.batch_documents=1",
    "ra3.e_step.group_size=2",
];
const QUICK_RLVR: &[&str] = &[
    "rlvr.held_out_share=0.3",
    "rlvr.n_updates=1",
    "rlvr.batch_problems=2",
    "rlvr.group_size=2",
    "rlvr.program_tokens_max=16",
    "rlvr.evaluate_samples=1",
];

/// Runs a file of some text beside one's own files; the ledger, and standard error.
fn run_text(folder: &Path, name: &str, text: &str, changes: &[&str]) -> (String, String) {
    let path = folder.join(name);
    write(&path, text).unwrap();
    run_file(&path, changes)
}

fn run_file(path: &Path, changes: &[&str]) -> (String, String) {
    let file = path.display().to_string();
    let mut arguments = vec!["run", &file];
    for change in QUICK.iter().chain(changes) {
        arguments.extend(["--set", change]);
    }
    let output = ra3(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let out = path.parent().unwrap().join("out");
    let ledger = read_to_string(out.join("ledger.jsonl")).unwrap();
    (ledger, text_of(&output))
}

/// The stages of the run beside a file, by the part of their names before the key.
fn stages(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("out/stages")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    let mut names: Vec<String> = folders
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.rsplit_once('-').unwrap().0.to_owned()
        })
        .collect();
    names.sort();
    names
}

const OWN: &str = "name = \"own\"\ndirectory = \"out\"\n\
                   base = { kind = \"checkpoint\", path = \"./model\" }\n";
const CODE: &str = "[[corpus.sources]]\nkind = \"json_lines\"\npath = \"code.jsonl\"\n\
                    text_key = \"content\"\n";

#[test]
fn a_checkpoint_a_corpus_and_problems_of_ones_own_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    let file = folder.path().join("own-model.toml");
    std::fs::copy(root().join("runs/own-model.toml"), &file).unwrap();
    let (ledger, text) = run_file(&file, QUICK_RLVR);
    let expected = [
        "base",
        "corpus",
        "held-out-base",
        "held-out-ntp",
        "held-out-ra3",
        "ntp",
        "ra3",
        "rlvr-base",
        "rlvr-ntp",
        "rlvr-ra3",
    ];
    assert_eq!(stages(folder.path()), expected, "{text}");
    assert!(ledger.contains("humaneval, held-out problems, 0-shot"));
    // Documents that Python cannot parse, say, are dropped with a word; here none is.
    assert!(!text.contains("warning"), "{text}");
    // What changed is said, and only what depends on it runs again.
    let changes = [QUICK_RLVR, &["ra3.e_step.penalty.cost=0.7"]].concat();
    let (_, text) = run_file(&file, &changes);
    assert!(
        text.contains("ra3: ra3.e_step.penalty.cost was 0.3 and is now 0.7"),
        "{text}"
    );
    for stage in ["corpus", "base", "held-out-base", "rlvr-base"] {
        assert!(text.contains(&format!("{stage:<16} done before")), "{text}");
    }
    let twice = stages(folder.path());
    let n = |name: &str| twice.iter().filter(|stage| *stage == name).count();
    assert_eq!((n("ra3"), n("rlvr-ra3"), n("base"), n("ntp")), (2, 2, 1, 1));
    // The old ones are unused, and go when that is asked for.
    let out = folder.path().join("out").display().to_string();
    let listed = ra3(&["clean", &out, "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["unused"].as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(stages(folder.path()), twice);
    assert!(ra3(&["clean", &out, "--yes"]).status().unwrap().success());
    assert_eq!(stages(folder.path()), expected);
    // And what is used stays: nothing runs, with another number of threads neither.
    let (_, text) = run_file(&file, &[&changes[..], &["n_threads=1"]].concat());
    assert_eq!(text.matches("done before").count(), 10, "{text}");
    // Of an arm that is taken out nothing is left beside those that there are.
    let fewer = [&changes[..], &["arms=[{name='base'}]"]].concat();
    run_file(&file, &fewer);
    let models = std::fs::read_dir(folder.path().join("out/models")).unwrap();
    let mut models: Vec<_> = models.map(|entry| entry.unwrap().file_name()).collect();
    models.sort();
    assert_eq!(models, ["base", "rlvr-base"]);
}

#[test]
fn ntp_alone_needs_neither_ra3_nor_problems() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    let arms = "[[arms]]\nname = \"mine\"\nmethod = \"ntp\"\nbudget = { updates = 3 }\n";
    let (ledger, _) = run_text(
        folder.path(),
        "ntp.toml",
        &format!("{OWN}{CODE}{arms}"),
        &[],
    );
    assert_eq!(
        stages(folder.path()),
        ["base", "corpus", "held-out-mine", "mine"]
    );
    assert_eq!(ledger.matches("\"phase\":\"ntp\"").count(), 3);
}

#[test]
fn arms_begin_from_arms_and_checkpoints_and_have_settings_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    let arms = r#"
[[arms]]
name = "later"
from = "first"
method = "ra3"
set.ra3.e_updates = 0
set.supervised.peak = 1e-3
[[arms]]
name = "first"
method = "ntp"
budget = { corpus_tokens = 200 }
evaluate = false
[[arms]]
name = "other"
from = "./model"
method = "ntp"
budget = { corpus_tokens_of = "first" }
[[arms]]
name = "searched"
method = "ra3"
[[arms]]
name = "after"
from = "searched"
method = "ntp"
budget = { updates = 1 }
"#;
    let (ledger, _) = run_text(
        folder.path(),
        "arms.toml",
        &format!("{OWN}{CODE}{arms}"),
        &[],
    );
    let expected = [
        "after",
        "base",
        "checkpoint-other",
        "corpus",
        "first",
        "held-out-after",
        "held-out-later",
        "held-out-other",
        "held-out-searched",
        "later",
        "other",
        "searched",
    ];
    assert_eq!(stages(folder.path()), expected);
    let of = |stage: &str, phase: &str| {
        let is_of = |line: &&str| {
            line.contains(&format!("\"stage\":\"{stage}\""))
                && line.contains(&format!("\"phase\":\"{phase}\""))
        };
        ledger.lines().filter(is_of).count()
    };
    assert_eq!((of("later", "e_step"), of("searched", "e_step")), (0, 1));
    // Each is measured on what it was trained on last, with the prior that it was trained against.
    assert_eq!(measured(&ledger, "after"), ["corpus", ""]);
    assert_eq!(measured(&ledger, "searched"), ["lifted", "reference"]);
    // The model that both begin from is the same, and so is their order of documents.
    assert_eq!(of("other", "ntp"), of("first", "ntp"));
}

/// The text that an arm was measured on, and what gave its prior.
fn measured(ledger: &str, arm: &str) -> [serde_json::Value; 2] {
    let mut records = ledger
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let is_of = |record: &serde_json::Value| record["record"] == "held_out" && record["arm"] == arm;
    let found = records.find(is_of).unwrap();
    [found["text"].clone(), found["prior"].clone()]
}

#[test]
fn rlvr_and_evaluation_need_no_corpus() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    // Not those of RLVR, which trains on them.
    let problems = read_to_string(folder.path().join("problems.jsonl")).unwrap();
    let two: Vec<&str> = problems.lines().take(2).collect();
    write(folder.path().join("two.jsonl"), two.join("\n")).unwrap();
    let text = format!(
        "{OWN}arms = [{{ name = \"base\" }}]\n\
         evaluate = [{{ name = \"two\", \
         problems = {{ set = \"humaneval\", data = \"two.jsonl\" }}, \
         n_samples = 1, program_tokens_max = 16 }}]\n\
         [rlvr]\nproblems = {{ set = \"humaneval\", data = \"problems.jsonl\" }}\n"
    );
    let (ledger, _) = run_text(folder.path(), "rlvr.toml", &text, QUICK_RLVR);
    let expected = [
        "base",
        "corpus",
        "evaluate-base-two",
        "evaluate-rlvr-base-two",
        "rlvr-base",
    ];
    assert_eq!(stages(folder.path()), expected);
    // Before and after are of the same problems, samples and temperature.
    let scores: Vec<serde_json::Value> = ledger
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &serde_json::Value| {
            record["stage"]
                .as_str()
                .unwrap_or("")
                .starts_with("evaluate")
        })
        .collect();
    assert_eq!(scores.len(), 2);
    for key in ["benchmark", "n_problems", "n_samples", "temperature"] {
        assert_eq!(scores[0][key], scores[1][key]);
    }
    // Without RLVR, the evaluation alone; a measure that comes in before it takes nothing away.
    let first = "evaluate = [{ name = \"one\", problems = { set = \"humaneval\", \
                 data = \"two.jsonl\" }, n_samples = 2, program_tokens_max = 16 }, ";
    let text = text.split("[rlvr]").next().unwrap();
    let text = text.replace("evaluate = [", first);
    let (_, said) = run_text(folder.path(), "evaluate.toml", &text, &[]);
    assert_eq!(said.matches("done before").count(), 3, "{said}");
}

#[test]
fn problems_that_rlvr_trains_on_are_no_measure() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    let problems = "{ set = \"humaneval\", data = \"problems.jsonl\" }";
    let text = format!(
        "{OWN}arms = [{{ name = \"base\" }}]\nevaluate = [{{ problems = {problems} }}]\n\
         [rlvr]\nproblems = {problems}\n"
    );
    write(folder.path().join("same.toml"), text).unwrap();
    let file = folder.path().join("same.toml").display().to_string();
    let output = ra3(&["plan", &file]).output().unwrap();
    let said = text_of(&output);
    assert!(
        !output.status.success() && said.contains("RLVR trains on"),
        "{said}"
    );
}

#[test]
fn a_run_file_is_written_for_what_is_there_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    own_files(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, code, problems) = (at("model"), at("code.jsonl"), at("problems.jsonl"));
    let out = at("mine.toml");
    let arguments = [
        "init",
        "--model",
        &model,
        "--corpus",
        &code,
        "--problems",
        &problems,
        "--out",
        &out,
    ];
    let output = ra3(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let text = read_to_string(&out).unwrap();
    for part in [
        "text_key = \"content\"",
        "set = \"humaneval\"",
        "micro_batch_tokens = ",
        "document_tokens_max = 128",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // One that is there is never replaced.
    let again = ra3(&arguments).output().unwrap();
    assert!(!again.status.success() && text_of(&again).contains("is there already"));
    let planned = ra3(&["plan", &out, "--json"]).output().unwrap();
    assert!(planned.status.success(), "{}", text_of(&planned));
    // What has no form that is known is said to have none.
    let (lines, other) = (at("lines.jsonl"), at("other.toml"));
    write(&lines, "{\"a\": 1}\n").unwrap();
    let refused = ra3(&[
        "init",
        "--model",
        &model,
        "--corpus",
        &code,
        "--problems",
        &lines,
        "--out",
        &other,
    ]);
    let refused = { refused }.output().unwrap();
    let said = text_of(&refused);
    assert!(
        !refused.status.success() && said.contains("no form that is known"),
        "{said}"
    );
    assert!(!Path::new(&other).exists());
}
