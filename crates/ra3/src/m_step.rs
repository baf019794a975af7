//! The M-step: next-token prediction on documents with latents (docs/algorithm.md, "M-step"). The
//! cold start is the same step on the corpus' own comments.
//!
//! ```text
//! minimise − Σ_i w_i log p(x_i | x_<i) / Σ_i w_i,   x = s_0, z_0, a_0, z_1, a_1, …
//! ```
//!
//! over the tokens of a batch. `w` is a setting for each kind of token, times the share of a draw
//! among the draws of its document. Markers are learnt over the whole vocabulary, so that the model
//! writes them wherever it is sampled. Where the latents come from: [`crate::annotate`].

use crate::interleave::{TokenWeights, normalise};
use crate::policy::{Example, Objective, Policy, PolicyError, UpdateStats};
use crate::trace::Trace;
use crate::trajectory::{Annotated, Markers};

/// A document with the draws of its latents that are learnt from.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AnnotatedDocument {
    /// The draws; their shares sum to 1. They are learnt from together, in one update: a share says
    /// what a draw counts beside the others of its document.
    pub draws: Vec<Draw>,
    /// Corpus tokens that it stands for: see [`crate::trajectory::Document`].
    pub n_corpus_tokens: u64,
}

/// A draw of a document's latents.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Draw {
    /// The document with these latents.
    pub annotated: Annotated,
    /// Its share in its document's loss: 1 where it is alone, else its importance weight.
    pub share: f32,
}

impl AnnotatedDocument {
    /// A document with one draw of its latents.
    pub fn single(annotated: Annotated, n_corpus_tokens: u64) -> Self {
        let share = 1.0;
        Self {
            draws: vec![Draw { annotated, share }],
            n_corpus_tokens,
        }
    }
}

/// One update: the loss is the weighted mean of `− log p` over the interleaved sequences. Of the
/// documents of `for_lines` the latents are read and not learnt.
///
/// # Errors
/// As [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    learnt: &[AnnotatedDocument],
    for_lines: &[AnnotatedDocument],
    markers: &Markers,
    weights: TokenWeights,
    learning_rate: f32,
) -> Result<UpdateStats, PolicyError> {
    let lines_only = TokenWeights {
        decision: 0.0,
        rationale: 0.0,
        ..weights
    };
    let mut batch = examples(learnt, markers, weights);
    batch.extend(examples(for_lines, markers, lines_only));
    normalise(&mut batch);
    policy.update(&batch, Objective::likelihood(learning_rate))
}

/// The draws of some documents, each token with the weight of its part and its draw's share.
fn examples(
    documents: &[AnnotatedDocument],
    markers: &Markers,
    weights: TokenWeights,
) -> Vec<Example> {
    let example = |draw: &Draw| {
        let trace = Trace::of(&draw.annotated, markers);
        trace.example(|part| weights.of(part) * draw.share)
    };
    let draws = documents.iter().flat_map(|document| &document.draws);
    draws.map(example).collect()
}
