//! The outer loop as data: its settings, the list of phases that they make, and what is reported of
//! each (docs/algorithm.md, "The outer loop"). [`crate::em`] does them.

use crate::e_step::EStepReport;
use crate::interleave::TokenWeights;
use crate::latent_rule::LatentRule;
use crate::policy::{UpdateStats, Work};
use crate::schedule::Schedule;
use crate::settings::{EStepConfig, MStepConfig, Scorer};
use crate::statistics::LatentStats;
use crate::trajectory::{Document, Markers};

/// Settings of the loop. A phase that a comparison leaves out is a count of 0.
#[derive(Clone, Debug, PartialEq)]
pub struct EmConfig {
    /// Updates on the corpus' own comments as latents.
    pub cold_start_updates: u64,
    /// Share of a cold start batch that is drawn among all documents for its lines alone.
    pub cold_start_lines_share: f32,
    /// `K`.
    pub rounds: u64,
    /// Rounds at the beginning that have no E-step: the M-step's choice among draws is all that
    /// finds latents there.
    pub selection_rounds: u64,
    /// E-step updates of each other round.
    pub e_updates: u64,
    /// Documents annotated in a round, rounded up to whole batches.
    pub annotate_documents: usize,
    /// M-step updates of a round.
    pub m_updates: u64,
    /// Documents of a cold start or M-step update, and of a batch of annotation.
    pub m_batch_documents: usize,
    /// The search for latents.
    pub e_step: EStepConfig,
    /// The choice of the M-step's data, and what is learnt of it.
    pub m_step: MStepConfig,
    /// Loss weight of a prefix' token, in cold start and M-step.
    pub prefix_weight: f32,
    /// Step sizes, over all supervised updates: those of the cold start, then the M-steps'.
    pub supervised_schedule: Schedule,
}

/// What the loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Supervised on the corpus' own latents.
    ColdStart,
    /// Policy gradient.
    EStep,
    /// Drawing the round's data.
    Annotate,
    /// Supervised on the round's data.
    MStep,
}

/// Where a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The phase.
    pub phase: Phase,
    /// Its round; 0 for the cold start.
    pub round: u64,
    /// Updates, or batches, of this phase before it, in this round.
    pub index: u64,
    /// Those of this phase before it in all rounds together.
    pub nth: u64,
}

impl Place {
    /// True for the first update of a round's E-step.
    pub fn begins_e_step(self) -> bool {
        self.phase == Phase::EStep && self.index == 0
    }

    pub(crate) fn report(self, done: Done, n_corpus_tokens: u64, work: Work) -> EmReport {
        EmReport {
            place: self,
            done,
            n_corpus_tokens,
            work,
        }
    }
}

/// What one position did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmReport {
    /// Its phase, round and number.
    pub place: Place,
    /// The figures of its phase.
    pub done: Done,
    /// Corpus tokens of the documents that were learnt from.
    pub n_corpus_tokens: u64,
    /// Everything that ran.
    pub work: Work,
}

/// What was done at a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Done {
    /// A supervised update, of the cold start or the M-step.
    Supervised(UpdateStats),
    /// A policy gradient update.
    EStep(EStepReport),
    /// A batch of annotation, and the latents that were drawn.
    Annotated(LatentStats),
}

impl EmConfig {
    /// The loop: each phase with its round and its number of updates, or batches.
    pub fn phases(&self) -> Vec<(Phase, u64, u64)> {
        let n_batches = self.annotate_documents.div_ceil(self.m_batch_documents) as u64;
        let mut phases = vec![(Phase::ColdStart, 0, self.cold_start_updates)];
        for round in 0..self.rounds {
            let searches = round >= self.selection_rounds;
            phases.push((
                Phase::EStep,
                round,
                if searches { self.e_updates } else { 0 },
            ));
            phases.push((Phase::Annotate, round, n_batches));
            phases.push((Phase::MStep, round, self.m_updates));
        }
        phases
    }

