//! Checkpoint folders in Hugging Face layout: `config.json`, `model.safetensors` or its shards with
//! `model.safetensors.index.json`, and, for a model in training, `training_state.safetensors`.
//!
//! Files are written under a temporary name and renamed. Tokenizers and templates lie in the same
//! folder and are not this module's.

mod error;
mod foreign;
mod read;
mod training;
mod write;

pub use error::CheckpointError;
pub(crate) use foreign::{adapter, missing_weights};
pub(crate) use read::{InMemory, load_weights};
pub(crate) use training::{load_optimizer, save_training};
pub use write::SHARD_BYTES_MAX;
pub(crate) use write::save_weights;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TRAINING: &str = "training_state.safetensors";
