//! Operands as tiles read them: rounded to `bf16`, two terms beside each other.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::tile::{Instructions, LANES};
use crate::device::matrix::{Threads, View};

/// Two `bf16`, the first in the lower half: terms of a sum that follow each other. Behind the last
/// of an odd number stands a zero.
pub(super) type Pair = u32;

/// Below so many pairs one thread packs.
const PAIRS_PER_TASK: usize = 1 << 15;
/// Panels that are packed from the same rows at once: so much of a row is read in one go.
const PANELS_AT_ONCE: usize = 4;

/// A left operand: pairs of each row's terms, wherever these lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) pairs: &'a [Pair],
    /// From a row to the next, and from a pair to the next.
    pub(super) row_stride: usize,
    pub(super) pair_stride: usize,
}

impl<'a> Left<'a> {
    /// Rounds a matrix `[rows, terms]`: row by row, or pair by pair where its columns are rows in
    /// memory.
    pub(super) fn pack(
        by: Instructions,
        matrix: View<'_>,
        memory: &'a mut Vec<Pair>,
        threads: Threads,
    ) -> Self {
        let (n_rows, n_pairs) = (matrix.n_rows, matrix.n_columns.div_ceil(2));
        memory.resize(n_rows * n_pairs, 0);
        let by_row = matrix.column_stride == 1;
        let [row_stride, pair_stride] = if by_row { [n_pairs, 1] } else { [1, n_rows] };
        let terms = matrix.transposed();
        each_chunk(
            memory,
            row_stride.max(pair_stride),
            threads,
            |index, place| {
                if by_row {
                    by.pair_up(matrix.row(index), place);
                } else {
                    by.interleave(
                        pair_of_rows(terms.n_rows, |term| terms.row(term), index),
                        place,
                    );
                }
            },
        );
        Self {
            pairs: memory,
            row_stride,
            pair_stride,
        }
    }

    /// What lies from a row and a pair on.
    pub(super) fn from(self, row: usize, pair: usize) -> Self {
        let start = row * self.row_stride + pair * self.pair_stride;
        Self {
            pairs: &self.pairs[start.min(self.pairs.len())..],
            ..self
        }
    }
}

/// Packs a right operand `[terms, columns]`: `[panel, pair of terms, column of the panel]`.
pub(super) fn panels(by: Instructions, matrix: View<'_>, memory: &mut Vec<Pair>, threads: Threads) {
    let columns = matrix.transposed();
    let shape = [matrix.n_rows, matrix.n_columns];
    if columns.column_stride == 1 {
        each_panel(shape, memory, threads, |lanes, panel| {
            by.turn(&lanes_of(lanes, |column| columns.row(column)), panel);
        });
    } else {
        each_panels(shape, memory, threads, |of_panels, panels| {
            let term = |term| &matrix.row(term)[of_panels.clone()];
            let rows = |pair| pair_of_rows(shape[0], term, pair);
            by.terms(shape[0].div_ceil(2), rows, panels);
        });
    }
}

/// [`panels`] of columns that lie anywhere and are rounded already.
pub(super) fn panels_of_half_columns<'a>(
    by: Instructions,
    shape: [usize; 2],
    column: impl Fn(usize) -> &'a [bf16] + Sync,
    memory: &mut Vec<Pair>,
    threads: Threads,
) {
    each_panel(shape, memory, threads, |lanes, panel| {
        by.turn_halves(&lanes_of(lanes, &column), panel);
    });
}

/// [`panels`] of terms that lie anywhere and are rounded already.
pub(super) fn panels_of_half_terms<'a>(
    by: Instructions,
    shape: [usize; 2],
    term: impl Fn(usize) -> &'a [bf16] + Sync,
    memory: &mut Vec<Pair>,
    threads: Threads,
) {
    each_panels(shape, memory, threads, |of_panels, panels| {
        let term = |index| &term(index)[of_panels.clone()];
        let rows = |pair| pair_of_rows(shape[0], term, pair);
        by.half_terms(shape[0].div_ceil(2), rows, panels);
    });
}

/// Both rows of a pair; the second is empty behind the last.
fn pair_of_rows<'a, T>(n: usize, row: impl Fn(usize) -> &'a [T], pair: usize) -> [&'a [T]; 2] {
    let second = 2 * pair + 1;
    [row(2 * pair), if second < n { row(second) } else { &[] }]
}

/// The columns of a panel; those that it lacks are empty.
fn lanes_of<'a, T>(columns: Range<usize>, column: impl Fn(usize) -> &'a [T]) -> [&'a [T]; LANES] {
    std::array::from_fn(|lane| {
        if lane < columns.len() {
            column(columns.start + lane)
        } else {
            &[]
        }
    })
}

/// Lets each panel be filled, which has zeros where there is no column; it is given its columns.
fn each_panel(
    [n_terms, n_columns]: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, &mut [Pair]) + Sync,
) {
    each_panels_of(1, [n_terms, n_columns], memory, threads, fill);
}

/// [`each_panel`] for some that lie beside each other.
fn each_panels(
    shape: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, &mut [Pair]) + Sync,
) {
    each_panels_of(PANELS_AT_ONCE, shape, memory, threads, fill);
}

