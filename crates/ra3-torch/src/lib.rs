//! The second engine: models of PyTorch in a worker process, behind the seam of `ra3::policy`.
//!
//! A [`Worker`] is a Python process that this binary carries the text of (`python/`), started by a
//! command and spoken to in frames over a Unix socket (`wire`), or several (ranks), of which this
//! knows the first; or it is started elsewhere, and comes to a [`Port`]. It holds models by number;
//! a [`TorchModel`] is one of them. Episodes stay here: what travels is tokens, rules and seeds one
//! way, tokens and log-probabilities the other. Refusals are `ra3::refusals`', before anything is
//! sent.
//!
//! A worker that has failed (it ended, did not answer in time, said what is no frame) stays failed:
//! every later request has the first failure as its answer, and its process group is ended.
//!
//! Not here: what a run does then. Nothing of a model outlives its worker but what it has saved.

mod batch;
mod door;
mod error;
mod model;
mod package;
mod process;
mod rollouts;
mod stream;
mod wire;
mod worker;

pub use door::Port;
pub use error::WorkerError;
pub use model::TorchModel;
pub use worker::{About, Gpu, Lora, Settings, Worker, WorkerSettings};
