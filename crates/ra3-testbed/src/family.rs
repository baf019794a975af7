//! The families of programs: in some a rationale pays, in others it is wasted.

use serde::{Deserialize, Serialize};

/// A kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Operations in the order they are named; one forward pass suffices (control).
    Pipeline,
    /// A literal table copied from the description; nothing to think about (control).
    Record,
    /// Operations named out of order, one a line.
    Order,
    /// A constant worked out by steps modulo 10, then used by one operation.
    Worked,
    /// A ball under one of four cups that are swapped pairwise; which variable holds it?
    Cups,
    /// A day of the week reached by steps forwards and backwards.
    Days,
}

impl Family {
    /// Every family, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Pipeline,
        Self::Record,
        Self::Order,
        Self::Worked,
        Self::Cups,
        Self::Days,
    ];

    /// The name in records and run files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Record => "record",
            Self::Order => "order",
            Self::Worked => "worked",
            Self::Cups => "cups",
            Self::Days => "days",
        }
    }
}
