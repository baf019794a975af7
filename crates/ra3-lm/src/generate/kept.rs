//! The cache of the last run, which stays while the weights stand: what was drawn is then scored
//! without a pass of its own.
//!
//! A node's numbers have the same bits whenever they are computed, so a cache that is kept saves
//! work and changes no result. A run begins without one: what it costs would else follow from what
//! this process did before, and a run that was continued would count other work.

use std::sync::{Mutex, PoisonError};

use super::cache::Cache;
use crate::model::linear::Kernel;
use crate::model::weights::Version;

/// A cache, and what its numbers were computed with.
#[derive(Debug)]
struct Entry {
    version: Version,
    kernel: Kernel,
    cache: Cache,
}

/// A place for one cache. A copy of a model has none.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<Entry>>);

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Kept {
    /// Takes the cache out, if these weights by this kernel would compute the same one.
    pub(super) fn take(&self, version: Version, kernel: Kernel) -> Option<Cache> {
        let entry = self.lock().take()?;
        (entry.version == version && entry.kernel == kernel).then_some(entry.cache)
    }

    /// Keeps a cache whose nodes nobody holds.
    pub(super) fn put(&self, version: Version, kernel: Kernel, cache: Cache) {
        *self.lock() = Some(Entry {
            version,
            kernel,
            cache,
        });
    }

    /// Gives its memory back.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Entry>> {
        // A cache is put in whole, so a thread that panicked meanwhile leaves a whole one, or none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
