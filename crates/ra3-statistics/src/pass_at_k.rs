//! pass@k, unbiased (Chen et al. 2021, arXiv 2107.03374), with bootstrap intervals over problems.

use ra3::seed::Seed;

/// `1 − C(n − c, k) / C(n, k)` for `c` right ones among `n`: the probability that one of `k` drawn
/// without replacement is right.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!(c <= n && k <= n && k > 0, "n = {n}, c = {c}, k = {k}");
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n)
        .map(|i| 1.0 - k as f64 / i as f64)
        .product::<f64>()
}

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// Draws of the bootstrap.
const N_DRAWS: u64 = 1000;

/// The mean over problems, with a percentile bootstrap over problems.
pub fn estimate(by_problem: &[f64], seed: Seed) -> Estimate {
    let n = by_problem.len();
    if n == 0 {
        return Estimate {
            mean: 0.0,
            low: 0.0,
            high: 0.0,
        };
    }
    ratio(by_problem, &vec![1.0; n], seed)
}

/// The difference of two means over the same problems, paired: a draw picks the same problems on
/// both sides, so what is hard for both does not widen the interval.
///
/// # Panics
/// The sides differ in length.
pub fn difference(by_problem: &[f64], other: &[f64], seed: Seed) -> Estimate {
    assert_eq!(
        by_problem.len(),
        other.len(),
        "both sides have the same problems"
    );
    let pairs = by_problem.iter().zip(other);
    estimate(&pairs.map(|(a, b)| a - b).collect::<Vec<f64>>(), seed)
}

/// `Σ parts / Σ wholes`, with a percentile bootstrap over the items.
pub fn ratio(parts: &[f64], wholes: &[f64], seed: Seed) -> Estimate {
    let n = parts.len();
    let quotient = |items: &mut dyn Iterator<Item = usize>| {
        let (part, whole) = items.fold((0.0, 0.0), |(part, whole), item| {
            (part + parts[item], whole + wholes[item])
        });
        if whole > 0.0 { part / whole } else { 0.0 }
    };
    let mut draws: Vec<f64> = (0..N_DRAWS)
        .map(|draw| {
            let seed = seed.nth(draw);
            let pick = |i: usize| (seed.nth(i as u64).uniform() * n as f64) as usize;
            quotient(&mut (0..n).map(pick))
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws[((share * N_DRAWS as f64) as usize).min(draws.len() - 1)];
    Estimate {
        mean: quotient(&mut (0..n)),
        low: at(0.025),
        high: at(0.975),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts the subsets of size `k` with a right one.
    fn enumerated(n: usize, c: usize, k: usize) -> f64 {
        let subsets: Vec<u32> = (0u32..1 << n)
            .filter(|subset| subset.count_ones() as usize == k)
            .collect();
        let right = (1u32 << c) - 1;
        let hits = subsets.iter().filter(|subset| *subset & right != 0).count();
        hits as f64 / subsets.len() as f64
    }

    proptest! {
        #[test]
        fn equals_the_count_of_subsets(n in 1usize..10, c in 0usize..10, k in 1usize..10) {
            prop_assume!(c <= n && k <= n);
            prop_assert!((pass_at_k(n, c, k) - enumerated(n, c, k)).abs() < 1e-12);
        }
    }

    #[test]
    fn pairing_takes_out_what_is_common() {
        // Problems differ by much, the sides by 0.1 on every fifth problem.
        let other: Vec<f64> = (0..100).map(|i| f64::from(i % 2) * 0.8).collect();
        let higher = |i: usize| if i.is_multiple_of(5) { 0.1 } else { 0.0 };
        let one: Vec<f64> = (0..100).map(|i| other[i] + higher(i)).collect();
        let found = difference(&one, &other, Seed::root(3));
        assert!((found.mean - 0.02).abs() < 1e-12);
        // A deviation of 0.04, so 1.96 · 0.04 / 10.
        assert!((found.high - found.low - 0.0157).abs() < 0.004, "{found:?}");
    }

    #[test]
    fn a_ratio_weighs_its_items_by_their_size() {
        let found = ratio(&[1.0, 9.0], &[1.0, 3.0], Seed::root(4));
        assert_eq!((found.mean, found.low, found.high), (2.5, 1.0, 3.0));
        assert_eq!(ratio(&[], &[], Seed::root(4)).mean, 0.0);
    }

    #[test]
    fn the_interval_holds_the_mean_and_narrows() {
        let few: Vec<f64> = (0..20).map(|i| f64::from(i % 2)).collect();
        let many: Vec<f64> = (0..2000).map(|i| f64::from(i % 2)).collect();
        let (few, many) = (
            estimate(&few, Seed::root(1)),
            estimate(&many, Seed::root(1)),
        );
        assert!(few.low <= 0.5 && 0.5 <= few.high && few.mean == 0.5);
        // 1.96 √(0.25 / n): ± 0.219 and ± 0.022.
        assert!((few.high - few.low - 0.438).abs() < 0.12, "{few:?}");
        assert!((many.high - many.low - 0.0438).abs() < 0.012, "{many:?}");
        let all = estimate(&[1.0; 5], Seed::root(1));
        assert_eq!((all.low, all.high), (1.0, 1.0));
    }
}
