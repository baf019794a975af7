//! Pairs in plain loops, for processors without instructions of their own.

use half::bf16;

use super::{LANES, Pair};

/// A number that becomes half of a pair.
pub(super) trait Number: Copy {
    /// The bits of the nearest `bf16`.
    fn half(self) -> Pair;
}

impl Number for f32 {
    /// The even one of two; without a branch, so that many are rounded at once.
    fn half(self) -> Pair {
        let bits = self.to_bits();
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        if self.is_nan() { 0x7fc0 } else { nearest }
    }
}

impl Number for bf16 {
    fn half(self) -> Pair {
        Pair::from(self.to_bits())
    }
}

/// Rounds numbers.
pub(super) fn round(numbers: &[f32], places: &mut [bf16]) {
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = bf16::from_bits(number.half() as u16);
    }
}

/// Pairs of numbers that follow each other.
pub(super) fn pair_up<'a, T: Number>(
    numbers: &[T],
    places: impl IntoIterator<Item = &'a mut Pair>,
) {
    let (twos, rest) = numbers.as_chunks::<2>();
    let mut places = places.into_iter();
    for (two, place) in twos.iter().zip(&mut places) {
        *place = two[0].half() | two[1].half() << 16;
    }
    if let ([last], Some(place)) = (rest, places.next()) {
        *place = last.half();
    }
}

/// Pairs of numbers of two rows; those of no second one are zeros.
pub(super) fn interleave<T: Number>(first: &[T], second: &[T], places: &mut [Pair]) {
    for (place, first) in places.iter_mut().zip(first) {
        *place = first.half();
    }
    for (place, second) in places.iter_mut().zip(second) {
        *place |= second.half() << 16;
    }
}

/// Panels of sixteen columns: `[panel, pair of terms, column]`.
pub(super) fn terms<'a, T: Number + 'a>(
    n_pairs: usize,
    rows: impl Fn(usize) -> [&'a [T]; 2],
    panels: &mut [Pair],
) {
    for pair in 0..n_pairs {
        let rows = rows(pair);
        for (index, panel) in panels.chunks_mut(n_pairs * LANES).enumerate() {
            let [first, second] = rows.map(|row| row.get(index * LANES..).unwrap_or_default());
            interleave(first, second, &mut panel[pair * LANES..][..LANES]);
        }
    }
}

/// A panel of sixteen columns, of which some may be empty: `[pair of terms, column]`.
pub(super) fn turn<T: Number>(columns: &[&[T]; LANES], panel: &mut [Pair]) {
    for (lane, column) in columns.iter().enumerate() {
        pair_up(column, panel.iter_mut().skip(lane).step_by(LANES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_the_library_does() {
        let numbers = [
            0.0,
            -0.0,
            1.0,
            1.003_906_2,
            1.011_718_8,
            -1.003_906_3,
            3.389_5e38,
            f32::MAX,
            1e-40,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        for number in numbers {
            let expected = bf16::from_f32(number).to_bits();
            assert_eq!(number.half(), u32::from(expected), "{number}");
        }
        assert!(bf16::from_bits(f32::NAN.half() as u16).is_nan());
        assert!(bf16::from_bits((-f32::NAN).half() as u16).is_nan());
    }
}
