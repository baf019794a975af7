//! Source files → trajectories of line-actions on token ids.
//!
//! [`read`] finds documents, [`filter`], [`dedupe`] and [`decontaminate`] drop some, [`pieces`] and
//! [`lines`] cut them, [`shards`] keep them; [`pipeline`] is the order of all that. Nothing here
//! knows tensors or benchmarks.

pub mod decontaminate;
pub mod dedupe;
pub mod document;
pub mod error;
pub mod filter;
pub mod lines;
pub mod pieces;
pub mod pipeline;
mod python;
pub mod read;
pub mod shards;
