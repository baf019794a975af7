//! A model's shape, as `config.json` has it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointError;

/// A family of architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Biases on q, k and v.
    #[serde(rename = "Qwen2ForCausalLM")]
    Qwen2,
    /// No biases.
    #[serde(rename = "LlamaForCausalLM")]
    Llama,
}

/// A model's shape. Field names are those of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Exactly one.
    pub architectures: Vec<Architecture>,
    /// `qwen2` or `llama`.
    pub model_type: String,
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
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// The projection to the vocabulary is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Always `silu`.
    pub hidden_act: String,
    /// End of text.
    pub eos_token_id: Option<u32>,
    /// Begin of text.
    pub bos_token_id: Option<u32>,
    /// Precision of the weights on disk.
    #[serde(default = "default_dtype", alias = "dtype")]
    pub torch_dtype: String,
}

fn default_rope_theta() -> f64 {
    10_000.0
}

fn default_dtype() -> String {
    "float32".to_owned()
}

impl ModelConfig {
    /// A configuration with the constants that these families share.
    pub fn new(architecture: Architecture) -> Self {
        let model_type = match architecture {
            Architecture::Qwen2 => "qwen2",
            Architecture::Llama => "llama",
        };
        Self {
            architectures: vec![architecture],
            model_type: model_type.to_owned(),
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            max_position_embeddings: 0,
            rms_norm_eps: 1e-6,
            rope_theta: default_rope_theta(),
            tie_word_embeddings: true,
            hidden_act: "silu".to_owned(),
            eos_token_id: None,
            bos_token_id: None,
            torch_dtype: default_dtype(),
        }
    }

    /// The family.
    pub fn architecture(&self) -> Architecture {
        self.architectures[0]
    }

    /// True if q, k and v have biases.
    pub fn has_bias(&self) -> bool {
        self.architecture() == Architecture::Qwen2
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of all key heads.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// Parameters in matrix products of one token, the vocabulary's included.
    pub fn n_matmul_params(&self) -> usize {
        let (d, kv, ff) = (self.hidden_size, self.key_width(), self.intermediate_size);
        self.num_hidden_layers * (2 * d * d + 2 * d * kv + 3 * d * ff) + d * self.vocab_size
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// The file is missing, is not JSON of a known architecture, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::read(path).map_err(read)?;
        let config: Self =
            serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Config {
                path: path.to_owned(),
                source,
            })?;
        match config.contradiction() {
            None => Ok(config),
            Some(reason) => Err(CheckpointError::Shape {
                path: path.to_owned(),
                reason,
            }),
        }
    }

    fn contradiction(&self) -> Option<String> {
        let (heads, kv) = (self.num_attention_heads, self.num_key_value_heads);
        if self.architectures.len() != 1 {
            return Some(format!(
                "{} architectures, expected one",
                self.architectures.len()
            ));
        }
        if heads == 0 || kv == 0 || heads % kv != 0 {
            return Some(format!(
                "{heads} query heads cannot be shared among {kv} key heads"
            ));
        }
        if self.hidden_size % heads != 0 || self.head_dim() % 2 != 0 {
            return Some(format!(
                "{heads} heads of even width do not fit {}",
                self.hidden_size
            ));
        }
        if self.hidden_act != "silu" {
            return Some(format!(
                "hidden_act {:?} is not supported, only silu",
                self.hidden_act
            ));
        }
        None
    }
}
