//! A stream of small draws from one seed: numbers, picks and coin flips.
//!
//! It counts its draws and derives each from the seed's path, so a document's draws depend on
//! nothing that was generated before it. It knows nothing of Python or of families.

use ra3::seed::Seed;

/// A counted stream of draws.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    seed: Seed,
    n_drawn: u64,
}

impl Draw {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed, n_drawn: 0 }
    }

    /// One number in `[0, 1)`.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.n_drawn += 1;
        self.seed.nth(self.n_drawn).uniform()
    }

    /// One index in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a draw needs at least one outcome");
        ((self.uniform() * bound as f64) as usize).min(bound - 1)
    }

    /// One integer in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "an empty range {low}..={high} has no draw");
        low + self.below((high - low + 1) as usize) as i64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// The index of one of the weights, with probability proportional to it.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (idx, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return idx;
            }
        }
        weights.len() - 1
    }

    /// `n` different items, in random order.
    pub(crate) fn sample<T: Copy>(&mut self, items: &[T], n: usize) -> Vec<T> {
        let mut left = items.to_vec();
        (0..n)
            .map(|_| left.swap_remove(self.below(left.len())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_follow_their_weights() {
        let mut draw = Draw::new(Seed::root(5));
        let mut counts = [0_usize; 3];
        for _ in 0..10_000 {
            counts[draw.weighted(&[1.0, 0.0, 3.0])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((2300..2700).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn ranges_reach_both_ends_and_samples_are_distinct() {
        let mut draw = Draw::new(Seed::root(6));
        let seen: Vec<i64> = (0..200).map(|_| draw.between(-1, 1)).collect();
        for value in -1..=1 {
            assert!(seen.contains(&value), "{value} never drawn");
        }
        let sample = draw.sample(&[1, 2, 3, 4], 3);
        assert!(sample[0] != sample[1] && sample[1] != sample[2] && sample[0] != sample[2]);
    }
}
