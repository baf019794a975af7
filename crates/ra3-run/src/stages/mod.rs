//! The stages of a run, one file each. [`training`] is the loop that the training stages share.

pub(crate) mod base;
pub(crate) mod corpus;
pub(crate) mod evaluate;
pub(crate) mod held_out;
pub(crate) mod midtrain;
pub(crate) mod ra3;
mod rehearsal;
pub(crate) mod rlvr;
pub(crate) mod supervised;
pub(crate) mod training;
