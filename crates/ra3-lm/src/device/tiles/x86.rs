//! The tiles of x86-64, whose floor is AVX2 and FMA (.cargo/config.toml), and AVX-512's.

use std::arch::x86_64::{
    __m128, __m256, _MM_HINT_T1, _mm_castsi128_ps, _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch,
    _mm256_and_si256, _mm256_castps_si256, _mm256_castps128_ps256, _mm256_castsi256_ps,
    _mm256_fmadd_ps, _mm256_insertf128_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use half::bf16;

use super::{COLUMNS_MAX, LANES_MAX};

/// Numbers of a line of the processor's caches.
const LINE: usize = 16;

/// Sums of a panel of `8 V` lanes with `C` columns.
#[inline]
pub(in super::super) fn tile<const V: usize, const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let n = columns[0].len();
    assert!(panel.len() == 8 * V * n && columns.iter().all(|column| column.len() == n));
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    unsafe {
        sums_256::<V, C>(panel.as_chunks::<8>().0.as_chunks::<V>().0, columns, sums);
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn sums_256<const V: usize, const C: usize>(
    panel: &[[[f32; 8]; V]],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let columns: [&[f32]; C] = columns.map(|column| &column[..panel.len()]);
    let ahead = columns[C - 1].as_ptr_range().end;
    let mut chains = [[_mm256_setzero_ps(); V]; C];
    for (at, x) in panel.iter().enumerate() {
        fetch(ahead, C * at);
        for j in 0..C {
            let w = _mm256_set1_ps(columns[j][at]);
            for v in 0..V {
                chains[j][v] = _mm256_fmadd_ps(register(&x[v]), w, chains[j][v]);
            }
        }
    }
    for j in 0..C {
        for v in 0..V {
            sums[j][8 * v..8 * v + 8].copy_from_slice(&numbers_of(chains[j][v]));
        }
    }
}

/// [`tile`] of 32 lanes in two registers of twice the width: the same sums.
#[inline]
pub(in super::super) fn tile_wide<const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let n = columns[0].len();
    assert!(panel.len() == LANES_MAX * n && columns.iter().all(|column| column.len() == n));
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: panels of this width are made where AVX-512 was found.
    unsafe {
        sums_512::<C>(panel.as_chunks::<16>().0.as_chunks::<2>().0, columns, sums);
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "sixteen numbers are a register")]
fn sums_512<const C: usize>(
    panel: &[[[f32; 16]; 2]],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let columns: [&[f32]; C] = columns.map(|column| &column[..panel.len()]);
    let ahead = columns[C - 1].as_ptr_range().end;
    let mut chains = [[_mm512_setzero_ps(); 2]; C];
    for (at, x) in panel.iter().enumerate() {
        fetch(ahead, C * at);
        // SAFETY: both are sixteen numbers.
        let x = x.each_ref().map(|x| unsafe { _mm512_loadu_ps(x.as_ptr()) });
        for j in 0..C {
            let w = _mm512_set1_ps(columns[j][at]);
            for v in 0..2 {
                chains[j][v] = _mm512_fmadd_ps(x[v], w, chains[j][v]);
            }
        }
    }
    for j in 0..C {
        for (place, chain) in sums[j].as_chunks_mut::<16>().0.iter_mut().zip(chains[j]) {
            // SAFETY: sixteen numbers.
            unsafe { _mm512_storeu_ps(place.as_mut_ptr(), chain) };
        }
    }
}

/// Sums of rows with columns, but for the last numbers, which fill no register.
pub(super) fn few<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    unsafe {
        few_256(x, columns)
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn few_256<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len() / 8;
    let ahead = columns[P - 1][7].as_ptr_range().end;
    let x = x.map(|x| &x.as_chunks::<8>().0[..n]);
    let columns = columns.map(|eight| eight.map(|column| &column.as_chunks::<8>().0[..n]));
    let mut chains = [[_mm256_setzero_ps(); P]; R];
    for at in 0..n {
        for line in 0..4 * P {
            fetch(ahead, 64 * P * at + LINE * line);
        }
        for p in 0..P {
            let transposed = transpose_256(|column, half| four(&columns[p][column][at], half));
            for l in 0..8 {
                for r in 0..R {
                    let x = _mm256_set1_ps(x[r][at][l]);
                    chains[r][p] = _mm256_fmadd_ps(x, transposed[l], chains[r][p]);
                }
            }
        }
    }
    chains.map(|of_row| of_row.map(numbers_of))
}

/// [`few`] with columns in `bf16`: two terms lie in the place of one, and are transposed together.
pub(super) fn few_halves<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[bf16]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    unsafe {
        few_halves_256(x, columns)
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "eight numbers are half a register")]
fn few_halves_256<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[bf16]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len() / 16;
    let ahead = columns[P - 1][7].as_ptr_range().end;
    let x = x.map(|x| &x.as_chunks::<16>().0[..n]);
    let columns = columns.map(|eight| eight.map(|column| &column.as_chunks::<16>().0[..n]));
    let upper = _mm256_set1_epi32(0xffff_0000u32.cast_signed());
    let mut chains = [[_mm256_setzero_ps(); P]; R];
    for at in 0..n {
        for line in 0..4 * P {
            fetch(ahead, 2 * (64 * P * at + LINE * line));
        }
        for p in 0..P {
            let pairs = transpose_256(|column, half| {
                let eight = &columns[p][column][at].as_chunks::<8>().0[half];
                // SAFETY: eight `bf16` are four pairs.
                _mm_castsi128_ps(unsafe { _mm_loadu_si128(eight.as_ptr().cast()) })
            });
            for (l, pairs) in pairs.into_iter().enumerate() {
                let pairs = _mm256_castps_si256(pairs);
                let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
                let second = _mm256_castsi256_ps(_mm256_and_si256(pairs, upper));
                for r in 0..R {
                    let x = [2 * l, 2 * l + 1].map(|term| _mm256_set1_ps(x[r][at][term]));
                    chains[r][p] = _mm256_fmadd_ps(x[0], first, chains[r][p]);
                    chains[r][p] = _mm256_fmadd_ps(x[1], second, chains[r][p]);
                }
            }
        }
    }
    chains.map(|of_row| of_row.map(numbers_of))
}

