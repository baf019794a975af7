//! What a reader of the report wants to look at: annotated documents and sampled programs.
//!
//! Both are JSON lines in `samples.jsonl`, written and cut back together with the ledger.

use serde::{Deserialize, Serialize};

/// One line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sample", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sample {
    /// A held-out document with its latents.
    Document(DocumentSample),
    /// A sampled program with its verdict.
    Program(ProgramSample),
}

/// A held-out document as one arm annotates it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentSample {
    /// The arm whose latents these are.
    pub arm: String,
    /// Name of the document.
    pub name: String,
    /// The text before the first line.
    pub prefix: String,
    /// The lines in order.
    pub lines: Vec<AnnotatedLine>,
}

/// A line with its decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnotatedLine {
    /// The line's text.
    pub text: String,
    /// The new rationale, if the decision was to think.
    pub rationale: Option<String>,
    /// `log π(line)` in nats under the latent in force.
    #[serde(with = "crate::number")]
    pub logprob: f64,
    /// `log π(line)` with `<act>` in place of this line's decision; the same where it is `<act>`.
    #[serde(with = "crate::number")]
    pub logprob_act: f64,
    /// `q(think)` at this line.
    #[serde(with = "crate::number")]
    pub think_probability: f64,
}

/// A sampled program with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSample {
    /// The arm that wrote it.
    pub arm: String,
    /// Updates of the arm's stage before it was written.
    pub position: u64,
    /// The problem's id.
    pub task_id: String,
    /// The problem's family.
    pub family: String,
    /// The problem's prompt.
    pub prompt: String,
    /// What the model wrote, markers and rationales included.
    pub raw: String,
    /// The program that ran, without the prompt.
    pub completion: String,
    /// Name of the verdict.
    pub verdict: String,
    /// What went wrong, for a reader.
    pub detail: String,
}
