//! Next-token prediction on plain documents: pretraining, and the NTP arms.

use std::collections::BTreeMap;

use anyhow::Result;
use ra3::model::Model;
use ra3::schedule::{self, Schedule};
use ra3::seed::Seed;
use ra3_corpus::shards::Shards;

use super::training::{Spent, Step};
use crate::plan::Until;

/// Next-token prediction.
pub(crate) struct SupervisedCourse<'a> {
    /// The training documents.
    pub(crate) documents: &'a Shards,
    /// Those that are learnt from.
    pub(crate) among: Vec<usize>,
    /// Documents of an update.
    pub(crate) batch_documents: usize,
    /// Loss weight of a prefix's token.
    pub(crate) prefix_weight: f32,
    /// The step sizes, over [`Self::n_updates_expected`].
    pub(crate) schedule: Schedule,
    /// When it ends.
    pub(crate) until: Until,
    /// Updates that the stage is expected to take.
    pub(crate) n_updates_expected: u64,
    /// The draws of the batches.
    pub(crate) seed: Seed,
}

impl SupervisedCourse<'_> {
    pub(crate) fn step(
        &mut self,
        lm: &mut dyn Model,
        position: u64,
        spent: &Spent,
    ) -> Result<Option<Step>> {
        let is_over = match self.until {
            Until::Updates(n) => position >= n,
            Until::CorpusTokens(n) => spent.n_corpus_tokens >= n,
            Until::Flops(flops) => spent.flops >= flops,
        };
        if is_over {
            return Ok(None);
        }
        let order = schedule::batch(self.among.len(), self.batch_documents, position, self.seed);
        let batch: Vec<_> = order
            .into_iter()
            .map(|place| self.documents.trajectory(self.among[place]))
            .collect();
        let n_corpus_tokens = batch
            .iter()
            .map(|document| document.n_tokens() as u64)
            .sum();
        let learning_rate = self.schedule.at(position, self.n_updates_expected);
        let stats = ra3::ntp::update(lm, &batch, self.prefix_weight, learning_rate)?;
        Ok(Some(Step {
            phase: "ntp",
            figures: BTreeMap::from([
                ("loss".to_owned(), stats.loss),
                ("gradient_norm".to_owned(), stats.gradient_norm),
                ("learning_rate".to_owned(), f64::from(learning_rate)),
            ]),
            n_corpus_tokens,
            work: stats.work,
            ..Step::default()
        }))
    }
}
