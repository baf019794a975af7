//! Source files → trajectories of line-actions on token ids.
//!
//! [`read`] finds documents, [`filter`], [`dedupe`] and [`decontaminate`] drop some, [`tokenizer`]
//! and [`lines`] cut them, [`shards`] keep them; [`pipeline`] is the order of all that.
//! [`chat_template`] writes conversations as a model's own template does; [`testbed`] writes
//! programs of its own. Nothing here knows tensors or benchmarks.

pub mod chat_template;
pub mod decontaminate;
pub mod dedupe;
pub mod document;
pub mod error;
pub mod filter;
pub mod lines;
pub mod pipeline;
mod python;
pub mod read;
pub mod shards;
pub mod testbed;
pub mod tokenizer;
