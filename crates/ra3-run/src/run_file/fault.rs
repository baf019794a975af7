//! What is wrong with a run file: every fault with where it stands, its key and what to do.

use std::fmt;
use std::path::PathBuf;

/// A fault of a run file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub origin: Origin,
    /// The key, with places in lists.
    pub key: String,
    /// What is wrong with the key and what to do.
    pub message: String,
}

/// Where a fault stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// In an override, as it was given.
    Override(String),
    /// In settings that were put together.
    Settings,
}

/// All faults of a run file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { path, line } => write!(formatter, "{}:{line}: ", path.display())?,
            Origin::Override(text) => write!(formatter, "--set {text}: ")?,
            Origin::Settings => {}
        }
        formatter.write_str(&self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(formatter);
        }
        write!(formatter, "{} faults in the settings", self.0.len())?;
        for fault in &self.0 {
            write!(formatter, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
