//! Drawing the M-step's data: which of `G` draws from `q` are kept (docs/algorithm.md, "M-step").

use crate::e_step::{Penalty, Policies, Rollouts, reward, roll_out, sticky_log_prior};
use crate::formulas::softmax;
use crate::m_step::WeightedAnnotated;
use crate::policy::{PolicyError, Work};
use crate::rollout::LatentRule;
use crate::seed::Seed;
use crate::trajectory::{Document, Trajectory};

/// Which draws are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choose {
    /// One draw from `q`.
    Sample,
    /// The best of a group by `Σ_t r_t`.
    BestOf(usize),
    /// All of a group, weighted by `softmax_g Σ_t (log π + log p − log q)`.
    ImportanceWeights(usize),
}

/// Annotates documents; their own latents are not looked at.
///
/// # Errors
/// As [`crate::policy::Policy::run`].
pub fn annotate(
    policies: &mut Policies<'_>,
    batch: &[Document],
    rule: &LatentRule,
    choose: Choose,
    penalty: Penalty,
    seed: Seed,
) -> Result<(Vec<WeightedAnnotated>, Work), PolicyError> {
    let group_size = match choose {
        Choose::Sample => 1,
        Choose::BestOf(n) | Choose::ImportanceWeights(n) => n,
    };
    let mut work = Work::default();
    let trajectories: Vec<Trajectory> = batch.iter().cloned().map(Document::trajectory).collect();
    let rollouts = roll_out(policies, &trajectories, rule, group_size, seed, &mut work)?;
    let weights = weights(&rollouts, choose, penalty);
    let by_row = batch
        .iter()
        .flat_map(|document| std::iter::repeat_n(document.n_corpus_tokens, group_size));
    let kept = rollouts
        .annotated
        .into_iter()
        .flatten()
        .zip(weights)
        .zip(by_row)
        .filter(|((_, weight), _)| *weight > 0.0)
        .map(|((annotated, weight), n_corpus_tokens)| WeightedAnnotated {
            annotated,
            weight,
            n_corpus_tokens,
        })
        .collect();
    Ok((kept, work))
}

/// One weight a rollout, in the order of the rollouts.
fn weights(rollouts: &Rollouts, choose: Choose, penalty: Penalty) -> Vec<f32> {
    let mut weights = Vec::new();
    for (rows, references) in rollouts.records.iter().zip(&rollouts.reference) {
        let totals: Vec<f64> = rows
            .iter()
            .zip(references)
            .map(|(records, reference)| {
                let lines = records.iter().zip(reference);
                lines
                    .map(|(line, p0)| f64::from(log_weight(line, *p0, choose, penalty)))
                    .sum()
            })
            .collect();
        match choose {
            Choose::Sample => weights.push(1.0),
            Choose::BestOf(_) => {
                let best = (0..totals.len())
                    .rev()
                    .max_by(|a, b| totals[*a].total_cmp(&totals[*b]));
                weights.extend((0..totals.len()).map(|i| f32::from(u8::from(Some(i) == best))));
            }
            Choose::ImportanceWeights(_) => {
                weights.extend(softmax(&totals).into_iter().map(|weight| weight as f32));
            }
        }
    }
    weights
}

fn log_weight(
    line: &crate::rollout::LineRecord,
    reference: f32,
    choose: Choose,
    penalty: Penalty,
) -> f32 {
    match (choose, penalty, &line.latent) {
        (Choose::ImportanceWeights(_), Penalty::ExactKl { alpha }, Some(latent)) => {
            line.line_logprob - line.latent_logprob() + sticky_log_prior(latent, reference, alpha)
        }
        _ => reward(line, reference, penalty),
    }
}
