//! The model that engines are held to the contract with.

use ra3::policy::Policy;
use ra3::seed::Seed;
use ra3_contract::Subject;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};

const N_VOCABULARY: usize = 24;
pub(crate) const N_CONTEXT: usize = 48;
/// Two tokens that are equally likely after any history.
const TWINS: [u32; 2] = [9, 4];

/// A small model whose distributions are far from even, with room for so many tokens.
pub(crate) fn model(architecture: Architecture, tied: bool, n_tokens: usize) -> Lm {
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
        cache_bytes_max: memory::cache_bytes(&config, n_tokens),
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let d = config.hidden_size;
    let mut lm = Lm::random(config, settings, Seed::root(3));
    let weights = lm.weights_mut();
    weights.data_mut().iter_mut().for_each(|weight| {
        if *weight != 1.0 {
            *weight *= 15.0;
        }
    });
    let name = if tied {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    let tensors = &weights.layout.tensors;
    let head = tensors.iter().find(|tensor| tensor.name == name);
    let head = head.expect("a projection to the vocabulary").range.start;
    let [from, to] = TWINS.map(|token| head + token as usize * d);
    weights.data_mut().copy_within(from..from + d, to);
    lm
}

/// It, as the suite asks for it.
pub(crate) fn subject(make: fn() -> Box<dyn Policy>, computes_once: bool) -> Subject {
    Subject {
        make,
        n_vocabulary: N_VOCABULARY,
        n_tokens_max: N_CONTEXT,
        twins: TWINS,
        tolerance: 2e-5,
        computes_once,
    }
}
