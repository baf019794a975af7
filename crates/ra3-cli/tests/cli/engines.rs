//! A run file that names PyTorch is the same run: killed and continued by two processes that have a
//! part each instead of one that has all, of which one is killed too, and then by two that have
//! all, its ledger has the numbers of the native engine's.
//!
//! It needs torch and transformers in the interpreter that `RA3_PYTHON` names, or in `python3`.
//! Without them it says that it is skipped.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{finish, python, ra3, run_arguments, start, text_of};

/// What numbers of two ledgers may differ by: absolutely, and as a share.
const NEAR: f64 = 1e-4;
/// The same for what was run: generation shares prefixes otherwise, and computes some again.
const NEAR_IN_WORK: f64 = 0.05;
const WORK: [&str; 2] = ["flops", "n_tokens_run"];
/// Every stage once, with few draws: where a number lies within rounding of a boundary between two
/// tokens, the engines would go on otherwise.
const SMALL: [&str; 17] = [
    // How many updates a budget of FLOPs buys follows from an engine's own.
    "arms.ntp-compute.budget={updates=3}",
    "corpus.document_tokens_max=160",
    "corpus.sources=[]",
    "corpus.testbed.n_documents=60",
    "corpus.testbed.n_train_problems=4",
    "corpus.testbed.n_held_out_problems=2",
    "supervised.batch_documents=4",
    "ra3.e_step.group_size=2",
    "ra3.e_step.rationale_tokens_max=8",
    "ra3.annotate_documents=8",
    "corpus.rationale_tokens_max=8",
    "held_out.n_documents=2",
    "held_out.iwae=[1, 2]",
    "evaluate.testbed.program_tokens_max=24",
    "rlvr.program_tokens_max=24",
    "rlvr.group_size=2",
    "rlvr.kl=0.05",
];

const TWO: &str = "engine.processes=2";

