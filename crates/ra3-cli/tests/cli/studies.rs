//! A study: seeds and settings, what they have in common made once, whatever a kill interrupts.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{assert_same_bits, ra3, text_of};

const STUDY: &str = "study={seeds=[1, 2], against='ntp', \
                     vary={'ra3.e_step.penalty.cost'=[0.1, 0.5]}}";
/// Of the stages that do not differ, as little as there can be.
const QUICK: &[&str] = &[
    "corpus.testbed.n_held_out_problems=2",
    "evaluate.decision_table=false",
    "evaluate.program_tokens_max=32",
    "arms=[{name='base', rlvr=false}, {name='ntp', method='ntp', rlvr=false, \
     budget={corpus_tokens_of='ra3'}}, {name='ra3', method='ra3'}]",
    "rlvr.n_updates=1",
    "rlvr.program_tokens_max=32",
];

fn study(directory: &Path, more: &[&str]) -> std::process::Command {
    let directory = format!("directory={}", directory.display());
    let mut arguments = vec!["study", "runs/tiny.toml", "--json"];
    for change in [directory.as_str(), STUDY].iter().chain(QUICK).chain(more) {
        arguments.extend(["--set", change]);
    }
    let mut command = ra3(&arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What `ra3 compare` says of finished runs.
fn compared(place: &Path) -> Value {
    let place = place.display().to_string();
    let output = ra3(&["compare", &place, "--against", "ntp", "--json"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn n_stages(place: &Path, name: &str) -> usize {
    let entries = std::fs::read_dir(place.join("stages")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names
        .filter(|found| found.len() == name.len() + 17 && found.starts_with(name))
        .count()
}

#[test]
fn what_runs_have_in_common_is_made_once_and_a_kill_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let began = std::time::Instant::now();
    let output = study(&whole, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    let length = began.elapsed();
    let place = folder.path().join("whole-study");
    // One corpus; a base and an NTP arm a seed; RA3 for each seed and cost.
    for (stage, n) in [
        ("corpus", 1),
        ("base", 2),
        ("ntp", 2),
        ("ra3", 4),
        ("rlvr-ra3", 4),
    ] {
        assert_eq!(n_stages(&place, stage), n, "{stage}");
    }
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["seeds"], serde_json::json!([1, 2]));
    let benchmarks = found["benchmarks"].as_array().unwrap();
    assert_eq!(benchmarks.len(), 2, "before and after RLVR");
    // Three arms before, one after, for each of two costs.
    assert_eq!(benchmarks[0]["rows"].as_array().unwrap().len(), 6);
    assert_eq!(benchmarks[1]["rows"].as_array().unwrap().len(), 2);
    let row = &benchmarks[0]["rows"][2];
    assert_eq!(row["variation"], "ra3.e_step.penalty.cost=0.1");
    assert_eq!(row["seeds"], serde_json::json!([1, 2]));
    assert!(row["difference"]["mean"].is_number());
    assert!(place.join("study.html").exists());

    let mut n_kills = 0;
    for share in [0.15, 0.3, 0.4] {
        let mut child = study(&killed, &[]).spawn().unwrap();
        std::thread::sleep(length.mul_f64(share).max(Duration::from_millis(50)));
        n_kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(n_kills > 0, "the study was never killed");
    let again = study(&killed, &[]).output().unwrap();
    assert!(again.status.success(), "{}", text_of(&again));
    assert_eq!(
        serde_json::from_slice::<Value>(&again.stdout).unwrap(),
        found
    );
    let run = "ra3.e_step.penalty.cost_0.1-seed-2".replace("cost_", "cost=");
    assert_same_bits(
        &place.join(&run).join("models"),
        &folder.path().join("killed-study").join(&run).join("models"),
    );
    // The same of finished runs.
    assert_eq!(compared(&place), found);
}

#[test]
fn what_is_kept_is_not_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let change = format!("study.results={}", results.display());
    let seed = |directory: &str, more: &[&str]| {
        let directory = folder.path().join(directory);
        let changes = ["study={seeds=[1], against='ntp'}", change.as_str()];
        let changes: Vec<&str> = changes.iter().chain(more).copied().collect();
        study(&directory, &changes).output().unwrap()
    };
    let first = seed("here", &[]);
    assert!(first.status.success(), "{}", text_of(&first));
    // Elsewhere, with none of its stages.
    std::fs::remove_dir_all(folder.path().join("here-study")).unwrap();
    let second = seed("there", &["n_threads=1"]);
    assert!(second.status.success(), "{}", text_of(&second));
    assert!(!folder.path().join("there-study/seed-1").exists());
    let found: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&second.stdout).unwrap(),
        found
    );
    // The same from what was kept alone, which names no place of a machine.
    assert_eq!(compared(&results), found);
    let run = std::fs::read_to_string(results.join("seed-1/run.json")).unwrap();
    assert!(
        run.contains("\"store\": null") && run.contains("\"models\": []"),
        "{run}"
    );
    // Of other settings nothing is taken, and nothing is overwritten.
    let other = seed("other", &["rlvr.n_updates=2"]);
    assert!(!other.status.success());
    let message = text_of(&other);
    assert!(
        message.contains("rlvr.n_updates 1, and this one has 2"),
        "{message}"
    );
    assert!(message.contains("study.results"), "{message}");
    assert_eq!(
        std::fs::read_to_string(results.join("seed-1/run.json")).unwrap(),
        run
    );
}

#[test]
fn a_store_may_be_shared_by_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store={}", folder.path().join("store").display());
    let run = |name: &str, more: &[&str]| {
        let directory = folder.path().join(name);
        let directory = format!("directory={}", directory.display());
        let mut arguments = vec!["run", "runs/tiny.toml"];
        let changes = [directory.as_str(), store.as_str()];
        for change in changes.iter().chain(QUICK).chain(more) {
            arguments.extend(["--set", change]);
        }
        let output = ra3(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        text_of(&output)
    };
    run("one", &[]);
    let said = run("two", &[]);
    assert_eq!(said.matches("done before").count(), 12, "{said}");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    assert_same_bits(&one.join("models"), &two.join("models"));
    let ledger = |run: &Path| std::fs::read(run.join("ledger.jsonl")).unwrap();
    assert_eq!(ledger(&one), ledger(&two));
    assert!(two.join("tensorboard/ra3").exists(), "its curves are there");
    // What the other run uses is not unused.
    run("two", &["ra3.rounds=2"]);
    let unused = |run: &Path| {
        let output = ra3(&["clean", &run.display().to_string(), "--json"]).output();
        let found: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        found["unused"].as_array().unwrap().len()
    };
    assert_eq!(unused(&two), 0);
    run("one", &["ra3.rounds=2"]);
    // RA3, what is measured of it, its RLVR and that one's score; NTP and what is measured of it.
    assert_eq!(unused(&one), 8);
}
