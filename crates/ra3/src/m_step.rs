//! The M-step: next-token prediction on the documents annotated with their latents
//! (docs/algorithm.md, "M-step"). The cold start is the same step on the corpus' own comments.
//! Markers are learnt over the whole vocabulary, so that the model writes them wherever it is
//! sampled.

use crate::interleave::{TokenWeights, normalise};
use crate::policy::{Example, Objective, Policy, PolicyError, Surrogate, UpdateStats};
use crate::trace::Trace;
use crate::trajectory::{Annotated, Markers};

/// An annotated document and its share in the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedAnnotated {
    /// The document with its latents.
    pub annotated: Annotated,
    /// Importance weight; 1 for a draw that stands for itself.
    pub weight: f32,
    /// Corpus tokens that it stands for: see [`crate::trajectory::Document`].
    pub n_corpus_tokens: u64,
}

/// One update: the loss is the weighted mean of `− log p` over the interleaved sequences.
///
/// # Errors
/// As [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    batch: &[WeightedAnnotated],
    markers: &Markers,
    weights: TokenWeights,
    learning_rate: f32,
) -> Result<UpdateStats, PolicyError> {
    let example = |document: &WeightedAnnotated| {
        let trace = Trace::of(&document.annotated, markers);
        trace.example(|part| weights.of(part) * document.weight)
    };
    let mut examples: Vec<Example> = batch.iter().map(example).collect();
    normalise(&mut examples);
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate,
    };
    policy.update(&examples, objective)
}
