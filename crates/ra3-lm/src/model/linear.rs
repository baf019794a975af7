//! Products with a weight `[out, in]`: forward, back to the input, back to the weight.

use super::weights::{Linear, Weights};
use crate::device::matrix::{Threads, View, multiply};
use crate::device::rows::multiply_rows;

/// Who sums the products of a forward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernel {
    /// The library, for training: the fastest for many rows, whose order depends on their number.
    Packed,
    /// `device/rows.rs`, for generation: a row has the same bits whatever runs beside it, and the
    /// weight may be `bf16`.
    Rows,
}

impl Linear {
    /// `y = x · weightᵀ + bias` for `x` `[rows, n_in]`, whatever is in `y`.
    pub(crate) fn forward(&self, kernel: Kernel, y: &mut [f32], weights: &Weights, x: &[f32]) {
        if let Some(bias) = &self.bias {
            let bias = weights.vector(bias);
            y.chunks_mut(self.n_out)
                .for_each(|row| row.copy_from_slice(&bias));
        }
        self.product(kernel, y, self.bias.is_some(), weights, x);
    }

    /// `y += x · weightᵀ + bias`.
    pub(crate) fn forward_add(&self, kernel: Kernel, y: &mut [f32], weights: &Weights, x: &[f32]) {
        if let Some(bias) = &self.bias {
            let bias = weights.vector(bias);
            y.chunks_mut(self.n_out).for_each(|row| add(row, &bias));
        }
        self.product(kernel, y, true, weights, x);
    }

    fn product(
        &self,
        kernel: Kernel,
        y: &mut [f32],
        accumulate: bool,
        weights: &Weights,
        x: &[f32],
    ) {
        match kernel {
            Kernel::Packed => {
                let x = View::new(x, x.len() / self.n_in, self.n_in);
                let weight = View::new(weights.at(&self.weight), self.n_out, self.n_in);
                multiply(y, accumulate, x, weight.transposed(), Threads::All);
            }
            Kernel::Rows => {
                multiply_rows(y, accumulate, x, self.n_in, weights.matrix(&self.weight));
            }
        }
    }

    /// `dx (+)= dy · weight`.
    pub(crate) fn back_to_input(
        &self,
        dx: &mut [f32],
        accumulate: bool,
        weights: &Weights,
        dy: &[f32],
    ) {
        let dy = View::new(dy, dy.len() / self.n_out, self.n_out);
        let weight = View::new(weights.at(&self.weight), self.n_out, self.n_in);
        multiply(dx, accumulate, dy, weight, Threads::All);
    }

    /// `dweight += dyᵀ · x`, `dbias += Σ_rows dy`.
    pub(crate) fn back_to_weight(&self, gradient: &mut [f32], dy: &[f32], x: &[f32]) {
        let n = dy.len() / self.n_out;
        if let Some(bias) = &self.bias {
            let dbias = &mut gradient[bias.clone()];
            dy.chunks(self.n_out).for_each(|row| add(dbias, row));
        }
        let dweight = &mut gradient[self.weight.clone()];
        let dy = View::new(dy, n, self.n_out).transposed();
        multiply(dweight, true, dy, View::new(x, n, self.n_in), Threads::All);
    }
}

/// `sum += values`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
