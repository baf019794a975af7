//! SwiGLU: `h = silu(gate) · up`, with `silu(x) = x · sigmoid(x)` (arXiv 2002.05202).

use rayon::prelude::*;

use super::lanes::sigmoid;

const NUMBERS_PER_TASK: usize = 16_384;

/// Writes `h`, the same length as `gate` and `up`.
pub(crate) fn forward(gate: &[f32], up: &[f32], h: &mut [f32]) {
    gate.par_chunks(NUMBERS_PER_TASK)
        .zip(up.par_chunks(NUMBERS_PER_TASK))
        .zip(h.par_chunks_mut(NUMBERS_PER_TASK))
        .for_each(|((gate, up), h)| {
            for ((gate, up), h) in gate.iter().zip(up).zip(h) {
                *h = gate * sigmoid(*gate) * up;
            }
        });
}

/// Replaces `gate` and `up` by their gradients, and `dh` by `h`, which the forward pass forgot.
///
/// `dup = dh · silu(gate)`, `dgate = dh · up · σ(gate) (1 + gate (1 − σ(gate)))`.
pub(crate) fn backward(gate: &mut [f32], up: &mut [f32], dh: &mut [f32]) {
    gate.par_chunks_mut(NUMBERS_PER_TASK)
        .zip(up.par_chunks_mut(NUMBERS_PER_TASK))
        .zip(dh.par_chunks_mut(NUMBERS_PER_TASK))
        .for_each(|((gate, up), dh)| {
            for ((gate, up), dh) in gate.iter_mut().zip(up).zip(dh) {
                let sigma = sigmoid(*gate);
                let silu = *gate * sigma;
                let h = silu * *up;
                *gate = *dh * *up * sigma * (1.0 + *gate * (1.0 - sigma));
                *up = *dh * silu;
                *dh = h;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::transformer::check_gradient;

    #[test]
    fn gradients_equal_finite_differences() {
        let (gate, up) = ([0.5, -1.2, 2.0], [1.5, 0.3, -0.7]);
        let dh = [0.4, -0.9, 1.1];
        let value = |gate: &[f32], up: &[f32]| {
            let mut h = vec![0.0; 3];
            forward(gate, up, &mut h);
            h.iter()
                .zip(&dh)
                .map(|(h, d)| f64::from(h * d))
                .sum::<f64>()
        };
        let (mut dgate, mut dup, mut h) = (gate, up, dh);
        backward(&mut dgate, &mut dup, &mut h);
        let mut expected = [0.0; 3];
        forward(&gate, &up, &mut expected);
        assert_eq!(h, expected);
        check_gradient(&gate, &dgate, |gate| value(gate, &up));
        check_gradient(&up, &dup, |up| value(&gate, up));
        assert!((value(&[1.0, 0.0, 0.0], &[2.0, 0.0, 0.0]) - 0.4 * 1.462_117).abs() < 1e-5);
    }
}