    /// Positions in all.
    pub fn n_positions(&self) -> u64 {
        self.phases().iter().map(|(_, _, n)| n).sum()
    }

    /// The place of a position; `None` past the end.
    pub fn place(&self, position: u64) -> Option<Place> {
        let phases = self.phases();
        let mut index = position;
        for (at, &(phase, round, n)) in phases.iter().enumerate() {
            if index < n {
                let before = phases[..at].iter().filter(|(other, ..)| *other == phase);
                return Some(Place {
                    phase,
                    round,
                    index,
                    nth: before.map(|(.., n)| n).sum::<u64>() + index,
                });
            }
            index -= n;
        }
        None
    }

    /// Supervised updates in all.
    pub fn n_supervised_updates(&self) -> u64 {
        self.cold_start_updates + self.rounds * self.m_updates
    }

    /// True where a frozen scorer is taken: at the first update of a round's E-step.
    pub fn takes_scorer(&self, place: Place) -> bool {
        place.begins_e_step() && self.e_step.scorer == Scorer::Frozen
    }

    /// Step size of a supervised update: M-steps go on where the cold start ended.
    pub(crate) fn supervised_lr(&self, place: Place) -> f32 {
        let n_before = if place.phase == Phase::MStep {
            self.cold_start_updates
        } else {
            0
        };
        let schedule = self.supervised_schedule;
        schedule.at(n_before + place.nth, self.n_supervised_updates())
    }

    /// Step size of an E-step update.
    pub(crate) fn e_step_lr(&self, place: Place) -> f32 {
        self.e_step.schedule().at(place.nth, self.n_e_updates())
    }

    /// How annotation finds latents.
    pub(crate) fn annotation_rule(&self, markers: Markers) -> LatentRule {
        let mut rule = self.e_step.latent_rule(markers);
        if self.m_step.random_rationales {
            rule.rationale_temperature = f32::INFINITY;
        }
        rule
    }

    /// Loss weights of cold start and M-step.
    pub(crate) fn weights(&self) -> TokenWeights {
        TokenWeights {
            prefix: self.prefix_weight,
            line: self.m_step.line_weight,
            decision: self.m_step.decision_weight,
            rationale: self.m_step.rationale_weight,
        }
    }

    /// Documents of a cold start batch that are there for their lines alone: never all.
    pub(crate) fn n_cold_start_documents_for_lines(&self) -> usize {
        let n = self.m_batch_documents;
        let wanted = (f64::from(self.cold_start_lines_share) * n as f64).round() as usize;
        wanted.min(n.saturating_sub(1))
    }

    /// E-step updates in all.
    pub fn n_e_updates(&self) -> u64 {
        self.rounds.saturating_sub(self.selection_rounds) * self.e_updates
    }

    /// The documents of annotation's batch `nth` that keep the corpus' own latents, where they have
    /// some, and the others.
    pub(crate) fn split_own(
        &self,
        documents: Vec<Document>,
        nth: u64,
    ) -> (Vec<Document>, Vec<Document>) {
        let mut next = nth * self.m_batch_documents as u64;
        documents.into_iter().partition(|document| {
            let keeps_own = self.keeps_own(next);
            next += 1;
            keeps_own && document.annotated.has_rationale()
        })
    }

    /// True where document number `nth` of all that are annotated keeps the corpus' own latents: of
    /// any first `n` documents `⌊n · share⌋` do.
    fn keeps_own(&self, nth: u64) -> bool {
        // In whole billionths of the number as it is written: the nearest one to 0.9 is below it,
        // and 10 of it below 9.
        let share: f64 = self
            .m_step
            .corpus_latents_share
            .to_string()
            .parse()
            .unwrap_or(0.0);
        let billionths = (share * 1e9).round() as u64;
        let n_own = |n: u64| n * billionths / 1_000_000_000;
        n_own(nth + 1) > n_own(nth)
    }
}
