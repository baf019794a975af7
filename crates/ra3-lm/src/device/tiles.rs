//! Sums of a few rows with a few columns, in the processor's registers: what `rows.rs` is made of.
//!
//! Every sum is one chain of fused terms, in a tile of any shape and width.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_loadu_ps, _mm_prefetch, _mm256_castps128_ps256, _mm256_fmadd_ps,
    _mm256_insertf128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

/// Numbers of a line of the processor's caches.
const LINE: usize = 16;
/// Most numbers of a tile's column, and most columns of a tile.
pub(super) const LANES_MAX: usize = 32;
pub(super) const COLUMNS_MAX: usize = 8;

/// Rows of a matrix from one on; behind the last it is repeated.
pub(super) fn columns<const C: usize>(matrix: &[f32], width: usize, first: usize) -> [&[f32]; C] {
    let last = matrix.len() / width - 1;
    std::array::from_fn(|index| &matrix[(first + index).min(last) * width..][..width])
}

/// Writes up to `lanes` rows as columns of a panel; what is in the other lanes is never read.
pub(super) fn transpose(rows: &[f32], width: usize, panel: &mut [f32], lanes: usize) {
    let n_rows = rows.len() / width;
    for first in (0..n_rows).step_by(8) {
        let eight: [&[f32]; 8] = columns(rows, width, first);
        let blocks = eight.map(|row| row.as_chunks::<8>());
        for at in 0..width / 8 {
            #[expect(unsafe_code, reason = "the processor's instructions")]
            // SAFETY: every processor that this crate is built for has AVX2 (.cargo/config.toml).
            let transposed =
                unsafe { transpose_256(std::array::from_fn(|row| &blocks[row].0[at])) };
            for (index, lanes_of) in transposed.into_iter().enumerate() {
                let place = &mut panel[(at * 8 + index) * lanes + first..][..8];
                place.copy_from_slice(&numbers_of(lanes_of));
            }
        }
        for at in width / 8 * 8..width {
            for (lane, row) in eight.iter().enumerate() {
                panel[at * lanes + first + lane] = row[at];
            }
        }
    }
}

/// Sums by row, for eight lanes of a tile: those from `8 · index` on.
#[inline]
pub(super) fn eight_rows(
    sums: &[[f32; LANES_MAX]; COLUMNS_MAX],
    index: usize,
) -> [[f32; 8]; COLUMNS_MAX] {
    let eight = std::array::from_fn(|column| &sums[column].as_chunks::<8>().0[index]);
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 (.cargo/config.toml).
    let transposed = unsafe { transpose_256(eight) };
    transposed.map(numbers_of)
}

/// Sums of a panel of `8 V` lanes with `C` columns.
#[inline]
pub(super) fn tile_256<const V: usize, const C: usize>(
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

/// [`tile_256`] in two registers of twice the width: the same sums.
#[inline]
pub(super) fn tile_512<const C: usize>(
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

/// Sums of `R` rows with `P` times eight columns.
pub(super) fn few<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len();
    let all = x.iter().chain(columns.as_flattened());
    assert!(
        all.into_iter().all(|row| row.len() == n),
        "rows of one width"
    );
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    let mut sums = unsafe { few_256(x, columns) };
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sums, columns) in sums.iter_mut().zip(columns) {
            for (sum, column) in sums.iter_mut().zip(columns) {
                for at in n / 8 * 8..n {
                    *sum = x[at].mul_add(column[at], *sum);
                }
            }
        }
    }
    sums
}

/// [`few`] without the last numbers, which fill no register.
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
            let transposed = transpose_256(std::array::from_fn(|column| &columns[p][column][at]));
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

/// Brings a number nearer that the next tile reads: behind its columns lie those of the next. The
/// processor does not foresee it, for a column is short.
#[inline]
fn fetch(end: *const f32, offset: usize) {
    #[expect(unsafe_code, reason = "a hint")]
    // SAFETY: a hint reads nothing, and may name what is not there.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(end.wrapping_add(offset).cast());
    }
}

/// Eight times eight numbers, rows as columns.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "four numbers are half a register")]
fn transpose_256(rows: [&[f32; 8]; 8]) -> [__m256; 8] {
    let mut transposed = [_mm256_setzero_ps(); 8];
    for half in 0..2 {
        // SAFETY: half a row is four numbers.
        let load = |row: usize| unsafe { _mm_loadu_ps(rows[row].as_ptr().add(4 * half)) };
        let pair =
            |row| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(load(row)), load(row + 4));
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
