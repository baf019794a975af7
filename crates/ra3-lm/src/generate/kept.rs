//! What the last run left, which stays while the weights stand: what was drawn is then scored
//! without a pass of its own, and an update that was expected begins with its backward pass.
//!
//! A node's numbers have the same bits whenever they are computed, so a cache that is kept saves
//! work and changes no result. A run begins without one: what it costs would else follow from what
//! this process did before, and a run that was continued would count other work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::drawn::Drawn;
use crate::model::linear::Kernel;
use crate::model::recording::Recording;
use crate::model::weights::Version;

/// What was drawn, and what its numbers were computed with.
#[derive(Debug)]
struct Entry {
    version: Version,
    kernel: Kernel,
    drawn: Drawn,
}

#[derive(Debug, Default)]
struct State {
    entry: Option<Entry>,
    /// True if an update learns from the next run.
    expects_update: bool,
    /// The recording of the last update, for its memory.
    last: Option<Recording>,
}

/// A place for what one run left. A copy of a model has none.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<State>);

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Kept {
    /// The next run is to be recorded.
    pub(crate) fn expect_update(&self) {
        self.lock().expects_update = true;
    }

    /// A run begins, and what was left of another goes. True if an update is expected of it; then
    /// there may be a recording whose memory is free.
    pub(super) fn begin(&self) -> (bool, Option<Recording>) {
        let state = std::mem::take(&mut *self.lock());
        let unused = state.entry.and_then(|entry| entry.drawn.recording);
        (state.expects_update, state.last.or(unused))
    }

    /// Takes out what was drawn, if these weights by this kernel would compute the same.
    pub(crate) fn take(&self, version: Version, kernel: Kernel) -> Option<Drawn> {
        let entry = self.lock().entry.take()?;
        (entry.version == version && entry.kernel == kernel).then_some(entry.drawn)
    }

    /// Keeps what was drawn, whose nodes nobody holds.
    pub(super) fn put(&self, version: Version, kernel: Kernel, drawn: Drawn) {
        self.lock().entry = Some(Entry {
            version,
            kernel,
            drawn,
        });
    }

    /// Keeps the memory of what an update has learnt from.
    pub(crate) fn let_go(&self, drawn: Drawn) {
        self.lock().last = drawn.recording;
    }

    /// Gives all memory back.
    pub(crate) fn clear(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is put in is whole, so a thread that panicked meanwhile leaves whole things.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
