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
    /// What has a file's name is a FIFO, a socket, a device or a folder.
    #[error("{path} is {kind}, not a file: take it out of the source, or name a file")]
    NotAFile {
        /// What has the name.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A symbolic link leads out of the folder that is read.
    #[error(
        "{path} is a link that leads out of the folder to {target}: put the file into the folder, \
         or name the target as a source of its own"
    )]
    Outside {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file was written to or replaced while it was read.
    #[error("{path} changed while it was read: read it when it is complete")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A text is in another encoding.
    #[error("{path}, {place}: not UTF-8 (perhaps {guess}): convert it, or set on_unreadable")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// `line 3`, `row 3` or `byte 3`.
        place: String,
        /// What it may be.
        guess: &'static str,
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
    /// A shard is cut short, changed, or of another version.
    #[error("shard {path}: {reason}; build the corpus again")]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
