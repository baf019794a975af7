//! Scalar building blocks that compile to vector instructions: `exp` as a polynomial, sums in a
//! fixed number of lanes.
//!
//! The order of a sum depends on its length only.

/// Lanes of a sum.
const LANES: usize = 16;

/// Sum of a slice.
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Inner product of two slices of one length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = a.mul_add(*b, *lane);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Largest of a slice, `−∞` for an empty one.
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks
        .remainder()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().copied().fold(rest, f32::max)
}

/// `log Σ exp`.
pub(crate) fn log_sum_exp(values: &[f32]) -> f32 {
    let top = max(values);
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter();
    let rest: f32 = rest.map(|value| exp(value - top)).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += exp(value - top);
        }
    }
    top + (lanes.iter().sum::<f32>() + rest).ln()
}

/// Replaces values by `exp(value − top)`, and returns their [`sum`].
pub(crate) fn exp_each(values: &mut [f32], top: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exp(*value - top);
            *lane += *value;
        }
    }
    let rest = chunks.into_remainder();
    rest.iter_mut().for_each(|value| *value = exp(*value - top));
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `log Σ exp` over the tokens that a target is chosen among; `of_all` is that over all of them.
pub(crate) fn log_sum_exp_among(logits: &[f32], choices: Option<&[u32]>, of_all: f32) -> f32 {
    choices.map_or(of_all, |choices| {
        let chosen = choices.iter().map(|choice| logits[*choice as usize]);
        log_sum_exp(&chosen.collect::<Vec<f32>>())
    })
}

/// `e^x` for `x ≤ 88`, with a relative error below 4e-7; 0 below −87, where `f32` runs out; NaN for
/// NaN.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a loop over it becomes vector instructions only where it is inlined"
)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts keeps r exact.
    // Not `max`, which takes the number where the other is NaN.
    let clamped = if x < -87.0 { -87.0 } else { x };
    // Next to 3/2 · 2^23 the last bits of a number are an integer: a conversion would have to think
    // of numbers that no integer holds.
    let rounded = clamped * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = rounded - 12_582_912.0;
    let r = (-n).mul_add(0.693_359_4, clamped);
    let r = (-n).mul_add(-2.121_944_4e-4, r);
    // Taylor to r^6 / 720 with the last terms fitted.
    let p = 1.388_889e-3f32;
    let p = p.mul_add(r, 8.333_334e-3);
    let p = p.mul_add(r, 4.166_666_7e-2);
    let p = p.mul_add(r, 0.166_666_67);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { p * scale }
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a loop over it becomes vector instructions only where it is inlined"
)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    // Not `min`, see `exp`.
    1.0 / (1.0 + exp(if x < -88.0 { 88.0 } else { -x }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_equal_the_plain_ones() {
        for n in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 2.0).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
            assert_eq!(sum(&a), a.iter().sum::<f32>());
            assert_eq!(
                dot(&a, &b),
                a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>()
            );
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        for n in [0, 1, 15, 16, 17, 100] {
            let mut values: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 9.0).collect();
            let expected: Vec<f32> = values.iter().map(|value| exp(value - 1.5)).collect();
            let total = 1.5 + sum(&expected).ln();
            let with_top: Vec<f32> = values.iter().copied().chain([1.5]).collect();
            assert_eq!(exp_each(&mut values, 1.5), sum(&expected));
            assert_eq!(values, expected);
            let found = log_sum_exp(&with_top);
            assert!(
                (found - (total.exp() + 1.5f32.exp()).ln()).abs() < 1e-5,
                "{n}"
            );
        }
        let expected = (1f32.exp() + 2f32.exp() + 3f32.exp()).ln();
        assert!((log_sum_exp(&[1.0, 2.0, 3.0]) - expected).abs() < 1e-6);
    }

    #[test]
    fn exp_is_the_standard_one() {
        for i in -8700..=880 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 4e-7, "{x}: {error}");
        }
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert!(log_sum_exp(&[1.0, f32::NAN, 2.0]).is_nan());
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!((sigmoid(-100.0)).abs() < 1e-30 && sigmoid(100.0) == 1.0);
    }
}
