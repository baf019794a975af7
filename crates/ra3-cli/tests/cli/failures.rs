//! What goes wrong is named, nothing that was committed is lost, and the same command continues.

use std::fs::{read, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{assert_same_bits, finish, ra3, root, run_arguments, start};

/// Two updates of the base model and nothing after it.
const SHORT: &[&str] = &["base.n_updates=2"];

fn expect_error(directory: &Path, overrides: &[&str], expected: &[&str]) {
    let (ok, text) = finish(start(directory, overrides));
    assert!(!ok, "{expected:?} was expected");
    for part in expected {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_finished_run_is_shown_again_and_held_to_its_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let (ok, text) = finish(start(&directory, SHORT));
    assert!(ok, "{text}");
    let ledger = read(directory.join("ledger.jsonl")).unwrap();
    // What the plan was is known without plan.toml.
    let (plan, card) = (
        directory.join("plan.toml"),
        directory.join("models/ra3/README.md"),
    );
    let (whole_plan, whole_card) = (read(&plan).unwrap(), read(&card).unwrap());
    write(&plan, "").unwrap();
    let (ok, text) = finish(start_report(&directory));
    assert!(ok, "{text}");
    assert_eq!(read(&card).unwrap(), whole_card);
    // A finished run is held to its checksums, too.
    let model = stage(&directory, "ra3-").join("model/model.safetensors");
    let whole_model = read(&model).unwrap();
    damage(&model);
    expect_error(&directory, SHORT, &["model/model.safetensors"]);
    write(&model, whole_model).unwrap();
    // What was made of the ledgers of the stages is made again.
    write(directory.join("ledger.jsonl"), "{\"record\":\"upd").unwrap();
    let (ok, text) = finish(start(&directory, SHORT));
    assert!(ok, "{text}");
    assert_eq!(read(directory.join("ledger.jsonl")).unwrap(), ledger);
    assert_eq!(read(&plan).unwrap(), whole_plan);
}

/// The folder of a stage, by how its name begins.
fn stage(directory: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(directory.join("stages")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_of = |path: &PathBuf| {
        let found = path.file_name().unwrap().to_string_lossy();
        found.starts_with(name) && found.len() == name.len() + 16
    };
    paths.find(is_of).expect("the stage has a folder")
}

fn start_report(directory: &Path) -> Child {
    let mut command = ra3(&["report", &directory.display().to_string()]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A limit on the size of files stands for a full disk: the same writes fail, at the same places.
#[test]
fn a_full_disk_ends_a_run_that_then_continues() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    let (ok, text) = finish(start(&whole, &[]));
    assert!(ok, "{text}");
    // Enough for the ledger and the shards, then for the tokenizer, then for a model too.
    for blocks in [8, 64, 160] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let child = Command::new("bash")
            .current_dir(root())
            .args(["-c", &script, env!("CARGO_BIN_EXE_ra3")])
            .args(run_arguments(&full, &[]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ok, text) = finish(child);
        assert!(!ok, "files of {blocks} KiB were enough");
        assert!(
            text.contains("File too large") && text.contains("full"),
            "{text}"
        );
    }
    let (ok, text) = finish(start(&full, &[]));
    assert!(ok, "{text}");
    assert_same_bits(&whole, &full);
}

#[test]
fn a_corpus_file_that_cannot_be_read_is_named_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("code.jsonl");
    write(&lines, "{\"text\": \"x = 1\\n\"}\n{\"text\": 3}\n").unwrap();
    let source = format!(
        "corpus.sources=[{{kind='json_lines', path='{}', text_key='text'}}]",
        lines.display()
    );
    let directory = folder.path().join("run");
    let stop = [SHORT[0], source.as_str()];
    expect_error(&directory, &stop, &["code.jsonl", "line 2", "text"]);
    assert!(!directory.join("corpus").exists(), "half a corpus");
    let drop = [SHORT[0], source.as_str(), "corpus.on_unreadable=drop"];
    // The first plan committed nothing, and still owns its directory.
    let directory = folder.path().join("drop");
    let (ok, text) = finish(start(&directory, &drop));
    assert!(ok, "{text}");
    let ledger = read_to_string(directory.join("ledger.jsonl")).unwrap();
    assert!(ledger.contains("\"unreadable\":1"), "{ledger}");
    let missing = "corpus.sources=[{kind='folder', path='/nowhere'}]";
    expect_error(
        &folder.path().join("no"),
        &[missing],
        &["/nowhere does not exist"],
    );
}

const LEFT_ALONE: &str = "the weights were left as they are";

/// The committed base with a last norm so large that logits overflow: every weight is a number.
fn wild_base(folder: &Path) -> String {
    let wild = folder.join("wild");
    std::fs::create_dir_all(&wild).unwrap();
    for entry in std::fs::read_dir(root().join("assets/base")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, wild.join(path.file_name().unwrap())).unwrap();
    }
    let path = wild.join("model.safetensors");
    let mut bytes = read(&path).unwrap();
    let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
    let place = &header["model.norm.weight"];
    assert_eq!(place["dtype"], "BF16");
    let at = |end: usize| 8 + n_header + place["data_offsets"][end].as_u64().unwrap() as usize;
    for weight in bytes[at(0)..at(1)].chunks_mut(2) {
        weight.copy_from_slice(&0x7f7f_u16.to_le_bytes());
    }
    write(&path, bytes).unwrap();
    let path = wild.display();
    format!("base={{kind='checkpoint', path='{path}', vocabulary_multiple=64}}")
}

#[test]
fn a_loss_that_is_not_finite_ends_the_stage() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let wild = wild_base(folder.path());
    let wild = [wild.as_str(), "tokenizer={kind='base'}"];
    expect_error(&directory, &wild, &["stage ra3", LEFT_ALONE]);
    let ledger = read(directory.join("ledger.jsonl")).unwrap();
    assert!(directory.join("models/base/model.safetensors").exists());
    // It is the same the next time, and the ledger still says what was before.
    expect_error(&directory, &wild, &[LEFT_ALONE]);
    assert_eq!(read(directory.join("ledger.jsonl")).unwrap(), ledger);
}

/// Turns one byte in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    write(path, bytes).unwrap();
}

#[test]
fn damaged_shards_and_checkpoints_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    // Stops in the RA3 stage with everything before it committed.
    let wild = wild_base(folder.path());
    let wild = [wild.as_str(), "tokenizer={kind='base'}"];
    expect_error(&directory, &wild, &[LEFT_ALONE]);
    let shards = stage(&directory, "corpus-").join("corpus/train");
    let shard = std::fs::read_dir(&shards)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let whole = read(&shard).unwrap();
    damage(&shard);
    expect_error(&directory, &wild, &[&shard.display().to_string()]);
    write(&shard, whole).unwrap();
    let model = stage(&directory, "base-").join("model/model.safetensors");
    let whole = read(&model).unwrap();
    write(&model, &whole[..whole.len() / 2]).unwrap();
    expect_error(&directory, &wild, &["model/model.safetensors"]);
    write(&model, &whole).unwrap();
    // One bit of a weight: no length and no form is wrong.
    damage(&model);
    expect_error(&directory, &wild, &["model/model.safetensors"]);
    write(&model, whole).unwrap();
    expect_error(&directory, &wild, &[LEFT_ALONE]);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let mut first = start(&directory, &[]);
    while !directory.join("plan.toml").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    expect_error(&directory, &[], &["another process"]);
    let (ok, text) = finish(first);
    assert!(ok, "{text}");
}
