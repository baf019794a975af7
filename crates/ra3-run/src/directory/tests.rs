//! What a run directory does with damage, strangers, and plans that changed.

use std::collections::BTreeMap;
use std::fs::{read, write};

use super::*;
use crate::ledger::StageRecord;

fn plan(changes: &[&str]) -> Plan {
    let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
    let text = include_str!("../../../../runs/tiny.toml");
    let file = crate::run_file::parse(text, Path::new("tiny.toml"), &changes).unwrap();
    Plan::new(file).unwrap()
}

fn open(root: &Path) -> Result<RunDirectory> {
    RunDirectory::open(root, &plan(&[]), false)
}

fn open_error(root: &Path) -> String {
    format!("{:#}", open(root).unwrap_err())
}

fn spent(stage: &str) -> StageRecord {
    StageRecord {
        stage: stage.to_owned(),
        n_corpus_tokens: 1,
        n_tokens_sampled: 2,
        n_tokens_run: 3,
        // No float of JSON is read back as it was without care.
        flops: 0.1 + 0.2,
    }
}

fn record(stage: &str) -> Record {
    Record::Stage(spent(stage))
}

/// The corpus and the base done, RA3 at update 3.
fn begun(root: &Path) {
    let mut run = open(root).unwrap();
    run.record(&record("corpus")).unwrap();
    std::fs::create_dir_all(root.join("corpus/train")).unwrap();
    write(root.join("corpus/train/0.shard"), "documents").unwrap();
    run.commit_done(Stage::Corpus).unwrap();
    run.record(&record("base")).unwrap();
    std::fs::create_dir_all(root.join("models/base")).unwrap();
    write(root.join("models/base/model.safetensors"), "weights").unwrap();
    run.commit_done(Stage::Base).unwrap();
    run.record(&record("kept")).unwrap();
    let fill = |folder: &Path| Ok(write(folder.join("w"), "3")?);
    let outputs = ["models/reference".to_owned()];
    let reference = root.join("models/reference/model.safetensors");
    std::fs::create_dir_all(root.join("models/reference")).unwrap();
    write(&reference, "first weights").unwrap();
    run.commit_state("ra3", 2, &outputs, fill).unwrap();
    // What is written for good is not read anew at each commit.
    std::fs::rename(&reference, root.join("away")).unwrap();
    run.commit_state("ra3", 3, &outputs, fill).unwrap();
    std::fs::rename(root.join("away"), &reference).unwrap();
    run.record(&record("lost")).unwrap();
    std::fs::create_dir(root.join("work/ra3-5")).unwrap();
}

fn turn_a_bit(path: &Path) {
    let mut bytes = read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(path, bytes).unwrap();
}

#[test]
fn what_a_stage_has_spent_counts_once_it_is_done() {
    let root = tempfile::tempdir().unwrap();
    let mut run = open(root.path()).unwrap();
    run.spend(spent("corpus")).unwrap();
    drop(run);
    let mut run = open(root.path()).unwrap();
    let error = run.spent_by("corpus").unwrap_err().to_string();
    assert!(error.contains("stage corpus has left no word"), "{error}");
    run.spend(spent("corpus")).unwrap();
    run.commit_done(Stage::Corpus).unwrap();
    drop(run);
    let run = open(root.path()).unwrap();
    assert_eq!(run.spent_by("corpus").unwrap(), &spent("corpus"));
    let records: Vec<Record> = read_journal(&root.path().join("ledger.jsonl")).unwrap();
    assert_eq!(records, [record("corpus")]);
}

#[test]
fn what_is_not_committed_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    let run = open(root.path()).unwrap();
    let records: Vec<Record> = read_journal(&root.path().join("ledger.jsonl")).unwrap();
    assert_eq!(records, [record("corpus"), record("base"), record("kept")]);
    let (position, state) = run.state_of("ra3").unwrap();
    assert_eq!(
        (position, read(state.join("w")).unwrap()),
        (3, b"3".to_vec())
    );
    assert!(!root.path().join("work/ra3-5").exists());
    assert!(run.is_done("base") && run.changed().is_empty());
}

#[test]
fn a_second_process_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let _first = open(root.path()).unwrap();
    assert!(open_error(root.path()).contains("another process"));
}

#[test]
fn a_bit_that_turned_is_seen_and_named() {
    for file in [
        "ledger.jsonl",
        "progress.json",
        "work/ra3-3/w",
        "models/reference/model.safetensors",
        "models/base/model.safetensors",
        "corpus/train/0.shard",
    ] {
        let root = tempfile::tempdir().unwrap();
        begun(root.path());
        turn_a_bit(&root.path().join(file));
        let message = open_error(root.path());
        assert!(message.contains(file), "{message}");
        let is_said = ["changed from outside", "damaged"]
            .iter()
            .any(|w| message.contains(w));
        assert!(is_said, "{message}");
    }
    // A card is written again with each report.
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    write(root.path().join("models/base/README.md"), "card").unwrap();
    open(root.path()).unwrap();
}

