//! Trajectories and latents as training sequences, and back.
//!
//! Nothing is decoded. Decisions are targets like any others, over the whole vocabulary: a model
//! that learns from these sequences writes its markers wherever it is sampled.

use crate::policy::{Example, TokenId};
use crate::trace::{Part, Trace};
use crate::trajectory::{Annotated, Markers, Trajectory};

/// Loss weights by kind of token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenWeights {
    /// Tokens of the prefix (the first token of a sequence never has a weight).
    pub prefix: f32,
    /// Tokens of a line.
    pub line: f32,
    /// `<act>` and `<think>`.
    pub decision: f32,
    /// Tokens of a rationale, and the `</think>` that was not forced.
    pub rationale: f32,
}

impl TokenWeights {
    /// The weight of a token of this part.
    pub fn of(self, part: Part) -> f32 {
        match part {
            Part::Outside => self.prefix,
            Part::Decision(_) => self.decision,
            Part::Rationale(_) => self.rationale,
            Part::Action(_) => self.line,
        }
    }
}

/// The interleaved sequence with weights that are not yet normalised.
pub fn interleave(annotated: &Annotated, markers: &Markers, weights: TokenWeights) -> Example {
    Trace::of(annotated, markers).example(|part| weights.of(part))
}

/// The plain sequence: next-token prediction.
pub fn plain(trajectory: &Trajectory, prefix_weight: f32) -> Example {
    Trace::plain(trajectory).example(|part| match part {
        Part::Outside => prefix_weight,
        Part::Decision(_) | Part::Rationale(_) | Part::Action(_) => 1.0,
    })
}

/// Divides every weight by the sum of all positive weights of the batch, so that the loss is a
/// mean over targets.
pub fn normalise(batch: &mut [Example]) {
    let sum: f64 = batch
        .iter()
        .flat_map(|example| &example.weights)
        .map(|weight| f64::from(weight.max(0.0)))
        .sum();
    if sum > 0.0 {
        let scale = (1.0 / sum) as f32;
        batch
            .iter_mut()
            .flat_map(|example| &mut example.weights)
            .for_each(|w| *w *= scale);
    }
}

/// Deletes decisions and rationales. Total: an unclosed rationale reaches to the end, a stray
/// `</think>` is deleted.
pub fn strip(tokens: &[TokenId], markers: &Markers) -> Vec<TokenId> {
    let mut is_thinking = false;
    let mut kept = Vec::with_capacity(tokens.len());
    for token in tokens {
        if *token == markers.think {
            is_thinking = true;
        } else if *token == markers.close {
            is_thinking = false;
        } else if !is_thinking && *token != markers.act {
            kept.push(*token);
        }
    }
    kept
}
