//! Finding documents: folders, JSON lines (plain, `.gz`, `.zst`), Parquet, the standard library of
//! the Python on the machine.
//!
//! The order of the documents and their names depend on the content of a source, never on the
//! file system's order or on where the source lies. What is wanted of them is `filter`'s matter.
//! A byte-order mark is no part of a text.

mod compressed;
mod folder;
mod json_lines;
mod look;
mod parquet;
mod record;
mod regular;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::CorpusError;
use crate::filter::Rejected;

pub use look::look;

/// A place that documents come from.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The standard library of an interpreter, its own tests left out.
    PythonStandardLibrary {
        /// The interpreter whose standard library is read: a command, or a path.
        python: PathBuf,
        /// At most so many files, spread evenly over the sorted paths; all of them where it is
        /// not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n_files_max: Option<usize>,
    },
    /// Every `*.py` below a folder, caches and hidden folders left out.
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// JSON lines: one file, or every `.jsonl` and `.json` below a folder, compressed or not.
    JsonLines {
        /// The file or folder.
        path: PathBuf,
        /// The key of a record's text.
        text_key: String,
        /// The key of what is given before the text (a problem with its signature).
        prefix_key: Option<String>,
        /// The key of the document's name; without it the file and the line are the name.
        name_key: Option<String>,
    },
    /// Parquet: one file, or every `.parquet` below a folder.
    Parquet {
        /// The file or folder.
        path: PathBuf,
        /// The column of the text.
        column: String,
    },
}

/// What a file or record that cannot be read, or is not UTF-8, does to the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The reading ends with an error that names the file and the line or row.
    Stop,
    /// What cannot be read is counted as dropped; a missing source is an error all the same.
    Drop,
}

/// What a source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    on_error: OnError,
    /// The documents, in a fixed order.
    pub documents: Vec<Document>,
    /// Files and records that gave no document.
    pub n_dropped: BTreeMap<Rejected, u64>,
}

impl Reading {
    fn new(on_error: OnError) -> Self {
        Self {
            on_error,
            documents: Vec::new(),
            n_dropped: BTreeMap::new(),
        }
    }

    /// Reads files one after the other.
    fn each(
        &mut self,
        files: &[PathBuf],
        read_one: impl Fn(&Path, &mut Self) -> Result<(), CorpusError>,
    ) -> Result<(), CorpusError> {
        for file in files {
            if let Err(error) = read_one(file, self) {
                self.fail(error)?;
            }
        }
        Ok(())
    }

    /// Counts an error as a drop, or hands it on.
    fn fail(&mut self, error: CorpusError) -> Result<(), CorpusError> {
        match self.on_error {
            OnError::Stop => Err(error),
            OnError::Drop => {
                let reason = match &error {
                    CorpusError::NotUtf8 { .. } => Rejected::NotUtf8,
                    CorpusError::Outside { .. } => Rejected::Outside,
                    _ => Rejected::Unreadable,
                };
                *self.n_dropped.entry(reason).or_default() += 1;
                Ok(())
            }
        }
    }
}

impl Source {
    /// The name that its documents are counted under.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::PythonStandardLibrary { .. } => "python_standard_library",
            Self::JsonLines { .. } => "json_lines",
            Self::Parquet { .. } => "parquet",
        }
    }
}

/// Reads a source.
///
/// # Errors
/// The source is missing, or (with [`OnError::Stop`]) a file cannot be read or a record is not
/// what the source should hold; the file and the line or row are named.
pub fn read(source: &Source, on_error: OnError) -> Result<Reading, CorpusError> {
    let mut reading = Reading::new(on_error);
    match source {
        Source::Folder { path } => folder::read_folder(path, &mut reading)?,
        Source::PythonStandardLibrary {
            python,
            n_files_max,
        } => folder::read_library(python, n_files_max.unwrap_or(usize::MAX), &mut reading)?,
        Source::JsonLines {
            path,
            text_key,
            prefix_key,
            name_key,
        } => {
            let keys = json_lines::Keys {
                text: text_key,
                prefix: prefix_key.as_deref(),
                name: name_key.as_deref(),
            };
            json_lines::read_all(path, &keys, &mut reading)?;
        }
        Source::Parquet { path, column } => parquet::read_all(path, column, &mut reading)?,
    }
    for document in &mut reading.documents {
        source.name().clone_into(&mut document.source);
    }
    Ok(reading)
}

/// The files that [`read`] looks at, sorted, each with its place below the source, which documents
/// are named by; what cannot be looked at is left out.
///
/// # Errors
/// The source is missing.
pub fn files(source: &Source) -> Result<Vec<(PathBuf, PathBuf)>, CorpusError> {
    let mut passed_over = Reading::new(OnError::Drop);
    let mut of = |path: &Path, suffixes: &[&str]| {
        let files = folder::files_of(path, suffixes, &mut passed_over)?;
        Ok((path.to_owned(), files))
    };
    let (root, files) = match source {
        Source::Folder { path } => of(path, folder::SUFFIXES),
        Source::JsonLines { path, .. } => of(path, json_lines::SUFFIXES),
        Source::Parquet { path, .. } => of(path, parquet::SUFFIXES),
        Source::PythonStandardLibrary { python, .. } => {
            folder::files_of_library(python, &mut passed_over)
        }
    }?;
    let below = |file: PathBuf| {
        let place = file.strip_prefix(&root).map(Path::to_owned);
        let name = || PathBuf::from(file.file_name().unwrap_or_default());
        // A source that is one file is named by it.
        let place = place.ok().filter(|place| !place.as_os_str().is_empty());
        (place.unwrap_or_else(name), file)
    };
    Ok(files.into_iter().map(below).collect())
}

/// A document whose source is filled in by [`read`].
fn document(name: String, prefix: &str, text: &str) -> Document {
    Document {
        name,
        prefix: without_bom(prefix).to_owned(),
        text: without_bom(text).to_owned(),
        ..Document::default()
    }
}

/// A text without the byte-order mark that editors on Windows put before it.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The name of a record without one: the file below its source, and the place in it.
fn place_name(root: &Path, file: &Path, index: usize) -> String {
    let below = file.strip_prefix(root).unwrap_or(file);
    let below = if below.as_os_str().is_empty() {
        Path::new(file.file_name().unwrap_or_default())
    } else {
        below
    };
    format!("{}:{}", below.display(), index + 1)
}

fn not_utf8(path: &Path, place: &str, bytes: &[u8]) -> CorpusError {
    let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    CorpusError::NotUtf8 {
        path: path.to_owned(),
        place: place.to_owned(),
        guess: if is_wide {
            "UTF-16"
        } else {
            "Latin-1 or binary"
        },
    }
}

fn read_error(path: &Path, source: std::io::Error) -> CorpusError {
    CorpusError::Read(path.to_owned(), source)
}
