//! Why a checkpoint cannot be read or written; every message names the file.

use std::path::PathBuf;

/// Why a checkpoint cannot be read or written. A path is the file's, a text says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// `config.json` is not one of a known architecture.
    #[error("{0} is not the configuration of a model that this engine knows")]
    Config(PathBuf, #[source] serde_json::Error),
    /// A file contradicts itself or `config.json`.
    #[error("{0}: {1}")]
    Shape(PathBuf, String),
    /// A file is no safetensors file, or is cut short.
    #[error("{0} is damaged")]
    Damaged(PathBuf, #[source] safetensors::SafeTensorError),
    /// The index of a sharded checkpoint is not one.
    #[error("{0} is no index of shards")]
    Index(PathBuf, #[source] serde_json::Error),
}
