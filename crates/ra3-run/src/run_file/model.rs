//! Sections of the run file: the base model, the optimizer and its schedules.

use std::path::PathBuf;

use ra3::schedule::Schedule;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the base model comes from.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BaseSection {
    /// Trained from scratch on the corpus.
    Pretrain {
        /// The architecture.
        model: ModelSection,
        /// Updates; 0 leaves the random weights.
        n_updates: u64,
        /// Documents of an update.
        batch_documents: usize,
        /// The step size.
        schedule: Schedule,
    },
    /// A checkpoint in Hugging Face layout.
    Checkpoint {
        /// The folder, or `org/name[@revision]` on the Hub.
        path: PathBuf,
        /// Rows of the embedding become a multiple of this where markers have to be added.
        #[serde(default = "vocabulary_multiple")]
        vocabulary_multiple: usize,
    },
}

const fn vocabulary_multiple() -> usize {
    64
}

/// A transformer's shape.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// The family.
    pub architecture: ArchitectureName,
    /// Width; a multiple of twice `n_heads`.
    pub hidden_size: usize,
    /// Width of the SwiGLU.
    pub intermediate_size: usize,
    /// Layers of the network.
    pub n_layers: usize,
    /// Query heads; a multiple of `n_key_value_heads`.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_key_value_heads: usize,
    /// Longest sequence.
    pub context: usize,
    /// Base of the rotary frequencies.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// Standard deviation of random weights; small models learn to copy with `1 / √hidden_size`.
    pub initializer_range: f32,
    /// The projection to the vocabulary is the embedding.
    #[serde(default = "tie_embeddings")]
    pub tie_embeddings: bool,
    /// Precision of finished models on disk.
    #[serde(default = "precision_on_disk")]
    pub precision_on_disk: Precision,
}

const fn rope_theta() -> f64 {
    10_000.0
}

const fn tie_embeddings() -> bool {
    true
}

const fn precision_on_disk() -> Precision {
    Precision::Float32
}

impl ModelSection {
    /// The engine's configuration, for a vocabulary of this size.
    pub(crate) fn config(&self, vocab_size: usize) -> ModelConfig {
        let architecture = match self.architecture {
            ArchitectureName::Qwen2 => Architecture::Qwen2,
            ArchitectureName::Llama => Architecture::Llama,
        };
        ModelConfig {
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.n_layers,
            num_attention_heads: self.n_heads,
            num_key_value_heads: self.n_key_value_heads,
            max_position_embeddings: self.context,
            rope_theta: self.rope_theta,
            tie_word_embeddings: self.tie_embeddings,
            initializer_range: self.initializer_range,
            precision: self.precision_on_disk,
            ..ModelConfig::new(architecture)
        }
    }
}

/// A family of architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchitectureName {
    /// Biases on q, k and v.
    Qwen2,
    /// No biases.
    Llama,
}

/// The optimizer and its micro-batches.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSection {
    /// Decoupled weight decay; 0 for none.
    pub weight_decay: f32,
    /// Largest norm of the gradient; `inf` does not clip.
    pub clip_norm: f32,
    /// Loss weight of a prefix's token (a problem statement), where a line's is 1; 0 trains on
    /// none of them.
    pub prefix_weight: f32,
    /// Unique tokens that are live at once; a larger document or group runs alone, so a small
    /// number is slow and no more.
    pub micro_batch_tokens: usize,
    /// Activations are computed again in the backward pass, layer by layer.
    pub recompute: bool,
    /// Memory of generation's key and value cache; at least what one long sequence takes. Changes
    /// no bit.
    pub cache_mib: usize,
    /// Memory for what drawing computed, in which the native engine's update that learns from it
    /// finds its forward pass: a third of its work. For products in `bfloat16` and without
    /// `recompute` only. A token that was drawn takes about `18 hidden_size + 8 intermediate_size`
    /// bytes a layer; rollouts that need more are run again. Changes no bit.
    pub recorded_mib: usize,
    /// Precision of the operands of matrix products, whose sums are `f32`, in training and in
    /// generation. In `bfloat16` both have the same log-probabilities, to the bit; it takes about
    /// half the time on processors with AVX512-BF16, and longer on others
    /// (`ra3 bench --compute bfloat16`).
    pub compute_precision: Precision,
    /// Precision in memory of the optimizer's moments.
    pub moment_precision: Precision,
    /// Precision in memory of models that are not trained: a frozen scorer, the reference.
    pub frozen_precision: Precision,
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            weight_decay: 0.1,
            clip_norm: 1.0,
            prefix_weight: 0.0,
            micro_batch_tokens: 8192,
            recompute: false,
            cache_mib: 512,
            recorded_mib: 1024,
            compute_precision: Precision::Float32,
            moment_precision: Precision::Float32,
            frozen_precision: Precision::Float32,
        }
    }
}
