//! Products of a few rows in the processor's registers.
//!
//! What is read next is asked for beforehand: the nodes of a path lie as far apart as there are
//! rows that are written at once, and the processor sees no pattern in that.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_dpbf16_ps, _mm512_mask_storeu_ps,
    _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};
use std::ops::Range;

use half::bf16;

use crate::device::halves::Packed;
use crate::device::halves::pack::x86::{from, half_pairs, transposed};
use crate::device::halves::pack::{Pair, pair_of_rows};
use crate::device::halves::tile::LANES;
use crate::device::halves::tile::x86::bf16s;
use crate::device::matrix::Gathered;

/// Rows whose sums are in registers at once.
const ROWS_MAX: usize = 8;
/// Halves of a register.
const HALVES: usize = 2 * LANES;
/// Bytes of a line of the caches.
const LINE: usize = 64;
/// So many rows of the right operand are asked for before they are read.
const ROWS_AHEAD: usize = 16;

/// See the parent.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn columns(out: &mut [f32], lhs: Packed<'_>, rhs: Gathered<'_, bf16>) {
    for first in (0..lhs.n_rows).step_by(ROWS_MAX) {
        let out = &mut out[first * rhs.rows.len()..];
        match lhs.n_rows - first {
            1 => columns_of::<1>(out, rows(lhs, first), rhs),
            2 => columns_of::<2>(out, rows(lhs, first), rhs),
            3 => columns_of::<3>(out, rows(lhs, first), rhs),
            4 => columns_of::<4>(out, rows(lhs, first), rhs),
            5 => columns_of::<5>(out, rows(lhs, first), rhs),
            6 => columns_of::<6>(out, rows(lhs, first), rhs),
            7 => columns_of::<7>(out, rows(lhs, first), rhs),
            _ => columns_of::<8>(out, rows(lhs, first), rhs),
        }
    }
}

/// See the parent. Sums of up to sixteen registers stay in them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn terms(out: &mut [f32], lhs: Packed<'_>, rhs: Gathered<'_, bf16>) {
    for first in (0..lhs.n_rows).step_by(ROWS_MAX) {
        let out = &mut out[first * rhs.width..];
        match lhs.n_rows - first {
            1 => terms_of::<1, 2>(out, rows(lhs, first), rhs),
            2 => terms_of::<2, 2>(out, rows(lhs, first), rhs),
            3 => terms_of::<3, 2>(out, rows(lhs, first), rhs),
            4 => terms_of::<4, 2>(out, rows(lhs, first), rhs),
            5 => terms_of::<5, 1>(out, rows(lhs, first), rhs),
            6 => terms_of::<6, 1>(out, rows(lhs, first), rhs),
            7 => terms_of::<7, 1>(out, rows(lhs, first), rhs),
            _ => terms_of::<8, 1>(out, rows(lhs, first), rhs),
        }
    }
}

fn rows<const R: usize>(lhs: Packed<'_>, first: usize) -> [&[Pair]; R] {
    std::array::from_fn(|r| lhs.pairs(first + r))
}

/// Sixteen columns at a time: a register has a pair of each.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn columns_of<const R: usize>(out: &mut [f32], lhs: [&[Pair]; R], rhs: Gathered<'_, bf16>) {
    let (n, n_pairs) = (rhs.rows.len(), lhs[0].len());
    for first in (0..n).step_by(LANES) {
        for next in first + ROWS_AHEAD..(first + ROWS_AHEAD + LANES).min(n) {
            ask_for(rhs.row(next));
        }
        let mut sums = [_mm512_setzero_ps(); R];
        for pair in (0..n_pairs).step_by(LANES) {
            let turned = turned(rhs, first, pair);
            if pair + LANES <= n_pairs {
                add_up(&mut sums, lhs, pair, &turned);
            } else {
                add_up(&mut sums, lhs, pair, &turned[..n_pairs - pair]);
            }
        }
        for (sums, out) in sums.into_iter().zip(out.chunks_mut(n)) {
            store(&mut out[first..], sums);
        }
    }
}

