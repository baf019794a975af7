//! Matrix products through the `gemm` crate, behind views that check every bound.
//!
//! The same product has the same bits, whatever works on it. A number of the result is the sum
//! over its terms in runs of [`TERMS_PER_RUN`], each run one chain of fused terms: so long a run
//! the library never cuts, for parts of any size. A product is cut into parts by rows and columns,
//! one a thread, and never so small that the library takes another way for them.

use gemm_common::Parallelism;
use gemm_f32::gemm::f32::get_gemm_fn;
use half::bf16;

/// Terms of a sum that are added up before they meet the others.
const TERMS_PER_RUN: usize = 512;
/// Below this a part is not worth a second thread.
const MULTIPLICATIONS_PER_PART: usize = 1 << 16;
/// Below so many numbers a part is not cut: what has one row or column, or 256 numbers, the library
/// adds up in another order.
const NUMBERS_PER_PART: usize = 1 << 12;
/// Cuts fall between the library's innermost blocks: these are multiples of their rows and columns.
const ROW_GRAIN: usize = 6;
const COLUMN_GRAIN: usize = 32;

/// A matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    pub(super) n_rows: usize,
    pub(super) n_columns: usize,
    row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> View<'a> {
    /// Row-major `[n_rows, n_columns]`.
    pub(crate) fn new(data: &'a [f32], n_rows: usize, n_columns: usize) -> Self {
        assert!(
            data.len() >= n_rows * n_columns,
            "{} < {n_rows}·{n_columns}",
            data.len()
        );
        Self {
            data,
            n_rows,
            n_columns,
            row_stride: n_columns,
            column_stride: 1,
        }
    }

    /// A row of a matrix whose rows lie together.
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        assert!(self.column_stride == 1 && index < self.n_rows, "{index}");
        &self.data[index * self.row_stride..][..self.n_columns]
    }

    /// The rows of a matrix whose rows lie together.
    pub(crate) fn rows(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.n_rows).map(move |index| self.row(index))
    }

    /// The first `n` rows.
    pub(crate) fn first_rows(self, n: usize) -> Self {
        assert!(n <= self.n_rows, "{n} of {} rows", self.n_rows);
        Self { n_rows: n, ..self }
    }

    /// The first `n` rows, and the rest.
    fn split_rows(self, n: usize) -> (Self, Self) {
        let first = Self { n_rows: n, ..self };
        let start = (n * self.row_stride).min(self.data.len());
        let second = Self {
            data: &self.data[start..],
            n_rows: self.n_rows - n,
            ..self
        };
        (first, second)
    }

    /// The transpose of the same numbers.
    pub(crate) fn transposed(self) -> Self {
        Self {
            n_rows: self.n_columns,
            n_columns: self.n_rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Some rows of a matrix in any order, and of each the same columns: the keys of a path and a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered<'a, T> {
    /// `[rows of the matrix, stride]`.
    pub(crate) numbers: &'a [T],
    pub(crate) stride: usize,
    pub(crate) rows: &'a [usize],
    pub(crate) first_column: usize,
    pub(crate) width: usize,
}

impl<'a, T> Gathered<'a, T> {
    /// The `width` numbers of the row that is in this place.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> &'a [T] {
        &self.numbers[self.rows[index] * self.stride + self.first_column..][..self.width]
    }
}

/// A weight as it lies in memory, row-major.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Matrix<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl Matrix<'_> {
    pub(crate) fn n_numbers(self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }
}

/// Who works on a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// The calling thread.
    One,
    /// All threads of the pool.
    All,
}

impl Threads {
    fn n(self) -> usize {
        match self {
            Self::One => 1,
            Self::All => rayon::current_num_threads(),
        }
    }
}

/// `out = lhs · rhs`, or `out += lhs · rhs`; `out` is row-major `[lhs rows, rhs columns]`.
pub(crate) fn multiply(
    out: &mut [f32],
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
    threads: Threads,
) {
    multiply_in(threads.n(), out, accumulate, lhs, rhs);
}

fn multiply_in(n_parts: usize, out: &mut [f32], accumulate: bool, lhs: View<'_>, rhs: View<'_>) {
    let (m, n) = (lhs.n_rows, rhs.n_columns);
    assert_eq!(lhs.n_columns, rhs.n_rows, "inner sizes of a product");
    assert!(out.len() >= m * n, "{} < {m}·{n}", out.len());
    let part = Part {
        out: Pointer(out.as_mut_ptr()),
        row_stride: n,
        accumulate,
        lhs,
        rhs,
    };
    part.run(n_parts);
}

/// The first element of a block that one task alone writes.
#[derive(Clone, Copy, Debug)]
struct Pointer(*mut f32);

#[expect(
    unsafe_code,
    reason = "parts of one product write to disjoint blocks, see Part::split"
)]
// SAFETY: a part is the only one that writes to its block, and `multiply` outlives all parts.
unsafe impl Send for Pointer {}

/// A block of a product's rows and columns.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    out: Pointer,
    row_stride: usize,
    accumulate: bool,
    lhs: View<'a>,
    rhs: View<'a>,
}

