//! A model's shape, as `config.json` has it.
//!
//! A file that asks for what the network does not compute (scaled rotary frequencies, sliding
//! windows, heads wider than the model) is refused: ignoring the key would train another model.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Standard deviation of random weights.
    #[serde(default = "default_initializer_range")]
    pub initializer_range: f32,
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

fn default_initializer_range() -> f32 {
    0.02
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
            initializer_range: default_initializer_range(),
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
        let json = |source| CheckpointError::Config {
            path: path.to_owned(),
            source,
        };
        let mut file: Value = serde_json::from_slice(&bytes).map_err(json)?;
        let unsupported = unsupported(&file);
        lift_newer_keys(&mut file);
        let config: Self = serde_json::from_value(file).map_err(json)?;
        let contradiction = unsupported.or_else(|| config.contradiction());
        match contradiction {
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
        if !self.hidden_size.is_multiple_of(heads) || !self.head_dim().is_multiple_of(2) {
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

/// What a file asks for and the network does not compute.
fn unsupported(file: &Value) -> Option<String> {
    let is_on = |key: &str| file[key].as_bool() == Some(true);
    for key in ["use_sliding_window", "mlp_bias"] {
        if is_on(key) {
            return Some(format!("{key} is not supported"));
        }
    }
    let is_llama = file["model_type"] == "llama";
    if is_llama && is_on("attention_bias") {
        return Some("attention_bias is not supported for a Llama model".to_owned());
    }
    for key in ["rope_parameters", "rope_scaling"] {
        let kind = ["rope_type", "type"].map(|name| file[key][name].as_str());
        if let Some(kind) = kind.into_iter().flatten().find(|kind| *kind != "default") {
            return Some(format!("{key} of type {kind:?} is not supported"));
        }
    }
    let (head, width) = (file["head_dim"].as_u64()?, file["hidden_size"].as_u64()?);
    let n_heads = file["num_attention_heads"].as_u64()?;
    (head * n_heads != width)
        .then(|| format!("{n_heads} heads of {head} do not make a hidden_size of {width}"))
}

/// Brings what newer writers nest or list to the one place where it is read: the base of the
/// rotary frequencies, and the first of several end tokens.
fn lift_newer_keys(file: &mut Value) {
    if let Some(theta) = file["rope_parameters"].get("rope_theta").cloned() {
        file["rope_theta"] = theta;
    }
    if let Some(first) = file["eos_token_id"].get(0).cloned() {
        file["eos_token_id"] = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Value {
        serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 50,
            "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "head_dim": 6, "eos_token_id": [2, 3],
            "rope_parameters": {"rope_theta": 500_000.0, "rope_type": "default"},
        })
    }

    fn load(file: &Value) -> Result<ModelConfig, CheckpointError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, file.to_string()).unwrap();
        ModelConfig::load(&path)
    }

    #[test]
    fn a_nested_rope_theta_and_a_list_of_end_tokens_are_read() {
        let config = load(&file()).unwrap();
        assert_eq!(
            (config.rope_theta, config.eos_token_id),
            (500_000.0, Some(2))
        );
    }

    #[test]
    fn what_the_network_does_not_compute_is_refused() {
        let cases = [
            (
                "rope_scaling",
                serde_json::json!({"rope_type": "llama3"}),
                "llama3",
            ),
            ("rope_scaling", serde_json::json!({"type": "yarn"}), "yarn"),
            (
                "rope_parameters",
                serde_json::json!({"rope_type": "linear"}),
                "linear",
            ),
            ("use_sliding_window", true.into(), "use_sliding_window"),
            ("attention_bias", true.into(), "attention_bias"),
            ("mlp_bias", true.into(), "mlp_bias"),
            ("head_dim", 8.into(), "4 heads of 8"),
            ("num_key_value_heads", 3.into(), "3 key heads"),
            ("num_attention_heads", 0.into(), "heads"),
            ("hidden_act", "gelu".into(), "gelu"),
        ];
        for (key, value, part) in cases {
            let mut file = file();
            file[key] = value;
            let error = load(&file).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("config.json"),
                "{key}: {error}"
            );
        }
    }
}
