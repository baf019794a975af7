//! What a run leaves behind: the cache of what it computed and, where an update is expected, the
//! recording of its passes. The rows of an update are found there by their tokens.

use super::cache::Cache;
use crate::model::forest::Forest;
use crate::model::recording::{Place, Recording};

/// The nodes of a run, and their activations where these were recorded.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(super) cache: Cache,
    pub(super) recording: Option<Recording>,
}

impl Drawn {
    /// What a run begins with. Nodes stay where an update is to find them.
    pub(super) fn new(mut cache: Cache, recording: Option<Recording>) -> Self {
        cache.keep_idle(recording.is_some());
        Self { cache, recording }
    }

    /// A pass over new nodes begins.
    pub(super) fn begin_pass(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.begin_pass();
        }
    }

    /// Records what the pass computed; where there is no room for it, nothing is recorded from here
    /// on, and the memory goes.
    pub(super) fn record(&mut self, n_rows: usize, buffers: &[&[f32]]) {
        if let Some(recording) = &mut self.recording
            && !recording.record(n_rows, buffers)
        {
            self.recording = None;
            self.cache.keep_idle(false);
        }
    }

    /// The pass has ended: says where its nodes were recorded.
    pub(super) fn end_pass(&mut self, fresh: &[usize]) {
        if let Some(recording) = &self.recording {
            for (node, place) in fresh.iter().zip(recording.places(fresh.len())) {
                self.cache.set_place(*node, place);
            }
        }
    }

    /// True if an update may find what it needs.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// The recording, and where in it each row of a forest was computed, if all of them were.
    pub(crate) fn find(&self, forest: &Forest) -> Option<(&Recording, Vec<Place>)> {
        let recording = self.recording.as_ref()?;
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