impl Part<'_> {
    /// Halves the longer side until there are as many parts as threads: one task a thread costs
    /// far less waiting than the library's own finer ones, which meet after every panel.
    fn run(self, n_parts: usize) {
        let n_numbers = self.lhs.n_rows * self.rhs.n_columns;
        let n_multiplications = n_numbers * self.lhs.n_columns;
        if n_parts <= 1
            || n_numbers < NUMBERS_PER_PART
            || n_multiplications < MULTIPLICATIONS_PER_PART
        {
            return self.run_alone();
        }
        let n_first = n_parts / 2;
        let (first, second) = self.split(n_first, n_parts);
        rayon::join(
            move || first.run(n_first),
            move || second.run(n_parts - n_first),
        );
    }

    /// The first `share / of` of the longer side of `out`, and the rest.
    #[expect(unsafe_code, reason = "the second part's block begins inside `out`")]
    fn split(self, share: usize, of: usize) -> (Self, Self) {
        let (m, n) = (self.lhs.n_rows, self.rhs.n_columns);
        let cut = |size: usize, grain: usize| (size * share / of).next_multiple_of(grain).min(size);
        let (mut first, mut second) = (self, self);
        let offset = if m >= n {
            let row = cut(m, ROW_GRAIN);
            (first.lhs, second.lhs) = self.lhs.split_rows(row);
            row * self.row_stride
        } else {
            let column = cut(n, COLUMN_GRAIN);
            let (left, right) = self.rhs.transposed().split_rows(column);
            (first.rhs, second.rhs) = (left.transposed(), right.transposed());
            column
        };
        // SAFETY: the offset is at most the end of `out`, where the second part is empty.
        second.out = Pointer(unsafe { self.out.0.add(offset) });
        (first, second)
    }

    fn run_alone(mut self) {
        while self.lhs.n_columns > TERMS_PER_RUN {
            let (lhs, lhs_rest) = self.lhs.transposed().split_rows(TERMS_PER_RUN);
            let (rhs, rhs_rest) = self.rhs.split_rows(TERMS_PER_RUN);
            let run = Self {
                lhs: lhs.transposed(),
                rhs,
                ..self
            };
            run.add_up();
            self.accumulate = true;
            (self.lhs, self.rhs) = (lhs_rest.transposed(), rhs_rest);
        }
        self.add_up();
    }

    #[expect(
        unsafe_code,
        reason = "the gemm crate takes raw pointers; all bounds are asserted in `multiply`"
    )]
    fn add_up(self) {
        let (m, k, n) = (self.lhs.n_rows, self.lhs.n_columns, self.rhs.n_columns);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the views hold n_rows · n_columns elements at their strides, the block at `out`
        // holds m rows of n at `row_stride`, and nobody else touches it: `multiply` borrows all of
        // `out` mutably, so it overlaps neither operand, and parts are disjoint.
        unsafe {
            // The kernels write columns: outᵀ = rhsᵀ · lhsᵀ.
            get_gemm_fn()(
                n,
                m,
                k,
                self.out.0,
                self.row_stride as isize,
                1,
                self.accumulate,
                self.rhs.data.as_ptr(),
                self.rhs.row_stride as isize,
                self.rhs.column_stride as isize,
                self.lhs.data.as_ptr(),
                self.lhs.row_stride as isize,
                self.lhs.column_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(lhs: &[f32], rhs: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| lhs[i * k + l] * rhs[l * n + j]).sum();
            }
        }
        out
    }

    /// Products of shapes on both sides of every bound, with operands that lie in rows and that lie
    /// in columns: however many parts, the bits are those of one.
    #[test]
    fn the_number_of_parts_changes_no_bit() {
        let number = |i: usize| ((i * 37 + 11) % 1009) as f32 / 504.0 - 1.0;
        for (m, k, n) in [
            (2048, 40, 65),
            (65, 513, 64),
            (70, 704, 129),
            (1, 300, 5000),
            (5000, 300, 1),
            (2, 17, 4096),
            (64, 1100, 64),
            (333, 257, 48),
        ] {
            let lhs: Vec<f32> = (0..m * k).map(number).collect();
            let rhs: Vec<f32> = (0..k * n).map(|i| number(i + 5)).collect();
            for columns in [[false, false], [true, false], [false, true], [true, true]] {
                let view = |data, rows, width, in_columns| {
                    if in_columns {
                        View::new(data, width, rows).transposed()
                    } else {
                        View::new(data, rows, width)
                    }
                };
                let product = |n_parts| {
                    let mut out = vec![0.25; m * n];
                    let (lhs, rhs) = (view(&lhs, m, k, columns[0]), view(&rhs, k, n, columns[1]));
                    multiply_in(n_parts, &mut out, true, lhs, rhs);
                    out
                };
                let alone = product(1);
                for n_parts in [2, 3, 5, 8, 64] {
                    assert!(
                        product(n_parts) == alone,
                        "{m} {k} {n} {columns:?}: {n_parts}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_equal_the_triple_loop() {
        let number = |i: usize| ((i * 37 + 11) % 17) as f32 / 8.0 - 1.0;
        for (m, k, n) in [(1, 1, 1), (1, 5, 7), (3, 4, 5), (16, 33, 9), (40, 64, 131)] {
            let lhs: Vec<f32> = (0..m * k).map(number).collect();
            let rhs: Vec<f32> = (0..k * n).map(|i| number(i + 5)).collect();
            let expected = slow(&lhs, &rhs, m, k, n);
            let mut transposed = vec![0.0; k * n];
            for l in 0..k {
                for j in 0..n {
                    transposed[j * k + l] = rhs[l * n + j];
                }
            }
            let mut out = vec![1.0; m * n];
            multiply(
                &mut out,
                false,
                View::new(&lhs, m, k),
                View::new(&rhs, k, n),
                Threads::All,
            );
            let mut again = vec![1.0; m * n];
            let view = View::new(&transposed, n, k).transposed();
            multiply(&mut again, true, View::new(&lhs, m, k), view, Threads::One);
            for i in 0..m * n {
                assert!((out[i] - expected[i]).abs() < 1e-4, "{m} {k} {n}");
                assert!((again[i] - 1.0 - expected[i]).abs() < 1e-4, "{m} {k} {n}");
            }
        }
    }
}