#[test]
fn a_shortened_ledger_and_a_missing_model_are_errors() {
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    write(root.path().join("ledger.jsonl"), "").unwrap();
    assert!(open_error(root.path()).contains("changed from outside"));
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    std::fs::remove_file(root.path().join("models/base/model.safetensors")).unwrap();
    assert!(open_error(root.path()).contains("models/base/model.safetensors"));
}

#[test]
fn results_without_progress_are_refused_and_stay() {
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    std::fs::remove_file(root.path().join("progress.json")).unwrap();
    let ledger = read(root.path().join("ledger.jsonl")).unwrap();
    let message = open_error(root.path());
    assert!(message.contains("no progress.json"), "{message}");
    assert_eq!(read(root.path().join("ledger.jsonl")).unwrap(), ledger);
    assert!(root.path().join("work/ra3-3/w").exists());
}

#[test]
fn a_strangers_folder_is_refused_and_stays() {
    let root = tempfile::tempdir().unwrap();
    write(root.path().join("thesis.tex"), "years").unwrap();
    let message = open_error(root.path());
    assert!(message.contains("thesis.tex"), "{message}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    // What a kill at the very start leaves is no stranger's.
    let root = tempfile::tempdir().unwrap();
    write(root.path().join("lock"), "").unwrap();
    write(root.path().join(".writing-AbC"), "{").unwrap();
    open(root.path()).unwrap();
}

#[test]
fn a_stage_that_the_plan_has_not_is_refused() {
    for (done, current) in [
        (vec!["corpse"], None),
        (vec!["base"], None),
        (vec![], Some("ra4")),
    ] {
        let root = tempfile::tempdir().unwrap();
        drop(open(root.path()).unwrap());
        let found = read_progress(root.path()).unwrap().unwrap();
        let wrong = Progress {
            done: done.iter().map(|name| (*name).to_owned()).collect(),
            current: current.map(|stage| InProgress {
                stage: stage.to_owned(),
                position: 1,
                state: format!("{stage}-1"),
                files: BTreeMap::new(),
                outputs: BTreeMap::new(),
                ledger_before: Mark::default(),
                samples_before: Mark::default(),
            }),
            ..found
        };
        progress::write(root.path(), &wrong).unwrap();
        let message = open_error(root.path());
        assert!(message.contains("not the plan's stage 1"), "{message}");
    }
}

#[test]
fn settings_may_change_until_a_stage_has_read_them() {
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    let open = |change: &str, restart| {
        RunDirectory::open(root.path(), &plan(&[change]), restart)
            .map_err(|error| format!("{error:#}"))
    };
    for change in ["base.n_updates=7", "seed=2", "training.prefix_weight=0.5"] {
        let message = open(change, false).unwrap_err();
        let key = change.split('=').next().unwrap();
        assert!(message.contains("another plan"), "{message}");
        assert!(message.contains(&format!("{key} was ")), "{message}");
    }
    let message = open("midtrain.supervised_peak=1e-4", false).unwrap_err();
    assert!(
        message.contains("is at 3: midtrain.supervised_peak was 0.001"),
        "{message}"
    );
    assert!(message.contains("--restart-stage"), "{message}");
    // Neither has cost anything.
    let run = open("rlvr.n_updates=3", false).unwrap();
    assert_eq!(run.changed(), ["rlvr.n_updates was 2 and is now 3"]);
    assert_eq!(run.state_of("ra3").unwrap().0, 3);
    drop(run);
    let run = open("midtrain.supervised_peak=1e-4", true).unwrap();
    assert!(run.state_of("ra3").is_none() && run.is_done("base"));
    let records: Vec<Record> = read_journal(&root.path().join("ledger.jsonl")).unwrap();
    assert_eq!(records, [record("corpus"), record("base")]);
}

#[test]
fn a_model_that_only_a_stage_in_progress_needs_stays_until_no_commit_names_it() {
    let root = tempfile::tempdir().unwrap();
    begun(root.path());
    let mut run = open(root.path()).unwrap();
    let scorer = |round: u64| root.path().join(format!("models/scorer-{round}"));
    for round in [0, 1] {
        std::fs::create_dir_all(scorer(round)).unwrap();
        write(scorer(round).join("model.safetensors"), "weights").unwrap();
    }
    let fill = |folder: &Path| Ok(write(folder.join("w"), "4")?);
    let outputs = ["models/scorer-1".to_owned()];
    run.commit_state("ra3", 4, &outputs, fill).unwrap();
    drop(run);
    // A run that is killed here finds what its commit names.
    let mut run = open(root.path()).unwrap();
    assert!(!scorer(0).exists() && scorer(1).exists());
    run.commit_done(Stage::Midtrain(crate::arm::Arm::Ra3))
        .unwrap();
    assert!(!scorer(1).exists() && root.path().join("models/reference").exists());
}
