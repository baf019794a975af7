//! What an update needs at its peak, from a model's shape: known before anything is allocated.
//!
//! With `n` rows live at once, width `d`, query and key widths `q` and `kv`, SwiGLU width `ff`, `h`
//! query heads and a vocabulary of `V`, in numbers of four bytes (heads that are normed keep
//! `q + kv` more):
//!
//! ```text
//! parameters   4 · P, or 3 · P                            weights, gradient, two moments
//! kept         n · layers · (4 d + 2 q + 2 kv + 2 ff + h + 2), or n · layers · d with `recompute`
//! loss         3 n d + n + 512 (V + 2 d)                  the chunk of logits is the only V
//! backward     n · (4 d + 4 q + 4 kv + ff)                one layer's gradients, and its copies
//! again        as kept, of one layer, and n · ff          with `recompute` only
//! packed       (W + max(n ff, V d) + 2 max(n ff, 512 V)   with products in `bf16` only: the W
//!                 + d max(ff, 512)) / 2                   numbers of matrices, and four operands
//! ```
//!
//! Where the last layer runs fewer rows behind its attention, less is kept of it, but for a copy of
//! what the attention gave these. What drawing recorded for an update comes to it
//! ([`TrainSettings::recorded_bytes_max`]).
//!
//! The loss and the backward pass do not meet, so the larger of the two counts. Left out: the
//! batch itself, tiles of attention, and in `f32` the packed operands of products, a few MiB a
//! thread.

use half::bf16;

use crate::config::{ModelConfig, Precision};
use crate::model::cross_entropy::ROWS_PER_CHUNK;
use crate::train::TrainSettings;
use crate::weights::Layout;

/// Bytes of an update at its peak, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateMemory {
    /// Weights, gradient and the optimizer's moments.
    pub parameters: usize,
    /// What the forward pass keeps for the backward pass.
    pub kept: usize,
    /// What is live at the loss only.
    pub loss: usize,
    /// What is live in one layer's backward pass only.
    pub backward: usize,
    /// Operands of products in `bf16`.
    pub packed: usize,
}

impl UpdateMemory {
    /// The estimate for `n_rows` tokens that are live at once: at most
    /// [`TrainSettings::n_tokens_micro`], or the largest tree where that is more.
    pub fn of(config: &ModelConfig, settings: &TrainSettings, n_rows: usize) -> Self {
        let (d, ff) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.key_width());
        let n_heads = config.num_attention_heads + config.num_key_value_heads;
        let raw = usize::from(config.has_head_norms()) * (q + kv + n_heads);
        let per_row = 4 * d + 2 * q + 2 * kv + 2 * ff + config.num_attention_heads + 2 + raw;
        let (kept, again) = if settings.recompute {
            (d, per_row + ff)
        } else {
            (per_row, 0)
        };
        let n_chunk = ROWS_PER_CHUNK.min(n_rows);
        let bytes = |n_numbers: usize| n_numbers * size_of::<f32>();
        Self {
            parameters: Layout::new(config).n_params()
                * (2 * size_of::<f32>() + 2 * settings.moments.n_bytes()),
            kept: bytes(n_rows * config.num_hidden_layers * kept),
            loss: bytes(n_rows * (3 * d + 1) + n_chunk * (config.vocab_size + 2 * d)),
            backward: bytes(n_rows * (4 * d + 4 * q + 4 * kv + ff + again)),
            packed: match packed_weights(config, settings.compute) {
                0 => 0,
                weights => {
                    let right = (n_rows * ff).max(config.vocab_size * d);
                    // A gradient is packed by its rows and by its columns.
                    let left = 2 * (n_rows * ff).max(n_chunk * config.vocab_size);
                    let other = d * ff.max(n_chunk);
                    weights + (left + right + other) * size_of::<bf16>()
                }
            },
        }
    }

    /// All bytes at the peak.
    pub fn total(&self) -> usize {
        self.parameters + self.kept + self.packed + self.loss.max(self.backward)
    }
}

