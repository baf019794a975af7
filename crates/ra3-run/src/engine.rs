//! The one door to engines: it makes models, and nothing else of a run names an engine's own.

use std::path::Path;

use anyhow::{Context, Result};
use ra3::model::Model;
use ra3::seed::Seed;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};

use crate::free_memory::free_bytes;
use crate::run_file::TrainingSection;

/// Bytes of the key and value cache where nothing says how much memory is free.
const CACHE_BYTES: usize = 1 << 30;

/// What runs and trains models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Engine {
    /// This machine's processor.
    Cpu(TrainSettings),
}

impl Engine {
    /// The engine of a run.
    pub(crate) fn of(section: &TrainingSection) -> Self {
        Self::Cpu(TrainSettings {
            weight_decay: section.weight_decay,
            clip_norm: section.clip_norm,
            n_tokens_micro: section.micro_batch_tokens,
            recompute: section.recompute,
            cache_bytes_max: section.cache_mib << 20,
            moments: section.moment_precision,
            frozen: section.frozen_precision,
        })
    }

    /// A model with random weights.
    pub(crate) fn create(&self, config: ModelConfig, seed: Seed) -> Box<dyn Model> {
        match self {
            Self::Cpu(settings) => Box::new(Lm::random(config, *settings, seed)),
        }
    }

    /// The model of a folder, to be trained.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not fit `config.json`.
    pub(crate) fn load(&self, folder: &Path) -> Result<Box<dyn Model>> {
        match self {
            Self::Cpu(settings) => Ok(Box::new(
                Lm::load(folder, *settings).with_context(|| cannot_load(folder))?,
            )),
        }
    }

    /// The model of a folder, to be run and scored with.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_frozen(&self, folder: &Path) -> Result<Box<dyn Model>> {
        let mut model = self.load(folder)?;
        model.freeze();
        Ok(model)
    }
}

/// A model outside a run, to be run and not trained, with the memory that this machine has.
///
/// # Errors
/// As [`Engine::load`].
pub(crate) fn load_to_run(folder: &Path) -> Result<Box<dyn Model>> {
    let settings = TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: CACHE_BYTES,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let mut lm = Lm::load_to_run(folder, settings).with_context(|| cannot_load(folder))?;
    lm.set_cache_bytes_max(cache_bytes_max(lm.config(), free_bytes()));
    Ok(Box::new(lm))
}

fn cannot_load(folder: &Path) -> String {
    format!("cannot load the model {}", folder.display())
}

/// Half of the memory that is free once the weights are there, and at least what one context
/// needs. The cache takes no more than its rows need, and its size changes no result.
fn cache_bytes_max(config: &ModelConfig, n_free: Option<usize>) -> usize {
    let one_context = memory::cache_bytes(config, config.max_position_embeddings);
    n_free
        .map_or(CACHE_BYTES, |n_free| n_free / 2)
        .max(one_context)
}

#[cfg(test)]
mod tests {
    use ra3_lm::config::Architecture;

    use super::*;

    #[test]
    fn the_cache_is_half_of_what_is_free_and_at_least_one_context() {
        let config = ModelConfig {
            hidden_size: 1536,
            num_hidden_layers: 28,
            num_attention_heads: 12,
            num_key_value_heads: 2,
            max_position_embeddings: 1 << 15,
            ..ModelConfig::new(Architecture::Qwen2)
        };
        let context = memory::cache_bytes(&config, 1 << 15);
        assert!(context > 1 << 30, "a fixed GiB held half a context");
        assert_eq!(cache_bytes_max(&config, None), context);
        assert_eq!(cache_bytes_max(&config, Some(1 << 20)), context);
        assert_eq!(cache_bytes_max(&config, Some(100 << 30)), 50 << 30);
    }
}
