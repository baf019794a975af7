//! Inner products of some rows with others that lie anywhere, for the attention of generation: the
//! bits of a product depend on its two rows alone.
//!
//! Every sum has sixteen lanes, whatever stands beside it. Nothing is packed: a path's keys lie all
//! over the cache, and few queries read each.

use std::arch::x86_64::{
    __m256, __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps,
    _mm256_add_ps, _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_setzero_ps, _mm512_castps_pd, _mm512_castps512_ps256,
    _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_setzero_ps,
};

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
    if is_x86_feature_detected!("avx512f") {
        walk::<4, 4>(Width::Sixteen, [n_rows, n_columns], row, column, put);
    } else {
        walk::<2, 3>(Width::Eight, [n_rows, n_columns], row, column, put);
    }
}

/// Numbers in a register.
#[derive(Clone, Copy, Debug)]
enum Width {
    Eight,
    Sixteen,
}

#[inline]
fn walk<'r, 'c, const R: usize, const C: usize>(
    width: Width,
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
            if r + R <= n_rows {
                let mut rows: [&[f32]; R] = [&[]; R];
                for (i, place) in rows.iter_mut().enumerate() {
                    *place = row(r + i);
                }
                let sums: [[f32; C]; R] = tile(width, &rows, &columns);
                for (i, sums) in sums.iter().enumerate() {
                    for (j, sum) in sums.iter().enumerate() {
                        put(r + i, c + j, *sum);
                    }
                }
                r += R;
            } else {
                let [sums]: [[f32; C]; 1] = tile(width, &[row(r)], &columns);
                for (j, sum) in sums.iter().enumerate() {
                    put(r, c + j, *sum);
                }
                r += 1;
            }
        }
    }
    for c in whole..n_columns {
        for r in 0..n_rows {
            put(r, c, tile(width, &[row(r)], &[column(c)])[0][0]);
        }
    }
}

/// The sums of a tile; each has the same order of terms in a tile of any shape and width.
#[inline]
#[expect(unsafe_code, reason = "the processor's instructions")]
fn tile<const R: usize, const C: usize>(
    width: Width,
    x: &[&[f32]; R],
    w: &[&[f32]; C],
) -> [[f32; C]; R] {
    let n = x[0].len();
    assert!(
        x.iter().chain(w).all(|row| row.len() == n),
        "rows of one width"
    );
    let mut sums = match width {
        // SAFETY: every processor that this crate is built for has them (.cargo/config.toml).
        Width::Eight => unsafe { tile_256(x, w) },
        // SAFETY: AVX-512 was found.
        Width::Sixteen => unsafe { tile_512(x, w) },
    };
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

/// The sums without the last numbers that fill no register.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, and every sum stays in its register"
)]
fn tile_256<const R: usize, const C: usize>(x: &[&[f32]; R], w: &[&[f32]; C]) -> [[f32; C]; R] {
    let n = x[0].len() / LANES;
    let (x, w) = (wholes(x, n), wholes(w, n));
    let mut sums = [[[_mm256_setzero_ps(); 2]; C]; R];
    for at in 0..n {
        for half in 0..2 {
            let mut loaded = [_mm256_setzero_ps(); C];
            for j in 0..C {
                loaded[j] = eight(&w[j][at], half);
            }
            for i in 0..R {
                let x = eight(&x[i][at], half);
                for j in 0..C {
                    sums[i][j][half] = _mm256_fmadd_ps(x, loaded[j], sums[i][j][half]);
                }
            }
        }
    }
    let mut totals = [[0.0; C]; R];
    for i in 0..R {
        for j in 0..C {
            totals[i][j] = total(sums[i][j]);
        }
    }
    totals
}

/// [`tile_256`] in registers of twice the width: the same sums.
#[inline(never)]
#[target_feature(enable = "avx512f")]
fn tile_512<const R: usize, const C: usize>(x: &[&[f32]; R], w: &[&[f32]; C]) -> [[f32; C]; R] {
    let n = x[0].len() / LANES;
    let (x, w) = (wholes(x, n), wholes(w, n));
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    for at in 0..n {
        let mut loaded = [_mm512_setzero_ps(); C];
        for j in 0..C {
            loaded[j] = sixteen(&w[j][at]);
        }
        for i in 0..R {
            let x = sixteen(&x[i][at]);
            for j in 0..C {
                sums[i][j] = _mm512_fmadd_ps(x, loaded[j], sums[i][j]);
            }
        }
    }
    let mut totals = [[0.0; C]; R];
    for i in 0..R {
        for j in 0..C {
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums[i][j]));
            totals[i][j] = total([_mm512_castps512_ps256(sums[i][j]), _mm256_castpd_ps(high)]);
        }
    }
    totals
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

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn eight(lanes: &[f32; LANES], half: usize) -> __m256 {
    let lanes = lanes.as_chunks::<8>().0[half];
    // SAFETY: eight numbers are eight lanes.
    unsafe { std::mem::transmute::<[f32; 8], __m256>(lanes) }
}

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn sixteen(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen numbers are sixteen lanes.
    unsafe { std::mem::transmute::<[f32; LANES], __m512>(*lanes) }
}

/// The sum of sixteen lanes, by halves.
#[inline]
#[target_feature(enable = "avx2")]
fn total([low, high]: [__m256; 2]) -> f32 {
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(
        _mm256_castps256_ps128(eight),
        _mm256_extractf128_ps::<1>(eight),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
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
            });
        }
    }
}
