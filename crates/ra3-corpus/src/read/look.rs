//! A first look at files that a user names: what kind of source they are, and the names of their
//! texts.

use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use super::regular::Regular;
use super::{OnError, Reading, Source, compressed, folder, json_lines, parquet, read_error};
use crate::error::CorpusError;

/// Records of a file that are looked at.
const N_RECORDS: usize = 100;
/// Names that data sets of code give their texts, the likeliest first.
const USUAL: [&str; 6] = ["content", "text", "code", "source", "solution", "body"];

/// The kinds of files that are told from each other, by how their names end.
const KINDS: [&[&str]; 3] = [folder::SUFFIXES, json_lines::SUFFIXES, parquet::SUFFIXES];

/// Guesses what kind of source a path is, and where its text stands: of a folder with files of
/// several kinds each that holds text.
///
/// # Errors
/// The path is missing or holds nothing that is read, or no key or column holds text.
pub fn look(path: &Path) -> Result<Vec<Source>, CorpusError> {
    if !path.is_dir() {
        Regular::open(path)?;
        if ends(path, folder::SUFFIXES) {
            let one = "one Python file is no corpus: name the folder that it is in";
            return Err(read_error(path, std::io::Error::other(one)));
        }
        return Ok(vec![look_at(path, path)?]);
    }
    let mut passed_over = Reading::new(OnError::Drop);
    let (mut found, mut first_error) = (Vec::new(), None);
    for suffixes in KINDS {
        let files = folder::files_of(path, suffixes, &mut passed_over)?;
        match files.first().map(|first| look_at(path, first)) {
            Some(Ok(source)) => found.push(source),
            Some(Err(error)) => first_error = first_error.or(Some(error)),
            None => {}
        }
    }
    if found.is_empty() {
        let none = "it holds no .py, .jsonl, .json or .parquet file";
        let none = || read_error(path, std::io::Error::other(none));
        return Err(first_error.unwrap_or_else(none));
    }
    Ok(found)
}

fn ends(file: &Path, suffixes: &[&str]) -> bool {
    let name = file.to_string_lossy();
    suffixes.iter().any(|suffix| name.ends_with(suffix))
}

/// The source at a path, of the kind of one of its files.
fn look_at(path: &Path, file: &Path) -> Result<Source, CorpusError> {
    let path = path.to_owned();
    if ends(file, folder::SUFFIXES) {
        return Ok(Source::Folder { path });
    }
    if ends(file, parquet::SUFFIXES) {
        let opened = Regular::open(file)?.file;
        let rows = ra3_parquet::Rows::open(opened)
            .map_err(|source| CorpusError::Parquet(file.to_owned(), source))?;
        let columns = rows.columns().into_iter().map(|name| (name.to_owned(), 0));
        let column = text_of(columns.collect(), file)?;
        return Ok(Source::Parquet { path, column });
    }
    let text_key = text_of(keys(file)?, file)?;
    Ok(Source::JsonLines {
        path,
        text_key,
        prefix_key: None,
        name_key: None,
    })
}

/// The keys of the first records whose values are texts, with the bytes of these.
fn keys(file: &Path) -> Result<Vec<(String, usize)>, CorpusError> {
    let opened = Regular::open(file)?;
    let lines = compressed::open(&opened.file).map_err(|source| read_error(file, source))?;
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut n_records = 0;
    for line in lines.lines().take(N_RECORDS) {
        let line = line.map_err(|source| read_error(file, source))?;
        let Ok(Value::Object(record)) = serde_json::from_str(&line) else {
            continue;
        };
        n_records += 1;
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
    if n_records == 0 {
        let none = "none of its first lines is a JSON object: what is read are .jsonl, .json and \
                    .parquet files, and folders of them or of .py files";
        return Err(read_error(file, std::io::Error::other(none)));
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
        let key_of = |path: &Path| match &look(path).unwrap()[..] {
            [Source::JsonLines { text_key, .. }] => text_key.clone(),
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
        let path = code.clone();
        assert_eq!(look(&code).unwrap(), [Source::Folder { path }]);
        let one = look(&code.join("x.py")).unwrap_err();
        assert!(format!("{one:?}").contains("name the folder"), "{one:?}");
        // A file of settings is no source beside others; one of texts is.
        std::fs::write(code.join("package.json"), "{\n\"name\": \"x\"\n}\n").unwrap();
        assert_eq!(look(&code).unwrap().len(), 1);
        std::fs::write(code.join("a.jsonl"), "{\"text\": \"x = 1\"}\n").unwrap();
        assert_eq!(look(&code).unwrap().len(), 2);
        for (name, text) in [("empty.jsonl", ""), ("words.txt", "no json\n")] {
            let error = look(&write(name, text)).unwrap_err();
            assert!(format!("{error:?}").contains("JSON object"), "{error:?}");
        }
        assert!(look(&dir.path().join("absent")).is_err());
    }
}
