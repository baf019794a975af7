//! What a run leaves behind: the cache of what it computed and, where an update is expected, the
//! recording of its passes. The rows of an update are found there by their tokens.

use super::cache::Cache;
use crate::model::forest::Forest;
use crate::model::recording::{Place, Recording};

/// The nodes of a run, and their activations where they were recorded.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(super) cache: Cache,
    pub(super) recording: Option<Recording>,
}

impl Drawn {
    /// The same, whose passes are recorded.
    pub(super) fn recorded_by(self, recording: Recording) -> Self {
        Self {
            cache: self.cache.keeping_idle(),
            recording: Some(recording),
        }
    }

    /// The recording, and where in it each row of a forest was computed, if all of them were.
    pub(crate) fn find(&self, forest: &Forest) -> Option<(&Recording, Vec<Place>)> {
        let recording = self
            .recording
            .as_ref()
            .filter(|recording| recording.is_whole())?;
        let mut nodes: Vec<usize> = Vec::with_capacity(forest.tokens.len());
        for segment in &forest.segments {
            let last_row = |parent: usize| forest.segments[parent].rows.end - 1;
            let mut parent = segment.parent.map(|parent| nodes[last_row(parent)]);
            for row in segment.rows.clone() {
                let node = self.cache.find(parent, forest.tokens[row])?;
                nodes.push(node);
                parent = Some(node);
            }
        }
        let places = nodes.iter().map(|node| self.cache.place(*node));
        let places: Option<Vec<Place>> = places.collect();
        Some((recording, places?))
    }
}
