//! The sums of x86-64, whose floor is AVX2 and FMA (.cargo/config.toml), and AVX-512's.

use std::arch::x86_64::{
    __m256, __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps,
    _mm256_add_ps, _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_setzero_ps, _mm512_castps_pd, _mm512_castps512_ps256,
    _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_setzero_ps,
};

use super::{LANES, wholes};

/// The sums without the last numbers that fill no register.
#[inline]
#[expect(unsafe_code, reason = "the processor's instructions")]
pub(super) fn tile<const R: usize, const C: usize>(
    is_wide: bool,
    x: &[&[f32]; R],
    w: &[&[f32]; C],
) -> [[f32; C]; R] {
    if is_wide {
        // SAFETY: AVX-512 was found.
        unsafe { tile_512(x, w) }
    } else {
        // SAFETY: every processor that this crate is built for has them (.cargo/config.toml).
        unsafe { tile_256(x, w) }
    }
}

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
