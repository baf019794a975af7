//! The worker keeps the seam's promises, computes what `ra3-lm` computes, trains adapters, and
//! fails by name.
//!
//! It needs torch and transformers in the Python that `RA3_PYTHON` names, or `python3`. Where they
//! are missing the tests say so, and are skipped.

#![expect(clippy::print_stdout, reason = "says why it is skipped")]

mod adapters;
mod contract;
#[path = "../../../ra3-lm/tests/contract_model/mod.rs"]
mod contract_model;
mod failures;
mod parity;
mod ranks;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use ra3::model::{Model, Saved};
use ra3::policy::Example;
use ra3_lm::config::Architecture;
use ra3_torch::{Settings, Worker, WorkerSettings};
use tempfile::TempDir;

/// The Python of the tests.
fn python() -> String {
    std::env::var("RA3_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// False where there is no torch; says so.
fn has_torch() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let mut command = Command::new(python());
        command.args(["-c", "import torch, transformers, safetensors, numpy"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    });
    if !found {
        println!("skipped: no Python with torch and transformers; set RA3_PYTHON");
    }
    found
}

/// A worker of this command, whose files lie in a folder.
fn settings(command: &[&str], folder: &Path) -> WorkerSettings {
    WorkerSettings {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        n_processes: 1,
        port: None,
        folder: folder.join("package"),
        log: folder.join("worker.log"),
        deadline_s: 300,
        models: Settings {
            device: "cpu".to_owned(),
            dtype: "float32".to_owned(),
            n_threads: 1,
            weight_decay: f64::from(0.1f32),
            clip_norm: 1.0,
            n_tokens_micro: 400,
            recompute: false,
            cache_bytes_max: 1 << 28,
            moments: "float32".to_owned(),
            lora: None,
            sharding: "none".to_owned(),
            compile: false,
            cuda_graphs: false,
        },
    }
}

/// One worker for all tests that do not end it.
fn worker() -> &'static Arc<Worker> {
    static WORKER: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    let (_, worker) = WORKER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let worker = Worker::start(&settings(&[&python()], folder.path())).expect("a worker");
        (folder, worker)
    });
    worker
}

/// The committed base.
fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/base")
}

/// Four sequences of twenty tokens.
fn examples() -> Vec<Example> {
    let example = |index: u32| Example {
        tokens: (0..20).map(|at| (at * at + index * 7) % 40).collect(),
        weights: (0..20).map(|at| if at == 0 { 0.0 } else { 0.01 }).collect(),
        restrictions: vec![],
        old_logprobs: vec![],
    };
    (0..4).map(example).collect()
}

/// A folder with a model of the contract suite, and a worker of its own with some settings changed.
fn for_contract(
    architecture: Architecture,
    change: impl FnOnce(&mut WorkerSettings),
) -> (TempDir, Arc<Worker>) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = contract_model::model(architecture, false, 0);
    let saved = model.save(folder.path(), Saved::Weights);
    saved.expect("a checkpoint");
    let mut settings = settings(&[&python()], folder.path());
    settings.models.n_tokens_micro = 40;
    change(&mut settings);
    (folder, Worker::start(&settings).expect("a worker"))
}
