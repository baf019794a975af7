//! The forms of problems: how a program is asked for, and with which line it begins.
//!
//! A form changes no program. HumanEval's asks by a signature with a docstring, MBPP's by a text
//! with an assert, after which the whole function is written.

use serde::{Deserialize, Serialize};

/// How a program is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// HumanEval's: a signature and a docstring, whose body is written.
    Humaneval,
    /// MBPP's: a text and an assert, for which a whole function is written.
    Mbpp,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 2] = [Self::Humaneval, Self::Mbpp];

    /// The form of problem number `index`: they are spread evenly.
    pub(crate) fn of_problem(index: usize, mbpp_share: f64) -> Self {
        let n_mbpp = |n: usize| Self::Mbpp.n_of(n, mbpp_share);
        if n_mbpp(index + 1) > n_mbpp(index) {
            Self::Mbpp
        } else {
            Self::Humaneval
        }
    }

    /// How many of `n` problems have this form.
    pub fn n_of(self, n: usize, mbpp_share: f64) -> usize {
        let n_mbpp = (n as f64 * mbpp_share.clamp(0.0, 1.0)).floor() as usize;
        match self {
            Self::Humaneval => n - n_mbpp,
            Self::Mbpp => n_mbpp,
        }
    }
}
