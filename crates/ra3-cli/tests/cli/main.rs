//! The command as a user meets it: whole runs, their failures, and the commands beside them.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

mod arms;
mod benchmarks;
mod broken_data;
mod checkpoints;
mod closed;
mod commands;
mod edges;
mod engines;
mod failures;
mod files;
mod kill;
mod report;
mod settings;
mod studies;
mod support;
mod tensorboard;
mod transformers;
