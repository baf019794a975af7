//! Curves of several seeds: a number, such as held-out pass@1, at each of some updates.
//!
//! `values[seed][point]` belongs to `updates[point]`. An area, a plateau, or the difference of two
//! arms in one of them, is one number a seed: its interval is [`interval`]'s. These intervals hold
//! for other seeds on the same problems.

use crate::over_seeds::{interval, mean, mean_of_rows};
use crate::pass_at_k::Estimate;

/// The curve of means over seeds.
///
/// # Panics
/// A seed has fewer points than the first.
pub fn mean_curve(values: &[Vec<f64>]) -> Vec<f64> {
    mean_of_rows(values)
}

/// The mean at each point with its [`interval`] over seeds, for each point by itself; none with
/// fewer than two seeds.
///
/// # Panics
/// A seed has fewer points than the first.
pub fn band(values: &[Vec<f64>]) -> Option<Vec<Estimate>> {
    let n_points = values.first()?.len();
    let at = |point: usize| interval(&values.iter().map(|curve| curve[point]).collect::<Vec<_>>());
    (0..n_points).map(at).collect()
}

/// The area under a curve by trapezoids, divided by the range of updates: its mean height. None
/// with fewer than two points.
///
/// # Panics
/// The updates do not rise, or are not as many as the curve's points.
pub fn area(updates: &[f64], curve: &[f64]) -> Option<f64> {
    assert_curve(updates, curve);
    let (first, last) = (updates.first()?, updates.last()?);
    let pairs = updates.windows(2).zip(curve.windows(2));
    let sum: f64 = pairs
        .map(|(x, y)| (x[1] - x[0]) * f64::midpoint(y[0], y[1]))
        .sum();
    (last > first).then(|| sum / (last - first))
}

/// Where a curve ends: the mean of the last quarter of its points, rounded up. None without points.
pub fn plateau(curve: &[f64]) -> Option<f64> {
    let n = curve.len();
    (n > 0).then(|| mean(&curve[n - n.div_ceil(4)..]))
}

/// The updates after which a curve, straight between its points, is at `level` or above for the
/// first time; none if it never is.
///
/// A first crossing is early where a curve is noisy: ask it of the [`mean_curve`].
///
/// # Panics
/// The updates do not rise, or are not as many as the curve's points.
pub fn updates_to_reach(updates: &[f64], curve: &[f64], level: f64) -> Option<f64> {
    assert_curve(updates, curve);
    let reached = curve.iter().position(|value| *value >= level)?;
    let Some(before) = reached.checked_sub(1) else {
        return Some(updates[reached]);
    };
    let share = (level - curve[before]) / (curve[reached] - curve[before]);
    Some(updates[before] + share * (updates[reached] - updates[before]))
}

fn assert_curve(updates: &[f64], curve: &[f64]) {
    assert_eq!(updates.len(), curve.len(), "a value for each of the points");
    assert!(updates.is_sorted_by(|a, b| a < b), "updates rise");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UPDATES: [f64; 4] = [0.0, 10.0, 30.0, 40.0];

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn curves_by_hand() {
        let curve = [0.4, 0.6, 0.5, 0.9];
        // (10 · 0.5 + 20 · 0.55 + 10 · 0.7) / 40.
        assert!(close(area(&UPDATES, &curve).unwrap(), 23.0 / 40.0));
        assert_eq!((area(&[1.0], &[0.5]), area(&[], &[])), (None, None));
        assert_eq!(plateau(&curve), Some(0.9));
        // Five points: the last two.
        assert!(close(plateau(&[0.0, 0.0, 0.0, 0.3, 0.4]).unwrap(), 0.35));
        assert_eq!(plateau(&[]), None);
        let reach = |level: f64| updates_to_reach(&UPDATES, &curve, level);
        assert_eq!(
            (reach(0.3), reach(0.4), reach(0.6)),
            (Some(0.0), Some(0.0), Some(10.0))
        );
        // Half way up the first piece; three quarters up the last.
        assert!(close(reach(0.5).unwrap(), 5.0) && close(reach(0.8).unwrap(), 37.5));
        assert_eq!(reach(0.91), None);
    }

    #[test]
    fn bands_by_hand() {
        let values = [vec![0.2, 0.5], vec![0.4, 0.5]];
        let found = band(&values).unwrap();
        // A standard error of 0.1, and t(1) = 12.7062.
        assert!(close(found[0].mean, 0.3) && (found[0].high - 0.3 - 1.270_62).abs() < 1e-5);
        assert_eq!((found[1].low, found[1].high), (0.5, 0.5));
        assert_eq!(band(&values[..1]), None);
        assert!(close(mean_curve(&values)[0], 0.3));
        assert_eq!(mean_curve(&values[..1]), values[0]);
    }

    #[test]
    #[should_panic(expected = "updates rise")]
    fn updates_that_stand_still_are_refused() {
        area(&[0.0, 0.0], &[0.1, 0.2]);
    }

    /// Two to five seeds' curves of 2 to 12 points, and the points' updates.
    fn curves() -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>)> {
        (2usize..6, 2usize..13).prop_flat_map(|(n_seeds, n_points)| {
            let steps = proptest::collection::vec(0.1..10.0, n_points);
            let updates = steps.prop_map(|steps: Vec<f64>| {
                let sum = steps.iter().scan(0.0, |sum, step| {
                    *sum += step;
                    Some(*sum)
                });
                sum.collect()
            });
            let curve = proptest::collection::vec(0.0..1.0, n_points);
            (updates, proptest::collection::vec(curve, n_seeds))
        })
    }

    proptest! {
        /// The mean of the areas is the area under the mean, and a plateau's too; both lie within
        /// the curve, and a shift shifts them.
        #[test]
        fn areas_and_plateaus_are_means((updates, values) in curves(), shift in -1.0..1.0) {
            let of_mean = mean_curve(&values);
            let under = |curve: &[f64]| area(&updates, curve).unwrap();
            let end = |curve: &[f64]| plateau(curve).unwrap();
            for measure in [&under as &dyn Fn(&[f64]) -> f64, &end] {
                let by_seed: Vec<f64> = values.iter().map(|curve| measure(curve)).collect();
                prop_assert!(close(interval(&by_seed).unwrap().mean, measure(&of_mean)));
                let (low, high) = of_mean.iter().fold((1.0f64, 0.0f64), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                });
                let found = measure(&of_mean);
                prop_assert!(low - 1e-12 <= found && found <= high + 1e-12);
                let shifted: Vec<f64> = of_mean.iter().map(|value| value + shift).collect();
                prop_assert!(close(measure(&shifted), found + shift));
            }
            let means: Vec<f64> = band(&values).unwrap().iter().map(|point| point.mean).collect();
            prop_assert!(means.iter().zip(&of_mean).all(|(a, b)| close(*a, *b)));
        }

        /// Before the updates found the curve is below the level at each point, and there it is
        /// at the level; a higher level is not reached earlier.
        #[test]
        fn a_level_is_reached_once((updates, values) in curves(), level in 0.0..1.0) {
            let curve = &values[0];
            let top = curve.iter().copied().fold(0.0, f64::max);
            let Some(found) = updates_to_reach(&updates, curve, level) else {
                prop_assert!(top < level);
                return Ok(());
            };
            let n_before = updates.iter().filter(|at| **at < found).count();
            prop_assert!(curve[..n_before].iter().all(|value| *value < level));
            prop_assert!(curve[n_before] >= level - 1e-9);
            if let Some(higher) = updates_to_reach(&updates, curve, level + 0.05) {
                prop_assert!(higher >= found);
            }
        }
    }
}
