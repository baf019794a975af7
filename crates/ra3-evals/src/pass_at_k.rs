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
    /// The mean over problems.
    pub mean: f64,
    /// 2.5 % quantile of the bootstrap.
    pub low: f64,
    /// 97.5 % quantile of the bootstrap.
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
    let mean = by_problem.iter().sum::<f64>() / n as f64;
    let mut draws: Vec<f64> = (0..N_DRAWS)
        .map(|draw| {
            let seed = seed.nth(draw);
            let pick = |i: usize| by_problem[(seed.nth(i as u64).uniform() * n as f64) as usize];
            (0..n).map(pick).sum::<f64>() / n as f64
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws[((share * N_DRAWS as f64) as usize).min(draws.len() - 1)];
    Estimate {
        mean,
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
