//! The order of it all: judge, deduplicate, decontaminate, train the tokenizer, cut, split, write.

use std::collections::BTreeMap;
use std::path::Path;

use ra3::seed::Seed;
use rayon::prelude::*;

use crate::decontaminate::Contamination;
use crate::document::Document;
use crate::error::CorpusError;
use crate::filter::{Rejected, judge};
use crate::lines::cut;
use crate::shards::{self, Stored};
use crate::tokenizer::Tokenizer;
use crate::{dedupe, read};

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CorpusConfig {
    /// Where documents come from.
    pub sources: Vec<read::Source>,
    /// Largest document.
    pub n_bytes_max: usize,
    /// Longest document; a longer one is dropped.
    pub document_tokens_max: usize,
    /// Longest rationale that a comment may become.
    pub rationale_tokens_max: usize,
    /// Near duplicates agree at least so much.
    pub near_duplicate_similarity: f64,
    /// A run of so many words of an evaluation problem drops a document.
    pub decontaminate_n_words: usize,
    /// Share of documents that are held out.
    pub held_out_share: f64,
}

/// Counts, by source and by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorpusReport {
    /// Documents read, by source.
    pub n_read: BTreeMap<String, u64>,
    /// Documents dropped, by reason.
    pub n_dropped: BTreeMap<String, u64>,
    /// Documents kept for training.
    pub n_train: u64,
    /// Documents held out.
    pub n_held_out: u64,
    /// Lines of the training documents.
    pub n_lines: u64,
    /// Tokens of the training documents.
    pub n_tokens: u64,
    /// Bytes of the training documents.
    pub n_bytes: u64,
}

/// Reads every source and keeps what is wanted: judged, without duplicates, decontaminated.
///
/// # Errors
/// A source cannot be read.
pub fn gather(
    config: &CorpusConfig,
    evaluation_texts: &[String],
    report: &mut CorpusReport,
) -> Result<Vec<Document>, CorpusError> {
    let mut documents = Vec::new();
    for source in &config.sources {
        let reading = read::read(source)?;
        drop_many(report, Rejected::NotUtf8, reading.n_not_utf8);
        for document in reading.documents {
            *report.n_read.entry(document.source.clone()).or_default() += 1;
            documents.push(document);
        }
    }
    let contamination = Contamination::new(evaluation_texts, config.decontaminate_n_words);
    let verdicts: Vec<Result<(), Rejected>> = documents
        .par_iter()
        .map(|document| match judge(document, config.n_bytes_max) {
            Ok(()) if contamination.touches(document) => Err(Rejected::Contaminated),
            verdict => verdict,
        })
        .collect();
    let documents = keep(documents, verdicts, report);
    let verdicts = dedupe::judge_all(&documents, config.near_duplicate_similarity);
    Ok(keep(documents, verdicts, report))
}

fn keep(
    documents: Vec<Document>,
    verdicts: Vec<Result<(), Rejected>>,
    report: &mut CorpusReport,
) -> Vec<Document> {
    let mut kept = Vec::with_capacity(documents.len());
    for (document, verdict) in documents.into_iter().zip(verdicts) {
        match verdict {
            Ok(()) => kept.push(document),
            Err(reason) => drop_many(report, reason, 1),
        }
    }
    kept
}

fn drop_many(report: &mut CorpusReport, reason: Rejected, n: u64) {
    if n > 0 {
        *report
            .n_dropped
            .entry(reason.name().to_owned())
            .or_default() += n;
    }
}

