//! Finding documents: folders, JSON lines (plain, `.gz`, `.zst`), Parquet, the standard library of
//! the Python on the machine. The order never depends on the file system.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use parquet::file::reader::SerializedFileReader;
use parquet::record::RowAccessor;

use crate::document::Document;
use crate::error::CorpusError;

/// A place that documents come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Every `*.py` below a folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// At most so many files, spread evenly over the sorted paths.
        n_files_max: usize,
    },
    /// The standard library of an interpreter, its own tests left out.
    PythonStandardLibrary {
        /// The interpreter.
        python: PathBuf,
        /// At most so many files, spread evenly over the sorted paths.
        n_files_max: usize,
    },
    /// JSON lines, plain or compressed.
    JsonLines {
        /// The file.
        path: PathBuf,
        /// The key of the text.
        text_key: String,
    },
    /// A Parquet file.
    Parquet {
        /// The file.
        path: PathBuf,
        /// The column of the text.
        column: String,
    },
}

/// What a source gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The documents, in a fixed order.
    pub documents: Vec<Document>,
    /// Files that are not UTF-8.
    pub n_not_utf8: u64,
}

/// Reads a source.
///
/// # Errors
/// A file cannot be opened, or a record is not what the source should hold; the file and the line
/// or row are named.
pub fn read(source: &Source) -> Result<Reading, CorpusError> {
    match source {
        Source::Folder { path, n_files_max } => read_folder(path, "folder", *n_files_max),
        Source::PythonStandardLibrary {
            python,
            n_files_max,
        } => read_folder(
            &library_of(python)?,
            "python_standard_library",
            *n_files_max,
        ),
        Source::JsonLines { path, text_key } => read_json_lines(path, text_key),
        Source::Parquet { path, column } => read_parquet(path, column),
    }
}

fn read_folder(root: &Path, source: &str, n_files_max: usize) -> Result<Reading, CorpusError> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    let n = paths.len();
    let kept = n.min(n_files_max);
    let mut reading = Reading::default();
    for index in 0..kept {
        let path = &paths[index * n / kept];
        let bytes = std::fs::read(path).map_err(|source| read_error(path, source))?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string();
        match String::from_utf8(bytes) {
            Ok(text) => reading.documents.push(document(name, source, text)),
            Err(_) => reading.n_not_utf8 += 1,
        }
    }
    Ok(reading)
}

/// Folders whose files are no code of their own.
const SKIPPED_FOLDERS: &[&str] = &["__pycache__", "site-packages", "test", "tests", "idle_test"];

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), CorpusError> {
    let entries = std::fs::read_dir(folder).map_err(|source| read_error(folder, source))?;
    for entry in entries {
        let path = entry.map_err(|source| read_error(folder, source))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                collect(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "py") {
            paths.push(path);
        }
    }
    Ok(())
}

fn library_of(python: &Path) -> Result<PathBuf, CorpusError> {
    let fail = |reason: String| CorpusError::Python {
        python: python.to_owned(),
        reason,
    };
    let output = Command::new(python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('stdlib'))",
        ])
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&text).is_dir() {
        Ok(PathBuf::from(text))
    } else {
        Err(fail(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Opens a file, decompressing by its suffix.
///
/// # Errors
/// The file cannot be opened.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>, CorpusError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let reader: Box<dyn Read> = match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => {
            Box::new(zstd::Decoder::new(file).map_err(|source| read_error(path, source))?)
        }
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::new(reader)))
}

fn read_json_lines(path: &Path, text_key: &str) -> Result<Reading, CorpusError> {
    let mut reading = Reading::default();
    for (index, line) in open(path)?.split(b'\n').enumerate() {
        let line = line.map_err(|source| read_error(path, source))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("line {}", index + 1);
        let record_error = |reason: String| CorpusError::Record {
            path: path.to_owned(),
            place: place.clone(),
            reason,
        };
        let value: serde_json::Value =
            serde_json::from_slice(&line).map_err(|error| record_error(error.to_string()))?;
        let text = value
            .get(text_key)
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| record_error(format!("there is no text under the key {text_key:?}")))?;
        let name = format!("{}:{}", path.display(), index + 1);
        reading
            .documents
            .push(document(name, "json_lines", text.to_owned()));
    }
    Ok(reading)
}

fn read_parquet(path: &Path, column: &str) -> Result<Reading, CorpusError> {
    let fail = |source| CorpusError::Parquet {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let reader = SerializedFileReader::new(file).map_err(fail)?;
    let mut reading = Reading::default();
    for (index, row) in reader.into_iter().enumerate() {
        let row = row.map_err(fail)?;
        let place = format!("row {}", index + 1);
        let at = row
            .get_column_iter()
            .position(|(name, _)| name == column)
            .ok_or_else(|| {
                let reason = format!("there is no column {column:?}");
                CorpusError::Record {
                    path: path.to_owned(),
                    place: place.clone(),
                    reason,
                }
            })?;
        let text = row.get_string(at).map_err(fail)?.clone();
        let name = format!("{}:{}", path.display(), index + 1);
        reading.documents.push(document(name, "parquet", text));
    }
    Ok(reading)
}

fn document(name: String, source: &str, text: String) -> Document {
    Document {
        name,
        source: source.to_owned(),
        prefix: String::new(),
        text,
    }
}

fn read_error(path: &Path, source: std::io::Error) -> CorpusError {
    CorpusError::Read {
        path: path.to_owned(),
        source,
    }
}
