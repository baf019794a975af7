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
struct Place {
    entry: Option<Entry>,
    /// True if the next run is one that an update learns from.
    expects_update: bool,
    /// Of the last recording.
    memory: Option<Recording>,
}

/// A place for what one run left. A copy of a model has none.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Place>);

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

    /// A run begins: forgets the last one, and gives it an empty recording of at most so many bytes
    /// if an update is expected.
    pub(super) fn begin(&self, n_bytes_max: usize) -> Option<Recording> {
        let mut place = self.lock();
        if let Some(entry) = place.entry.take() {
            place.memory = place.memory.take().or(entry.drawn.recording);
        }
        let is_expected = std::mem::take(&mut place.expects_update);
        is_expected.then(|| Recording::begin(n_bytes_max, place.memory.take()))
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

    /// Keeps the memory of what was drawn for the next recording.
    pub(crate) fn let_go(&self, drawn: Drawn) {
        self.lock().memory = drawn.recording;
    }

    /// Gives all memory back.
    pub(crate) fn clear(&self) {
        *self.lock() = Place::default();
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        // What is put in is whole, so a thread that panicked meanwhile leaves whole things.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
