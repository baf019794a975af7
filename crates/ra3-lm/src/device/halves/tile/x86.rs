//! Tiles by the instruction that takes sixteen pairs at once.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
};

use super::{Column, LANES};

impl<const C: usize> Column<'_, C> {
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[expect(unsafe_code, reason = "sixteen numbers are a register")]
    #[expect(
        clippy::needless_range_loop,
        reason = "loops over constants are unrolled, and every sum stays in its register"
    )]
    pub(super) unsafe fn add_up_512<const R: usize>(&self) {
        let masks = self.widths.map(|width| ((1u32 << width) - 1) as u16);
        let [row_stride, pair_stride] = [self.left.row_stride, self.left.pair_stride];
        for tile in 0..self.n {
            let place = self.place.start.wrapping_add(tile * R * self.place.stride);
            let at = |r: usize, c: usize| place.wrapping_add(r * self.place.stride + c * LANES);
            let mut sums = [[_mm512_setzero_ps(); C]; R];
            if self.is_sum {
                for r in 0..R {
                    for c in 0..C {
                        // SAFETY: the tile's numbers, see `Instructions::of`.
                        sums[r][c] = unsafe { _mm512_maskz_loadu_ps(masks[c], at(r, c)) };
                    }
                }
            }
            let left = self.left.pairs.as_ptr().wrapping_add(tile * R * row_stride);
            for pair in 0..self.right[0].len() {
                let mut columns = [bf16s(_mm512_set1_epi32(0)); C];
                for c in 0..C {
                    // SAFETY: all panels have as many pairs, and sixteen of them are a register.
                    let of_panel =
                        unsafe { _mm512_loadu_si512(self.right[c].as_ptr().add(pair).cast()) };
                    columns[c] = bf16s(of_panel);
                }
                for r in 0..R {
                    // SAFETY: the last row's last pair is inside, see `Instructions::of`.
                    let row = unsafe { *left.add(r * row_stride + pair * pair_stride) };
                    let row = bf16s(_mm512_set1_epi32(row.cast_signed()));
                    for c in 0..C {
                        sums[r][c] = _mm512_dpbf16_ps(sums[r][c], row, columns[c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    // SAFETY: the tile's numbers, see `Instructions::of`.
                    unsafe { _mm512_mask_storeu_ps(at(r, c), masks[c], sums[r][c]) };
                }
            }
        }
    }
}

/// The same bytes as operands.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "the same bytes")]
pub(in crate::device::halves) fn bf16s(register: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(register) }
}
