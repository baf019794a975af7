//! Which compositions are held out: decided by a hash of their steps' names alone.
//!
//! The split does not depend on a corpus's seed, phrasing, style or (for pipelines) constants, so
//! corpora drawn from different seeds share it.

use std::collections::BTreeSet;

use ra3::seed::Seed;

use crate::sketch::Composition;

impl Composition {
    /// The normalised compositions a program contains: every one of them is kept out of training
    /// where it is held out, and one of them held out makes the program a held-out one.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        match self {
            Self::Single => BTreeSet::new(),
            Self::Sequence(parts) => (2..=parts.len())
                .flat_map(|n| parts.windows(n))
                .map(|run| run.join(" > "))
                .collect(),
            Self::Chain(parts) => (3..=parts.len()).map(|n| parts[..n].join(" > ")).collect(),
        }
    }

    pub(crate) fn is_held_out(&self, share: f64) -> bool {
        self.keys().iter().any(|key| is_held_out(key, share))
    }
}

/// Whether a normalised composition belongs to the held-out share.
pub(crate) fn is_held_out(key: &str, share: f64) -> bool {
    Seed::root(0x7465_7374).child(key).uniform() < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_runs_of_a_sequence_and_the_prefixes_of_a_chain() {
        let parts: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let sequence = Composition::Sequence(parts.clone()).keys();
        let expected = ["a > b", "a > b > c", "b > c"].map(str::to_owned);
        assert_eq!(sequence, BTreeSet::from(expected));
        let chain = Composition::Chain(parts).keys();
        assert_eq!(chain, BTreeSet::from(["a > b > c".to_owned()]));
        assert!(Composition::Single.keys().is_empty());
    }

    #[test]
    fn the_share_held_out_is_the_share_asked_for() {
        let n = 20_000;
        let held = (0..n).filter(|i| is_held_out(&i.to_string(), 0.1)).count();
        assert!((1850..2150).contains(&held), "{held}");
    }
}
