//! Rewards for RLVR on contest problems, as open-r1 has them (`competitive_programming`).

use crate::outcome::{Kind, Part};

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
    pub fn of(self, part: &Part) -> f64 {
        let passed = f64::from(u8::from(part.kind == Kind::Passed));
        match self {
            Self::PassFail => passed,
            Self::Partial => part.share(),
            Self::WeightedSum => passed + 0.1 * part.share(),
        }
    }
}

/// The reward of a program: none at all earns −1, one that Python cannot read −0.1.
pub fn reward(program: &str, part: &Part, scheme: Scheme) -> f64 {
    if program.trim().is_empty() {
        -1.0
    } else if part.kind == Kind::SyntaxError {
        -0.1
    } else {
        scheme.of(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;

    #[test]
    fn rewards_by_hand() {
        let failed = |kind, n_right| Part::failed(kind, Failure::of_all(""), n_right, 4);
        for (program, part, pass_fail, partial, weighted) in [
            ("x", Part::passed(4), 1.0, 1.0, 1.1),
            ("x", failed(Kind::WrongAnswer, 3), 0.0, 0.75, 0.075),
            ("x", failed(Kind::TimedOut, 0), 0.0, 0.0, 0.0),
            (" \n", failed(Kind::WrongAnswer, 0), -1.0, -1.0, -1.0),
            ("(", failed(Kind::SyntaxError, 0), -0.1, -0.1, -0.1),
        ] {
            let found = [Scheme::PassFail, Scheme::Partial, Scheme::WeightedSum]
                .map(|scheme| reward(program, &part, scheme));
            for (found, wanted) in found.iter().zip([pass_fail, partial, weighted]) {
                assert!((found - wanted).abs() < 1e-12, "{part:?}: {found}");
            }
        }
    }
}