/// Cuts documents, splits them by name, and writes `train/` and `held_out/` below a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn store(
    documents: &[Document],
    tokenizer: &Tokenizer,
    config: &CorpusConfig,
    folder: &Path,
    seed: Seed,
    report: &mut CorpusReport,
) -> Result<(), CorpusError> {
    let documents = pieces(documents, tokenizer, config.document_tokens_max);
    let cuts: Vec<Stored> = documents
        .par_iter()
        .map(|document| {
            let cut = cut(document, tokenizer, config.rationale_tokens_max);
            Stored {
                name: document.name.clone(),
                cut,
            }
        })
        .collect();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (stored, document) in cuts.into_iter().zip(&documents) {
        // Room for a marker before every line and a rationale before some.
        let n_tokens = stored.cut.plain.n_tokens() + stored.cut.plain.lines.len();
        if n_tokens > config.document_tokens_max {
            drop_many(report, Rejected::TooManyTokens, 1);
        } else if seed.child("split").child(file_of(&stored.name)).uniform() < config.held_out_share
        {
            held_out.push(stored);
        } else {
            report.n_lines += stored.cut.plain.lines.len() as u64;
            report.n_tokens += stored.cut.plain.n_tokens() as u64;
            report.n_bytes += (document.prefix.len() + document.text.len()) as u64;
            train.push(stored);
        }
    }
    report.n_train = train.len() as u64;
    report.n_held_out = held_out.len() as u64;
    shards::write(&folder.join("train"), &train)?;
    shards::write(&folder.join("held_out"), &held_out)
}

/// Cuts files that are too long between top-level statements; pieces of a file are named
/// `file#1`, `file#2` and stay on one side of the split.
fn pieces(documents: &[Document], tokenizer: &Tokenizer, n_tokens_max: usize) -> Vec<Document> {
    let cut = |document: &Document| -> Vec<Document> {
        // A token has at least one byte, so most documents need no counting.
        if document.text.len() < n_tokens_max / 2 || !document.prefix.is_empty() {
            return vec![document.clone()];
        }
        let mut pieces: Vec<(usize, String)> = vec![(0, String::new())];
        for statement in statements(&document.text) {
            let lines = tokenizer.encode_lines(&statement);
            // Begin and end marker, and a decision before each line.
            let n_tokens = lines.iter().map(|line| line.len() + 1).sum::<usize>();
            let last = pieces.last_mut().expect("there is always a piece");
            if last.0 > 0 && last.0 + n_tokens + 2 > n_tokens_max {
                pieces.push((n_tokens, statement));
            } else {
                last.0 += n_tokens;
                last.1 += &statement;
            }
        }
        let named = |(index, (_, text)): (usize, (usize, String))| Document {
            name: format!("{}#{}", document.name, index + 1),
            text,
            ..document.clone()
        };
        pieces.into_iter().enumerate().map(named).collect()
    };
    documents.par_iter().flat_map_iter(cut).collect()
}

/// The text cut before every line that begins a top-level statement.
fn statements(text: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        let begins = line.starts_with(|c: char| c.is_alphabetic() || c == '@' || c == '_');
        let after_decorator = statements
            .last()
            .is_some_and(|last| last.lines().last().is_some_and(is_decorator));
        match statements.last_mut() {
            Some(last) if !begins || after_decorator => last.push_str(line),
            _ => statements.push(line.to_owned()),
        }
    }
    statements
}

fn is_decorator(line: &str) -> bool {
    line.starts_with('@')
}

/// The file that a piece was cut from.
fn file_of(name: &str) -> &str {
    name.split_once('#').map_or(name, |(file, _)| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_statements_and_lose_nothing() {
        let text = "import a\n@b\ndef f():\n    x = 1\n\n    return x\n\nclass C:\n    y = 2\n";
        assert_eq!(statements(text).concat(), text);
        assert_eq!(statements(text).len(), 3);
        let document = Document {
            name: "f.py".to_owned(),
            source: String::new(),
            prefix: String::new(),
            text: text.repeat(20),
        };
        let tokenizer = Tokenizer::train(&[text.to_owned()], 300).unwrap();
        let cut = pieces(std::slice::from_ref(&document), &tokenizer, 100);
        assert!(cut.len() > 5);
        assert_eq!(
            cut.iter()
                .map(|piece| piece.text.as_str())
                .collect::<String>(),
            document.text
        );
        assert!(cut.iter().all(|piece| file_of(&piece.name) == "f.py"));
        assert!(
            cut.iter()
                .all(|piece| tokenizer.encode(&piece.text).len() <= 100)
        );
    }
}
