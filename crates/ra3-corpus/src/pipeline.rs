//! The order of it all: judge, deduplicate, decontaminate, train the tokenizer, cut, split, write.

use std::collections::BTreeMap;
use std::path::Path;

use ra3::seed::Seed;
use ra3::trajectory::Latent;
use rayon::prelude::*;

use crate::decontaminate::Contamination;
use crate::document::Document;
use crate::error::CorpusError;
use crate::filter::{Filters, Rejected, judge};
use crate::lines::{Cut, cut};
use crate::pieces::{LongStatements, file_of, pieces};
use crate::shards::{self, Stored};
use crate::{dedupe, read};
use ra3_text::tokenizer::Tokenizer;

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CorpusConfig {
    /// Where documents come from.
    pub sources: Vec<read::Source>,
    /// What becomes of a file or record that cannot be read.
    pub on_error: read::OnError,
    /// What a document must be like.
    pub filters: Filters,
    /// Longest document; a longer one is dropped.
    pub document_tokens_max: usize,
    /// What becomes of a class or a function that is longer.
    pub long_statements: LongStatements,
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
    /// Documents, and pieces of long ones, that were dropped, by reason.
    pub n_dropped: BTreeMap<String, u64>,
    /// Bytes of the documents read.
    pub n_bytes_read: u64,
    /// Bytes of what was dropped after it was read.
    pub n_bytes_dropped: u64,
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

impl CorpusReport {
    /// Counts a document that was read.
    pub fn read(&mut self, document: &Document) {
        *self.n_read.entry(document.source.clone()).or_default() += 1;
        self.n_bytes_read += document.n_bytes();
    }

    fn drop(&mut self, reason: Rejected, n: u64, n_bytes: u64) {
        if n > 0 {
            let name = reason.name().to_owned();
            *self.n_dropped.entry(name).or_default() += n;
            self.n_bytes_dropped += n_bytes;
        }
    }
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
        let reading = read::read(source, config.on_error)?;
        // A source that gave nothing is counted with nothing.
        report.n_read.entry(source.name().to_owned()).or_default();
        for (reason, n) in reading.n_dropped {
            report.drop(reason, n, 0);
        }
        for document in reading.documents {
            report.read(&document);
            documents.push(document);
        }
    }
    let contamination = Contamination::new(evaluation_texts, config.decontaminate_n_words);
    let verdicts: Vec<Result<(), Rejected>> = documents
        .par_iter()
        .map(|document| match judge(document, &config.filters) {
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
            Err(reason) => report.drop(reason, 1, document.n_bytes()),
        }
    }
    kept
}

/// Documents that are cut, on the two sides of the split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Vec<Stored>,
    /// To measure on.
    pub held_out: Vec<Stored>,
}

impl Split {
    /// Writes `train/` and `held_out/` below a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), CorpusError> {
        shards::write(&folder.join("train"), &self.train)?;
        shards::write(&folder.join("held_out"), &self.held_out)
    }
}

/// Cuts documents and splits them by name.
pub fn split(
    documents: &[Document],
    tokenizer: &Tokenizer,
    config: &CorpusConfig,
    seed: Seed,
    report: &mut CorpusReport,
) -> Split {
    let documents = pieces(
        documents,
        tokenizer,
        config.document_tokens_max,
        config.long_statements,
    );
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
    let mut split = Split::default();
    for (stored, document) in cuts.into_iter().zip(&documents) {
        let n_tokens = n_tokens_written(&stored.cut);
        if n_tokens > config.document_tokens_max {
            report.drop(Rejected::TooManyTokens, 1, document.text.len() as u64);
        } else if seed.child("split").child(file_of(&stored.name)).uniform() < config.held_out_share
        {
            split.held_out.push(stored);
        } else {
            report.n_lines += stored.cut.plain.lines.len() as u64;
            report.n_tokens += stored.cut.plain.n_tokens() as u64;
            report.n_bytes += document.n_bytes();
            split.train.push(stored);
        }
    }
    report.n_train = split.train.len() as u64;
    report.n_held_out = split.held_out.len() as u64;
    split
}

/// Tokens of the longer of the two views as they are written: with a marker before every line, and
/// with the document's own rationales.
fn n_tokens_written(cut: &Cut) -> usize {
    let plain = cut.plain.n_tokens() + cut.plain.lines.len();
    let latents = cut.annotated.latents.iter().flatten();
    let n_latent_tokens: usize = latents.map(Latent::n_tokens).sum();
    plain.max(cut.annotated.trajectory.n_tokens() + n_latent_tokens)
}

#[cfg(test)]
mod tests {
    use ra3::interleave::{TokenWeights, interleave};

    use super::*;

    #[test]
    fn a_document_is_measured_with_its_own_rationales() {
        // A comment that is one token as a line, and many as a rationale.
        let text = "#abcdefghij\nx = 1\n".repeat(20);
        let tokenizer = Tokenizer::train(std::slice::from_ref(&text), 300).unwrap();
        let document = Document {
            name: "f.py".to_owned(),
            text,
            ..Document::default()
        };
        let cut = cut(&document, &tokenizer, 100);
        let markers = tokenizer.markers();
        let weights = TokenWeights {
            prefix: 1.0,
            line: 1.0,
            decision: 1.0,
            rationale: 1.0,
        };
        let trained_on = interleave(&cut.annotated, &markers, weights).tokens.len();
        assert!(trained_on > cut.plain.n_tokens() + cut.plain.lines.len());
        assert_eq!(n_tokens_written(&cut), trained_on);
        let kept = |document_tokens_max| {
            let config = CorpusConfig {
                sources: Vec::new(),
                on_error: read::OnError::Stop,
                filters: Filters::standard(1 << 20),
                document_tokens_max,
                long_statements: LongStatements::Drop,
                rationale_tokens_max: 100,
                near_duplicate_similarity: 1.0,
                decontaminate_n_words: 10,
                held_out_share: 0.0,
            };
            // Behind a prefix, so that it is not cut.
            let document = Document {
                prefix: "y = 2\n".to_owned(),
                ..document.clone()
            };
            let mut report = CorpusReport::default();
            let seed = Seed::root(0);
            split(&[document], &tokenizer, &config, seed, &mut report);
            (report.n_train, report.n_dropped.values().sum::<u64>())
        };
        let n_prefix = tokenizer.encode_prompt("y = 2\n").len() - tokenizer.encode_prompt("").len();
        assert_eq!(kept(trained_on + n_prefix), (1, 0));
        assert_eq!(kept(trained_on + n_prefix - 1), (0, 1));
    }
}
