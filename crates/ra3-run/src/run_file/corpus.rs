//! Sections of the run file: where documents come from and how they are cut.

use std::path::PathBuf;

use ra3_corpus::read::{OnError, Source};
use serde::{Deserialize, Serialize};

/// The documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusSection {
    /// Share of the documents that are held out, by file.
    pub held_out_share: f64,
    /// A document shares this many consecutive words with an evaluation problem: it is dropped.
    pub decontaminate_n_words: usize,
    /// Documents are near duplicates from this Jaccard similarity on.
    pub near_duplicate_similarity: f64,
    /// Longest document in bytes.
    pub n_bytes_max: usize,
    /// Longest rationale that a comment may become, in tokens.
    pub rationale_tokens_max: usize,
    /// Longest document in tokens; a longer one is dropped.
    pub document_tokens_max: usize,
    /// What becomes of a file or record that cannot be read.
    pub on_unreadable: OnError,
    /// Python source from elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The generated programs.
    pub testbed: Option<TestbedSection>,
}

/// The generated programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestbedSection {
    /// Training documents.
    pub n_documents: usize,
    /// Share of the training documents that carry comments.
    pub comment_share: f64,
    /// Problems for RLVR.
    pub n_train_problems: usize,
    /// Problems for evaluation, of compositions that no document contains.
    pub n_held_out_problems: usize,
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSection {
    /// Trained on the corpus.
    Train {
        /// Size of the vocabulary, markers included.
        n_vocabulary: usize,
    },
    /// A `tokenizer.json`; the markers are added where they are missing.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The one of the base checkpoint.
    Base {},
}