/// A run by PyTorch with more settings of `engine`, whose worker's files lie in `caches`.
fn start_torch(directory: &Path, python: &Path, caches: &Path, more: &[&str]) -> Child {
    let engine = format!("engine.python={}", python.display());
    let engine = ["engine.kind=torch", "engine.device=cpu", &engine];
    let arguments = run_arguments(directory, &[&SMALL[..], &engine[..], more].concat());
    ra3(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        .env("XDG_CACHE_HOME", caches)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Processes that stand in a folder.
fn n_processes_in(folder: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    let places =
        processes.filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok());
    places.filter(|place| place.starts_with(folder)).count()
}

/// The process of a rank that stands in a folder.
fn rank_in(folder: &Path, rank: usize) -> Option<String> {
    let is_it = |place: &Path| {
        let is_here =
            std::fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let variables = std::fs::read(place.join("environ")).unwrap_or_default();
        let own = format!("RANK={rank}");
        is_here
            && variables
                .split(|byte| *byte == 0)
                .any(|word| word == own.as_bytes())
    };
    let mut processes = std::fs::read_dir("/proc").unwrap();
    processes.find_map(|entry| {
        let place = entry.ok()?.path();
        is_it(&place).then(|| place.file_name().unwrap().to_str().unwrap().to_owned())
    })
}

fn wait_until(mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_mins(2);
    while Instant::now() < until {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Ranks end with their `torchrun`, and not with who has ended that: a moment later, it may be.
fn assert_none_in(folder: &Path) {
    let is_gone = wait_until(|| n_processes_in(folder) == 0);
    assert!(is_gone, "a worker goes on");
}

/// True where a stage has committed a state of which two ranks have written a part each.
fn has_parts(stages: &Path) -> bool {
    let Ok(mut stages) = std::fs::read_dir(stages) else {
        return false;
    };
    stages.any(|stage| {
        let progress = stage.unwrap().path().join("progress.json");
        let text = std::fs::read_to_string(progress).unwrap_or_default();
        text.contains("/model/model.part-00002-of-00002.safetensors")
    })
}

fn ledger(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("ledger.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The largest difference of the numbers of two records, which are alike in all else.
fn difference(found: &Value, expected: &Value, at: &str) -> f64 {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            let difference = (found - expected).abs() / (1.0 + expected.abs());
            let is_work = WORK.iter().any(|name| at.ends_with(name));
            let near = if is_work { NEAR_IN_WORK } else { NEAR };
            assert!(difference <= near, "{at}: {found}, and natively {expected}");
            if is_work { 0.0 } else { difference }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{at}");
            let both = found.iter().zip(expected);
            both.map(|(found, expected)| difference(found, expected, at))
                .fold(0.0, f64::max)
        }
        (Value::Object(found), Value::Object(expected)) => {
            let names = |object: &serde_json::Map<String, Value>| -> Vec<String> {
                object.keys().cloned().collect()
            };
            assert_eq!(names(found), names(expected), "{at}");
            let both = found.iter().filter(|(name, _)| *name != "plan_hash");
            both.map(|(name, value)| difference(value, &expected[name], &format!("{at}.{name}")))
                .fold(0.0, f64::max)
        }
        (found, expected) => {
            assert_eq!(found, expected, "{at}");
            0.0
        }
    }
}

/// The largest relative difference between the ledgers of two runs.
fn most_apart(found: &Path, expected: &Path) -> f64 {
    let (found, expected) = (ledger(found), ledger(expected));
    assert_eq!(found.len(), expected.len());
    let both = found.iter().zip(&expected).enumerate();
    let differences = both.map(|(at, (found, expected))| {
        let name = format!("line {at}, {} {}", expected["record"], expected["stage"]);
        difference(found, expected, &name)
    });
    differences.fold(0.0, f64::max)
}

#[test]
fn a_killed_run_of_pytorch_has_the_numbers_of_a_native_one() {
    let Some(python) = python("torch, transformers, safetensors, numpy") else {
        println!("skipped: no Python with torch and transformers; set RA3_PYTHON");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let [native, torch, caches] = ["native", "torch", "caches"].map(|name| place.join(name));
    let (is_done, text) = finish(start(&native, &SMALL));
    assert!(is_done, "{text}");

    let mut child = start_torch(&torch, &python, &caches, &[]);
    let has_begun = || {
        let run = std::fs::read_to_string(torch.join("run.json")).unwrap_or_default();
        run.contains("\"stage\": \"ra3\"")
    };
    assert!(wait_until(has_begun), "{:?}", finish(child));
    std::thread::sleep(Duration::from_millis(700));
    assert!(n_processes_in(&caches) > 0, "no worker runs");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_none_in(&caches);

    let child = start_torch(&torch, &python, &caches, &[TWO, "engine.sharding=full"]);
    assert!(
        wait_until(|| has_parts(&torch.join("stages"))),
        "{:?}",
        finish(child)
    );
    let rank = rank_in(&caches, 1).unwrap();
    let kill = Command::new("kill").args(["-9", &rank]).status().unwrap();
    let (is_done, text) = finish(child);
    assert!(kill.success() && !is_done);
    assert!(
        text.contains("rank 1 of the worker has ended (it was at: "),
        "{text}"
    );
    assert_none_in(&caches);

    let (is_done, text) = finish(start_torch(&torch, &python, &caches, &[TWO]));
    assert!(is_done, "{text}");
    assert_none_in(&caches);
    assert!(torch.join("worker.log").exists() && torch.join("report.html").exists());
    println!(
        "the largest difference is {:.1e}",
        most_apart(&torch, &native)
    );

    let model = torch.join("models/rlvr-ra3").display().to_string();
    let sample = [
        "sample",
        &model,
        "--prompt",
        "def f(x):\n",
        "--max-tokens",
        "4",
    ];
    let output = ra3(&sample).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
}

#[test]
fn a_python_without_torch_is_named_with_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("python");
    // Without the packages of an installation.
    std::fs::write(&bare, "#!/bin/sh\nexec python3 -S \"$@\"\n").unwrap();
    std::fs::set_permissions(&bare, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (is_done, text) = finish(start_torch(
        &folder.path().join("run"),
        &bare,
        folder.path(),
        &[],
    ));
    assert!(!is_done);
    for said in [
        "engine.python",
        "torch is not installed",
        "-m pip install",
        "transformers",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let nowhere = folder.path().join("no-python");
    let (is_done, text) = finish(start_torch(
        &folder.path().join("run"),
        &nowhere,
        folder.path(),
        &[],
    ));
    assert!(!is_done && text.contains("engine.python"), "{text}");
}

#[test]
fn doctor_compares_pytorch_with_the_native_engine() {
    let Some(python) = python("torch, transformers, safetensors, numpy") else {
        println!("skipped: no Python with torch and transformers; set RA3_PYTHON");
        return;
    };
    let python = python.display().to_string();
    let options = [
        "doctor",
        "assets/base",
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--python",
        &python,
    ];
    let mut command: Command = ra3(&options);
    let output = command
        .args(["--train-tokens", "128", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["about"]["device"], "cpu");
    assert!(!found["about"]["torch"].as_str().unwrap().is_empty());
    assert_eq!(found["n_tokens"], 128);
    for name in ["largest_difference", "largest_difference_updated"] {
        assert!(found[name].as_f64().unwrap() <= 1e-4, "{name}: {found}");
    }
    let [torch, native] = [0, 1].map(|at| found["gradient_norm"][at].as_f64().unwrap());
    assert!((torch - native).abs() <= 1e-4 * native, "{torch} {native}");
    assert!(found["torch"]["reads"].as_f64().unwrap() > 0.0);
}

#[test]
fn doctor_examines_several_processes_that_have_a_part_each() {
    let Some(python) = python("torch, transformers, safetensors, numpy") else {
        println!("skipped: no Python with torch and transformers; set RA3_PYTHON");
        return;
    };
    let python = python.display().to_string();
    let mut command: Command = ra3(&["doctor", "assets/base", "--engine", "torch", "--json"]);
    let output = command
        .args(["--device", "cpu", "--python", &python])
        .args(["--processes", "2", "--sharding", "full"])
        .args(["--train-tokens", "65"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["about"]["n_processes"], 2);
    assert_eq!(found["n_tokens"], 65);
    for name in ["largest_difference", "largest_difference_updated"] {
        assert!(found[name].as_f64().unwrap() <= 1e-4, "{name}: {found}");
    }
    let [torch, native] = [0, 1].map(|at| found["gradient_norm"][at].as_f64().unwrap());
    assert!((torch - native).abs() <= 1e-4 * native, "{torch} {native}");
}
