//! The models that are measured: five sizes, or the shape of a checkpoint.

use ra3_lm::config::{Architecture, ModelConfig};
use ra3_lm::weights::Layout;

use crate::{BenchError, Request};

/// Name, then width, layers, heads, key heads, width of the SwiGLU and vocabulary of models of 2M,
/// 5.5M, 27M, 140M and 1.5B parameters; the last is Qwen2.5-1.5B's.
const SIZES: [(&str, [usize; 6]); 5] = [
    ("XS", [192, 4, 4, 2, 512, 2048]),
    ("S", [256, 6, 4, 2, 704, 4096]),
    ("M", [512, 8, 8, 2, 1408, 8192]),
    ("L", [1024, 12, 16, 4, 2816, 16384]),
    ("XL", [1536, 28, 12, 2, 8960, 151_936]),
];

/// The name and the shape that a request means; no weights are read. A named shape has a context of
/// as many positions as the jobs need, a checkpoint the one that it has.
pub(crate) fn find(
    request: &Request,
    n_positions: usize,
) -> Result<(String, ModelConfig), BenchError> {
    let (name, mut config) = if let Some(folder) = &request.model {
        let config = ModelConfig::load(&folder.join("config.json"))?;
        (folder.display().to_string(), config)
    } else {
        let found = SIZES.iter().find(|(name, _)| *name == request.size);
        let (name, shape) = found.ok_or_else(|| BenchError::Size(request.size.clone()))?;
        let mut config = qwen2(*shape);
        let n_context = &mut config.max_position_embeddings;
        *n_context = n_positions.max(*n_context);
        ((*name).to_owned(), config)
    };
    config.vocab_size = request.vocabulary.unwrap_or(config.vocab_size);
    Ok((name, config))
}

/// Qwen2's network with the embedding as its head.
fn qwen2([width, n_layers, n_heads, n_key, ff, vocabulary]: [usize; 6]) -> ModelConfig {
    ModelConfig {
        vocab_size: vocabulary,
        hidden_size: width,
        intermediate_size: ff,
        num_hidden_layers: n_layers,
        num_attention_heads: n_heads,
        num_key_value_heads: n_key,
        max_position_embeddings: 4096,
        ..ModelConfig::new(Architecture::Qwen2)
    }
}

/// Number of its parameters.
pub(crate) fn n_params(config: &ModelConfig) -> usize {
    Layout::new(config).n_params()
}
