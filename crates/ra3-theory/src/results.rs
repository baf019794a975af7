//! The folder of results: `theory.jsonl` with one record a line, `theory.html` with the page.
//! Both are written beside their targets and renamed, so that a reader never sees a part.

use std::io;
use std::path::{Path, PathBuf};

use crate::experiments::Settings;
use crate::finding::Finding;
use crate::page;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}; is the folder there, and is there room?", path.display())]
pub struct WriteError {
    /// The file or folder.
    pub path: PathBuf,
    source: io::Error,
}

/// Writes both files, and the folder where it is missing; returns their paths, the page first.
///
/// # Errors
/// A file cannot be written; what was there before is then still there.
pub fn write(
    folder: &Path,
    finding: &Finding,
    settings: &Settings,
) -> Result<[PathBuf; 2], WriteError> {
    make_folder(folder)?;
    let lines = finding
        .records()
        .into_iter()
        .map(|record| format!("{record}\n"));
    let page = folder.join("theory.html");
    let records = folder.join("theory.jsonl");
    replace(&page, &page::html(finding, settings))?;
    replace(&records, &lines.collect::<String>())?;
    Ok([page, records])
}

/// Makes the folder, so that a wrong path is found before minutes of work and not after.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(folder).map_err(|source| WriteError {
        path: folder.to_owned(),
        source,
    })
}

fn replace(path: &Path, text: &str) -> Result<(), WriteError> {
    let temporary = path.with_extension("writing");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })
}
