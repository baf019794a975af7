//! Stages that are found, taken up, held to their checksums, and removed.

use std::fs::{read, write};

use ra3_records::journal::read_journal;
use ra3_records::ledger::{Record, StageRecord};

use super::*;

fn recipe(stage: &str, rounds: u64) -> Recipe {
    let json = serde_json::json!({
        "stage": stage,
        "version": "ra3 test",
        "settings": {"ra3.rounds": rounds.to_string()},
        "inputs": {"corpus": "ab"},
    });
    serde_json::from_value(json).unwrap()
}

fn open(root: &Path, recipe: &Recipe) -> Result<StageFolder> {
    let run = root.join("run");
    let store = Store::open(&root.join("store"), &run)?;
    store.stage(recipe, &root.join("events"), &mut |_| {})
}

fn open_error(root: &Path, recipe: &Recipe) -> String {
    format!("{:#}", open(root, recipe).expect_err("it is refused"))
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

/// RA3 at update 3, with a reference that is written for good.
fn begun(root: &Path) -> PathBuf {
    let mut folder = open(root, &recipe("ra3", 2)).unwrap();
    folder.record(&record("kept")).unwrap();
    let fill = |place: &Path| Ok(write(place.join("w"), "3")?);
    let reference = folder.path("reference/model.safetensors");
    std::fs::create_dir_all(folder.path("reference")).unwrap();
    write(&reference, "first weights").unwrap();
    let outputs = ["reference".to_owned()];
    folder.commit_state(2, &outputs, fill).unwrap();
    // What is written for good is not read anew at each commit.
    write(&reference, "other weights").unwrap();
    folder.commit_state(3, &outputs, fill).unwrap();
    write(&reference, "first weights").unwrap();
    folder.record(&record("lost")).unwrap();
    std::fs::create_dir(folder.path("state-5")).unwrap();
    folder.path("")
}

fn records(folder: &Path) -> Vec<Record> {
    read_journal(&folder.join("ledger.jsonl")).unwrap()
}

#[test]
fn what_is_not_committed_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let place = begun(root.path());
    let folder = open(root.path(), &recipe("ra3", 2)).unwrap();
    assert_eq!(records(&place), [record("kept")]);
    let (position, state) = folder.state().unwrap();
    assert_eq!(
        (position, read(state.join("w")).unwrap()),
        (3, b"3".to_vec())
    );
    assert!(!place.join("state-5").exists() && !place.join("state-2").exists());
    assert!(place.join("reference").exists() && !folder.is_done());
}

#[test]
fn a_finished_stage_is_found_by_what_it_depends_on_and_by_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let place = begun(root.path());
    let mut folder = open(root.path(), &recipe("ra3", 2)).unwrap();
    std::fs::create_dir(folder.path("model")).unwrap();
    write(folder.path("model/w"), "weights").unwrap();
    folder.spend(spent("ra3")).unwrap();
    folder
        .commit_done(&["model", "reference", "absent"])
        .unwrap();
    drop(folder);
    let folder = open(root.path(), &recipe("ra3", 2)).unwrap();
    assert!(folder.is_done() && folder.state().is_none());
    assert_eq!(folder.spent(), Some(&spent("ra3")));
    assert_eq!(records(&place), [record("kept"), record("ra3")]);
    assert!(place.join("reference").exists() && !place.join("state-3").exists());
    drop(folder);
    for other in [recipe("ra3", 3), recipe("ntp", 2)] {
        let folder = open(root.path(), &other).unwrap();
        assert!(!folder.is_done() && folder.state().is_none());
    }
    assert_eq!(
        recipe("ra3", 3).differences(&recipe("ra3", 2)),
        ["ra3.rounds was 2 and is now 3"]
    );
}

#[test]
fn a_stage_that_begins_again_forgets_its_work() {
    let root = tempfile::tempdir().unwrap();
    let place = begun(root.path());
    let mut folder = open(root.path(), &recipe("ra3", 2)).unwrap();
    folder.restart().unwrap();
    assert!(folder.state().is_none() && records(&place).is_empty());
    assert!(!place.join("reference").exists());
    folder.record(&record("again")).unwrap();
    folder.commit_done(&[]).unwrap();
    assert_eq!(records(&place), [record("again")]);
}

