//! Why a model cannot be had, and what to do about it.

use std::path::PathBuf;

/// Why a name cannot be turned into a folder. A path is the file's, a text beside it says what is
/// wrong.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is no folder and cannot be a name on the Hub.
    #[error("`{0}` is no folder here and no `org/name` or `org/name@revision` of the Hub")]
    Name(String),
    /// What was written is a path, and no folder is there.
    #[error(
        "`{name}` is a path, not a name on the Hub (`org/name` or `org/name@revision`), and {why}"
    )]
    Path {
        /// What was written.
        name: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The repository or the revision does not exist.
    #[error(
        "{endpoint} has no {what}: check the name and the revision, set HF_TOKEN if it is \
         private, or pass a folder"
    )]
    NotFound {
        /// The Hub.
        endpoint: String,
        /// Repository and revision.
        what: String,
    },
    /// The repository is there and a file that it should have is not.
    #[error(
        "{what} is not on {endpoint}: a model needs config.json, tokenizer.json and \
         model.safetensors, or an index and every shard it names"
    )]
    NoFile {
        /// The Hub.
        endpoint: String,
        /// File, repository and revision.
        what: String,
    },
    /// The repository holds a model in another form.
    #[error("{what} has no {missing}, only {found}: {advice}")]
    OtherForm {
        /// Repository and revision.
        what: String,
        /// What a model needs.
        missing: &'static str,
        /// What is there instead.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The Hub asks for a token (401) or does not accept the one it got (403).
    #[error("{endpoint} refuses {what} ({status}): {advice}")]
    Refused {
        /// The Hub.
        endpoint: String,
        /// File, repository and revision.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// The file of trusted authorities cannot be used.
    #[error("{0}: {1}; set SSL_CERT_FILE to a PEM file, or unset it")]
    Certificates(PathBuf, String),
    /// No connection, or one that broke again and again.
    #[error(
        "cannot get {what} from {endpoint} ({reason}): check the network and run again to go on \
         from the bytes that came, set HF_HUB_OFFLINE=1 to use the cache, or pass a folder"
    )]
    Unreachable {
        /// The Hub.
        endpoint: String,
        /// File, repository and revision.
        what: String,
        /// What happened.
        reason: String,
    },
    /// An answer that is not the Hub's protocol.
    #[error("{endpoint} gives no usable answer for {what}: {reason}; check HF_ENDPOINT")]
    Answer {
        /// The Hub.
        endpoint: String,
        /// File, repository and revision.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Only the cache may be used, and it lacks something.
    #[error(
        "{what} is not in {cache}: {missing}; unset HF_HUB_OFFLINE to download, or pass a folder"
    )]
    NotCached {
        /// Repository and revision.
        what: String,
        /// The cache.
        cache: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// The list of shards is no list of shards.
    #[error("{0}: {1}; delete the file to fetch it again")]
    Index(PathBuf, String),
    /// The disk of the cache is full; the file would have so many bytes.
    #[error(
        "no space left for {0} ({1} bytes): make room and run again to go on, or set \
         HF_HOME to a larger disk"
    )]
    DiskFull(PathBuf, u64),
    /// The cache cannot be written.
    #[error("cannot write {0}: check its permissions, or set HF_HOME to another folder")]
    Write(PathBuf, #[source] std::io::Error),
}
