//! The one door to engines: it makes models, and nothing else of a run names an engine's own.

mod torch;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ra3::model::Model;
use ra3::seed::Seed;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};
use ra3_torch::About;

use crate::free_memory::free_bytes;
use crate::run_file::{EngineSection, RunFile, TrainingSection};
use torch::{Running, Torch, TorchSettings};

/// Bytes of the key and value cache where nothing says how much memory is free.
const CACHE_BYTES: usize = 1 << 30;

/// What a run makes its engines of: stages have settings of their own, and share a worker.
#[derive(Debug)]
pub(crate) struct Engines {
    /// `None` for the native engine.
    torch: Option<TorchSettings>,
    running: Arc<Running>,
}

impl Engines {
    /// Those of a run, whose worker's log lies in its directory.
    pub(crate) fn of(file: &RunFile) -> Self {
        let seed = Seed::root(file.seed);
        Self::new(&file.engine, seed, file.n_threads, &file.directory)
    }

    /// As [`Self::of`], of a section.
    pub(crate) fn new(
        section: &EngineSection,
        seed: Seed,
        n_threads: usize,
        directory: &Path,
    ) -> Self {
        Self {
            torch: TorchSettings::of(section, seed, n_threads, directory),
            running: Arc::default(),
        }
    }

    /// The engine of a stage.
    pub(crate) fn engine(&self, training: &TrainingSection) -> Engine {
        match &self.torch {
            None => Engine::Cpu(train_settings(training)),
            Some(settings) => Engine::Torch(Torch::new(settings.worker(training), &self.running)),
        }
    }
}

/// What runs and trains models.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// This machine's processor.
    Cpu(TrainSettings),
    /// PyTorch, in a worker process.
    Torch(Torch),
}

/// The native engine's settings.
pub(crate) fn train_settings(section: &TrainingSection) -> TrainSettings {
    TrainSettings {
        weight_decay: section.weight_decay,
        clip_norm: section.clip_norm,
        n_tokens_micro: section.micro_batch_tokens,
        recompute: section.recompute,
        cache_bytes_max: section.cache_mib << 20,
        recorded_bytes_max: section.recorded_mib << 20,
        compute: section.compute_precision,
        moments: section.moment_precision,
        frozen: section.frozen_precision,
    }
}

impl Engine {
    /// Starts what is no part of this process, and says what it is; what is missing is known then.
    ///
    /// # Errors
    /// A worker cannot be started, or misses something.
    pub(crate) fn start(&self) -> Result<Option<About>> {
        match self {
            Self::Cpu(_) => Ok(None),
            Self::Torch(torch) => Ok(Some(torch.worker()?.about().clone())),
        }
    }

    /// What a user has to type elsewhere before [`Self::start`] comes to an end, if anything.
    ///
    /// # Errors
    /// What it names cannot be written.
    pub(crate) fn line(&self) -> Result<Option<String>> {
        match self {
            Self::Cpu(_) => Ok(None),
            Self::Torch(torch) => torch.line(),
        }
    }

    /// A model with random weights.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn create(&self, config: ModelConfig, seed: Seed) -> Result<Box<dyn Model>> {
        match self {
            Self::Cpu(settings) => Ok(Box::new(Lm::random(config, *settings, seed))),
            Self::Torch(torch) => {
                // Nothing but its weights is used.
                let settings = train_settings(&TrainingSection::default());
                torch.take_over(&Lm::random(config.clone(), settings, seed), &config)
            }
        }
    }

    /// The model of a folder, to be trained.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not fit `config.json`; a worker has failed.
    pub(crate) fn load(&self, folder: &Path) -> Result<Box<dyn Model>> {
        let loaded: Result<Box<dyn Model>> = match self {
            Self::Cpu(settings) => Lm::load(folder, *settings)
                .map(|lm| Box::new(lm) as Box<dyn Model>)
                .map_err(anyhow::Error::from),
            Self::Torch(torch) => torch.load(folder),
        };
        loaded.with_context(|| cannot_load(folder))
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
        recorded_bytes_max: 0,
        compute: Precision::Float32,
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
