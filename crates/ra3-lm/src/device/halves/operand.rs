//! Operands of products that are packed, in memory that is used again.

use std::cell::Cell;
use std::ops::Range;

use half::bf16;

use super::pack::{self, Left, PAIRS_PER_RUN, Pair};
use super::tile::{Instructions, LANES};
use crate::device::allocator::filled;
use crate::device::matrix::{Matrix, Threads, View};

thread_local! {
    /// The memory of operands that were packed for some products.
    static FREE: Cell<Vec<Vec<Pair>>> = const { Cell::new(Vec::new()) };
}

fn take() -> Vec<Pair> {
    let mut free = FREE.take();
    let memory = free.pop().unwrap_or_default();
    FREE.set(free);
    memory
}

fn give<const N: usize>(memory: [Vec<Pair>; N]) {
    let mut free = FREE.take();
    free.extend(memory.into_iter().rev());
    FREE.set(free);
}

/// A right operand `[terms, columns]` in panels, `[run of pairs, panel, pair of terms, column of
/// the panel]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    pairs: Vec<Pair>,
    n_terms: usize,
    n_columns: usize,
}

impl Panels {
    /// The panels of `weightᵀ`, for a weight `[columns, width]`.
    pub(crate) fn of_weight(weight: Matrix<'_>, width: usize) -> Self {
        let n_columns = weight.n_numbers() / width;
        let n = n_columns.next_multiple_of(LANES) * width.div_ceil(2);
        let mut panels = Self {
            pairs: filled(0, n),
            n_terms: width,
            n_columns,
        };
        match weight {
            Matrix::F32(numbers) => {
                panels.set(
                    View::new(numbers, n_columns, width).transposed(),
                    Threads::All,
                );
            }
            Matrix::Bf16(numbers) => {
                let column = |column: usize| &numbers[column * width..][..width];
                let (by, shape) = (Instructions::found(), [width, n_columns]);
                let pairs = &mut panels.pairs;
                pack::panels_of_half_columns(by, shape, column, pairs, Threads::All);
            }
        }
        panels
    }

    /// Becomes the panels of columns that lie anywhere; this thread packs them.
    pub(crate) fn set_columns<'a>(
        &mut self,
        shape: [usize; 2],
        column: impl Fn(usize) -> &'a [bf16] + Sync,
    ) {
        [self.n_terms, self.n_columns] = shape;
        let (by, pairs) = (Instructions::found(), &mut self.pairs);
        pack::panels_of_half_columns(by, shape, column, pairs, Threads::One);
    }

    /// Becomes the panels of terms that lie anywhere, each with a number for every column; this
    /// thread packs them.
    pub(crate) fn set_terms<'a>(
        &mut self,
        shape: [usize; 2],
        term: impl Fn(usize) -> &'a [bf16] + Sync,
    ) {
        [self.n_terms, self.n_columns] = shape;
        let (by, pairs) = (Instructions::found(), &mut self.pairs);
        pack::panels_of_half_terms(by, shape, term, pairs, Threads::One);
    }

    /// Becomes the panels of a matrix.
    pub(crate) fn set(&mut self, rhs: View<'_>, threads: Threads) {
        [self.n_terms, self.n_columns] = [rhs.n_rows, rhs.n_columns];
        pack::panels(Instructions::found(), rhs, &mut self.pairs, threads);
    }
}

/// A right operand that is packed, or the first of its columns and terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    pairs: &'a [Pair],
    /// Panels and pairs of terms of all that is packed.
    packed: [usize; 2],
    pub(super) n_terms: usize,
    pub(super) n_columns: usize,
}

impl<'a> From<&'a Panels> for Right<'a> {
    fn from(panels: &'a Panels) -> Self {
        Self {
            pairs: &panels.pairs,
            packed: [panels.n_columns.div_ceil(LANES), panels.n_terms.div_ceil(2)],
            n_terms: panels.n_terms,
            n_columns: panels.n_columns,
        }
    }
}

impl Right<'_> {
    /// The first `n` columns.
    pub(crate) fn columns(self, n: usize) -> Self {
        assert!(n <= self.n_columns, "{n} of {} columns", self.n_columns);
        Self {
            n_columns: n,
            ..self
        }
    }

    /// The first `n` terms. Behind an odd number stands the next one, which meets the left
    /// operand's zero.
    pub(crate) fn terms(self, n: usize) -> Self {
        assert!(n <= self.n_terms, "{n} of {} terms", self.n_terms);
        Self { n_terms: n, ..self }
    }

    pub(super) fn n_pairs(&self) -> usize {
        self.n_terms.div_ceil(2)
    }

    /// A panel's pairs that begin a run.
    pub(super) fn panel(&self, panel: usize, pairs: &Range<usize>) -> &[Pair] {
        let [n_panels, n_pairs] = self.packed;
        let n_run = PAIRS_PER_RUN.min(n_pairs - pairs.start);
        let start = (pairs.start * n_panels + panel * n_run) * LANES;
        &self.pairs[start..start + pairs.len() * LANES]
    }
}

/// A left operand `[rows, terms]` that is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed<'a> {
    pub(super) left: Left<'a>,
    pub(super) n_rows: usize,
    pub(super) n_terms: usize,
}

/// Lets `products` use a left operand that is packed for them.
pub(crate) fn with_rows(lhs: View<'_>, threads: Threads, products: impl FnOnce(Packed<'_>)) {
    let mut pairs = take();
    products(Packed {
        left: Left::pack(Instructions::found(), lhs, &mut pairs, threads),
        n_rows: lhs.n_rows,
        n_terms: lhs.n_columns,
    });
    give([pairs]);
}

/// Lets `products` use a matrix and its transpose as left operands.
pub(crate) fn with_both(
    matrix: View<'_>,
    threads: Threads,
    products: impl FnOnce([Packed<'_>; 2]),
) {
    let (n_rows, n_columns) = (matrix.n_rows, matrix.n_columns);
    let (mut rows, mut columns) = (take(), take());
    let memory = [&mut rows, &mut columns];
    let [left, turned] = Left::pack_both(Instructions::found(), matrix, memory, threads);
    let packed = |left, n_rows, n_terms| Packed {
        left,
        n_rows,
        n_terms,
    };
    products([
        packed(left, n_rows, n_columns),
        packed(turned, n_columns, n_rows),
    ]);
    give([rows, columns]);
}

/// Lets `products` use a right operand that is packed for them.
pub(crate) fn with_panels(rhs: View<'_>, threads: Threads, products: impl FnOnce(Right<'_>)) {
    let mut panels = Panels {
        pairs: take(),
        ..Panels::default()
    };
    panels.set(rhs, threads);
    products((&panels).into());
    give([panels.pairs]);
}
