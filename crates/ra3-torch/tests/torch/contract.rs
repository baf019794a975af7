//! The contract suite, with room for everything and with room for one sequence.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use ra3::model::{Model, Saved};
use ra3::policy::Policy;
use ra3::seed::Seed;
use ra3_contract::Subject;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};
use ra3_torch::{TorchModel, Worker};
use tempfile::TempDir;

use crate::{has_torch, python, settings, worker};

const N_VOCABULARY: usize = 24;
const N_CONTEXT: usize = 48;
/// Two tokens that are equally likely after any history.
const TWINS: [u32; 2] = [9, 4];

/// Writes a small model whose distributions are far from even.
fn write_model(folder: &Path, architecture: Architecture, tied: bool) {
    let config = ModelConfig {
        vocab_size: N_VOCABULARY,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: N_CONTEXT,
        tie_word_embeddings: tied,
        ..ModelConfig::new(architecture)
    };
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 40,
        recompute: false,
        cache_bytes_max: 0,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let d = config.hidden_size;
    let mut lm = Lm::random(config, settings, Seed::root(3));
    let weights = lm.weights_mut();
    weights.data.iter_mut().for_each(|weight| {
        if *weight != 1.0 {
            *weight *= 15.0;
        }
    });
    let name = if tied {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    let mut tensors = weights.layout.tensors.iter();
    let head = tensors.find(|tensor| tensor.name == name);
    let head = head.expect("a projection to the vocabulary").range.start;
    let [from, to] = TWINS.map(|token| head + token as usize * d);
    weights.data.copy_within(from..from + d, to);
    lm.save(folder, Saved::Weights).expect("a checkpoint");
}

fn load(worker: &Arc<Worker>, folder: &Path) -> Box<dyn Policy> {
    Box::new(TorchModel::load(worker, folder).expect("a model"))
}

fn subject(make: fn() -> Box<dyn Policy>, computes_once: bool) -> Subject {
    Subject {
        make,
        n_vocabulary: N_VOCABULARY,
        n_tokens_max: N_CONTEXT,
        twins: TWINS,
        tolerance: 2e-5,
        computes_once,
    }
}

#[test]
fn the_worker_keeps_the_contract() {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let folder = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            write_model(folder.path(), Architecture::Qwen2, true);
            folder
        });
        load(worker(), folder.path())
    }
    if has_torch() {
        ra3_contract::check(subject(make, true));
    }
}

#[test]
fn the_worker_keeps_the_contract_with_room_for_one_sequence() {
    static MADE: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let (folder, worker) = MADE.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            write_model(folder.path(), Architecture::Llama, false);
            let mut settings = settings(&[&python()], folder.path());
            // Keys and values of two layers of two heads of four numbers, and a last hidden state.
            settings.models.cache_bytes_max = N_CONTEXT * (2 * 2 * 2 * 4 + 16) * 4;
            settings.models.n_tokens_micro = 40;
            (folder, Worker::start(&settings).expect("a worker"))
        });
        load(worker, folder.path())
    }
    if has_torch() {
        ra3_contract::check(subject(make, false));
    }
}
