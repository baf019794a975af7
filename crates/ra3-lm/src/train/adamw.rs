//! AdamW (arXiv 1711.05101) over the flat arena.
//!
//! `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `w ← w − lr (m̂ / (√v̂ + ε) + λ w)` with bias-corrected `m̂`, `v̂`; `λ` is 0 for norms and
//! biases.

use std::borrow::Cow;

use half::bf16;
use rayon::prelude::*;

use crate::device::allocator::filled;
use crate::model::config::Precision;
use crate::model::weights::Weights;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
const NUMBERS_PER_TASK: usize = 1 << 15;

/// First and second moments in memory.
///
/// In `bf16` they keep one part in 256. A step changes the first by a tenth of the way to the
/// gradient and, with `β₂ = 0.95`, the second by a twentieth of the way to its square: rounding
/// loses the last four hundredths of that way, which is two hundredths of a step's size. (With the
/// `β₂ = 0.999` of other recipes the second moment would stand still.)
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Moments {
    F32([Vec<f32>; 2]),
    Bf16([Vec<bf16>; 2]),
}

impl Moments {
    pub(crate) fn from_wide(values: [Vec<f32>; 2], precision: Precision) -> Self {
        match precision {
            Precision::Float32 => Self::F32(values),
            Precision::Bfloat16 | Precision::Float16 => {
                Self::Bf16(values.map(|m| m.into_iter().map(bf16::from_f32).collect()))
            }
        }
    }

    /// The first or second as `f32`.
    pub(crate) fn to_wide(&self, which: usize) -> Cow<'_, [f32]> {
        match self {
            Self::F32(both) => Cow::Borrowed(&both[which]),
            Self::Bf16(both) => Cow::Owned(both[which].iter().map(|m| m.to_f32()).collect()),
        }
    }
}

/// The optimizer's state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) n_steps: u64,
    pub(crate) moments: Moments,
}

/// What is the same for every number of a tensor.
#[derive(Clone, Copy)]
struct Rates {
    scale: f32,
    learning_rate: f32,
    decay: f32,
    correction_1: f32,
    correction_2: f32,
}

impl AdamW {
    pub(crate) fn new(n_params: usize, precision: Precision) -> Self {
        let moments = match precision {
            Precision::Float32 => Moments::F32([filled(0.0, n_params), filled(0.0, n_params)]),
            Precision::Bfloat16 | Precision::Float16 => {
                Moments::Bf16([filled(bf16::ZERO, n_params), filled(bf16::ZERO, n_params)])
            }
        };
        Self {
            n_steps: 0,
            moments,
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
        let (layout, data) = weights.parts_mut();
        for tensor in &layout.tensors {
            let rates = Rates {
                scale,
                learning_rate,
                decay: if tensor.shape.len() == 2 {
                    weight_decay
                } else {
                    0.0
                },
                correction_1: 1.0 - BETA_1.powi(exponent),
                correction_2: 1.0 - BETA_2.powi(exponent),
            };
            let range = tensor.range.clone();
            let parts = data[range.clone()]
                .par_chunks_mut(NUMBERS_PER_TASK)
                .zip(gradient[range.clone()].par_chunks(NUMBERS_PER_TASK));
            match &mut self.moments {
                Moments::F32([first, second]) => parts
                    .zip(first[range.clone()].par_chunks_mut(NUMBERS_PER_TASK))
                    .zip(second[range].par_chunks_mut(NUMBERS_PER_TASK))
                    .for_each(|(((w, g), m), v)| rates.apply(w, m, v, g)),
                Moments::Bf16([first, second]) => parts
                    .zip(first[range.clone()].par_chunks_mut(NUMBERS_PER_TASK))
                    .zip(second[range].par_chunks_mut(NUMBERS_PER_TASK))
                    .for_each(|(((w, g), m), v)| rates.apply_rounded(w, m, v, g)),
            }
        }
    }
}

impl Rates {
    fn apply_rounded(self, w: &mut [f32], m: &mut [bf16], v: &mut [bf16], g: &[f32]) {
        let widen = |moment: &[bf16]| -> Vec<f32> { moment.iter().map(|x| x.to_f32()).collect() };
        let (mut wide_m, mut wide_v) = (widen(m), widen(v));
        self.apply(w, &mut wide_m, &mut wide_v, g);
        for (moment, wide) in [(m, wide_m), (v, wide_v)] {
            for (rounded, wide) in moment.iter_mut().zip(wide) {
                *rounded = bf16::from_f32(wide);
            }
        }
    }

