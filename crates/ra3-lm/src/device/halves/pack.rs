//! Operands as tiles read them: rounded to `bf16`, two terms beside each other.

use half::bf16;
use rayon::prelude::*;

use super::tile::LANES;
use crate::device::matrix::View;

/// Two `bf16`, the first in the lower half: terms of a sum that follow each other. Behind the last
/// of an odd number stands a zero.
pub(super) type Pair = u32;

/// Below so many pairs one thread packs.
const PAIRS_PER_TASK: usize = 1 << 15;

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
    pub(super) fn pack(matrix: View<'_>, memory: &'a mut Vec<Pair>) -> Self {
        let (n_rows, n_pairs) = (matrix.n_rows, matrix.n_columns.div_ceil(2));
        memory.resize(n_rows * n_pairs, 0);
        let by_row = matrix.column_stride == 1;
        let width = if by_row { n_pairs } else { n_rows };
        memory
            .par_chunks_mut(width.max(1))
            .enumerate()
            .with_min_len(PAIRS_PER_TASK.div_ceil(width.max(1)))
            .for_each(|(index, place)| {
                if by_row {
                    pair_up(matrix.row(index), place);
                } else {
                    let terms = matrix.transposed();
                    interleave(
                        terms.row(2 * index),
                        terms.row_or_none(2 * index + 1),
                        place,
                    );
                }
            });
        let (row_stride, pair_stride) = if by_row { (n_pairs, 1) } else { (1, n_rows) };
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
pub(super) fn panels<'a>(matrix: View<'a>, memory: &mut Vec<Pair>) {
    let columns = matrix.transposed();
    each_panel([matrix.n_rows, matrix.n_columns], memory, |first, panel| {
        let n = LANES.min(matrix.n_columns - first);
        if columns.column_stride == 1 {
            for lane in 0..n {
                let pairs = panel.iter_mut().skip(lane).step_by(LANES);
                pair_up(columns.row(first + lane), pairs);
            }
        } else {
            for (pair, place) in panel.chunks_mut(LANES).enumerate() {
                let second = matrix.row_or_none(2 * pair + 1);
                let of_panel = |row: &'a [f32]| &row[first..first + n];
                interleave(of_panel(matrix.row(2 * pair)), second.map(of_panel), place);
            }
        }
    });
}

/// [`panels`] of the transpose of a weight `[columns, width]` that is rounded already.
pub(super) fn panels_of_halves(weight: &[bf16], width: usize, memory: &mut Vec<Pair>) {
    let n_columns = weight.len() / width;
    each_panel([width, n_columns], memory, |first, panel| {
        for lane in 0..LANES.min(n_columns - first) {
            let terms = &weight[(first + lane) * width..][..width];
            for (two, place) in terms
                .chunks(2)
                .zip(panel.iter_mut().skip(lane).step_by(LANES))
            {
                let second = two.get(1).map_or(0, |second| second.to_bits());
                *place = Pair::from(two[0].to_bits()) | Pair::from(second) << 16;
            }
        }
    });
}

/// Lets each panel be filled, which has zeros where there is no column; it is given its first one.
fn each_panel(
    [n_terms, n_columns]: [usize; 2],
    memory: &mut Vec<Pair>,
    fill: impl Fn(usize, &mut [Pair]) + Sync,
) {
    let n_panel = n_terms.div_ceil(2) * LANES;
    memory.resize(n_columns.div_ceil(LANES) * n_panel, 0);
    memory
        .par_chunks_mut(n_panel.max(1))
        .enumerate()
        .with_min_len(PAIRS_PER_TASK.div_ceil(n_panel.max(1)))
        .for_each(|(index, panel)| {
            if (index + 1) * LANES > n_columns {
                panel.fill(0);
            }
            fill(index * LANES, panel);
        });
}

/// Pairs of numbers that follow each other.
fn pair_up<'a>(numbers: &[f32], places: impl IntoIterator<Item = &'a mut Pair>) {
    let (twos, rest) = numbers.as_chunks::<2>();
    let mut places = places.into_iter();
    for (two, place) in twos.iter().zip(&mut places) {
        *place = pair(two[0], two[1]);
    }
    if let ([last], Some(place)) = (rest, places.next()) {
        *place = pair(*last, 0.0);
    }
}

/// Pairs of numbers of two rows.
fn interleave(first: &[f32], second: Option<&[f32]>, places: &mut [Pair]) {
    match second {
        Some(second) => {
            for ((place, first), second) in places.iter_mut().zip(first).zip(second) {
                *place = pair(*first, *second);
            }
        }
        None => {
            for (place, first) in places.iter_mut().zip(first) {
                *place = pair(*first, 0.0);
            }
        }
    }
}

fn pair(first: f32, second: f32) -> Pair {
    rounded(first) | rounded(second) << 16
}

/// The bits of the nearest `bf16`, the even one of two; without a branch, so that many are rounded
/// at once.
fn rounded(number: f32) -> u32 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if number.is_nan() { 0x7fc0 } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_the_library_does() {
        let numbers = [
            0.0,
            -0.0,
            1.0,
            1.003_906_2,
            1.011_718_8,
            -1.003_906_3,
            3.389_5e38,
            f32::MAX,
            1e-40,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        for number in numbers {
            let expected = bf16::from_f32(number).to_bits();
            assert_eq!(rounded(number), u32::from(expected), "{number}");
        }
        assert!(bf16::from_bits(rounded(f32::NAN) as u16).is_nan());
        assert!(bf16::from_bits(rounded(-f32::NAN) as u16).is_nan());
    }
}
