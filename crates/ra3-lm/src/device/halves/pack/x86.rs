//! Pairs by the processor's own instructions, which take numbers too small to be normal for zero,
//! as its products do.
//!
//! Where a row is empty nothing is read, not even under an empty mask: an address that is nowhere
//! costs the processor over a hundred cycles then.

use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _mm256_loadu_si256, _mm256_maskz_loadu_epi16,
    _mm256_setzero_si256, _mm512_castsi256_si512, _mm512_cvtne2ps_pbh, _mm512_inserti64x4,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use half::bf16;

use super::{LANES, Pair};

/// Where the halves of a register come to lie: each of the first sixteen before its own of the
/// others.
const INTERLEAVED: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 16 {
        order[2 * at] = at as u16;
        order[2 * at + 1] = 16 + at as u16;
        at += 1;
    }
    order
};

/// Rounds numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[expect(unsafe_code, reason = "thirty-two halves are a register")]
pub(super) fn round(numbers: &[f32], places: &mut [bf16]) {
    for (numbers, places) in numbers.chunks(2 * LANES).zip(places.chunks_mut(2 * LANES)) {
        let mask = u32::MAX >> (2 * LANES - places.len());
        // SAFETY: no more halves are written than there are places.
        unsafe { _mm512_mask_storeu_epi16(places.as_mut_ptr().cast(), mask, pairs(numbers)) };
    }
}

/// Pairs of numbers that follow each other.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pair_up(numbers: &[f32], places: &mut [Pair]) {
    for (numbers, places) in numbers.chunks(2 * LANES).zip(places.chunks_mut(LANES)) {
        store(places, pairs(numbers));
    }
}

/// Pairs of numbers of two rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn interleave(first: &[f32], second: &[f32], places: &mut [Pair]) {
    let order = order();
    for (index, places) in places.chunks_mut(LANES).enumerate() {
        let [first, second] = [first, second].map(|row| from(row, index * LANES));
        store(places, interleaved(order, [first, second]));
    }
}

/// Panels of sixteen columns: `[panel, pair of terms, column]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn terms<'a>(
    n_pairs: usize,
    rows: impl Fn(usize) -> [&'a [f32]; 2],
    panels: &mut [Pair],
) {
    let order = order();
    each_place(n_pairs, rows, panels, |rows| interleaved(order, rows));
}

/// [`terms`] of numbers that are rounded already.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn half_terms<'a>(
    n_pairs: usize,
    rows: impl Fn(usize) -> [&'a [bf16]; 2],
    panels: &mut [Pair],
) {
    let order = order();
    each_place(n_pairs, rows, panels, |[first, second]| {
        let low = _mm512_castsi256_si512(sixteen_halves(first));
        let both = _mm512_inserti64x4::<1>(low, sixteen_halves(second));
        _mm512_permutexvar_epi16(order, both)
    });
}

/// A panel of sixteen columns, of which some may be empty: `[pair of terms, column]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn turn(columns: &[&[f32]; LANES], panel: &mut [Pair]) {
    each_block(columns, panel, |numbers| pairs(numbers));
}

