//! Reading files and folders, with errors that name them. Writing is `ra3_files`' matter.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What a file of JSON holds. Of one that holds something else, the error says that it `is_wrong`:
/// "is damaged", say, and what to do.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, is_wrong: &str) -> Result<T> {
    serde_json::from_str(&read_text(path)?)
        .with_context(|| format!("{} {is_wrong}", path.display()))
}

/// The paths of what is in a folder, in no order.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || {
        std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let found: std::io::Result<_> = list();
    found.with_context(|| format!("cannot read {}", folder.display()))
}
