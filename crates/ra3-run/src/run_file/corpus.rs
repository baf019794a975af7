//! Sections of the run file: where documents come from and how they are cut.

use std::path::PathBuf;

use ra3_corpus::pieces::LongStatements;
use ra3_corpus::read::{OnError, Source};
use ra3_testbed::Form;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The documents.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusSection {
    /// Root of the draws that make the corpus and divide problems: runs of several seeds have one
    /// corpus and are scored on the same problems.
    pub seed: u64,
    /// Share of the documents that are held out, by file; at 0 nothing is measured on documents.
    pub held_out_share: f64,
    /// A document that shares so many consecutive words with an evaluation problem is dropped.
    pub decontaminate_n_words: usize,
    /// Documents are near duplicates from this Jaccard similarity on; 1 drops only those that
    /// agree in every run of words.
    pub near_duplicate_similarity: f64,
    /// Longest document; a longer one is dropped.
    pub n_bytes_max: usize,
    /// Longest rationale that a comment may become; at most the context less 2.
    pub rationale_tokens_max: usize,
    /// Longest document, a decision before each line included; a longer file is cut between
    /// statements, and what is still longer is dropped. At most the context.
    pub document_tokens_max: usize,
    /// What becomes of a class or a function that is longer than a document.
    pub long_statements: LongStatements,
    /// What becomes of a file or record that cannot be read. (Files that an installation's
    /// standard library links to from elsewhere are dropped in either case.)
    pub on_unreadable: OnError,
    /// Python source from elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The generated programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testbed: Option<TestbedSection>,
}

impl Default for CorpusSection {
    fn default() -> Self {
        Self {
            seed: 1,
            held_out_share: 0.05,
            decontaminate_n_words: 24,
            near_duplicate_similarity: 0.95,
            n_bytes_max: 100_000,
            rationale_tokens_max: 48,
            document_tokens_max: 512,
            long_statements: LongStatements::Cut,
            on_unreadable: OnError::Stop,
            sources: Vec::new(),
            testbed: None,
        }
    }
}

impl CorpusSection {
    /// Generated documents.
    pub(crate) fn n_generated(&self) -> usize {
        self.testbed
            .as_ref()
            .map_or(0, |testbed| testbed.n_documents)
    }

    /// True if there is something to train on.
    pub(crate) fn has_documents(&self) -> bool {
        !self.sources.is_empty() || self.n_generated() > 0
    }

    /// Generated problems of these forms that no document is like.
    pub(crate) fn n_held_out_problems(&self, forms: &[Form]) -> usize {
        let testbed = self.testbed.as_ref();
        testbed.map_or(0, |testbed| {
            testbed.n_of(testbed.n_held_out_problems, forms)
        })
    }

    /// Generated problems of these forms for RLVR.
    pub(crate) fn n_train_problems(&self, forms: &[Form]) -> usize {
        let testbed = self.testbed.as_ref();
        testbed.map_or(0, |testbed| testbed.n_of(testbed.n_train_problems, forms))
    }
}

/// The generated programs.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestbedSection {
    /// Training documents; 0 generates problems only.
    pub n_documents: usize,
    /// Share of the training documents that carry comments.
    pub comment_share: f64,
    /// Share of their rationales that are another program's, as comments are that were left behind
    /// when the code changed.
    pub stale_comment_share: f64,
    /// Share of the others that say nothing of the line below them.
    pub vague_comment_share: f64,
    /// Share of documents and problems in MBPP's form, a text with an assert and a whole function;
    /// the others are in HumanEval's, a signature with a docstring and its body.
    pub mbpp_share: f64,
    /// Problems for RLVR; it needs 1 or more where it takes the testbed's.
    pub n_train_problems: usize,
    /// Problems for evaluation, of compositions that no document contains; `evaluate` needs 1 or
    /// more where it takes the testbed's.
    pub n_held_out_problems: usize,
}

impl TestbedSection {
    /// How many of `n` problems have one of these forms.
    fn n_of(&self, n: usize, forms: &[Form]) -> usize {
        let n_of = |form: &Form| form.n_of(n, self.mbpp_share);
        forms.iter().map(n_of).sum()
    }
}

impl Default for TestbedSection {
    fn default() -> Self {
        Self {
            n_documents: 12_000,
            comment_share: 0.5,
            stale_comment_share: 0.0,
            vague_comment_share: 0.0,
            mbpp_share: 0.5,
            n_train_problems: 400,
            n_held_out_problems: 200,
        }
    }
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSection {
    /// Trained on the corpus.
    Train {
        /// Size of the vocabulary: 256 bytes, the end of text, three markers, and merges until
        /// the corpus has no more.
        n_vocabulary: usize,
    },
    /// A `tokenizer.json`; the markers are added where they are missing.
    File {
        /// A `tokenizer.json`.
        path: PathBuf,
    },
    /// The one of the base checkpoint.
    Base {},
}

impl Default for TokenizerSection {
    fn default() -> Self {
        Self::Base {}
    }
}
