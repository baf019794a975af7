//! What can go wrong with the outside world; a document that is not wanted is no error.

use std::path::PathBuf;

/// Why a corpus cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line or row is not what its source should hold.
    #[error("{path}, {place}: {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// `line 3` or `row 3`.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A Parquet file cannot be read.
    #[error("cannot read {path} as Parquet")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The interpreter does not tell where its library is.
    #[error("{python} does not say where its standard library is: {reason}")]
    Python {
        /// The interpreter.
        python: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A tokenizer cannot be trained, read or written.
    #[error("tokenizer {path}: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A chat template cannot be read, or refuses a conversation.
    #[error("chat template {template}: {reason}")]
    Template {
        /// The file, the template's name where the file has several, and the line where one is
        /// known.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// A shard is cut short, changed, or of another version.
    #[error("shard {path}: {reason}; build the corpus again")]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
