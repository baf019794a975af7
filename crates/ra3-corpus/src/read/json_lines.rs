//! JSON lines, plain or compressed: one record a line, the text under a key.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::folder::files_below;
use super::{OnError, Reading, document, place_name, read_error};
use crate::document::Document;
use crate::error::CorpusError;
use crate::filter::Rejected;

const SUFFIXES: &[&str] = &[
    ".jsonl",
    ".json",
    ".jsonl.gz",
    ".json.gz",
    ".jsonl.zst",
    ".json.zst",
];

/// Where a record keeps what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    pub(super) text: &'a str,
    pub(super) prefix: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

pub(super) fn read_all(
    root: &Path,
    keys: &Keys<'_>,
    on_error: OnError,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    if !root.is_dir() {
        return read_one(root, root, keys, on_error, reading);
    }
    for path in files_below(root, SUFFIXES, &[])? {
        read_one(root, &path, keys, on_error, reading)?;
    }
    Ok(())
}

fn read_one(
    root: &Path,
    path: &Path,
    keys: &Keys<'_>,
    on_error: OnError,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    for (index, line) in open(path)?.split(b'\n').enumerate() {
        let line = match line {
            Ok(line) => line,
            Err(source) => {
                // A damaged stream has no next line.
                let place = format!("line {}", index + 1);
                let error = record_error(path, &place, format!("cannot be read: {source}"));
                return reading.fail(error, on_error);
            }
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(line) = std::str::from_utf8(&line) else {
            reading.drop_one(Rejected::NotUtf8);
            continue;
        };
        match record(line, keys, || place_name(root, path, index)) {
            Ok(document) => reading.documents.push(document),
            Err(reason) => {
                let place = format!("line {}", index + 1);
                reading.fail(record_error(path, &place, reason), on_error)?;
            }
        }
    }
    Ok(())
}

fn record(line: &str, keys: &Keys<'_>, place: impl Fn() -> String) -> Result<Document, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text_at = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("there is no text under the key {key:?}"))
    };
    let name = match keys.name {
        None => place(),
        // Ids are often numbers.
        Some(key) => match value.get(key) {
            Some(Value::String(name)) => name.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(format!("there is no name under the key {key:?}")),
        },
    };
    let prefix = keys.prefix.map(text_at).transpose()?.unwrap_or_default();
    Ok(document(
        name,
        prefix.to_owned(),
        text_at(keys.text)?.to_owned(),
    ))
}

/// Opens a file, decompressing by its suffix.
fn open(path: &Path) -> Result<BufReader<Box<dyn Read>>, CorpusError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let reader: Box<dyn Read> = match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        Some("zst") => {
            Box::new(zstd::Decoder::new(file).map_err(|source| read_error(path, source))?)
        }
        _ => Box::new(file),
    };
    Ok(BufReader::new(reader))
}

fn record_error(path: &Path, place: &str, reason: String) -> CorpusError {
    CorpusError::Record {
        path: path.to_owned(),
        place: place.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::read::{Source, read};

    const LINES: &str = "{\"id\": 7, \"prompt\": \"def f():\\n\", \"code\": \"    pass\\n\"}\n\n\
                         {\"id\": \"b\", \"prompt\": \"\", \"code\": \"é = 1\\n\"}\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn source(path: &Path, named: bool) -> Source {
        Source::JsonLines {
            path: path.to_owned(),
            text_key: "code".to_owned(),
            prefix_key: named.then(|| "prompt".to_owned()),
            name_key: named.then(|| "id".to_owned()),
        }
    }

    #[test]
    fn plain_and_compressed_files_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        // Two gzip members in a row are one stream, as `cat a.gz b.gz` makes them.
        let (first, second) = LINES.as_bytes().split_at(20);
        let files = [
            ("a.jsonl", LINES.as_bytes().to_vec()),
            ("b.jsonl.gz", [gzip(first), gzip(second)].concat()),
            ("c.json.zst", zstd::encode_all(LINES.as_bytes(), 1).unwrap()),
        ];
        for (name, bytes) in &files {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let documents = read(&source(&path, true), OnError::Stop).unwrap().documents;
            let parts: Vec<_> = documents
                .iter()
                .map(|d| (d.name.as_str(), d.prefix.as_str(), d.text.as_str()))
                .collect();
            assert_eq!(
                parts,
                [("7", "def f():\n", "    pass\n"), ("b", "", "é = 1\n")],
                "{name}"
            );
        }
        let all = read(&source(dir.path(), false), OnError::Stop).unwrap();
        let names: Vec<&str> = all.documents.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a.jsonl:1",
                "a.jsonl:3",
                "b.jsonl.gz:1",
                "b.jsonl.gz:3",
                "c.json.zst:1",
                "c.json.zst:3"
            ]
        );
    }

    #[test]
    fn a_bad_record_is_named_or_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let cases: [(&[u8], &str); 4] = [
            (b"{\"code\": 3}", "key \"code\""),
            (b"{\"text\": \"x\"}", "key \"code\""),
            (b"{\"code\"", "EOF"),
            (b"[]", "key \"code\""),
        ];
        for (line, reason) in cases {
            let bytes = [b"{\"code\": \"x\"}\n", line, b"\n{\"code\": \"y\"}\n"].concat();
            std::fs::write(&path, bytes).unwrap();
            let error = read(&source(&path, false), OnError::Stop).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("a.jsonl, line 2") && message.contains(reason),
                "{message}"
            );
            let reading = read(&source(&path, false), OnError::Drop).unwrap();
            assert_eq!(reading.documents.len(), 2);
            assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        }
        std::fs::write(&path, b"{\"code\": \"\xff\"}\n{\"code\": \"y\"}\n").unwrap();
        let reading = read(&source(&path, false), OnError::Stop).unwrap();
        assert_eq!(reading.documents.len(), 1);
        assert_eq!(reading.n_dropped[&Rejected::NotUtf8], 1);
    }

    #[test]
    fn a_stream_that_is_cut_short_is_no_shorter_file() {
        let dir = tempfile::tempdir().unwrap();
        let lines = LINES.repeat(200);
        let files = [
            ("a.jsonl.gz", gzip(lines.as_bytes())),
            (
                "a.jsonl.zst",
                zstd::encode_all(lines.as_bytes(), 1).unwrap(),
            ),
        ];
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let error = read(&source(&path, false), OnError::Stop).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            let reading = read(&source(&path, false), OnError::Drop).unwrap();
            assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        }
    }
}
