//! Rewards for RLVR on contest problems, as open-r1 has them (`competitive_programming`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{Kind, Part};

/// What a program's tests come to. Of contests' problems, a program that does not compile earns
/// −0.1, and none at all −1, as in open-r1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// 1 if all pass, else 0.
    #[default]
    Pass,
    /// The share that passes.
    Share,
    /// `pass`, and a tenth of `share`.
    Weighted,
}

impl Scheme {
    /// The reward where tests were run.
    pub fn of(self, part: &Part) -> f64 {
        let passed = f64::from(u8::from(part.kind == Kind::Passed));
        match self {
            Self::Pass => passed,
            Self::Share => part.share(),
            Self::Weighted => passed + 0.1 * part.share(),
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
            let found = [Scheme::Pass, Scheme::Share, Scheme::Weighted]
                .map(|scheme| reward(program, &part, scheme));
            for (found, wanted) in found.iter().zip([pass_fail, partial, weighted]) {
                assert!((found - wanted).abs() < 1e-12, "{part:?}: {found}");
            }
        }
    }
}
