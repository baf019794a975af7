//! How long the documents of sources are, by a look at a few of them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use ra3_corpus::read::{self, Source};
use serde_json::Value;

/// Files of a source, and lines of a file, that are looked at.
const N_FILES: usize = 50;
const N_LINES: usize = 50;

/// Mean bytes of a document; `None` where nothing of the sources can be looked at so quickly.
pub(super) fn document_bytes(sources: &[Source]) -> Option<f64> {
    let lengths: Vec<f64> = sources.iter().flat_map(of_source).collect();
    let n = lengths.len();
    (n > 0).then(|| lengths.iter().sum::<f64>() / n as f64)
}

fn of_source(source: &Source) -> Vec<f64> {
    let Ok(files) = read::files(source) else {
        return Vec::new();
    };
    let step = files.len().div_ceil(N_FILES).max(1);
    let files = files.iter().step_by(step).map(|(_, file)| file.as_path());
    match source {
        Source::Folder { .. } | Source::PythonStandardLibrary { .. } => files
            .filter_map(|file| Some(file.metadata().ok()?.len() as f64))
            .collect(),
        Source::JsonLines { text_key, .. } => {
            files.flat_map(|file| of_lines(file, text_key)).collect()
        }
        Source::Parquet { .. } => Vec::new(),
    }
}

/// The texts of the first records of a file; none of one that is compressed.
fn of_lines(file: &Path, text_key: &str) -> Vec<f64> {
    let Ok(file) = File::open(file) else {
        return Vec::new();
    };
    let lines = BufReader::new(file).lines().take(N_LINES);
    let length = |line: std::io::Result<String>| {
        let record: Value = serde_json::from_str(&line.ok()?).ok()?;
        Some(record.get(text_key)?.as_str()?.len() as f64)
    };
    lines.map_while(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_as_long_as_those_that_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let lines = dir.path().join("a.jsonl");
        std::fs::write(
            &lines,
            "{\"t\": \"1234\"}\n{\"t\": \"12\", \"x\": \"no\"}\n",
        )
        .unwrap();
        let source = |path: &Path| Source::JsonLines {
            path: path.to_owned(),
            text_key: "t".to_owned(),
            prefix_key: None,
            name_key: None,
        };
        assert_eq!(document_bytes(&[source(&lines)]), Some(3.0));
        std::fs::write(dir.path().join("b.py"), "x = 1\n").unwrap();
        let folder = Source::Folder {
            path: dir.path().to_owned(),
        };
        assert_eq!(document_bytes(&[source(&lines), folder]), Some(4.0));
        assert_eq!(document_bytes(&[source(&dir.path().join("absent"))]), None);
    }
}
