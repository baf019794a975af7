//! A model's shape. How it stands in `config.json` is `config_file`'s matter.

use ra3::refusals::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rope_scaling::RopeScaling;

/// A family of architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2 and 2.5: biases on q, k and v.
    Qwen2,
    /// Norms of the heads of q and k.
    Qwen3,
    /// Llama 2 and 3.
    Llama,
    /// Mistral without a sliding window: Llama's network.
    Mistral,
}

impl Architecture {
    pub(super) const ALL: [Self; 4] = [Self::Qwen2, Self::Qwen3, Self::Llama, Self::Mistral];

    /// Its names in `config.json`, as `architectures` and as `model_type`.
    pub(super) const fn names(self) -> [&'static str; 2] {
        match self {
            Self::Qwen2 => ["Qwen2ForCausalLM", "qwen2"],
            Self::Qwen3 => ["Qwen3ForCausalLM", "qwen3"],
            Self::Llama => ["LlamaForCausalLM", "llama"],
            Self::Mistral => ["MistralForCausalLM", "mistral"],
        }
    }
}

/// Which projections of the attention have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    /// None.
    None,
    /// Those of q, k and v.
    QueryKeyValue,
    /// Those of q, k, v and o.
    All,
}

/// Precision of numbers, on disk or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Precision {
    /// `f32`.
    #[serde(rename = "float32")]
    Float32,
    /// `bf16`.
    #[serde(rename = "bfloat16")]
    Bfloat16,
    /// `f16`.
    #[serde(rename = "float16")]
    Float16,
}

impl Precision {
    /// Bytes of a number.
    pub const fn n_bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 | Self::Float16 => 2,
        }
    }
}

/// A model's shape. Where a field is a key of `config.json`, it has its name.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the SwiGLU.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head, where it is not the model's width divided by the heads.
    pub head_dim: Option<usize>,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// What is done to the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Biases of the attention.
    pub biases: Biases,
    /// The projection to the vocabulary is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f32,
    /// Each of them ends a text.
    pub eos_token_ids: Vec<u32>,
    /// Begin of text.
    pub bos_token_id: Option<u32>,
    /// Precision of the weights on disk.
    pub precision: Precision,
    /// Every key as it was read.
    pub file: Map<String, Value>,
}

pub(super) const ROPE_THETA: f64 = 10_000.0;
pub(super) const INITIALIZER_RANGE: f32 = 0.02;
/// Far above every model, and far below what would overflow a product.
const SIZE_MAX: usize = 1 << 24;
const LAYERS_MAX: usize = 1 << 12;
/// Angles are kept for each position.
const CONTEXT_MAX: usize = 1 << 22;

impl ModelConfig {
    /// What a policy of this shape can take.
    pub fn limits(&self) -> Limits {
        Limits {
            n_vocabulary: self.vocab_size,
            n_tokens_max: self.max_position_embeddings,
        }
    }

    /// A configuration with the constants that these families share.
    pub fn new(architecture: Architecture) -> Self {
        Self {
            architecture,
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: None,
            max_position_embeddings: 0,
            rms_norm_eps: 1e-6,
            rope_theta: ROPE_THETA,
            rope_scaling: RopeScaling::None,
            biases: biases(architecture, false),
            tie_word_embeddings: true,
            initializer_range: INITIALIZER_RANGE,
            eos_token_ids: Vec::new(),
            bos_token_id: None,
            precision: Precision::Float32,
            file: Map::new(),
        }
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        let even = || self.hidden_size / self.num_attention_heads;
        self.head_dim.unwrap_or_else(even)
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim()
    }

    /// Width of all key heads.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// True if the heads of q and k are normed.
    pub fn has_head_norms(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Parameters in matrix products of one token, the vocabulary's included.
    pub fn n_matmul_params(&self) -> usize {
        let (d, ff) = (self.hidden_size, self.intermediate_size);
        let attention = 2 * d * self.query_width() + 2 * d * self.key_width();
        self.num_hidden_layers * (attention + 3 * d * ff) + d * self.vocab_size
    }

    /// FLOPs of the layers' forward pass over rows at these positions: two a parameter, and
    /// attention by the keys that each row sees.
    pub(crate) fn layer_flops(&self, positions: impl ExactSizeIterator<Item = u32>) -> f64 {
        let body = self.n_matmul_params() - self.hidden_size * self.vocab_size;
        let n_rows = positions.len() as f64;
        let n_seen: f64 = positions.map(|position| f64::from(position) + 1.0).sum();
        let attention = 2.0 * (self.query_width() * self.num_hidden_layers) as f64 * n_seen;
        2.0 * (body as f64 * n_rows + attention)
    }

    /// What of [`Self::layer_flops`] one layer has behind its attention, for so many rows.
    pub(crate) fn behind_attention_flops(&self, n_rows: usize) -> f64 {
        let n_params = self.hidden_size * (self.query_width() + 3 * self.intermediate_size);
        2.0 * (n_params * n_rows) as f64
    }

    /// FLOPs of the projection of so many rows to the vocabulary.
    pub(crate) fn head_flops(&self, n_rows: usize) -> f64 {
        2.0 * (self.hidden_size * self.vocab_size * n_rows) as f64
    }

    /// What about the sizes cannot be.
    pub(super) fn contradiction(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size, SIZE_MAX),
            ("hidden_size", self.hidden_size, SIZE_MAX),
            ("intermediate_size", self.intermediate_size, SIZE_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, SIZE_MAX),
            ("head_dim", self.head_dim.unwrap_or(2), SIZE_MAX),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                CONTEXT_MAX,
            ),
        ];
        let is_odd = |(_, size, max): &&(&str, usize, usize)| *size == 0 || size > max;
        if let Some((key, size, max)) = sizes.iter().find(is_odd) {
            return Some(format!("{key} is {size}, and must be from 1 to {max}"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Some(format!(
                "rope_theta is {}, and must be above 0",
                self.rope_theta
            ));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Some(format!(
                "rms_norm_eps is {}, and must be 0 or more",
                self.rms_norm_eps
            ));
        }
        let (heads, kv) = (self.num_attention_heads, self.num_key_value_heads);
        if heads == 0 || kv == 0 || heads % kv != 0 {
            return Some(format!(
                "{heads} query heads cannot be shared among {kv} key heads"
            ));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
            return Some(format!("{heads} heads do not fit {}", self.hidden_size));
        }
        if self.head_dim() == 0 || !self.head_dim().is_multiple_of(2) {
            return Some(format!("a head of width {} has no halves", self.head_dim()));
        }
        None
    }
}

/// The biases of a family.
pub(super) const fn biases(architecture: Architecture, attention_bias: bool) -> Biases {
    match (architecture, attention_bias) {
        (Architecture::Qwen2, _) => Biases::QueryKeyValue,
        (Architecture::Llama | Architecture::Qwen3, true) => Biases::All,
        (Architecture::Llama | Architecture::Qwen3, false) | (Architecture::Mistral, _) => {
            Biases::None
        }
    }
}