fn each_panels_of(
    n: usize,
    [n_terms, n_columns]: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, &mut [Pair]) + Sync,
) {
    let n_panel = n_terms.div_ceil(2) * LANES;
    memory.resize(n_columns.div_ceil(LANES) * n_panel, 0);
    each_chunk(memory, n * n_panel, threads, |index, panels| {
        let first = index * n * LANES;
        let columns = first..(first + n * LANES).min(n_columns);
        if columns.len() % LANES > 0 {
            panels[columns.len() / LANES * n_panel..].fill(0);
        }
        fill(columns, panels);
    });
}

/// Lets each `n` pairs be filled, given their number.
fn each_chunk(
    pairs: &mut [Pair],
    n: usize,
    threads: Threads,
    fill: impl Fn(usize, &mut [Pair]) + Sync,
) {
    let n = n.max(1);
    match threads {
        Threads::All if pairs.len() > PAIRS_PER_TASK => pairs
            .par_chunks_mut(n)
            .enumerate()
            .with_min_len(PAIRS_PER_TASK.div_ceil(n))
            .for_each(|(index, chunk)| fill(index, chunk)),
        Threads::All | Threads::One => {
            for (index, chunk) in pairs.chunks_mut(n).enumerate() {
                fill(index, chunk);
            }
        }
    }
}

/// The packing of each kind by these instructions; see [`portable`].
#[expect(unsafe_code, reason = "the processor's instructions, which were found")]
impl Instructions {
    /// Rounds numbers, of which there are as many as places.
    pub(super) fn round(self, numbers: &[f32], places: &mut [bf16]) {
        assert_eq!(numbers.len(), places.len());
        match self {
            // SAFETY: AVX-512 with bf16 was found, here and below.
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => unsafe { x86::round(numbers, places) },
            Self::Portable => portable::round(numbers, places),
        }
    }

    fn pair_up(self, numbers: &[f32], places: &mut [Pair]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::pair_up(numbers, places) },
            Self::Portable => portable::pair_up(numbers, places),
        }
    }

    fn interleave(self, [first, second]: [&[f32]; 2], places: &mut [Pair]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::interleave(first, second, places) },
            Self::Portable => portable::interleave(first, second, places),
        }
    }

    fn terms<'a>(
        self,
        n_pairs: usize,
        rows: impl Fn(usize) -> [&'a [f32]; 2],
        panels: &mut [Pair],
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::terms(n_pairs, rows, panels) },
            Self::Portable => portable::terms(n_pairs, rows, panels),
        }
    }

    fn half_terms<'a>(
        self,
        n_pairs: usize,
        rows: impl Fn(usize) -> [&'a [bf16]; 2],
        panels: &mut [Pair],
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::half_terms(n_pairs, rows, panels) },
            Self::Portable => portable::terms(n_pairs, rows, panels),
        }
    }

    fn turn(self, columns: &[&[f32]; LANES], panel: &mut [Pair]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::turn(columns, panel) },
            Self::Portable => portable::turn(columns, panel),
        }
    }

    fn turn_halves(self, columns: &[&[bf16]; LANES], panel: &mut [Pair]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Bf16 => unsafe { x86::turn_halves(columns, panel) },
            Self::Portable => portable::turn(columns, panel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processor's own packing is the plain one: shapes on both sides of a register, and what
    /// is no number. Numbers that are too small to be normal are left out: it takes them for zero.
    #[test]
    fn operands_are_packed_alike() {
        for (n_terms, n_columns) in [(1, 1), (2, 16), (7, 5), (31, 17), (33, 150), (64, 100)] {
            let mut numbers = crate::device::numbers(n_terms * n_columns, 3);
            numbers[n_terms * n_columns / 2] = f32::INFINITY;
            numbers[n_terms * n_columns / 3] *= -3.1e38;
            let halves: Vec<bf16> = numbers.iter().copied().map(bf16::from_f32).collect();
            let by_row = View::new(&numbers, n_terms, n_columns);
            let by_column = View::new(&numbers, n_columns, n_terms).transposed();
            let shape = [n_terms, n_columns];
            let packed = |by: Instructions| {
                let mut all = vec![vec![7; 3]; 6];
                for (index, matrix) in [by_row, by_column].into_iter().enumerate() {
                    let _ = Left::pack(by, matrix.transposed(), &mut all[index], Threads::One);
                    panels(by, matrix, &mut all[2 + index], Threads::One);
                }
                let row = |term: usize| &halves[term * n_columns..][..n_columns];
                panels_of_half_terms(by, shape, row, &mut all[4], Threads::One);
                let column = |column: usize| &halves[column * n_terms..][..n_terms];
                panels_of_half_columns(by, shape, column, &mut all[5], Threads::One);
                let mut rounded = vec![bf16::NAN; numbers.len()];
                by.round(&numbers, &mut rounded);
                assert_eq!(rounded, halves, "{shape:?}");
                all
            };
            let expected = packed(Instructions::Portable);
            assert_eq!(packed(Instructions::found()), expected, "{shape:?}");
            assert_eq!(expected[2..4], expected[4..], "{shape:?}");
        }
    }
}
