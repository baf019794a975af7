//! What a run writes down, as typed JSON lines, and how they are appended and read again.
//!
//! The [`ledger`] has what happened, [`samples`] what a reader wants to look at, [`clock`] what
//! differs between two runs of one plan; [`tensorboard`] is a copy of the ledger's numbers for
//! others to read. What the records are of is not known here.

pub mod clock;
pub mod journal;
pub mod ledger;
pub mod number;
pub mod samples;
pub mod tensorboard;
