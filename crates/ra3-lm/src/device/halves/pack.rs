//! Operands as tiles read them: rounded to `bf16`, two terms beside each other.

mod portable;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

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
const PANELS_AT_ONCE: usize = 16;
/// Pairs of terms of which all panels lie beside each other: what a task takes in one go, so that
/// its panels stay in the cache.
pub(super) const PAIRS_PER_RUN: usize = 256;

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
        let place = room(memory, n_rows * n_pairs);
        if matrix.column_stride == 1 {
            each_chunk(place, n_pairs, threads, |row, place| {
                by.pair_up(matrix.row(row), place);
            });
            return Self::by_row(place, n_pairs);
        }
        let terms = matrix.transposed();
        each_chunk(place, n_rows, threads, |pair, place| {
            let rows = pair_of_rows(terms.n_rows, |term| terms.row(term), pair);
            by.interleave(rows, place);
        });
        Self::by_pair(place, n_rows)
    }

    /// A matrix `[rows, columns]` and its transpose, read once: two rows at a time.
    pub(super) fn pack_both(
        by: Instructions,
        matrix: View<'_>,
        [of_rows, of_columns]: [&'a mut Vec<Pair>; 2],
        threads: Threads,
    ) -> [Self; 2] {
        let (n_rows, n) = (matrix.n_rows, matrix.n_columns);
        let n_pairs = n.div_ceil(2);
        let rows = room(of_rows, n_rows * n_pairs);
        let columns = room(of_columns, n_rows.div_ceil(2) * n);
        let fill = |(pair, (rows, columns)): (usize, (&mut [Pair], &mut [Pair]))| {
            for (row, place) in rows.chunks_mut(n_pairs.max(1)).enumerate() {
                by.pair_up(matrix.row(2 * pair + row), place);
            }
            let both = pair_of_rows(n_rows, |row| matrix.row(row), pair);
            by.interleave(both, columns);
        };
        let [n_two, n_one] = [(2 * n_pairs).max(1), n.max(1)];
        match threads {
            Threads::All if rows.len() > PAIRS_PER_TASK => rows
                .par_chunks_mut(n_two)
                .zip(columns.par_chunks_mut(n_one))
                .enumerate()
                .with_min_len(PAIRS_PER_TASK.div_ceil(n_two))
                .for_each(fill),
            Threads::All | Threads::One => rows
                .chunks_mut(n_two)
                .zip(columns.chunks_mut(n_one))
                .enumerate()
                .for_each(fill),
        }
        [Self::by_row(rows, n_pairs), Self::by_pair(columns, n)]
    }

    fn by_row(pairs: &'a [Pair], n_pairs: usize) -> Self {
        Self {
            pairs,
            row_stride: n_pairs,
            pair_stride: 1,
        }
    }

    fn by_pair(pairs: &'a [Pair], n_rows: usize) -> Self {
        Self {
            pairs,
            row_stride: 1,
            pair_stride: n_rows,
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

/// Packs a right operand `[terms, columns]`: `[run of pairs, panel, pair of terms, column of the
/// panel]`.
pub(super) fn panels(by: Instructions, matrix: View<'_>, memory: &mut Vec<Pair>, threads: Threads) {
    let columns = matrix.transposed();
    let shape = [matrix.n_rows, matrix.n_columns];
    if columns.column_stride == 1 {
        each_panel(shape, memory, threads, |lanes, pairs, panel| {
            let column = |column| terms_of(columns.row(column), &pairs);
            by.turn(&lanes_of(lanes, column), panel);
        });
    } else {
        each_panels(shape, memory, threads, |of_panels, pairs, panels| {
            let term = |term| &matrix.row(term)[of_panels.clone()];
            let rows = |pair| pair_of_rows(shape[0], term, pairs.start + pair);
            by.terms(pairs.len(), rows, panels);
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
    each_panel(shape, memory, threads, |lanes, pairs, panel| {
        let column = |index| terms_of(column(index), &pairs);
        by.turn_halves(&lanes_of(lanes, column), panel);
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
    each_panels(shape, memory, threads, |of_panels, pairs, panels| {
        let term = |index| &term(index)[of_panels.clone()];
        let rows = |pair| pair_of_rows(shape[0], term, pairs.start + pair);
        by.half_terms(pairs.len(), rows, panels);
    });
}

/// A column's terms of some pairs.
fn terms_of<'a, T>(column: &'a [T], pairs: &Range<usize>) -> &'a [T] {
    &column[2 * pairs.start..(2 * pairs.end).min(column.len())]
}

/// Both rows of a pair; the second is empty behind the last.
#[inline]
pub(super) fn pair_of_rows<'a, T>(
    n: usize,
    row: impl Fn(usize) -> &'a [T],
    pair: usize,
) -> [&'a [T]; 2] {
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

/// Lets each run's part of each panel be filled, which has zeros where there is no column; it is
/// given its columns and its pairs of terms.
fn each_panel(
    shape: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, Range<usize>, &mut [Pair]) + Sync,
) {
    each_panels_of(1, shape, memory, threads, fill);
}

/// [`each_panel`] for some that lie beside each other.
fn each_panels(
    shape: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, Range<usize>, &mut [Pair]) + Sync,
) {
    each_panels_of(PANELS_AT_ONCE, shape, memory, threads, fill);
}

fn each_panels_of(
    n: usize,
    [n_terms, n_columns]: [usize; 2],
    memory: &mut Vec<Pair>,
    threads: Threads,
    fill: impl Fn(Range<usize>, Range<usize>, &mut [Pair]) + Sync,
) {
    let (n_pairs, n_panels) = (n_terms.div_ceil(2), n_columns.div_ceil(LANES));
    let place = room(memory, n_panels * n_pairs * LANES);
    let n_run = n_panels * PAIRS_PER_RUN * LANES;
    each_chunk(place, n_run, threads, |run, of_run| {
        let first = run * PAIRS_PER_RUN;
        let pairs = first..(first + PAIRS_PER_RUN).min(n_pairs);
        let n_panel = pairs.len() * LANES;
        each_chunk(of_run, n * n_panel, threads, |index, panels| {
            let first = index * n * LANES;
            let columns = first..(first + n * LANES).min(n_columns);
            if columns.len() % LANES > 0 {
                panels[columns.len() / LANES * n_panel..].fill(0);
            }
            fill(columns, pairs.clone(), panels);
        });
    });
}

/// The first `n` places, with anything in them; what is longer stays, and nothing is written twice.
fn room(memory: &mut Vec<Pair>, n: usize) -> &mut [Pair] {
    if memory.len() < n {
        memory.resize(n, 0);
    }
    &mut memory[..n]
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
                let mut all = vec![Vec::new(); 8];
                for (index, matrix) in [by_row, by_column].into_iter().enumerate() {
                    let _ = Left::pack(by, matrix.transposed(), &mut all[index], Threads::One);
                    panels(by, matrix, &mut all[2 + index], Threads::One);
                }
                let row = |term: usize| &halves[term * n_columns..][..n_columns];
                panels_of_half_terms(by, shape, row, &mut all[4], Threads::One);
                let column = |column: usize| &halves[column * n_terms..][..n_terms];
                panels_of_half_columns(by, shape, column, &mut all[5], Threads::One);
                let (rows, columns) = all[6..].split_at_mut(1);
                let both = [&mut rows[0], &mut columns[0]];
                let _ = Left::pack_both(by, by_row, both, Threads::One);
                let mut rounded = vec![bf16::NAN; numbers.len()];
                by.round(&numbers, &mut rounded);
                assert_eq!(rounded, halves, "{shape:?}");
                all
            };
            let expected = packed(Instructions::Portable);
            assert_eq!(packed(Instructions::found()), expected, "{shape:?}");
            assert_eq!(expected[2..4], expected[4..6], "{shape:?}");
            let mut by_itself = Vec::new();
            let _ = Left::pack(Instructions::found(), by_row, &mut by_itself, Threads::One);
            assert_eq!([&by_itself, &expected[0]], [&expected[6], &expected[7]]);
        }
    }
}
