//! Products with a weight `[out, in]`: forward, back to the input, back to the weight.

use super::config::Precision;
use super::weights::{Linear, Weights};
use crate::device::halves;
use crate::device::matrix::{Threads, View, multiply};
use crate::device::rows::multiply_rows;

/// Who sums the products of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The library, for training: the fastest for many rows, whose order depends on their number.
    Packed,
    /// `device/rows.rs`, for generation: a row has the same bits whatever runs beside it, and the
    /// weight may be `bf16`.
    Rows,
    /// `device/halves`, for both: operands are rounded to `bf16`, and a row has the same bits in
    /// training as in generation.
    Halves,
}

impl Kernel {
    /// That of training in this precision.
    pub(crate) fn of_training(compute: Precision) -> Self {
        match compute {
            Precision::Float32 => Self::Packed,
            Precision::Bfloat16 | Precision::Float16 => Self::Halves,
        }
    }

    /// That of generation in this precision.
    pub(crate) fn of_generation(compute: Precision) -> Self {
        match compute {
            Precision::Float32 => Self::Rows,
            Precision::Bfloat16 | Precision::Float16 => Self::Halves,
        }
    }

    /// `out = lhs · rhs`, or `out += lhs · rhs`, where neither operand is a weight that is packed.
    pub(crate) fn multiply(
        self,
        out: &mut [f32],
        accumulate: bool,
        lhs: View<'_>,
        rhs: View<'_>,
        threads: Threads,
    ) {
        match self {
            Self::Packed | Self::Rows => multiply(out, accumulate, lhs, rhs, threads),
            Self::Halves => halves::multiply(out, accumulate, lhs, rhs, threads),
        }
    }
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
            Kernel::Halves => {
                let x = View::new(x, x.len() / self.n_in, self.n_in);
                halves::multiply_panels(y, accumulate, x, weights.panels(self), Threads::All);
            }
        }
    }

    /// `dx (+)= dy · weight`.
    pub(crate) fn back_to_input(
        &self,
        kernel: Kernel,
        dx: &mut [f32],
        accumulate: bool,
        weights: &Weights,
        dy: &[f32],
    ) {
        let dy = View::new(dy, dy.len() / self.n_out, self.n_out);
        let weight = View::new(weights.at(&self.weight), self.n_out, self.n_in);
        kernel.multiply(dx, accumulate, dy, weight, Threads::All);
    }

    /// `dweight += dyᵀ · x`, `dbias += Σ_rows dy`.
    pub(crate) fn back_to_weight(
        &self,
        kernel: Kernel,
        gradient: &mut [f32],
        dy: &[f32],
        x: &[f32],
    ) {
        let n = dy.len() / self.n_out;
        if let Some(bias) = &self.bias {
            let dbias = &mut gradient[bias.clone()];
            dy.chunks(self.n_out).for_each(|row| add(dbias, row));
        }
        let dweight = &mut gradient[self.weight.clone()];
        let dy = View::new(dy, n, self.n_out).transposed();
        kernel.multiply(dweight, true, dy, View::new(x, n, self.n_in), Threads::All);
    }
}

/// `sum += values`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
