//! The sums in plain loops, for processors without ones of their own: the same bits.

use super::{LANES, wholes};

/// The sums without the last numbers that fill no register.
pub(super) fn tile<const R: usize, const C: usize>(
    _is_wide: bool,
    x: &[&[f32]; R],
    w: &[&[f32]; C],
) -> [[f32; C]; R] {
    let n = x[0].len() / LANES;
    let (x, w) = (wholes(x, n), wholes(w, n));
    let mut sums = [[[0.0f32; LANES]; C]; R];
    for at in 0..n {
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sums, w) in sums.iter_mut().zip(&w) {
                for ((sum, x), w) in sums.iter_mut().zip(&x[at]).zip(&w[at]) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
    }
    sums.map(|of_row| of_row.map(total))
}

/// The sum of sixteen lanes, by halves.
fn total(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
    }
    lanes[0]
}