/// Brings a number nearer that the next tile reads: behind its columns lie those of the next. The
/// processor does not foresee it, for it reads many columns at once, each of them short. It comes
/// into the second cache, since columns whose lengths are powers of two share few places of the
/// first: there what is fetched would drive out what is being read.
#[inline]
fn fetch<T>(end: *const T, offset: usize) {
    #[expect(unsafe_code, reason = "a hint")]
    // SAFETY: a hint reads nothing, and may name what is not there.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(end.wrapping_add(offset).cast());
    }
}

/// Eight times eight numbers, rows as columns.
#[inline]
pub(super) fn transpose_eight(rows: [&[f32; 8]; 8]) -> [[f32; 8]; 8] {
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 (.cargo/config.toml).
    let transposed = unsafe { transpose_256(|row, half| four(rows[row], half)) };
    transposed.map(numbers_of)
}

/// Rows as columns, where `load` has the halves of each row.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_256(load: impl Fn(usize, usize) -> __m128) -> [__m256; 8] {
    let mut transposed = [_mm256_setzero_ps(); 8];
    for half in 0..2 {
        let pair = |row| {
            let first = _mm256_castps128_ps256(load(row, half));
            _mm256_insertf128_ps::<1>(first, load(row + 4, half))
        };
        let [a, b, c, d] = [pair(0), pair(1), pair(2), pair(3)];
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (low_2, high_2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        transposed[4 * half] = _mm256_shuffle_ps::<0x44>(low, low_2);
        transposed[4 * half + 1] = _mm256_shuffle_ps::<0xEE>(low, low_2);
        transposed[4 * half + 2] = _mm256_shuffle_ps::<0x44>(high, high_2);
        transposed[4 * half + 3] = _mm256_shuffle_ps::<0xEE>(high, high_2);
    }
    transposed
}

/// The first four of eight numbers, or the last.
#[inline]
#[expect(unsafe_code, reason = "four numbers are half a register")]
fn four(numbers: &[f32; 8], half: usize) -> __m128 {
    // SAFETY: half of them are four numbers.
    unsafe { _mm_loadu_ps(numbers.as_chunks::<4>().0[half].as_ptr()) }
}

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn register(numbers: &[f32; 8]) -> __m256 {
    // SAFETY: eight numbers are eight lanes.
    unsafe { std::mem::transmute::<[f32; 8], __m256>(*numbers) }
}

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn numbers_of(register: __m256) -> [f32; 8] {
    // SAFETY: eight lanes are eight numbers.
    unsafe { std::mem::transmute::<__m256, [f32; 8]>(register) }
}
