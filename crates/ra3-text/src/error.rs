//! What can be wrong with a model's text files.

use std::path::PathBuf;

/// Why a tokenizer or a chat template cannot be used. A path is the file's, a text says what is
/// wrong.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// A tokenizer cannot be trained, read or written.
    #[error("tokenizer {0}: {1}")]
    Tokenizer(PathBuf, String),
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