/// Bytes of a model's matrices as products in this precision read them, beside the weights.
pub fn packed_weights(config: &ModelConfig, compute: Precision) -> usize {
    match compute {
        Precision::Float32 => 0,
        Precision::Bfloat16 | Precision::Float16 => config.n_matmul_params() * size_of::<bf16>(),
    }
}

/// Bytes of a key and value cache that holds so many tokens
/// ([`TrainSettings::cache_bytes_max`]).
pub fn cache_bytes(config: &ModelConfig, n_tokens: usize) -> usize {
    n_tokens * crate::generate::bytes_per_token(config)
}

/// Bytes of running a model, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMemory {
    /// The weights.
    pub parameters: usize,
    /// Rotary angles of every position.
    pub angles: usize,
    /// Keys, values and last hidden states.
    pub cache: usize,
    /// What a pass has beside them, its logits above all.
    pub pass: usize,
}

impl RunMemory {
    /// The estimate for `n_tokens` that are read in one pass and scored.
    pub fn of(config: &ModelConfig, in_memory: Precision, n_tokens: usize) -> Self {
        let (d, ff) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.key_width());
        let bytes = |n_numbers: usize| n_numbers * size_of::<f32>();
        let layers = config.num_hidden_layers;
        Self {
            parameters: Layout::new(config).n_params() * in_memory.n_bytes(),
            angles: bytes(config.max_position_embeddings * config.head_dim()),
            cache: bytes(n_tokens * (2 * layers * kv + d)),
            pass: bytes(n_tokens * (config.vocab_size + 3 * d + 3 * q + 3 * ff)),
        }
    }

    /// All bytes together.
    pub fn total(&self) -> usize {
        self.parameters + self.angles + self.cache + self.pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    #[test]
    fn a_small_model_by_hand() {
        let config = ModelConfig {
            vocab_size: 10,
            hidden_size: 4,
            intermediate_size: 6,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            ..ModelConfig::new(Architecture::Llama)
        };
        let mut settings = TrainSettings {
            weight_decay: 0.0,
            clip_norm: 1.0,
            n_tokens_micro: 7,
            recompute: false,
            cache_bytes_max: 0,
            recorded_bytes_max: 0,
            compute: Precision::Float32,
            moments: Precision::Float32,
            frozen: Precision::Float32,
        };
        // A layer has 16 + 8 + 8 + 16 + 3 · 24 + 8 parameters, and 40 are the embedding, 4 the
        // last norm; a row keeps 24 + 4 + 12 + 2 + 2 numbers of it.
        let memory = UpdateMemory::of(&config, &settings, 7);
        assert_eq!(memory.parameters, 4 * 4 * (3 * 128 + 44));
        assert_eq!(memory.kept, 4 * 7 * 3 * 44);
        assert_eq!(memory.loss, 4 * (7 * 13 + 7 * 18));
        assert_eq!(memory.backward, 4 * 7 * (32 + 8 + 6));
        assert_eq!(memory.packed, 0);
        settings.compute = Precision::Bfloat16;
        // Of a layer's parameters 8 are of norms; 42 are n · ff, 70 those of a chunk's logits, and
        // 28 of its hidden states.
        let packed = UpdateMemory::of(&config, &settings, 7).packed;
        assert_eq!(packed, 2 * (3 * 120 + 40 + 42 + 2 * 70 + 28));
        settings.compute = Precision::Float32;
        settings.moments = Precision::Bfloat16;
        assert_eq!(UpdateMemory::of(&config, &settings, 7).parameters, 12 * 428);
        let run = RunMemory::of(&config, Precision::Bfloat16, 7);
        assert_eq!(run.parameters, 2 * 428);
        assert_eq!(run.cache, 4 * 7 * (2 * 3 * 2 + 4));
        settings.recompute = true;
        let memory = UpdateMemory::of(&config, &settings, 7);
        assert_eq!(memory.kept, 4 * 7 * 3 * 4);
        assert_eq!(memory.backward, 4 * 7 * (46 + 50));
    }
}