    fn apply(self, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * self.scale;
            *m = BETA_1 * *m + (1.0 - BETA_1) * g;
            *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
            let size = (*v / self.correction_2).sqrt() + EPSILON;
            *w -= self.learning_rate * (*m / self.correction_1 / size + self.decay * *w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::{Layout, Linear, Tensor};

    fn one_weight() -> Layout {
        let tensor = Tensor {
            name: "w".to_owned(),
            shape: vec![1, 1],
            range: 0..1,
        };
        Layout {
            tensors: vec![tensor],
            embedding: 0..1,
            layers: Vec::new(),
            final_norm: 0..0,
            head: Linear {
                weight: 0..1,
                bias: None,
                n_in: 1,
                n_out: 1,
            },
        }
    }

    #[test]
    fn two_steps_by_hand() {
        let mut weights = Weights::wide(one_weight(), vec![1.0]);
        let mut adam = AdamW::new(1, Precision::Float32);
        adam.step(&mut weights, &[0.5], 1.0, 0.1, 0.1);
        // m̂ = g and v̂ = g² at the first step: w = 1 − 0.1 (1 + 0.1).
        assert!((weights.data()[0] - 0.89).abs() < 1e-6);
        adam.step(&mut weights, &[-1.0], 0.5, 0.1, 0.0);
        // g = −0.5: m = 0.9·0.05 − 0.05 = −0.005, m̂ = −0.005/0.19; v̂ = 0.25.
        assert!((weights.data()[0] - (0.89 + 0.1 * (0.005 / 0.19) / 0.5)).abs() < 1e-6);
    }

    /// `m̂ = √v̂ = g` at the first step, so a gradient of `ε` makes half a step and one of `3 ε`
    /// three quarters.
    #[test]
    fn steps_shrink_with_gradients_that_are_as_small_as_epsilon() {
        for (gradient, expected) in [(0.0, 0.0), (EPSILON, 0.05), (-3.0 * EPSILON, -0.075)] {
            let mut weights = Weights::wide(one_weight(), vec![0.0]);
            AdamW::new(1, Precision::Float32).step(&mut weights, &[gradient], 1.0, 0.1, 0.0);
            let found = weights.data()[0];
            assert!((found + expected).abs() < 1e-6, "{gradient}: {found}");
        }
    }

    /// The steps of rounded moments stay within two hundredths of the exact ones.
    #[test]
    fn rounded_moments_take_nearly_the_same_steps() {
        let path = |precision| {
            let mut weights = Weights::wide(one_weight(), vec![1.0]);
            let mut adam = AdamW::new(1, precision);
            (0..300)
                .map(|step| {
                    let before = weights.data()[0];
                    let gradient = 0.3 + 0.1 * (step as f32 * 0.7).sin();
                    adam.step(&mut weights, &[gradient], 1.0, 1e-2, 0.0);
                    before - weights.data()[0]
                })
                .collect::<Vec<f32>>()
        };
        let (exact, rounded) = (path(Precision::Float32), path(Precision::Bfloat16));
        for (exact, rounded) in exact.iter().zip(&rounded) {
            assert!((rounded / exact - 1.0).abs() < 0.03, "{rounded} {exact}");
        }
        assert_ne!(exact, rounded);
    }
}
