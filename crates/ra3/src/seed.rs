//! Seeds derived by path: the same path gives the same draws on every machine.
//!
//! A seed is never taken from time or from threads. `seed.child("position").nth(3)` names the draws
//! of a loop's fourth position, whatever else was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A node in the tree of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// The root of a run's tree of seeds.
    pub const fn root(value: u64) -> Self {
        Self(mix(value ^ 0x5241_3300_0000_0001))
    }

    /// The child with a name.
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        let folded = name.bytes().fold(mix(self.0 ^ 0x6e61_6d65), |hash, byte| {
            mix(hash ^ u64::from(byte))
        });
        Self(folded)
    }

    /// The child with a number (a step, a row, a position).
    #[must_use]
    pub const fn nth(self, index: u64) -> Self {
        Self(mix(mix(self.0 ^ 0x0069_6e64_6578).wrapping_add(index)))
    }

    /// A stream of draws; ChaCha8, whose values are fixed across library versions.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }

    /// One number in `[0, 1)` with 53 random bits: the whole draw of a sampled token.
    pub fn uniform(self) -> f64 {
        unit(mix(self.0))
    }

    /// The number itself, for draws that are made elsewhere by the same rules.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Normal numbers of a deviation without an end, by Box and Muller's transform.
    pub fn normals(self, deviation: f64) -> impl Iterator<Item = f64> {
        let mut rng = self.rng();
        let pair = move || {
            let radius = (-2.0 * (1.0 - unit(rng.next_u64())).ln()).sqrt() * deviation;
            let angle = std::f64::consts::TAU * unit(rng.next_u64());
            [radius * angle.cos(), radius * angle.sin()]
        };
        std::iter::repeat_with(pair).flatten()
    }

    /// A permutation of `0..n` (Fisher-Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut rng = self.rng();
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            let bound = last as u64 + 1;
            // Multiply-shift; the bias is below 2^-32 for any n that fits in memory.
            let pick = ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as usize;
            order.swap(last, pick);
        }
        order
    }
}

/// A number in [0, 1) of 64 random bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The finalizer of SplitMix64: a bijection in which every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stable_and_distinct() {
        let root = Seed::root(7);
        assert_eq!(root.child("a").nth(1), Seed::root(7).child("a").nth(1));
        assert_ne!(root.child("a").nth(1), root.child("a").nth(2));
        assert_ne!(root.child("ab"), root.child("ba"));
        assert_ne!(root.child("a").child("b"), root.child("ab"));
    }

    /// The first outputs of SplitMix64 from state 0, as everybody has them, and what follows from
    /// them, so that a run's draws are the same in every version.
    #[test]
    fn values_never_change() {
        let step = 0x9e37_79b9_7f4a_7c15u64;
        let outputs = [0, step, step.wrapping_mul(2)].map(mix);
        let expected = [
            0xe220_a839_7b1d_cdaf,
            0x6e78_9e6a_a1b9_65f4,
            0x06c4_5d18_8009_454f,
        ];
        assert_eq!(outputs, expected);
        let root = Seed::root(7);
        assert_eq!(root.0, 0xbb79_7a45_7b62_8d39);
        assert_eq!(root.child("a").0, 0x1e21_2435_f2c8_45ce);
        assert_eq!(root.child("ab").0, 0x7478_7890_228b_dc81);
        assert_eq!(root.nth(3).0, 0xf8b6_f569_9dd9_b876);
        assert_eq!(root.uniform(), 0.932_782_710_503_474_2);
    }

    /// Each of the six orders of three, in equal shares.
    #[test]
    fn permutations_are_even() {
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..6000 {
            let order = Seed::root(1).nth(index).permutation(3);
            *counts.entry(order).or_insert(0i64) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Five standard errors of a share of 1/6.
        let far = |count: &i64| (count - 1000).abs() > 145;
        assert!(!counts.values().any(far), "{counts:?}");
        assert_eq!(Seed::root(1).permutation(1), [0]);
        assert!(Seed::root(1).permutation(0).is_empty());
    }

    #[test]
    fn uniform_covers_the_unit_interval_evenly() {
        let n = 100_000;
        let mean = (0..n).map(|i| Seed::root(1).nth(i).uniform()).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }

    #[test]
    fn permutation_keeps_every_index() {
        let mut order = Seed::root(3).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
