//! The projection to the vocabulary and the loss, in chunks: logits never exist for a whole batch.
//!
//! `loss = − Σ w log p(token)`, or the clipped surrogate; a target's distribution may be restricted
//! to a few tokens, as when it was sampled.

use ra3::policy::Surrogate;
use rayon::prelude::*;

use super::forest::Target;
use super::lanes::{exp, log_sum_exp, log_sum_exp_among};
use super::layer::Pass;
use crate::device::matrix::View;

/// Rows whose logits exist at once.
pub(crate) const ROWS_PER_CHUNK: usize = 512;

/// Sums over targets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Loss {
    /// The loss itself.
    pub(crate) value: f64,
    /// `Σ w log p` over targets of positive weight, and the sum of their weights.
    pub(crate) positive_logprob: f64,
    pub(crate) positive_weight: f64,
    /// Targets, and those whose ratio was clipped.
    pub(crate) n_targets: u64,
    pub(crate) n_clipped: u64,
    /// Over the targets that were sampled: how far they are from it now, in nats, and their number.
    pub(crate) gap: f64,
    pub(crate) n_sampled: u64,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.value += other.value;
        self.positive_logprob += other.positive_logprob;
        self.positive_weight += other.positive_weight;
        self.n_targets += other.n_targets;
        self.n_clipped += other.n_clipped;
        self.gap += other.gap;
        self.n_sampled += other.n_sampled;
    }
}

/// Loss and gradients: writes `dhidden` (zero first) and adds to the head's.
///
/// # Shapes
/// `hidden` `[rows, d]`, of all rows or of those that have targets; targets by rising row;
/// `gradient` has the layout of the weights.
pub(crate) fn forward_backward(
    pass: &mut Pass<'_>,
    hidden: &[f32],
    targets: &[Target],
    surrogate: Surrogate,
    dhidden: &mut [f32],
    gradient: &mut [f32],
) -> Loss {
    let (kernel, weights) = (pass.kernel, pass.weights);
    let (head, workspace) = (&weights.layout.head, &mut *pass.workspace);
    let (d, n_vocabulary) = (head.n_in, head.n_out);
    let rows = rows_with_targets(targets, hidden.len() / d);
    let mut total = Loss::default();
    if rows.is_empty() {
        return total;
    }
    kernel.with_operand(head.back(weights), |weight| {
        for rows in rows.chunks(ROWS_PER_CHUNK) {
            let n = rows.len();
            let mut gathered = workspace.take(n * d);
            for ((row, _), place) in rows.iter().zip(gathered.chunks_mut(d)) {
                place.copy_from_slice(&hidden[row * d..(row + 1) * d]);
            }
            let mut logits = workspace.take(n * n_vocabulary);
            head.forward(kernel, &mut logits, weights, &gathered);
            let losses: Vec<Loss> = logits
                .par_chunks_mut(n_vocabulary)
                .zip(rows)
                .map(|(logits, (_, targets))| row_loss(logits, targets, surrogate))
                .collect();
            losses.into_iter().for_each(|loss| total += loss);
            let mut dgathered = workspace.take(n * d);
            kernel.with_upstream(&logits, n_vocabulary, |upstream| {
                upstream.to_input(&mut dgathered, false, weight);
                kernel.with_operand(View::new(&gathered, n, d), |x| {
                    head.back_to_weight(gradient, upstream, x);
                });
            });
            for ((row, _), values) in rows.iter().zip(dgathered.chunks(d)) {
                dhidden[row * d..(row + 1) * d].copy_from_slice(values);
            }
            workspace.give([gathered, logits, dgathered]);
        }
    });
    total
}

/// The targets of each row that has some, with its place among `n_rows` hidden states: where there
/// are no more of these than of such rows, others were left out.
fn rows_with_targets(targets: &[Target], n_rows: usize) -> Vec<(usize, &[Target])> {
    let rows: Vec<&[Target]> = targets.chunk_by(|a, b| a.row == b.row).collect();
    let is_gathered = rows.len() == n_rows;
    let places = rows.into_iter().enumerate();
    places
        .map(|(index, targets)| (if is_gathered { index } else { targets[0].row }, targets))
        .collect()
}

/// Replaces a row's logits by the gradient of its loss.
fn row_loss(logits: &mut [f32], targets: &[Target], surrogate: Surrogate) -> Loss {
    let mut loss = Loss::default();
    let log_sum = log_sum_exp(logits);
    // Coefficient of the full softmax, and what is added at single tokens.
    let mut full = 0.0f32;
    let mut single: Vec<(usize, f32)> = Vec::with_capacity(targets.len());
    for target in targets {
        let token = target.token as usize;
        let own_sum = log_sum_exp_among(logits, target.choices.as_deref(), log_sum);
        let logprob = logits[token] - own_sum;
        let pull = count(&mut loss, target, logprob, surrogate);
        single.push((token, -pull));
        match target.choices.as_deref() {
            None => full += pull,
            Some(choices) => single.extend(choices.iter().map(|choice| {
                (
                    *choice as usize,
                    pull * exp(logits[*choice as usize] - own_sum),
                )
            })),
        }
    }
    if full == 0.0 {
        logits.fill(0.0);
    } else {
        logits
            .iter_mut()
            .for_each(|logit| *logit = full * exp(*logit - log_sum));
    }
    for (token, value) in single {
        logits[token] += value;
    }
    loss
}

/// Counts a target; returns `w` for the gradient `− w ∇ log p`.
fn count(loss: &mut Loss, target: &Target, logprob: f32, surrogate: Surrogate) -> f32 {
    let (weight, logprob64) = (target.weight, f64::from(logprob));
    loss.n_targets += u64::from(target.n_targets);
    loss.positive_logprob += f64::from(target.positive_weight) * logprob64;
    loss.positive_weight += f64::from(target.positive_weight);
    if let Some(sampled) = target.sampled_logprob {
        let n_targets = u64::from(target.n_targets);
        loss.gap += (logprob64 - f64::from(sampled)).abs() * n_targets as f64;
        loss.n_sampled += n_targets;
    }
    match (surrogate, target.old_logprob) {
        (Surrogate::LogLikelihood, _) | (Surrogate::Clipped { .. }, None) => {
            loss.value -= f64::from(weight) * logprob64;
            weight
        }
        (Surrogate::Clipped { low, high }, Some(old)) => {
            let ratio = (logprob - old).exp();
            let clipped = ratio.clamp(1.0 - low, 1.0 + high);
            let is_clipped = clipped * weight < ratio * weight;
            loss.value -= f64::from((ratio * weight).min(clipped * weight));
            loss.n_clipped += u64::from(is_clipped) * u64::from(target.n_targets);
            if is_clipped { 0.0 } else { weight * ratio }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses are added twice, chunks to a pass and passes to a batch: a sign that is wrong both
    /// times would not show in a batch's loss.
    #[test]
    fn every_sum_adds_up() {
        let mut sum = Loss {
            value: 1.0,
            positive_logprob: -2.0,
            positive_weight: 4.0,
            n_targets: 3,
            n_clipped: 2,
            gap: 0.5,
            n_sampled: 1,
        };
        sum += Loss {
            value: 8.0,
            positive_logprob: -16.0,
            positive_weight: 32.0,
            n_targets: 5,
            n_clipped: 1,
            gap: 4.0,
            n_sampled: 2,
        };
        let expected = Loss {
            value: 9.0,
            positive_logprob: -18.0,
            positive_weight: 36.0,
            n_targets: 8,
            n_clipped: 3,
            gap: 4.5,
            n_sampled: 3,
        };
        assert_eq!(sum, expected);
    }
}
