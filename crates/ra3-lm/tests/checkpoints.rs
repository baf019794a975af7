//! Checkpoint folders: shards, precisions, and what is wrong with a damaged one.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::{Path, PathBuf};

use ra3::model::{Model, Saved};
use ra3::policy::{Example, Objective, Policy, PolicyError, Surrogate, TokenId};
use ra3_lm::config::Precision;
use ra3_lm::{Lm, TrainSettings};

const SETTINGS: TrainSettings = TrainSettings {
    weight_decay: 0.1,
    clip_norm: 1.0,
    n_tokens_micro: 4096,
    recompute: false,
    cache_bytes_max: 1 << 20,
    recorded_bytes_max: 1 << 28,
    compute: ra3_lm::config::Precision::Float32,
    moments: ra3_lm::config::Precision::Float32,
    frozen: ra3_lm::config::Precision::Float32,
};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn load(folder: &Path) -> Lm {
    Lm::load(folder, SETTINGS).unwrap()
}

/// The message of an error with what caused it.
fn error_of(folder: &Path) -> String {
    let error = Lm::load(folder, SETTINGS).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const TOKENS: [TokenId; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 31];

#[test]
fn shards_hold_the_same_weights() {
    for name in ["qwen2", "llama", "qwen3"] {
        let folder = tempfile::tempdir().unwrap();
        let lm = load(&golden(name));
        lm.save_sharded(folder.path(), 6000).unwrap();
        let files = names(folder.path());
        let n_shards = files
            .iter()
            .filter(|file| file.starts_with("model-0"))
            .count();
        assert!(n_shards >= 3, "{files:?}");
        assert!(files.contains(&format!("model-00001-of-{n_shards:05}.safetensors")));
        let again = load(folder.path());
        assert_eq!(again.weights().data(), lm.weights().data());
        assert_eq!(again.config(), lm.config());
    }
}

#[test]
fn half_the_memory_has_the_logits_of_the_rounded_weights() {
    for name in ["qwen2", "llama", "qwen3", "llama3"] {
        let folder = tempfile::tempdir().unwrap();
        let mut lm = load(&golden(name));
        lm.set_precision_on_disk(Precision::Bfloat16);
        lm.save(folder.path(), Saved::Finished).unwrap();
        let rounded = load(folder.path());
        assert_ne!(rounded.weights().data(), lm.weights().data());
        let mut half = Lm::load_to_run(folder.path(), SETTINGS).unwrap();
        assert!(half.weights().data().is_empty());
        assert_eq!(half.shape().n_params, lm.shape().n_params);
        let (expected, found) = (
            rounded.logits(&TOKENS).unwrap(),
            half.logits(&TOKENS).unwrap(),
        );
        for (expected, found) in expected.iter().zip(&found) {
            assert!(
                (expected - found).abs() < 1e-4,
                "{name}: {found} against {expected}"
            );
        }
        let settings = TrainSettings {
            frozen: Precision::Bfloat16,
            ..SETTINGS
        };
        let mut halved = Lm::load(folder.path(), settings).unwrap();
        let snapshot = halved.snapshot();
        halved.freeze();
        assert_eq!(halved.logits(&TOKENS).unwrap(), found);
        let mut weights = vec![1.0; TOKENS.len()];
        weights[0] = 0.0;
        let example = Example {
            tokens: TOKENS.to_vec(),
            weights,
            restrictions: Vec::new(),
            old_logprobs: Vec::new(),
        };
        let objective = Objective {
            surrogate: Surrogate::LogLikelihood,
            learning_rate: 0.1,
        };
        let batch = [example];
        assert_eq!(snapshot.score(&batch), halved.score(&batch));
        let refused = half.update(&batch, objective);
        assert_eq!(refused, Err(PolicyError::NotTrainable));
        // Written again, they are what was read.
        let again = tempfile::tempdir().unwrap();
        half.save(again.path(), Saved::Finished).unwrap();
        assert_eq!(
            load(again.path()).weights().data(),
            rounded.weights().data()
        );
    }
}

#[test]
fn half_precision_files_are_widened_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let mut lm = load(&golden("llama"));
    lm.set_precision_on_disk(Precision::Float16);
    lm.save(folder.path(), Saved::Finished).unwrap();
    let read = load(folder.path());
    for (read, exact) in read.weights().data().iter().zip(lm.weights().data()) {
        assert_eq!(*read, half::f16::from_f32(*exact).to_f32());
    }
    // bf16 would lose bits of these: they stay wide.
    let to_run = Lm::load_to_run(folder.path(), SETTINGS).unwrap();
    assert_eq!(to_run.weights().data(), read.weights().data());
}

fn sharded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    load(&golden("llama"))
        .save_sharded(folder.path(), 6000)
        .unwrap();
    folder
}

#[test]
fn what_is_wrong_with_shards_is_named() {
    let folder = sharded();
    let (path, index) = (
        folder.path(),
        folder.path().join("model.safetensors.index.json"),
    );
    let first = names(path)
        .into_iter()
        .find(|name| name.starts_with("model-00001"))
        .unwrap();
    let bytes = std::fs::read(path.join(&first)).unwrap();
    std::fs::write(path.join(&first), &bytes[..bytes.len() - 10]).unwrap();
    assert!(error_of(path).contains(&format!("{first} is damaged")));
    std::fs::remove_file(path.join(&first)).unwrap();
    assert!(error_of(path).contains(&first));
    std::fs::write(path.join(&first), bytes).unwrap();

    let text = std::fs::read_to_string(&index).unwrap();
    let edits = [
        (
            text.replacen("lm_head.weight", "lm_tail.weight", 1),
            "lm_head.weight is missing",
        ),
        (
            text.replacen(&first, "../other.safetensors", 1),
            "is not a file of this folder",
        ),
        (text[..text.len() / 2].to_owned(), "is no index of shards"),
    ];
    for (edited, expected) in edits {
        std::fs::write(&index, edited).unwrap();
        let message = error_of(path);
        assert!(
            message.contains(expected) && message.contains("index.json"),
            "{message}"
        );
    }
    std::fs::write(&index, &text).unwrap();
    assert_eq!(
        load(path).weights().data(),
        load(&golden("llama")).weights().data()
    );
}

#[test]
fn tensors_of_another_architecture_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |of: &str, file: &str| {
        std::fs::copy(golden(of).join(file), folder.path().join(file)).unwrap();
    };
    copy("llama", "config.json");
    copy("qwen2", "model.safetensors");
    let message = error_of(folder.path());
    assert!(
        message.contains("proj.bias is not part of this architecture"),
        "{message}"
    );
    copy("llama", "model.safetensors");
    copy("mistral", "config.json");
    let message = error_of(folder.path());
    let shapes = "q_proj.weight is [16, 16], config.json says [32, 16]";
    assert!(message.contains(shapes), "{message}");
}
