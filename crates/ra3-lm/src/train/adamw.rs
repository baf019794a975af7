//! AdamW (arXiv 1711.05101) over the flat arena.
//!
//! `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `w ← w − lr (m̂ / (√v̂ + ε) + λ w)` with bias-corrected `m̂`, `v̂`; `λ` is 0 for norms and
//! biases.

use rayon::prelude::*;

use crate::model::weights::Weights;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
const NUMBERS_PER_TASK: usize = 1 << 15;

/// The optimizer's moments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) n_steps: u64,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl AdamW {
    pub(crate) fn new(n_params: usize) -> Self {
        Self {
            n_steps: 0,
            first: vec![0.0; n_params],
            second: vec![0.0; n_params],
        }
    }

    /// One step with the gradient times `scale`.
    pub(crate) fn step(
        &mut self,
        weights: &mut Weights,
        gradient: &[f32],
        scale: f32,
        learning_rate: f32,
        weight_decay: f32,
    ) {
        self.n_steps += 1;
        let exponent = i32::try_from(self.n_steps).unwrap_or(i32::MAX);
        let correction_1 = 1.0 - BETA_1.powi(exponent);
        let correction_2 = 1.0 - BETA_2.powi(exponent);
        let Weights { layout, data, .. } = weights;
        for tensor in &layout.tensors {
            let decay = if tensor.shape.len() == 2 {
                weight_decay
            } else {
                0.0
            };
            let range = tensor.range.clone();
            data[range.clone()]
                .par_chunks_mut(NUMBERS_PER_TASK)
                .zip(self.first[range.clone()].par_chunks_mut(NUMBERS_PER_TASK))
                .zip(self.second[range.clone()].par_chunks_mut(NUMBERS_PER_TASK))
                .zip(gradient[range].par_chunks(NUMBERS_PER_TASK))
                .for_each(|(((w, m), v), g)| {
                    for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
                        let g = g * scale;
                        *m = BETA_1 * *m + (1.0 - BETA_1) * g;
                        *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
                        let size = (*v / correction_2).sqrt() + EPSILON;
                        *w -= learning_rate * (*m / correction_1 / size + decay * *w);
                    }
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::{Layout, Tensor};

    #[test]
    fn two_steps_by_hand() {
        let tensor = Tensor {
            name: "w".to_owned(),
            shape: vec![1, 1],
            range: 0..1,
        };
        let layout = Layout {
            tensors: vec![tensor],
            embedding: 0..1,
            layers: Vec::new(),
            final_norm: 0..0,
            head: 0..1,
        };
        let mut weights = Weights::wide(layout, vec![1.0]);
        let mut adam = AdamW::new(1);
        adam.step(&mut weights, &[0.5], 1.0, 0.1, 0.1);
        // m̂ = g and v̂ = g² at the first step: w = 1 − 0.1 (1 + 0.1).
        assert!((weights.data[0] - 0.89).abs() < 1e-6);
        adam.step(&mut weights, &[-1.0], 0.5, 0.1, 0.0);
        // g = −0.5: m = 0.9·0.05 − 0.05 = −0.005, m̂ = −0.005/0.19; v̂ = 0.25.
        assert!((weights.data[0] - (0.89 + 0.1 * (0.005 / 0.19) / 0.5)).abs() < 1e-6);
    }
}
