//! The records of a data set's files, each handed on as a value, whatever the form of the file:
//! JSON lines or one JSON array, plain or `.gz`, or Parquet.
//!
//! Not done here: what a record means, and results and samples, which are no data sets.

use std::io::Read;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use ra3_sandbox::value::Value;

use crate::evalplus::data::{DataError, Place, json_records, read_text};
use crate::parquet::each_row;

/// A key of a record, and what should stand there.
pub(crate) type Complaint = (&'static str, &'static str);

/// Reads what the records of a data set mean, each by its index, with the MD5 sum of the data: of
/// uncompressed text, and of Parquet's bytes as they are. A folder stands for its Parquet files in
/// the order of their names.
///
/// # Errors
/// A file cannot be read, or a record is not what it should be.
pub(crate) fn read_each<T>(
    path: &Path,
    meaning: &mut dyn FnMut(usize, &Value) -> Result<T, Complaint>,
) -> Result<(Vec<T>, String), DataError> {
    if path.is_dir() {
        read_files(&parquet_files(path)?, meaning)
    } else {
        read_files(&[path.to_owned()], meaning)
    }
}

/// As [`read_each`], of files that belong together, in their order.
///
/// # Errors
/// As [`read_each`].
pub(crate) fn read_files<T>(
    paths: &[PathBuf],
    meaning: &mut dyn FnMut(usize, &Value) -> Result<T, Complaint>,
) -> Result<(Vec<T>, String), DataError> {
    let mut digest = Md5::new();
    let mut found = Vec::new();
    for path in paths {
        let mut take = |place: Place, record: &Value| {
            let refuse = |(key, expected)| DataError::Field {
                path: path.clone(),
                place,
                key,
                expected,
            };
            found.push(meaning(found.len(), record).map_err(refuse)?);
            Ok(())
        };
        if is_parquet(path) {
            each_row(path, &mut take)?;
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
    let fail = |source| DataError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if is_parquet(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(DataError::Empty {
            path: folder.to_owned(),
        });
    }
    paths.sort();
    Ok(paths)
}

fn digest_file(path: &Path, digest: &mut Md5) -> Result<(), DataError> {
    let fail = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n_bytes = file.read(&mut buffer).map_err(fail)?;
        if n_bytes == 0 {
            return Ok(());
        }
        digest.update(&buffer[..n_bytes]);
    }
}
