//! The records of a data set's files, each handed on as a value, whatever the form of the file:
//! JSON lines or one JSON array, plain or `.gz`, or Parquet.
//!
//! Not done here: what a record means, and results and samples, which are no data sets.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use parquet::errors::ParquetError;
use ra3_sandbox::value::Value;

use crate::json::{self, JsonError};
use crate::parquet::each_row;

/// The byte order mark.
const BOM: char = '\u{feff}';

/// Why data cannot be read. A path is the file's or folder's.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A line is no JSON.
    #[error("{path}, line {line}: not JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where.
        #[source]
        source: JsonError,
    },
    /// A file is no Parquet.
    #[error("cannot read {0} as Parquet: it is damaged or cut short; fetch it again")]
    Parquet(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// A folder has no data in it.
    #[error("{0} is a folder without .parquet files: name a file, or a folder that has some")]
    Empty(PathBuf),
    /// A file has no record that is a task.
    #[error("{0}: the data file holds no task; name one that does")]
    NoTask(PathBuf),
    /// Two records are of one task.
    #[error("{path}, {place}: the task {task_id} is there for the second time; take one out")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Where the second one stands.
        place: Place,
        /// The task.
        task_id: String,
    },
    /// A record lacks something.
    #[error("{path}, {place}: `{key}` should be {expected}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// The key.
        key: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The line of JSON lines, from 1.
    Line(usize),
    /// The item of an array, from 1.
    Item(usize),
    /// The row of a table, from 1.
    Row(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Item(number) => write!(formatter, "record {number}"),
            Self::Row(number) => write!(formatter, "row {number}"),
        }
    }
}

/// Reads a file, plain or `.gz`, as text, without the mark that some editors put before it.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, DataError> {
    let mut file = open(path)?;
    let mut text = String::new();
    if path.extension().is_some_and(|suffix| suffix == "gz") {
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)
    } else {
        file.read_to_string(&mut text)
    }
    .map_err(cannot_read(path))?;
    if text.starts_with(BOM) {
        text.drain(..BOM.len_utf8());
    }
    Ok(text)
}

/// The MD5 sum of a text, in hexadecimal.
pub fn checksum(text: &str) -> String {
    format!("{:x}", Md5::digest(text.as_bytes()))
}

/// Records in their order, each where it stands.
pub type Records<'a> = Box<dyn Iterator<Item = Result<(Place, Value), DataError>> + 'a>;

/// Reads JSON lines, of which empty ones are left out, or one array, as values.
///
/// # Errors
/// A line, or the array, is no JSON.
pub fn json_records<'a>(text: &'a str, path: &'a Path) -> Result<Records<'a>, DataError> {
    let parse = |line: usize, text: &str| {
        json::parse(text).map_err(|source| DataError::Json {
            path: path.to_owned(),
            line,
            source,
        })
    };
    if text.trim_start().starts_with('[') {
        let Value::List(items) = parse(1, text)? else {
            unreachable!("it begins as a list");
        };
        let items = items.into_iter().enumerate();
        return Ok(Box::new(
            items.map(|(index, item)| Ok((Place::Item(index + 1), item))),
        ));
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    Ok(Box::new(lines.map(move |(index, line)| {
        Ok((Place::Line(index + 1), parse(index + 1, line)?))
    })))
}

/// A key of a record, and what should stand there.
pub(crate) type Complaint = (&'static str, &'static str);

/// Reads what the records of a data set mean, each by its index, with the MD5 sum of the data: of
/// uncompressed text, and of Parquet's bytes as they are. A folder stands for its Parquet files in
/// the order of their names. `name` is what no two of them may share, where there is such a name.
pub(crate) fn read_each<T>(
    path: &Path,
    name: Option<fn(&T) -> String>,
    meaning: &mut dyn FnMut(usize, &Value) -> Result<T, Complaint>,
) -> Result<(Vec<T>, String), DataError> {
    if path.is_dir() {
        read_files(&parquet_files(path)?, name, meaning)
    } else {
        read_files(&[path.to_owned()], name, meaning)
    }
}

/// As [`read_each`], of files that belong together, in their order.
pub(crate) fn read_files<T>(
    paths: &[PathBuf],
    name: Option<fn(&T) -> String>,
    meaning: &mut dyn FnMut(usize, &Value) -> Result<T, Complaint>,
) -> Result<(Vec<T>, String), DataError> {
    let mut digest = Md5::new();
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for path in paths {
        let mut take = |place: Place, record: &Value| {
            let refuse = |(key, expected)| DataError::Field {
                path: path.clone(),
                place,
                key,
                expected,
            };
            let record = meaning(found.len(), record).map_err(refuse)?;
            if let Some(task_id) = name.map(|name| name(&record))
                && !names.insert(task_id.clone())
            {
                let path = path.clone();
                return Err(DataError::Twice {
                    path,
                    place,
                    task_id,
                });
            }
            found.push(record);
            Ok(())
        };
        if is_parquet(path) {
            let mut n_rows = 0;
            let mut take = |record: Value| {
                n_rows += 1;
                take(Place::Row(n_rows), &record)
            };
            let fail = |source: ParquetError| DataError::Parquet(path.clone(), source.into());
            each_row(open(path)?, fail, &mut take)?;
            digest_file(path, &mut digest)?;
        } else {
            let text = read_text(path)?;
            for record in json_records(&text, path)? {
                let (place, record) = record?;
                take(place, &record)?;
            }
            digest.update(&text);
        }
    }
    Ok((found, format!("{:x}", digest.finalize())))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "parquet")
}

/// The Parquet files of a folder in the order of their names.
fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = entries(folder)?;
    paths.retain(|path| is_parquet(path));
    if paths.is_empty() {
        return Err(DataError::Empty(folder.to_owned()));
    }
    Ok(paths)
}

/// What is in a folder, in the order of the names.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.path());
    let paths = std::fs::read_dir(folder).and_then(|entries| entries.map(entry).collect());
    let mut paths: Vec<PathBuf> = paths.map_err(cannot_read(folder))?;
    paths.sort();
    Ok(paths)
}

fn digest_file(path: &Path, digest: &mut Md5) -> Result<(), DataError> {
    std::io::copy(&mut open(path)?, digest).map_err(cannot_read(path))?;
    Ok(())
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(cannot_read(path))
}

fn cannot_read(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    |source| DataError::Read(path.to_owned(), source)
}