/// [`turn`] of numbers that are rounded already.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn turn_halves(columns: &[&[bf16]; LANES], panel: &mut [Pair]) {
    each_block(columns, panel, |numbers| half_pairs(numbers));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn each_place<'a, T: 'a>(
    n_pairs: usize,
    rows: impl Fn(usize) -> [&'a [T]; 2],
    panels: &mut [Pair],
    pairs: impl Fn([&[T]; 2]) -> __m512i,
) {
    for pair in 0..n_pairs {
        let rows = rows(pair);
        for (index, panel) in panels.chunks_mut(n_pairs * LANES).enumerate() {
            let rows = rows.map(|row| from(row, index * LANES));
            store(&mut panel[pair * LANES..][..LANES], pairs(rows));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn each_block<T>(columns: &[&[T]; LANES], panel: &mut [Pair], pairs: impl Fn(&[T]) -> __m512i) {
    for (index, block) in panel.chunks_mut(LANES * LANES).enumerate() {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, column) in rows.iter_mut().zip(columns) {
            *row = pairs(from(column, index * 2 * LANES));
        }
        for (place, turned) in block.chunks_mut(LANES).zip(transposed(&rows)) {
            store(place, turned);
        }
    }
}

/// What lies from a number on, if anything does.
#[inline]
pub(in super::super) fn from<T>(row: &[T], at: usize) -> &[T] {
    row.get(at..).unwrap_or_default()
}

/// Sixteen pairs of the first numbers, zeros behind the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(numbers: &[f32]) -> __m512i {
    let (first, second) = numbers.split_at(numbers.len().min(LANES));
    bits(_mm512_cvtne2ps_pbh(sixteen(second), sixteen(first)))
}

/// [`pairs`] of numbers that are rounded already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
#[expect(unsafe_code, reason = "thirty-two halves are a register")]
pub(in super::super) fn half_pairs(numbers: &[bf16]) -> __m512i {
    if let Some(numbers) = numbers.first_chunk::<{ 2 * LANES }>() {
        // SAFETY: thirty-two halves are 64 bytes.
        return unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
    }
    if numbers.is_empty() {
        return _mm512_setzero_si512();
    }
    let mask = (1u32 << numbers.len()) - 1;
    // SAFETY: no more halves are read than there are.
    unsafe { _mm512_maskz_loadu_epi16(mask, numbers.as_ptr().cast()) }
}

/// The first sixteen numbers of two rows, each with its own of the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn interleaved(order: __m512i, [first, second]: [&[f32]; 2]) -> __m512i {
    let rounded = _mm512_cvtne2ps_pbh(sixteen(second), sixteen(first));
    _mm512_permutexvar_epi16(order, bits(rounded))
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "thirty-two halves are a register")]
fn order() -> __m512i {
    // SAFETY: both are 64 bytes.
    unsafe { _mm512_loadu_si512(INTERLEAVED.as_ptr().cast()) }
}

/// The first sixteen numbers, zeros behind the last.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "sixteen numbers are a register")]
fn sixteen(numbers: &[f32]) -> __m512 {
    if let Some(numbers) = numbers.first_chunk::<LANES>() {
        // SAFETY: sixteen numbers are 64 bytes.
        return unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
    }
    if numbers.is_empty() {
        return _mm512_setzero_ps();
    }
    let mask = ((1u32 << numbers.len()) - 1) as u16;
    // SAFETY: no more numbers are read than there are.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

/// [`sixteen`] numbers that are rounded already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "sixteen halves are half a register")]
fn sixteen_halves(numbers: &[bf16]) -> __m256i {
    if let Some(numbers) = numbers.first_chunk::<LANES>() {
        // SAFETY: sixteen halves are 32 bytes.
        return unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) };
    }
    if numbers.is_empty() {
        return _mm256_setzero_si256();
    }
    let mask = ((1u32 << numbers.len()) - 1) as u16;
    // SAFETY: no more halves are read than there are.
    unsafe { _mm256_maskz_loadu_epi16(mask, numbers.as_ptr().cast()) }
}

/// As many pairs as there are places, sixteen at most.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "sixteen pairs are a register")]
fn store(places: &mut [Pair], pairs: __m512i) {
    if let Some(places) = places.first_chunk_mut::<LANES>() {
        // SAFETY: sixteen pairs are 64 bytes.
        unsafe { _mm512_storeu_si512(places.as_mut_ptr().cast(), pairs) };
    } else {
        let mask = ((1u32 << places.len()) - 1) as u16;
        // SAFETY: no more pairs are written than there are places.
        unsafe { _mm512_mask_storeu_epi32(places.as_mut_ptr().cast(), mask, pairs) };
    }
}

/// Rows as columns: fours of numbers first, then fours of these.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in super::super) fn transposed(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let (mut twos, mut fours, mut turned) = (*rows, *rows, *rows);
    for i in 0..8 {
        let [a, b] = [rows[2 * i], rows[2 * i + 1]];
        twos[2 * i] = _mm512_unpacklo_epi32(a, b);
        twos[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    for i in 0..4 {
        for half in 0..2 {
            let [a, b] = [twos[4 * i + half], twos[4 * i + 2 + half]];
            fours[4 * i + 2 * half] = _mm512_unpacklo_epi64(a, b);
            fours[4 * i + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    for i in 0..4 {
        let quarters = [fours[i], fours[4 + i], fours[8 + i], fours[12 + i]];
        let [a, b, c, d] = quarters;
        let even = [
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0x88>(c, d),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(c, d),
        ];
        turned[i] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        turned[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        turned[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        turned[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    turned
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "the same bytes")]
fn bits(halves: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(halves) }
}
