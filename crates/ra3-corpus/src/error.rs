//! What can go wrong with the outside world; a document that is not wanted is no error.

use std::path::PathBuf;

/// Why a corpus cannot be read or written. A path is the file's, a text says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// What has a file's name is a FIFO, a socket, a device or a folder.
    #[error("{0} is {1}, not a file: take it out of the source, or name a file")]
    NotAFile(PathBuf, &'static str),
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
    #[error("{0} changed while it was read: read it when it is complete")]
    Changed(PathBuf),
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
    #[error("cannot read {0} as Parquet")]
    Parquet(PathBuf, #[source] parquet::errors::ParquetError),
    /// The interpreter does not tell where its library is.
    #[error("{0} does not say where its standard library is: {1}")]
    Python(PathBuf, String),
    /// A shard is cut short, changed, or of another version.
    #[error("shard {0}: {1}; build the corpus again")]
    Shard(PathBuf, String),
}
