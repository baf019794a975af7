//! RMSNorm: `y = x / √(mean(x²) + ε) · g`, row by row.

use rayon::prelude::*;

use super::lanes::dot;

/// Rows that one task works on; a fixed number, so that sums have a fixed order.
pub(crate) const ROWS_PER_TASK: usize = 64;

/// Writes `y` `[rows, d]` and `1 / √(mean(x²) + ε)` of each row.
pub(crate) fn forward(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let d = gain.len();
    x.par_chunks(d * ROWS_PER_TASK)
        .zip(y.par_chunks_mut(d * ROWS_PER_TASK))
        .zip(inverse.par_chunks_mut(ROWS_PER_TASK))
        .for_each(|((x, y), inverse)| {
            for ((x, y), inverse) in x.chunks(d).zip(y.chunks_mut(d)).zip(inverse) {
                let mean = dot(x, x) / d as f32;
                *inverse = 1.0 / (mean + epsilon).sqrt();
                for ((y, x), g) in y.iter_mut().zip(x).zip(gain) {
                    *y = x * *inverse * g;
                }
            }
        });
}

/// Adds to `dx` and to the gain's gradient.
///
/// With `n = x · inverse`: `dx = inverse · (dy g − n · mean(dy g n))`, `dg = Σ_rows dy n`.
pub(crate) fn backward(
    x: &[f32],
    gain: &[f32],
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
) {
    let d = gain.len();
    let parts: Vec<Vec<f32>> = x
        .par_chunks(d * ROWS_PER_TASK)
        .zip(dx.par_chunks_mut(d * ROWS_PER_TASK))
        .zip(dy.par_chunks(d * ROWS_PER_TASK))
        .zip(inverse.par_chunks(ROWS_PER_TASK))
        .map(|(((x, dx), dy), inverse)| {
            let mut part = vec![0.0; d];
            let rows = x
                .chunks(d)
                .zip(dx.chunks_mut(d))
                .zip(dy.chunks(d))
                .zip(inverse);
            for (((x, dx), dy), inverse) in rows {
                backward_row(x, gain, *inverse, dy, dx, &mut part);
            }
            part
        })
        .collect();
    for part in parts {
        for (sum, value) in dgain.iter_mut().zip(part) {
            *sum += value;
        }
    }
}

fn backward_row(
    x: &[f32],
    gain: &[f32],
    inverse: f32,
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
) {
    let mut products = [0.0f32; 16];
    for ((x, g), dy) in x.chunks(16).zip(gain.chunks(16)).zip(dy.chunks(16)) {
        for (((product, x), g), dy) in products.iter_mut().zip(x).zip(g).zip(dy) {
            *product += dy * g * x;
        }
    }
    for ((x, dy), dg) in x.iter().zip(dy).zip(dgain) {
        *dg += dy * x * inverse;
    }
    let pull = products.iter().sum::<f32>() * inverse * inverse * inverse / x.len() as f32;
    for (((dx, x), g), dy) in dx.iter_mut().zip(x).zip(gain).zip(dy) {
        *dx += dy * g * inverse - x * pull;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::transformer::check_gradient;

    #[test]
    fn a_row_by_hand() {
        let (mut y, mut inverse) = (vec![0.0; 2], vec![0.0; 1]);
        forward(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut y, &mut inverse);
        let rms = 12.5f32.sqrt();
        assert!((y[0] - 3.0 / rms).abs() < 1e-6 && (y[1] - 8.0 / rms).abs() < 1e-6);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let x = [0.3, -0.7, 1.1, 0.2, 0.9, -0.4];
        let gain = [1.0, 0.5, -1.5];
        let dy = [0.7, -0.2, 0.4, 0.1, 0.6, -0.9];
        let value = |x: &[f32], gain: &[f32]| {
            let (mut y, mut inverse) = (vec![0.0; 6], vec![0.0; 2]);
            forward(x, gain, 1e-5, &mut y, &mut inverse);
            y.iter()
                .zip(&dy)
                .map(|(y, d)| f64::from(y * d))
                .sum::<f64>()
        };
        let (mut y, mut inverse) = (vec![0.0; 6], vec![0.0; 2]);
        forward(&x, &gain, 1e-5, &mut y, &mut inverse);
        let (mut dx, mut dgain) = (vec![0.0; 6], vec![0.0; 3]);
        backward(&x, &gain, &inverse, &dy, &mut dx, &mut dgain);
        check_gradient(&x, &dx, |x| value(x, &gain));
        check_gradient(&gain, &dgain, |gain| value(&x, gain));
    }
}
