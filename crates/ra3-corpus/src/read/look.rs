//! A first look at files that a user names: what kind of source they are, and the names of their
//! texts.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::regular::Regular;
use super::{OnError, Reading, Source, compressed, folder, json_lines, read_error};
use crate::error::CorpusError;

/// Records of a file that are looked at.
const N_RECORDS: usize = 100;
/// Names that data sets of code give their texts, the likeliest first.
const USUAL: [&str; 6] = ["content", "text", "code", "source", "solution", "body"];

/// Guesses what kind of source a path is, and where its text stands.
///
/// # Errors
/// The path is missing or holds nothing that is read, or no key or column holds text.
pub fn look(path: &Path) -> Result<Source, CorpusError> {
    let file = first_file(path)?;
    let name = file.to_string_lossy().into_owned();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let path = path.to_owned();
    if ends(&[".py"]) {
        return Ok(Source::Folder { path });
    }
    if ends(&[".parquet"]) {
        let opened = Regular::open(&file)?.file;
        let rows = ra3_parquet::Rows::open(opened).map_err(|source| CorpusError::Parquet {
            path: file.clone(),
            source,
        })?;
        let columns = rows.columns().into_iter().map(|name| (name.to_owned(), 0));
        let column = text_of(columns.collect(), &file)?;
        return Ok(Source::Parquet { path, column });
    }
    let keys = keys(&file)?;
    let text_key = text_of(keys, &file)?;
    Ok(Source::JsonLines {
        path,
        text_key,
        prefix_key: None,
        name_key: None,
    })
}

/// The path itself, or the first file in it that is read, of the kind that there is most of.
fn first_file(path: &Path) -> Result<PathBuf, CorpusError> {
    if !path.is_dir() {
        Regular::open(path)?;
        return Ok(path.to_owned());
    }
    let mut passed_over = Reading::default();
    let mut most: Vec<PathBuf> = Vec::new();
    for suffixes in [&[".py"][..], json_lines::SUFFIXES, &[".parquet"]] {
        let files = folder::files_of(path, suffixes, OnError::Drop, &mut passed_over)?;
        if files.len() > most.len() {
            most = files;
        }
    }
    most.into_iter().next().ok_or_else(|| {
        let none = "it holds no .py, .jsonl, .json or .parquet file";
        read_error(path, std::io::Error::other(none))
    })
}

/// The keys of the first records whose values are texts, with the bytes of these.
fn keys(file: &Path) -> Result<Vec<(String, usize)>, CorpusError> {
    let opened = Regular::open(file)?;
    let lines = compressed::open(&opened.file).map_err(|source| read_error(file, source))?;
    let mut found: Vec<(String, usize)> = Vec::new();
    for line in lines.lines().take(N_RECORDS) {
        let line = line.map_err(|source| read_error(file, source))?;
        let Ok(Value::Object(record)) = serde_json::from_str(&line) else {
            continue;
        };
        for (key, value) in record {
            let Value::String(text) = value else {
                continue;
            };
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, n_bytes)) => *n_bytes += text.len(),
                None => found.push((key, text.len())),
            }
        }
    }
    Ok(found)
}

/// A usual name, or that of the longest texts.
fn text_of(names: Vec<(String, usize)>, file: &Path) -> Result<String, CorpusError> {
    let is_there = |usual: &&&str| names.iter().any(|(name, _)| name == **usual);
    if let Some(usual) = USUAL.iter().find(is_there) {
        return Ok((*usual).to_owned());
    }
    let longest = names.into_iter().max_by_key(|(_, n_bytes)| *n_bytes);
    longest.map(|(name, _)| name).ok_or_else(|| {
        let none = "its first records hold no text";
        read_error(file, std::io::Error::other(none))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_file_is_found_by_name_or_length() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let key_of = |path: &Path| match look(path).unwrap() {
            Source::JsonLines { text_key, .. } => text_key,
            other => panic!("{other:?}"),
        };
        let usual = write(
            "a.jsonl",
            "{\"id\": \"a long, long name\", \"code\": \"x\"}\n",
        );
        assert_eq!(key_of(&usual), "code");
        let long = write(
            "b.jsonl",
            "{\"id\": \"b\", \"py\": \"x = 1\", \"n\": 3}\nno json\n",
        );
        assert_eq!(key_of(&long), "py");
        let none = write("c.jsonl", "{\"n\": 3}\n");
        assert!(look(&none).unwrap_err().to_string().contains("c.jsonl"));
        let code = dir.path().join("code");
        std::fs::create_dir(&code).unwrap();
        assert!(look(&code).is_err());
        std::fs::write(code.join("x.py"), "x = 1\n").unwrap();
        assert_eq!(look(&code).unwrap(), Source::Folder { path: code });
        assert!(look(&dir.path().join("absent")).is_err());
    }
}
