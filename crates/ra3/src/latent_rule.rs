//! How a latent is found: what its decision may be, and how decision and rationale are sampled. The
//! episodes that write latents ([`crate::rollout`], [`crate::guided`]) ask here.

use std::sync::Arc;

use crate::policy::{SampleRule, TokenId};
use crate::trajectory::Markers;

/// How latents are found.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentRule {
    /// The markers.
    pub markers: Markers,
    /// `M ≥ 1`: sampled tokens of a rationale, its `</think>` included where it is sampled.
    pub rationale_tokens_max: usize,
    /// Temperature of decisions.
    pub temperature: f32,
    /// Temperature of rationales; infinity draws them uniformly from the vocabulary.
    pub rationale_temperature: f32,
    /// What decisions may be.
    pub decision: Decision,
}

/// What decisions may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Sampled between `<act>` and `<think>`.
    Free,
    /// As `Free`, but `<think>` by force with this probability, for a model that hardly ever does.
    Exploring {
        /// The probability.
        think_floor: f32,
    },
    /// Always `<act>`.
    Act,
    /// Always `<think>`, where there is room for it.
    Think,
    /// There is nothing to decide: no marker is forced or asked for (an infinite switch cost, or
    /// plain sampling).
    Absent,
}

/// What an episode that writes latents waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Line,
    Decision,
    Rationale,
    Close,
}

impl LatentRule {
    /// Latents of the model's own `q`, at one temperature.
    pub fn free(markers: Markers, rationale_tokens_max: usize, temperature: f32) -> Self {
        Self {
            markers,
            rationale_tokens_max,
            temperature,
            rationale_temperature: temperature,
            decision: Decision::Free,
        }
    }

    /// What the next decision may be; nothing where there is none. `has_to_think` forces one that
    /// would be free.
    pub(crate) fn choices(&self, can_think: bool, has_to_think: bool) -> Arc<[TokenId]> {
        let Markers { act, think, .. } = self.markers;
        match self.decision {
            Decision::Absent => Arc::new([]),
            Decision::Act => Arc::new([act]),
            Decision::Free | Decision::Exploring { .. } | Decision::Think if !can_think => {
                Arc::new([act])
            }
            Decision::Free | Decision::Exploring { .. } if !has_to_think => Arc::new([act, think]),
            Decision::Free | Decision::Exploring { .. } | Decision::Think => Arc::new([think]),
        }
    }

    /// A decision among these.
    pub(crate) fn decision(&self, choices: &Arc<[TokenId]>) -> SampleRule {
        SampleRule {
            choices: Some(Arc::clone(choices)),
            ..SampleRule::plain(self.temperature, 1)
        }
    }

    /// A rationale up to its `</think>`, at most `M` tokens.
    pub(crate) fn rationale(&self) -> SampleRule {
        SampleRule {
            stop: Arc::new([self.markers.close]),
            ..SampleRule::plain(self.rationale_temperature, self.rationale_tokens_max)
        }
    }
}
