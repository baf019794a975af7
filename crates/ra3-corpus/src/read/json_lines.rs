//! JSON: one record a line, or a list of records; plain or compressed.

use std::io::{BufRead, Read};
use std::path::Path;

use super::folder::files_of;
use super::record::{elements, record};
use super::regular::Regular;
use super::{Reading, compressed, not_utf8, place_name, read_error, without_bom};
use crate::error::CorpusError;

pub(super) const SUFFIXES: &[&str] = &[
    ".jsonl",
    ".json",
    ".jsonl.gz",
    ".json.gz",
    ".jsonl.zst",
    ".json.zst",
];
const BOM: &[u8] = "\u{feff}".as_bytes();

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
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let files = files_of(root, SUFFIXES, reading)?;
    reading.each(&files, |path, reading| read_one(root, path, keys, reading))
}

fn read_one(
    root: &Path,
    path: &Path,
    keys: &Keys<'_>,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let regular = Regular::open(path)?;
    if regular.is_empty() {
        return Ok(());
    }
    let fail = |source| read_error(path, source);
    let mut bytes = compressed::open(&regular.file).map_err(fail)?;
    // What stands before the first record decides; a damaged stream shows when it is read.
    let start = bytes.fill_buf().unwrap_or_default();
    let start = start.strip_prefix(BOM).unwrap_or(start);
    let is_list = start.trim_ascii_start().starts_with(b"[");
    let take = |record_text: &[u8], place: &str, index, reading: &mut Reading| {
        let Ok(text) = std::str::from_utf8(record_text) else {
            return reading.fail(not_utf8(path, place, record_text));
        };
        match record(text, keys, || place_name(root, path, index)) {
            Ok(document) => {
                reading.documents.push(document);
                Ok(())
            }
            Err(reason) => reading.fail(record_error(path, place, reason)),
        }
    };
    if is_list {
        let mut whole = Vec::new();
        bytes.read_to_end(&mut whole).map_err(fail)?;
        let text = std::str::from_utf8(&whole).map_err(|_| not_utf8(path, "list", &whole))?;
        for (index, element) in elements(without_bom(text)).into_iter().enumerate() {
            let place = format!("record {}", index + 1);
            match element {
                Ok(element) => take(element.as_bytes(), &place, index, reading)?,
                Err(reason) => reading.fail(record_error(path, &place, reason))?,
            }
        }
    } else {
        for (index, line) in bytes.split(b'\n').enumerate() {
            let place = format!("line {}", index + 1);
            let line = match line {
                Ok(line) => line,
                Err(source) => {
                    // A damaged stream has no next line.
                    let reason = format!("cannot be read: {source}");
                    return Err(record_error(path, &place, reason));
                }
            };
            if line
                .strip_prefix(BOM)
                .unwrap_or(&line)
                .trim_ascii()
                .is_empty()
            {
                continue;
            }
            take(&line, &place, index, reading)?;
        }
    }
    regular.check()
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
    use crate::filter::Rejected;
    use crate::read::{OnError, Source, read};

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
        let cases: [(&[u8], &str); 5] = [
            (b"{\"code\": 3}", "key \"code\""),
            (b"{\"text\": \"x\"}", "key \"code\""),
            (b"{\"code\"", "a record ends with its line"),
            (b"[]", "expected a record"),
            (b"{\"code\": NaN}", "key \"code\""),
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
        let reading = read(&source(&path, false), OnError::Drop).unwrap();
        assert_eq!(reading.documents.len(), 1);
        assert_eq!(reading.n_dropped[&Rejected::NotUtf8], 1);
        let error = read(&source(&path, false), OnError::Stop).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("a.jsonl, line 1: not UTF-8"), "{message}");
    }

    /// The texts of a file with these bytes.
    fn texts_of(name: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let reading = read(&source(&path, false), OnError::Stop);
        let reading = reading.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })?;
        Ok(reading.documents.into_iter().map(|d| d.text).collect())
    }

    #[test]
    fn marks_are_no_part_of_a_text() {
        let line = "\u{feff}{\"code\": \"\u{feff}x\"}\n";
        assert_eq!(
            texts_of("a.jsonl", line.repeat(2).as_bytes()).unwrap(),
            ["x", "x"]
        );
        assert_eq!(
            texts_of("a.jsonl", "\u{feff}\n".as_bytes()).unwrap(),
            [""; 0]
        );
        let wide: Vec<u8> = "\u{feff}{}\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let error = texts_of("a.jsonl", &wide).unwrap_err();
        assert!(error.contains("UTF-16"), "{error}");
    }

    #[test]
    fn a_list_of_records_is_read_as_its_records() {
        let list = "\u{feff} [\n {\"code\": \"a[,]\"},\n\n{\"x\": NaN, \"code\": \"b\"}]\n";
        for bytes in [list.as_bytes().to_vec(), gzip(list.as_bytes())] {
            assert_eq!(texts_of("a.json", &bytes).unwrap(), ["a[,]", "b"]);
        }
        assert_eq!(texts_of("a.json", b"[]").unwrap(), [""; 0]);
        let cases = [
            (
                "[{\"code\": \"x\"}, {\"no\": 1}]",
                "record 2: there is no text",
            ),
            (
                "[{\"code\": \"x\"}, {\"co",
                "record 2: the list does not end",
            ),
            ("[{\"code\": \"x\"}]{}", "behind the end"),
            ("[{\"code\": \"x\"},]", "record 2"),
        ];
        for (list, reason) in cases {
            let error = texts_of("a.json", list.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_bytes_say_how_a_file_is_compressed() {
        let plain = b"{\"code\": \"x\"}\n";
        let long = {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(30).unwrap();
            encoder.long_distance_matching(true).unwrap();
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        };
        let frames = [
            b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec(),
            zstd::encode_all(&plain[..], 1).unwrap(),
        ];
        let files = [
            ("plain.jsonl.gz", plain.to_vec()),
            ("hidden.jsonl", gzip(plain)),
            ("padded.jsonl.gz", [gzip(plain), vec![0; 1 << 17]].concat()),
            ("long.jsonl.zst", long),
            ("frames.jsonl.zst", frames.concat()),
        ];
        for (name, bytes) in files {
            assert_eq!(texts_of(name, &bytes).unwrap(), ["x"], "{name}");
        }
        for name in ["empty.jsonl", "empty.jsonl.gz", "empty.jsonl.zst"] {
            assert_eq!(texts_of(name, b"").unwrap(), [""; 0], "{name}");
        }
        let wrong = [
            (
                [gzip(plain), b"garbage".to_vec()].concat(),
                "behind the end",
            ),
            (
                [frames[1].clone(), b"garbage".to_vec()].concat(),
                "cannot be read",
            ),
            (b"BZh91AY".to_vec(), "bzip2 is not read"),
            (b"PK\x03\x04".to_vec(), "zip is not read"),
        ];
        for (bytes, reason) in wrong {
            let error = texts_of("a.jsonl", &bytes).unwrap_err();
            assert!(
                error.contains(reason) && error.contains("a.jsonl"),
                "{error}"
            );
        }
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
