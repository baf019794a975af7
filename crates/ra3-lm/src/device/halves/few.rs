//! Products of a few rows with numbers in `bf16` that lie anywhere: the attention of tokens that
//! are drawn one by one.
//!
//! To pack the right operand costs more than its products with so few rows. Here its numbers go
//! from where they lie into registers, are put in pairs there and meet every row at once; only the
//! rows are packed. Each sum is the chain of the packed form, so no bit tells which was used.
//! Not done here: to say how many rows are few, and to work with more than one thread.

#[cfg(target_arch = "x86_64")]
mod x86;

use half::bf16;

use super::pack::{Pair, pair_of_rows};
use super::tile::{Instructions, widened};
use super::{Packed, with_rows};
use crate::device::matrix::{Gathered, Threads, View};

/// `out = lhs · rhsᵀ`; `lhs` is `[rows, width]` and `out` `[rows, rhs rows]`.
pub(crate) fn multiply_columns(out: &mut [f32], lhs: &[f32], rhs: Gathered<'_, bf16>) {
    let lhs = View::new(lhs, lhs.len() / rhs.width, rhs.width);
    with_rows(lhs, Threads::One, |lhs| {
        columns(Instructions::found(), out, lhs, rhs);
    });
}

/// `out = lhs · rhs`; `lhs` is `[rows, rhs rows]` and `out` `[rows, width]`.
pub(crate) fn multiply_terms(out: &mut [f32], lhs: &[f32], rhs: Gathered<'_, bf16>) {
    let n_terms = rhs.rows.len();
    let lhs = View::new(lhs, lhs.len() / n_terms, n_terms);
    with_rows(lhs, Threads::One, |lhs| {
        terms(Instructions::found(), out, lhs, rhs);
    });
}

#[expect(unsafe_code, reason = "the processor's instructions, which were found")]
fn columns(by: Instructions, out: &mut [f32], lhs: Packed<'_>, rhs: Gathered<'_, bf16>) {
    assert_eq!(lhs.n_terms, rhs.width, "inner sizes of a product");
    let n = rhs.rows.len();
    let out = &mut out[..lhs.n_rows * n];
    match by {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: AVX-512 with bf16 was found.
        Instructions::Bf16 => unsafe { x86::columns(out, lhs, rhs) },
        Instructions::Portable => {
            for (at, out) in out.iter_mut().enumerate() {
                let (twos, rest) = rhs.row(at % n).as_chunks::<2>();
                let last = rest.first().map(|last| [*last, bf16::ZERO]);
                let pairs = lhs.pairs(at / n).iter().zip(twos.iter().chain(&last));
                *out = pairs.fold(0.0, |sum, (row, two)| added(sum, *row, *two));
            }
        }
    }
}

#[expect(unsafe_code, reason = "the processor's instructions, which were found")]
fn terms(by: Instructions, out: &mut [f32], lhs: Packed<'_>, rhs: Gathered<'_, bf16>) {
    let n = rhs.rows.len();
    assert_eq!(lhs.n_terms, n, "inner sizes of a product");
    let out = &mut out[..lhs.n_rows * rhs.width];
    match by {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: AVX-512 with bf16 was found.
        Instructions::Bf16 => unsafe { x86::terms(out, lhs, rhs) },
        Instructions::Portable => {
            out.fill(0.0);
            for index in 0..n.div_ceil(2) {
                let [first, second] = pair_of_rows(n, |term| rhs.row(term), index);
                for (row, sums) in out.chunks_mut(rhs.width).enumerate() {
                    let pair = lhs.pairs(row)[index];
                    for (column, sum) in sums.iter_mut().enumerate() {
                        let second = second.get(column).copied().unwrap_or_default();
                        *sum = added(*sum, pair, [first[column], second]);
                    }
                }
            }
        }
    }
}

/// A sum with two terms more; see the words of the parent.
fn added(sum: f32, row: Pair, two: [bf16; 2]) -> f32 {
    let (row, two) = (widened(row), two.map(f32::from));
    row[0].mul_add(two[0], row[1].mul_add(two[1], sum))
}

impl<'a> Packed<'a> {
    /// The pairs of a row of a matrix whose rows lie together.
    fn pairs(&self, row: usize) -> &'a [Pair] {
        assert_eq!(self.left.pair_stride, 1, "pairs that follow each other");
        &self.left.pairs[row * self.left.row_stride..][..self.left.row_stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::halves::{Panels, multiply_with, numbers};

    /// Rows, keys and widths on both sides of every bound; keys are the second head of three, and
    /// lie in no order.
    #[test]
    fn few_rows_have_the_bits_of_many() {
        for width in [1, 15, 16, 38, 64, 83, 148] {
            for n in [1, 2, 15, 16, 17, 31, 32, 63, 130] {
                let halves: Vec<bf16> = numbers(3 * n * width, 2)
                    .into_iter()
                    .map(bf16::from_f32)
                    .collect();
                let rows: Vec<usize> = (0..n).map(|key| (key * 7 + 3) % n).collect();
                let rhs = Gathered {
                    numbers: &halves,
                    stride: 3 * width,
                    rows: &rows,
                    first_column: width,
                    width,
                };
                let mut panels = [Panels::default(), Panels::default()];
                panels[0].set_columns([width, n], |index| rhs.row(index));
                panels[1].set_terms([n, width], |index| rhs.row(index));
                for n_rows in (1..=9).chain([17]) {
                    for by in [Instructions::Portable, Instructions::found()] {
                        let found = products(by, n_rows, rhs, &panels);
                        assert!(found[0] == found[1], "keys: {by:?} {n_rows} {width} {n}");
                        assert!(found[2] == found[3], "values: {by:?} {n_rows} {width} {n}");
                    }
                }
            }
        }
    }

    /// With columns, with columns that are packed, with terms, and with terms that are packed.
    fn products(
        by: Instructions,
        n_rows: usize,
        rhs: Gathered<'_, bf16>,
        panels: &[Panels; 2],
    ) -> [Vec<f32>; 4] {
        let [width, n] = [rhs.width, rhs.rows.len()];
        let (q, scores) = (numbers(n_rows * width, 1), numbers(n_rows * n, 3));
        let mut out = [n, n, width, width].map(|n| vec![f32::NAN; n_rows * n]);
        let [few, packed, few_terms, packed_terms] = &mut out;
        with_rows(View::new(&q, n_rows, width), Threads::One, |lhs| {
            columns(by, few, lhs, rhs);
            multiply_with(
                by,
                [(&mut packed[..], false, (&panels[0]).into())],
                lhs,
                Threads::One,
            );
        });
        with_rows(View::new(&scores, n_rows, n), Threads::One, |lhs| {
            terms(by, few_terms, lhs, rhs);
            let parts = [(&mut packed_terms[..], false, (&panels[1]).into())];
            multiply_with(by, parts, lhs, Threads::One);
        });
        out
    }
}
