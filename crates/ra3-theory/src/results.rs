//! The folder of results: `theory.jsonl` with one record a line, `theory.html` with the page.
//! Both are written beside their targets and renamed, so that a reader never sees a part.

use std::path::{Path, PathBuf};

use ra3_files::WriteError;

use crate::experiments::Settings;
use crate::finding::Finding;
use crate::page;

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
    ra3_files::write(&page, page::html(finding, settings).as_bytes())?;
    ra3_files::write(&records, lines.collect::<String>().as_bytes())?;
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
