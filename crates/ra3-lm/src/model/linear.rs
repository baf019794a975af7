//! Products with a weight `[out, in]`: forward, back to the input, back to the weight.

use super::config::Precision;
use super::weights::{Linear, Weights};
use crate::device::halves::{self, Panels, Right};
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

    /// A right operand as products read it, in memory that is used again.
    pub(crate) fn operand<'a>(self, rhs: View<'a>, memory: &'a mut Panels) -> Operand<'a> {
        match self {
            Self::Packed | Self::Rows => Operand::View(rhs),
            Self::Halves => {
                memory.set(rhs, Threads::One);
                Operand::Panels((&*memory).into())
            }
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

/// A right operand `[terms, columns]` that several products of one thread share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'a> {
    View(View<'a>),
    Panels(Right<'a>),
}

impl Operand<'_> {
    /// The first `n` columns.
    pub(crate) fn columns(self, n: usize) -> Self {
        match self {
            Self::View(view) => Self::View(view.transposed().first_rows(n).transposed()),
            Self::Panels(panels) => Self::Panels(panels.columns(n)),
        }
    }

    /// The first `n` terms.
    pub(crate) fn terms(self, n: usize) -> Self {
        match self {
            Self::View(view) => Self::View(view.first_rows(n)),
            Self::Panels(panels) => Self::Panels(panels.terms(n)),
        }
    }

    /// `out = lhs · self`, or `out += lhs · self`.
    pub(crate) fn multiply(self, out: &mut [f32], accumulate: bool, lhs: View<'_>) {
        let threads = Threads::One;
        match self {
            Self::View(rhs) => multiply(out, accumulate, lhs, rhs, threads),
            Self::Panels(rhs) => halves::multiply_panels(out, accumulate, lhs, rhs, threads),
        }
    }
}

impl Linear {
    /// `y = x · weightᵀ + bias` for `x` `[rows, n_in]`, whatever is in `y`.
    pub(crate) fn forward(&self, kernel: Kernel, y: &mut [f32], weights: &Weights, x: &[f32]) {
        Self::forward_each(kernel, [(self, y)], weights, x);
    }

    /// [`Self::forward`] of several, which share their input.
    pub(crate) fn forward_each<const N: usize>(
        kernel: Kernel,
        parts: [(&Self, &mut [f32]); N],
        weights: &Weights,
        x: &[f32],
    ) {
        let parts = parts.map(|(part, y)| {
            if let Some(bias) = &part.bias {
                let bias = weights.vector(bias);
                y.chunks_mut(part.n_out)
                    .for_each(|row| row.copy_from_slice(&bias));
            }
            (part, y, part.bias.is_some())
        });
        Self::products(kernel, parts, weights, x);
    }

    /// `y += x · weightᵀ + bias`.
    pub(crate) fn forward_add(&self, kernel: Kernel, y: &mut [f32], weights: &Weights, x: &[f32]) {
        if let Some(bias) = &self.bias {
            let bias = weights.vector(bias);
            y.chunks_mut(self.n_out).for_each(|row| add(row, &bias));
        }
        Self::products(kernel, [(self, y, true)], weights, x);
    }

    /// `y = x · weightᵀ` of each, or `y += x · weightᵀ`.
    fn products<const N: usize>(
        kernel: Kernel,
        parts: [(&Self, &mut [f32], bool); N],
        weights: &Weights,
        x: &[f32],
    ) {
        let n_in = parts[0].0.n_in;
        let rows = View::new(x, x.len() / n_in, n_in);
        match kernel {
            Kernel::Packed => parts.into_iter().for_each(|(part, y, accumulate)| {
                let weight = View::new(weights.at(&part.weight), part.n_out, part.n_in);
                multiply(y, accumulate, rows, weight.transposed(), Threads::All);
            }),
            Kernel::Rows => parts.into_iter().for_each(|(part, y, accumulate)| {
                multiply_rows(y, accumulate, x, n_in, weights.matrix(&part.weight));
            }),
            Kernel::Halves => halves::with_rows(rows, Threads::All, |rows| {
                for (part, y, accumulate) in parts {
                    let panels = weights.panels(part);
                    halves::multiply_packed(y, accumulate, rows, panels, Threads::All);
                }
            }),
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
        Self::back_to_each_weight(kernel, gradient, [(self, dy)], x);
    }

    /// [`Self::back_to_weight`] of several, which share their input.
    pub(crate) fn back_to_each_weight<const N: usize>(
        kernel: Kernel,
        gradient: &mut [f32],
        parts: [(&Self, &[f32]); N],
        x: &[f32],
    ) {
        for (part, dy) in parts {
            if let Some(bias) = &part.bias {
                let dbias = &mut gradient[bias.clone()];
                dy.chunks(part.n_out).for_each(|row| add(dbias, row));
            }
        }
        let n_in = parts[0].0.n_in;
        let n = x.len() / n_in;
        let x = View::new(x, n, n_in);
        let each = |gradient: &mut [f32], product: &dyn Fn(&mut [f32], View<'_>)| {
            for (part, dy) in parts {
                let dy = View::new(dy, n, part.n_out).transposed();
                product(&mut gradient[part.weight.clone()], dy);
            }
        };
        match kernel {
            Kernel::Packed | Kernel::Rows => each(gradient, &|dweight, dy| {
                multiply(dweight, true, dy, x, Threads::All);
            }),
            Kernel::Halves => halves::with_panels(x, Threads::All, |x| {
                each(gradient, &|dweight, dy| {
                    halves::multiply_panels(dweight, true, dy, x, Threads::All);
                });
            }),
        }
    }
}

/// `sum += values`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