/// Registers of pairs that follow each other, of sixteen columns; behind the last column it is
/// repeated.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn turned(rhs: Gathered<'_, bf16>, first: usize, pair: usize) -> [__m512i; LANES] {
    let last = rhs.rows.len() - 1;
    let mut pairs = [_mm512_setzero_si512(); LANES];
    for (lane, pairs) in pairs.iter_mut().enumerate() {
        *pairs = half_pairs(from(rhs.row((first + lane).min(last)), 2 * pair));
    }
    transposed(&pairs)
}

/// Adds the products of each row's pairs, from one on, to its sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_up<const R: usize>(
    sums: &mut [__m512; R],
    lhs: [&[Pair]; R],
    pair: usize,
    columns: &[__m512i],
) {
    let lhs = lhs.map(|row| &row[pair..][..columns.len()]);
    for (index, columns) in columns.iter().enumerate() {
        for r in 0..R {
            sums[r] = added(sums[r], lhs[r][index], *columns);
        }
    }
}

/// `C` registers of halves at a time: their columns lie in two registers of sums.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, and every sum stays in its register"
)]
fn terms_of<const R: usize, const C: usize>(
    out: &mut [f32],
    lhs: [&[Pair]; R],
    rhs: Gathered<'_, bf16>,
) {
    let n = rhs.rows.len();
    for first in (0..rhs.width).step_by(C * HALVES) {
        let mut sums = [[[_mm512_setzero_ps(); 2]; C]; R];
        for term in (0..n).step_by(2) {
            for next in term + ROWS_AHEAD..(term + ROWS_AHEAD + 2).min(n) {
                ask_for(from(rhs.row(next), first));
            }
            let [row, second] = pair_of_rows(n, |term| rhs.row(term), term / 2);
            for c in 0..C {
                let at = first + c * HALVES;
                let [low, high] = interleaved(from(row, at), from(second, at));
                for r in 0..R {
                    let pair = lhs[r][term / 2];
                    sums[r][c] = [
                        added(sums[r][c][0], pair, low),
                        added(sums[r][c][1], pair, high),
                    ];
                }
            }
        }
        for (sums, out) in sums.into_iter().zip(out.chunks_mut(rhs.width)) {
            for (sums, out) in sums.into_iter().zip(out[first..].chunks_mut(HALVES)) {
                store_interleaved(out, sums);
            }
        }
    }
}

/// Pairs of the first numbers of two rows, in the order of [`store_interleaved`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved(first: &[bf16], second: &[bf16]) -> [__m512i; 2] {
    let (first, second) = (half_pairs(first), half_pairs(second));
    [
        _mm512_unpacklo_epi16(first, second),
        _mm512_unpackhi_epi16(first, second),
    ]
}

/// Writes numbers of which each four of the one register come before four of the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_interleaved(places: &mut [f32], [low, high]: [__m512; 2]) {
    let first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    let second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    store(places, _mm512_permutex2var_ps(low, first, high));
    if let Some(places) = places.get_mut(LANES..) {
        store(places, _mm512_permutex2var_ps(low, second, high));
    }
}

/// As many numbers as there are places, sixteen at most.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "sixteen numbers are a register")]
fn store(places: &mut [f32], numbers: __m512) {
    let mask = ((1u32 << places.len().min(LANES)) - 1) as u16;
    // SAFETY: no more numbers are written than there are places.
    unsafe { _mm512_mask_storeu_ps(places.as_mut_ptr(), mask, numbers) };
}

/// Sums with the products of a pair more.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn added(sums: __m512, row: Pair, columns: __m512i) -> __m512 {
    let row = _mm512_set1_epi32(row.cast_signed());
    _mm512_dpbf16_ps(sums, bf16s(row), bf16s(columns))
}

/// Lets the lines of numbers come to the second cache: the first one has room for only a few of a
/// path whose nodes lie whole pages apart.
#[inline]
#[expect(unsafe_code, reason = "a hint, which reads nothing")]
fn ask_for(numbers: &[bf16]) {
    let Range { start, end } = numbers.as_ptr_range();
    let mut line = start.map_addr(|address| address & !(LINE - 1));
    while line < end {
        // SAFETY: any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
        line = line.wrapping_byte_add(LINE);
    }
}
