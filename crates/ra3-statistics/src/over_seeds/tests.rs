//! Values by hand, what moves an interval and what does not, and how often it holds the truth.

use super::*;
use proptest::prelude::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn two_seeds_and_two_problems_by_hand() {
    // Means of seeds 0.5 and 0.75 (variance 1/32), of problems 0.75 and 0.5 (variance 1/32);
    // residuals ± 0.125, so squares of 1/16 with one degree of freedom.
    // a = 1/64; b − e = 1/64 − 1/64 = 0: only the seeds remain, and t(1) = 12.7062.
    let found = estimate(&[vec![0.5, 0.5], vec![1.0, 0.5]], Seed::root(1));
    assert!(close(found.mean, 0.625));
    assert!((found.high - found.mean - 12.7062 / 8.0).abs() < 1e-5);
    // Without noise: seeds 0.2 apart (a = 0.01), problems 0.6 apart (b = 0.09).
    let found = estimate(&[vec![0.1, 0.7], vec![0.3, 0.9]], Seed::root(1));
    let half = 12.7062 * 0.1f64.sqrt();
    assert!(close(found.mean, 0.5) && (found.mean - found.low - half).abs() < 1e-5);
}

#[test]
fn three_seeds_by_hand() {
    // Variance 1, so 4.30265 / √3; the same of one problem, whose part is not known.
    let found = interval(&[1.0, 2.0, 3.0]).unwrap();
    assert!(close(found.mean, 2.0) && (found.high - 2.0 - 2.484_137).abs() < 1e-5);
    let one_problem = [vec![1.0], vec![2.0], vec![3.0]];
    assert_eq!(estimate(&one_problem, Seed::root(1)), found);
    assert_eq!((interval(&[1.0]), interval(&[])), (None, None));
}

#[test]
fn one_seed_is_the_bootstrap_over_problems() {
    let row: Vec<f64> = (0..40).map(|i| f64::from(i % 3) / 2.0).collect();
    let expected = pass_at_k::estimate(&row, Seed::root(5));
    assert_eq!(estimate(&[row], Seed::root(5)), expected);
    let nothing = pass_at_k::estimate(&[], Seed::root(5));
    assert_eq!(estimate(&[], Seed::root(5)), nothing);
    assert_eq!(estimate(&[vec![], vec![]], Seed::root(5)), nothing);
}

#[test]
#[should_panic(expected = "every seed has the same problems")]
fn ragged_values_are_refused() {
    estimate(&[vec![0.5, 0.5], vec![0.5]], Seed::root(1));
}

#[test]
#[should_panic(expected = "both sides have the same seeds")]
fn sides_with_other_seeds_are_refused() {
    difference(&[vec![0.5], vec![0.5]], &[vec![0.5]], Seed::root(1));
}

/// Values of 1 to 5 seeds on 1 to 20 problems.
fn matrix() -> impl Strategy<Value = Vec<Vec<f64>>> {
    (1usize..6, 1usize..21).prop_flat_map(|(n_seeds, n_problems)| {
        let row = proptest::collection::vec(0.0..1.0, n_problems);
        proptest::collection::vec(row, n_seeds)
    })
}

fn assert_near(one: Estimate, other: Estimate) {
    // Roots of squares of 1e-16 that should be 0.
    let far = |a: f64, b: f64| (a - b).abs() > 1e-7;
    let apart = far(one.mean, other.mean) || far(one.low, other.low) || far(one.high, other.high);
    assert!(!apart, "{one:?} and {other:?}");
}

proptest! {
    /// Of one seed as of many; scaling by a negative number would turn the ends of the interval.
    #[test]
    fn a_shift_and_a_scale_carry_over(
        values in matrix(), shift in -2.0..2.0, scale in 0.1..3.0, root in 0u64..100,
    ) {
        let found = estimate(&values, Seed::root(root));
        let moved: Vec<Vec<f64>> = values
            .iter()
            .map(|row| row.iter().map(|value| value * scale + shift).collect())
            .collect();
        let carry = |value: f64| value * scale + shift;
        let expected = Estimate {
            mean: carry(found.mean),
            low: carry(found.low),
            high: carry(found.high),
        };
        assert_near(estimate(&moved, Seed::root(root)), expected);
        prop_assert!(found.low <= found.mean && found.mean <= found.high);
    }

    #[test]
    fn the_order_of_seeds_and_of_problems_is_nothing(
        values in matrix().prop_filter("draws depend on the order", |values| values.len() > 1),
        root in 0u64..100,
    ) {
        let of_seeds = Seed::root(root).child("seeds").permutation(values.len());
        let of_problems = Seed::root(root).child("problems").permutation(values[0].len());
        let turned: Vec<Vec<f64>> = of_seeds
            .iter()
            .map(|row| of_problems.iter().map(|problem| values[*row][*problem]).collect())
            .collect();
        let found = estimate(&turned, Seed::root(1));
        assert_near(found, estimate(&values, Seed::root(2)));
    }

    /// What moves both sides alike leaves the difference, and the sides change its sign.
    #[test]
    fn a_difference_is_paired(values in matrix(), gap in -0.5..0.5, root in 0u64..100) {
        let seed = Seed::root(root);
        let other: Vec<Vec<f64>> = values
            .iter()
            .map(|row| row.iter().map(|value| value - gap).collect())
            .collect();
        let expected = Estimate { mean: gap, low: gap, high: gap };
        assert_near(difference(&values, &other, seed), expected);
        let level = vec![vec![0.0; values[0].len()]; values.len()];
        prop_assert_eq!(difference(&values, &level, seed), estimate(&values, seed));
        if values.len() > 1 {
            let (there, back) = (estimate(&values, seed), difference(&level, &values, seed));
            let expected = Estimate { mean: -there.mean, low: -there.high, high: -there.low };
            assert_near(back, expected);
        }
    }

    /// The problem's part only adds to the interval that takes problems for given.
    #[test]
    fn other_problems_cost_width(values in matrix()) {
        let by_seed: Vec<f64> = values.iter().map(|row| mean(row)).collect();
        if let Some(given) = interval(&by_seed) {
            let found = estimate(&values, Seed::root(1));
            prop_assert!(found.high - found.low >= given.high - given.low - 1e-12);
        }
    }
}

