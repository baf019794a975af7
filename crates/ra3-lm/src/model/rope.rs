//! Rotary position embedding (arXiv 2104.09864) in the convention of Hugging Face checkpoints: the
//! first half of a head is rotated with the second half.

use rayon::prelude::*;

use super::rms_norm::ROWS_PER_TASK;
use super::rope_scaling::RopeScaling;

/// Cosines and sines by position.
#[derive(Clone, Debug)]
pub(crate) struct RopeTable {
    half: usize,
    /// `[position, half]`.
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl RopeTable {
    /// Angles `position · θ^(−2i/head_dim)`, scaled, computed in `f64`.
    pub(crate) fn new(
        head_dim: usize,
        theta: f64,
        scaling: RopeScaling,
        n_positions: usize,
    ) -> Self {
        let half = head_dim / 2;
        let angle = |index: usize| {
            let frequency = theta.powf(-2.0 * (index % half) as f64 / head_dim as f64);
            (index / half) as f64 * scaling.apply(frequency)
        };
        let cosine = (0..n_positions * half)
            .map(|i| angle(i).cos() as f32)
            .collect();
        let sine = (0..n_positions * half)
            .map(|i| angle(i).sin() as f32)
            .collect();
        Self { half, cosine, sine }
    }

    /// Rotates every head of every row of `x` `[rows, heads · head_dim]` by its position.
    pub(crate) fn forward(&self, x: &mut [f32], width: usize, positions: &[u32]) {
        self.rotate(x, width, positions, 1.0);
    }

    /// The gradient is rotated back.
    pub(crate) fn backward(&self, dx: &mut [f32], width: usize, positions: &[u32]) {
        self.rotate(dx, width, positions, -1.0);
    }

    fn rotate(&self, x: &mut [f32], width: usize, positions: &[u32], direction: f32) {
        let half = self.half;
        x.par_chunks_mut(width * ROWS_PER_TASK)
            .zip(positions.par_chunks(ROWS_PER_TASK))
            .for_each(|(rows, positions)| {
                for (row, position) in rows.chunks_mut(width).zip(positions) {
                    let at = *position as usize * half;
                    let (cosine, sine) = (&self.cosine[at..at + half], &self.sine[at..at + half]);
                    for head in row.chunks_mut(2 * half) {
                        let (first, second) = head.split_at_mut(half);
                        let pairs = first.iter_mut().zip(second).zip(cosine).zip(sine);
                        for (((a, b), c), s) in pairs {
                            let s = s * direction;
                            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                        }
                    }
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_by_hand_and_back() {
        let table = RopeTable::new(4, 100.0, RopeScaling::None, 4);
        let mut x = vec![1.0, 2.0, 3.0, 4.0];
        table.forward(&mut x, 4, &[2]);
        // Angles 2 and 2 / 10.
        let (c, s) = (2.0f32.cos(), 2.0f32.sin());
        assert!((x[0] - (c - 3.0 * s)).abs() < 1e-6 && (x[2] - (3.0 * c + s)).abs() < 1e-6);
        let (c, s) = (0.2f32.cos(), 0.2f32.sin());
        assert!((x[1] - (2.0 * c - 4.0 * s)).abs() < 1e-6);
        table.backward(&mut x, 4, &[2]);
        for (value, expected) in x.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((value - expected).abs() < 1e-5);
        }
    }
}
