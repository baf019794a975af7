//! Inner products of some rows with others that lie anywhere, for the attention of generation: the
//! bits of a product depend on its two rows alone.
//!
//! Every sum has sixteen lanes, whatever stands beside it. Nothing is packed: a path's keys lie all
//! over the cache, and few queries read each.

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
use portable as processor;
#[cfg(target_arch = "x86_64")]
use x86 as processor;

use super::has_wide_registers;

/// Lanes of a sum.
const LANES: usize = 16;
/// Every row times every column, in tiles.
#[inline]
pub(crate) fn products<'r, 'c>(
    n_rows: usize,
    row: impl Fn(usize) -> &'r [f32],
    n_columns: usize,
    column: impl Fn(usize) -> &'c [f32],
    put: impl FnMut(usize, usize, f32),
) {
    // As many sums as there are registers.
    if has_wide_registers() {
        walk::<4, 4>(true, [n_rows, n_columns], row, column, put);
    } else {
        walk::<2, 3>(false, [n_rows, n_columns], row, column, put);
    }
}

#[inline]
fn walk<'r, 'c, const R: usize, const C: usize>(
    is_wide: bool,
    [n_rows, n_columns]: [usize; 2],
    row: impl Fn(usize) -> &'r [f32],
    column: impl Fn(usize) -> &'c [f32],
    mut put: impl FnMut(usize, usize, f32),
) {
    let whole = n_columns / C * C;
    for c in (0..whole).step_by(C) {
        let mut columns: [&[f32]; C] = [&[]; C];
        for (j, place) in columns.iter_mut().enumerate() {
            *place = column(c + j);
        }
        let mut r = 0;
        while r < n_rows {
            let at = [r, c];
            r += match n_rows - r {
                n if n >= R => tile_at::<R, C>(is_wide, at, &row, &columns, &mut put),
                n if n >= 2 => tile_at::<2, C>(is_wide, at, &row, &columns, &mut put),
                _ => tile_at::<1, C>(is_wide, at, &row, &columns, &mut put),
            };
        }
    }
    for c in whole..n_columns {
        for r in 0..n_rows {
            put(r, c, tile(is_wide, &[row(r)], &[column(c)])[0][0]);
        }
    }
}

/// A tile whose first row and column are `at`; its number of rows.
#[inline]
fn tile_at<'r, const R: usize, const C: usize>(
    is_wide: bool,
    at: [usize; 2],
    row: &impl Fn(usize) -> &'r [f32],
    columns: &[&[f32]; C],
    put: &mut impl FnMut(usize, usize, f32),
) -> usize {
    let mut rows: [&[f32]; R] = [&[]; R];
    for (i, place) in rows.iter_mut().enumerate() {
        *place = row(at[0] + i);
    }
    let sums: [[f32; C]; R] = tile(is_wide, &rows, columns);
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            put(at[0] + i, at[1] + j, *sum);
        }
    }
    R
}

/// The sums of a tile; each has the same order of terms in a tile of any shape and width.
#[inline]
fn tile<const R: usize, const C: usize>(
    is_wide: bool,
    x: &[&[f32]; R],
    w: &[&[f32]; C],
) -> [[f32; C]; R] {
    let n = x[0].len();
    assert!(
        x.iter().chain(w).all(|row| row.len() == n),
        "rows of one width"
    );
    let mut sums = processor::tile(is_wide, x, w);
    let whole = n / LANES * LANES;
    if whole < n {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, w) in sums.iter_mut().zip(w) {
                for (x, w) in x[whole..].iter().zip(&w[whole..]) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
    }
    sums
}

/// The first `n` times sixteen numbers of each row.
#[inline]
fn wholes<'a, const N: usize>(rows: &[&'a [f32]; N], n: usize) -> [&'a [[f32; LANES]]; N] {
    let mut wholes: [&[[f32; LANES]]; N] = [&[]; N];
    for (whole, row) in wholes.iter_mut().zip(rows) {
        *whole = &row.as_chunks::<LANES>().0[..n];
    }
    wholes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::numbers;

    #[test]
    fn products_equal_the_plain_ones_and_their_bits_are_their_own() {
        for (m, k, n) in [(1, 1, 1), (2, 3, 3), (5, 16, 7), (9, 50, 49), (13, 40, 50)] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let row = |row: usize| &x[row * k..][..k];
            let column = |column: usize| &w[column * k..][..k];
            products(m, row, n, column, |r, c, found| {
                let plain: f64 = row(r)
                    .iter()
                    .zip(column(c))
                    .map(|(x, w)| f64::from(x * w))
                    .sum();
                assert!(
                    (f64::from(found) - plain).abs() < 1e-4,
                    "{m} {k} {n}: {r} {c}"
                );
                let alone = |_: usize, _: usize, alone: f32| {
                    assert_eq!(alone, found, "{m} {k} {n}: {r} {c}");
                };
                products(1, |_| row(r), 1, |_| column(c), alone);
                let [[portable]] = portable::tile(false, &[row(r)], &[column(c)]);
                let whole = k / LANES * LANES;
                let rest = row(r)[whole..].iter().zip(&column(c)[whole..]);
                let portable = rest.fold(portable, |sum, (x, w)| x.mul_add(*w, sum));
                assert_eq!(portable, found, "{m} {k} {n}: {r} {c}");
            });
        }
    }
}
