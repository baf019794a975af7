//! Trajectories and latents as training sequences, and back.
//!
//! `s_0, z_0, a_0, z_1, a_1, …` on token ids. Nothing is decoded. Decisions are targets like any
//! others, over the whole vocabulary: a model that learns from these sequences writes its markers
//! wherever it is sampled.

use crate::policy::{Example, TokenId};
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

/// The interleaved sequence with weights that are not yet normalised.
pub fn interleave(annotated: &Annotated, markers: &Markers, weights: TokenWeights) -> Example {
    assert_eq!(
        annotated.trajectory.lines.len(),
        annotated.latents.len(),
        "one latent a line"
    );
    let mut example = prefix(&annotated.trajectory, weights.prefix);
    for (line, latent) in annotated.trajectory.lines.iter().zip(&annotated.latents) {
        if let Some(latent) = latent {
            latent.write(markers, &mut example.tokens);
            example.weights.push(weights.decision);
            example
                .weights
                .resize(example.tokens.len(), weights.rationale);
            if latent.is_cut() {
                *example
                    .weights
                    .last_mut()
                    .expect("a switch has three tokens") = 0.0;
            }
        }
        example.tokens.extend_from_slice(line);
        example.weights.resize(example.tokens.len(), weights.line);
    }
    example
}

/// The plain sequence: next-token prediction.
pub fn plain(trajectory: &Trajectory, prefix_weight: f32) -> Example {
    let mut example = prefix(trajectory, prefix_weight);
    for line in &trajectory.lines {
        example.tokens.extend_from_slice(line);
    }
    example.weights.resize(example.tokens.len(), 1.0);
    example
}

fn prefix(trajectory: &Trajectory, weight: f32) -> Example {
    let mut weights = vec![weight; trajectory.prefix.len()];
    weights[0] = 0.0;
    Example {
        tokens: trajectory.prefix.clone(),
        weights,
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    }
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
