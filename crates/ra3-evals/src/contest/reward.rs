//! Rewards for RLVR on contest problems, as open-r1 has them (`competitive_programming`).

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no program in it.
    NoProgram,
    /// Python cannot read the program.
    NotCompiled,
    /// So many of all tests passed.
    Tests {
        /// Passed.
        n_passed: usize,
        /// All.
        n_tests: usize,
    },
}

/// How tests become a reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// 1 if all pass, else 0.
    PassFail,
    /// The share that passes.
    Partial,
    /// [`Self::PassFail`] and a tenth of [`Self::Partial`].
    WeightedSum,
}

impl Scheme {
    /// The reward where tests were run.
    pub fn of(self, is_passed: bool, share: f64) -> f64 {
        let passed = f64::from(u8::from(is_passed));
        match self {
            Self::PassFail => passed,
            Self::Partial => share,
            Self::WeightedSum => passed + 0.1 * share,
        }
    }
}

/// The reward; `None` where there are no tests. No program is −1, one that does not compile −0.1.
pub fn reward(outcome: Outcome, scheme: Scheme) -> Option<f64> {
    let (n_passed, n_tests) = match outcome {
        Outcome::NoProgram => return Some(-1.0),
        Outcome::NotCompiled => return Some(-0.1),
        Outcome::Tests { n_tests: 0, .. } => return None,
        Outcome::Tests { n_passed, n_tests } => (n_passed, n_tests),
    };
    Some(scheme.of(n_passed == n_tests, n_passed as f64 / n_tests as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_by_hand() {
        let tests = |n_passed, n_tests| Outcome::Tests { n_passed, n_tests };
        for (outcome, pass_fail, partial, weighted) in [
            (tests(4, 4), 1.0, 1.0, 1.1),
            (tests(3, 4), 0.0, 0.75, 0.075),
            (tests(0, 4), 0.0, 0.0, 0.0),
            (Outcome::NoProgram, -1.0, -1.0, -1.0),
            (Outcome::NotCompiled, -0.1, -0.1, -0.1),
        ] {
            let found = [Scheme::PassFail, Scheme::Partial, Scheme::WeightedSum]
                .map(|scheme| reward(outcome, scheme).unwrap_or(f64::NAN));
            for (found, wanted) in found.iter().zip([pass_fail, partial, weighted]) {
                assert!((found - wanted).abs() < 1e-12, "{outcome:?}: {found}");
            }
        }
        assert_eq!(reward(tests(0, 0), Scheme::PassFail), None);
    }
}