fn turn_a_bit(path: &Path) {
    let mut bytes = read(path).unwrap();
    // Before what no commit counts.
    let place = bytes.len() / 4;
    bytes[place] ^= 1;
    write(path, bytes).unwrap();
}

#[test]
fn a_bit_that_turned_is_seen_and_named() {
    for file in [
        "ledger.jsonl",
        "progress.json",
        "state-3/w",
        "reference/model.safetensors",
    ] {
        let root = tempfile::tempdir().unwrap();
        let place = begun(root.path());
        turn_a_bit(&place.join(file));
        let message = open_error(root.path(), &recipe("ra3", 2));
        assert!(message.contains(file), "{message}");
        let is_said = ["changed from outside", "damaged"]
            .iter()
            .any(|words| message.contains(words));
        assert!(is_said, "{message}");
    }
}

#[test]
fn a_shortened_ledger_and_a_missing_model_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let place = begun(root.path());
    write(place.join("ledger.jsonl"), "").unwrap();
    assert!(open_error(root.path(), &recipe("ra3", 2)).contains("changed from outside"));
    let root = tempfile::tempdir().unwrap();
    let place = begun(root.path());
    std::fs::remove_file(place.join("reference/model.safetensors")).unwrap();
    assert!(open_error(root.path(), &recipe("ra3", 2)).contains("reference/model.safetensors"));
}

#[test]
fn a_second_process_waits_and_finds_the_stage_done() {
    let root = tempfile::tempdir().unwrap();
    let mut first = open(root.path(), &recipe("ra3", 2)).unwrap();
    let (sender, waits) = std::sync::mpsc::channel();
    let place = root.path().to_owned();
    let second = std::thread::spawn(move || {
        let store = Store::open(&place.join("store"), &place.join("other")).unwrap();
        let events = place.join("events");
        let watcher = &mut |event| sender.send(event).unwrap();
        let folder = store.stage(&recipe("ra3", 2), &events, watcher).unwrap();
        folder.is_done()
    });
    let said = waits.recv().unwrap();
    assert!(format!("{said:?}").contains("waiting for it"), "{said:?}");
    first.commit_done(&[]).unwrap();
    drop(first);
    assert!(second.join().unwrap());
}

#[test]
fn a_strangers_folder_is_no_store_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("store");
    std::fs::create_dir(&place).unwrap();
    write(place.join("thesis.tex"), "years").unwrap();
    let message = open_error(root.path(), &recipe("ra3", 2));
    assert!(message.contains("neither empty nor a store"), "{message}");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
}

#[test]
fn what_no_run_names_is_unused() {
    let root = tempfile::tempdir().unwrap();
    for (stage, rounds) in [("ra3", 1), ("ra3", 2), ("ntp", 1)] {
        let mut folder = open(root.path(), &recipe(stage, rounds)).unwrap();
        folder.commit_done(&[]).unwrap();
    }
    let (store, run) = (root.path().join("store"), root.path().join("run"));
    let store = Store::open(&store, &run).unwrap();
    let named = |stages: &[(&str, u64)]| -> Vec<(String, String)> {
        let named = stages.iter();
        named
            .map(|(stage, rounds)| ((*stage).to_owned(), recipe(stage, *rounds).key()))
            .collect()
    };
    // The run's directory is not there: it names nothing.
    let refused = store.unused(false, |_| unreachable!("no run is there"));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("--forget-missing")
    );
    let all = store
        .unused(true, |_| unreachable!("no run is there"))
        .unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|unused| unused.n_bytes > 0));
    std::fs::create_dir(&run).unwrap();
    let unused = store
        .unused(false, |_| Ok(named(&[("ra3", 2), ("ntp", 1)])))
        .unwrap();
    let names: Vec<&PathBuf> = unused.iter().map(|unused| &unused.path).collect();
    let key = recipe("ra3", 1).key();
    assert_eq!(names, [&store.folder("ra3", &key)]);
}
