//! Matrix products through the `gemm` crate, behind views that check every bound.
//!
//! The order of a sum depends on the shapes and the number of threads only: the same product has
//! the same bits.

use gemm::Parallelism;

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

/// Who works on a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// The calling thread.
    One,
    /// All threads of the pool.
    All,
}

/// `out = lhs · rhs`, or `out += lhs · rhs`; `out` is row-major `[lhs rows, rhs columns]`.
#[expect(
    unsafe_code,
    reason = "the gemm crate takes raw pointers; all bounds are asserted here"
)]
pub(crate) fn multiply(
    out: &mut [f32],
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
    threads: Threads,
) {
    let (m, k, n) = (lhs.n_rows, lhs.n_columns, rhs.n_columns);
    assert_eq!(k, rhs.n_rows, "inner sizes of a product");
    assert!(out.len() >= m * n, "{} < {m}·{n}", out.len());
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: the views hold n_rows · n_columns elements at their strides, `out` holds m · n, and
    // `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
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
        for (m, k, n) in [(1, 1, 1), (1, 5, 7), (3, 4, 5), (16, 33, 9), (40, 64, 31)] {
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
