//! Products with a weight `[out, in]`: forward, back to the input, back to the weight.

use super::config::Precision;
use super::weights::{Linear, Weights};
use crate::device::halves::{self, Packed, Panels, Right};
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

    /// A right operand as products read it, in memory that is used again; this thread packs it.
    pub(crate) fn operand<'a>(self, rhs: View<'a>, memory: &'a mut Panels) -> Operand<'a> {
        match self {
            Self::Packed | Self::Rows => Operand::View(rhs),
            Self::Halves => {
                memory.set(rhs, Threads::One);
                Operand::Panels((&*memory).into())
            }
        }
    }

    /// Lets `products` use a right operand.
    pub(crate) fn with_operand(self, rhs: View<'_>, products: impl FnOnce(Operand<'_>)) {
        match self {
            Self::Packed | Self::Rows => products(Operand::View(rhs)),
            Self::Halves => halves::with_panels(rhs, Threads::All, |rhs| {
                products(Operand::Panels(rhs));
            }),
        }
    }

    /// Lets `products` use the gradient `dy` `[rows, n_out]` of some outputs.
    pub(crate) fn with_upstream(
        self,
        dy: &[f32],
        n_out: usize,
        products: impl FnOnce(Upstream<'_>),
    ) {
        let dy = View::new(dy, dy.len() / n_out, n_out);
        match self {
            Self::Packed | Self::Rows => products(Upstream { dy, packed: None }),
            Self::Halves => halves::with_both(dy, Threads::All, |packed| {
                let packed = Some(packed);
                products(Upstream { dy, packed });
            }),
        }
    }

    /// `out = lhs · rhs`, or `out += lhs · rhs`.
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

/// A right operand `[terms, columns]` that several products share.
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

    /// `out = lhs · self`, by this thread.
    pub(crate) fn multiply(self, out: &mut [f32], lhs: View<'_>) {
        match self {
            Self::View(rhs) => multiply(out, false, lhs, rhs, Threads::One),
            Self::Panels(rhs) => halves::multiply_panels(out, false, lhs, rhs, Threads::One),
        }
    }
}

/// The gradient of a product's output, a left operand twice: by its rows for the input's gradient,
/// by its columns for the weight's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream<'a> {
    dy: View<'a>,
    packed: Option<[Packed<'a>; 2]>,
}

impl Upstream<'_> {
    /// `dx = dy · weight`, or `dx += dy · weight`.
    pub(crate) fn to_input(self, dx: &mut [f32], accumulate: bool, weight: Operand<'_>) {
        let packed = self.packed.map(|[rows, _]| rows);
        product(dx, accumulate, (self.dy, packed), weight);
    }

    /// `dweight += dyᵀ · x`.
    fn to_weight(self, dweight: &mut [f32], x: Operand<'_>) {
        let packed = self.packed.map(|[_, columns]| columns);
        product(dweight, true, (self.dy.transposed(), packed), x);
    }
}

/// A product of all threads.
fn product(
    out: &mut [f32],
    accumulate: bool,
    (lhs, packed): (View<'_>, Option<Packed<'_>>),
    rhs: Operand<'_>,
) {
    let threads = Threads::All;
    match (rhs, packed) {
        (Operand::View(rhs), _) => multiply(out, accumulate, lhs, rhs, threads),
        (Operand::Panels(rhs), Some(lhs)) => {
            halves::multiply_packed(out, accumulate, lhs, rhs, threads);
        }
        (Operand::Panels(rhs), None) => {
            halves::multiply_panels(out, accumulate, lhs, rhs, threads);
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
                let parts =
                    parts.map(|(part, y, accumulate)| (y, accumulate, weights.panels(part).into()));
                halves::multiply_each(parts, rows, Threads::All);
            }),
        }
    }

    /// The weight `[n_out, n_in]`, with which an output's gradient becomes the input's.
    pub(crate) fn back<'a>(&self, weights: &'a Weights) -> View<'a> {
        View::new(weights.at(&self.weight), self.n_out, self.n_in)
    }

    /// `dx (+)= dy · weight`.
    pub(crate) fn back_to_input(
        &self,
        kernel: Kernel,
        dx: &mut [f32],
        accumulate: bool,
        weights: &Weights,
        upstream: Upstream<'_>,
    ) {
        kernel.with_operand(self.back(weights), |weight| {
            upstream.to_input(dx, accumulate, weight);
        });
    }

    /// `dweight += dyᵀ · x`, `dbias += Σ_rows dy`, for the input `x` `[rows, n_in]`.
    pub(crate) fn back_to_weight(
        &self,
        gradient: &mut [f32],
        upstream: Upstream<'_>,
        x: Operand<'_>,
    ) {
        if let Some(bias) = &self.bias {
            let dbias = &mut gradient[bias.clone()];
            upstream.dy.rows().for_each(|row| add(dbias, row));
        }
        upstream.to_weight(&mut gradient[self.weight.clone()], x);
    }
}

/// `sum += values`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
