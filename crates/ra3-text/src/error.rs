//! What can be wrong with a model's text files.

use std::path::PathBuf;

/// Why a tokenizer or a chat template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file cannot be read.
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
}