/// How the simulated values spread, in standard deviations where not said otherwise.
#[derive(Clone, Copy)]
struct Spread {
    /// Normal, between seeds.
    seeds: f64,
    /// Four fifths of the problems are easier by a fifth of this, the others harder by four fifths.
    problems: f64,
    /// Uniform within ± this: what a seed does to a problem.
    pairs: f64,
}

/// What every value would be without [`Spread`].
const TRUTH: f64 = 0.6;

/// Shares of right ones among three samples, whose expectation over seeds and problems is
/// [`TRUTH`]. Sides of one `seed` meet the same problems.
fn simulated(size: (usize, usize), spread: Spread, seed: Seed, side: &str) -> Vec<Vec<f64>> {
    let of_problem = |problem: usize| {
        let easy = seed.child("problem").nth(problem as u64).uniform() < 0.8;
        spread.problems * if easy { 0.2 } else { -0.8 }
    };
    let by_problem: Vec<f64> = (0..size.1).map(of_problem).collect();
    let row = |index: usize| {
        let seed = seed.child(side).nth(index as u64);
        let radius = (-2.0 * (1.0 - seed.child("radius").uniform()).ln()).sqrt();
        let of_seed = radius * (std::f64::consts::TAU * seed.child("angle").uniform()).cos();
        let value = |(problem, of_problem): (usize, &f64)| {
            let seed = seed.nth(problem as u64);
            let of_pair = spread.pairs * (2.0 * seed.nth(3).uniform() - 1.0);
            let right = (0..3).filter(|n| seed.nth(*n).uniform() < TRUTH + of_problem + of_pair);
            right.count() as f64 / 3.0 + spread.seeds * of_seed
        };
        by_problem.iter().enumerate().map(value).collect()
    };
    (0..size.0).map(row).collect()
}

const N_STUDIES: u64 = 1000;

/// The share of simulated studies whose interval holds the truth.
fn coverage(truth: f64, study: impl Fn(Seed) -> Estimate) -> f64 {
    let holds = |index: &u64| {
        let found = study(Seed::root(20).nth(*index));
        found.low <= truth && truth <= found.high
    };
    (0..N_STUDIES).filter(holds).count() as f64 / N_STUDIES as f64
}

/// Three standard errors of a coverage of 95 % below it; and above it 99.7 %, so that an interval
/// that always holds does not pass.
const COVERED: std::ops::RangeInclusive<f64> = 0.929..=0.997;

/// Seeds and problems.
const SIZES: [(usize, usize); 6] = [(2, 50), (2, 200), (3, 50), (3, 500), (5, 100), (10, 50)];

/// Standard deviations between seeds: none, about that of a mean over problems, far above it.
const BETWEEN_SEEDS: [f64; 3] = [0.0, 0.03, 0.2];

fn spread(seeds: f64) -> Spread {
    Spread {
        seeds,
        problems: 0.6,
        pairs: 0.1,
    }
}

#[test]
fn means_hold_the_truth_whether_seeds_differ_or_not() {
    for size in SIZES {
        for seeds in BETWEEN_SEEDS {
            let share = coverage(TRUTH, |seed| {
                estimate(&simulated(size, spread(seeds), seed, "one"), seed)
            });
            assert!(COVERED.contains(&share), "{size:?}, {seeds}: {share}");
        }
    }
}

/// One side gains 0.05, and more or less in each seed.
#[test]
fn differences_hold_the_truth_whether_seeds_differ_or_not() {
    for size in SIZES {
        for seeds in BETWEEN_SEEDS {
            let share = coverage(0.05, |seed| {
                let mut one = simulated(size, spread(seeds), seed, "one");
                one.iter_mut().flatten().for_each(|value| *value += 0.05);
                let other = simulated(size, spread(0.0), seed, "other");
                difference(&one, &other, seed)
            });
            assert!(COVERED.contains(&share), "{size:?}, {seeds}: {share}");
        }
    }
}
