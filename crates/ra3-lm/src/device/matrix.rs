//! Matrix products through the `gemm` crate, behind views that check every bound.
//!
//! The order of a sum depends on the shapes and the number of threads only: the same product has
//! the same bits.

use gemm::Parallelism;
use half::bf16;

/// Below this a part is not worth a second thread.
const MULTIPLICATIONS_PER_PART: usize = 1 << 16;
/// Rows and columns of the library's innermost block: cuts fall between two of them.
const ROW_GRAIN: usize = 6;
const COLUMN_GRAIN: usize = 64;

/// A matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
    column_stride: usize,
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

/// `out = lhs · rhs`, or `out += lhs · rhs`; `out` is row-major `[lhs rows, rhs columns]`.
pub(crate) fn multiply(
    out: &mut [f32],
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
    threads: Threads,
) {
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
    let n_parts = match threads {
        Threads::One => 1,
        Threads::All => rayon::current_num_threads(),
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
        if n_parts <= 1 || self.n_multiplications() < MULTIPLICATIONS_PER_PART {
            return self.run_alone();
        }
        let n_first = n_parts / 2;
        let (first, second) = self.split(n_first, n_parts);
        rayon::join(
            move || first.run(n_first),
            move || second.run(n_parts - n_first),
        );
    }

    fn n_multiplications(&self) -> usize {
        self.lhs.n_rows * self.lhs.n_columns * self.rhs.n_columns
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

    #[expect(
        unsafe_code,
        reason = "the gemm crate takes raw pointers; all bounds are asserted in `multiply`"
    )]
    fn run_alone(self) {
        let (m, k, n) = (self.lhs.n_rows, self.lhs.n_columns, self.rhs.n_columns);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the views hold n_rows · n_columns elements at their strides, the block at `out`
        // holds m rows of n at `row_stride`, and nobody else touches it: `multiply` borrows all of
        // `out` mutably, so it overlaps neither operand, and parts are disjoint.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.out.0,
                1,
                self.row_stride as isize,
                self.accumulate,
                self.lhs.data.as_ptr(),
                self.lhs.column_stride as isize,
                self.lhs.row_stride as isize,
                self.rhs.data.as_ptr(),
                self.rhs.column_stride as isize,
                self.rhs.row_stride as isize,
                1.0f32,
                1.0f32,
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
