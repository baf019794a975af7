//! The outer loop: cold start → K rounds of E-step, annotation, M-step (docs/algorithm.md,
//! "The outer loop").
//!
//! The caller pulls: each [`Em::advance`] is one update or one batch of annotation. All the state
//! is [`Em::position`] and [`Em::annotated`]; the phase follows from the position alone, so a
//! caller who keeps these two can continue anywhere.

use crate::annotate::{Choose, annotate};
use crate::e_step::{self, EStepConfig, EStepReport, Policies};
use crate::interleave::TokenWeights;
use crate::m_step::{self, WeightedAnnotated};
use crate::policy::{PolicyError, UpdateStats, Work};
use crate::rollout::{Decision, LatentRule};
use crate::schedule::{Schedule, batch};
use crate::seed::Seed;
use crate::trajectory::{Document, LatentStats, Markers, Trajectory};

/// What is left out of the loop, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    /// Nothing: the whole method.
    None,
    /// E-step only: latents are found and never trained on as data.
    NoEm,
    /// Cold start and M-step only, as TPT has it.
    NoRl,
    /// As [`Ablation::NoRl`], with rationales of random tokens in place of the model's own.
    RandomRationales,
}

/// Settings of the loop.
#[derive(Clone, Debug, PartialEq)]
pub struct EmConfig {
    /// Updates on the corpus' own comments as latents.
    pub cold_start_updates: u64,
    /// `K`.
    pub rounds: u64,
    /// E-step updates of a round.
    pub e_updates: u64,
    /// Documents of an E-step update.
    pub e_batch_documents: usize,
    /// Documents annotated in a round.
    pub annotate_documents: usize,
    /// M-step updates of a round.
    pub m_updates: u64,
    /// Documents of a cold start or M-step update, and of a batch of annotation.
    pub m_batch_documents: usize,
    /// Share of a round's M-step data that keeps the corpus' own latents.
    pub corpus_latents_share: f32,
    /// The search for latents.
    pub e_step: EStepConfig,
    /// Which draws the M-step learns from.
    pub choose: Choose,
    /// Loss weights of cold start and M-step.
    pub weights: TokenWeights,
    /// Step sizes of all supervised updates: those of the cold start, then the M-steps'.
    pub supervised_schedule: Schedule,
    /// Step sizes of the E-step, over the E-step updates of all rounds.
    pub e_schedule: Schedule,
    /// What is left out.
    pub ablation: Ablation,
}

/// Where a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Supervised on the corpus' own latents.
    ColdStart {
        /// Update of the phase.
        index: u64,
    },
    /// Policy gradient.
    EStep {
        /// Round.
        round: u64,
        /// Update of the phase.
        index: u64,
    },
    /// Drawing the round's data.
    Annotate {
        /// Round.
        round: u64,
        /// Batch of the phase.
        index: u64,
    },
    /// Supervised on the round's data.
    MStep {
        /// Round.
        round: u64,
        /// Update of the phase.
        index: u64,
    },
}

impl EmConfig {
    fn e_updates(&self) -> u64 {
        match self.ablation {
            Ablation::NoRl | Ablation::RandomRationales => 0,
            Ablation::None | Ablation::NoEm => self.e_updates,
        }
    }

    fn annotate_batches(&self) -> u64 {
        match self.ablation {
            Ablation::NoEm => 0,
            Ablation::None | Ablation::NoRl | Ablation::RandomRationales => {
                self.annotate_documents.div_ceil(self.m_batch_documents) as u64
            }
        }
    }

    fn m_updates(&self) -> u64 {
        if self.ablation == Ablation::NoEm {
            0
        } else {
            self.m_updates
        }
    }

    /// Supervised updates in all, which [`Self::supervised_schedule`] runs over.
    pub fn n_supervised_updates(&self) -> u64 {
        self.cold_start_updates + self.rounds * self.m_updates()
    }

    /// How annotation finds latents.
    fn annotation_rule(&self, markers: Markers) -> LatentRule {
        let rule = self.e_step.latent_rule(markers);
        match self.ablation {
            Ablation::RandomRationales => LatentRule {
                rationale_temperature: f32::INFINITY,
                ..rule
            },
            Ablation::None | Ablation::NoEm | Ablation::NoRl => rule,
        }
    }

    /// True where document number `nth` of all that are annotated keeps the corpus' own latents: of
    /// any first `n` documents `⌊n · share⌋` do.
    fn keeps_own(&self, nth: u64) -> bool {
        // In whole millionths: the nearest number to 0.9 is below it, and 10 of it below 9.
        let millionths = (f64::from(self.corpus_latents_share) * 1e6).round() as u64;
        let n_own = |n: u64| n * millionths / 1_000_000;
        n_own(nth + 1) > n_own(nth)
    }

    /// Positions in all.
    pub fn n_positions(&self) -> u64 {
        let round = self.e_updates() + self.annotate_batches() + self.m_updates();
        self.cold_start_updates + self.rounds * round
    }

    /// The phase of a position; `None` past the end.
    pub fn phase(&self, position: u64) -> Option<Phase> {
        if position < self.cold_start_updates {
            return Some(Phase::ColdStart { index: position });
        }
        if position >= self.n_positions() {
            return None;
        }
        let length = self.e_updates() + self.annotate_batches() + self.m_updates();
        let round = (position - self.cold_start_updates) / length;
        let index = (position - self.cold_start_updates) % length;
        let Some(index) = index.checked_sub(self.e_updates()) else {
            return Some(Phase::EStep { round, index });
        };
        let Some(index) = index.checked_sub(self.annotate_batches()) else {
            return Some(Phase::Annotate { round, index });
        };
        Some(Phase::MStep { round, index })
    }
}

/// What one position did.
#[derive(Clone, Debug, PartialEq)]
pub enum EmReport {
    /// A supervised update, of the cold start or the M-step.
    Supervised {
        /// Where.
        phase: Phase,
        /// The update.
        update: UpdateStats,
        /// Corpus tokens of its documents.
        n_corpus_tokens: u64,
    },
    /// A policy gradient update.
    EStep {
        /// Where.
        phase: Phase,
        /// The update.
        report: EStepReport,
        /// Corpus tokens of its documents.
        n_corpus_tokens: u64,
    },
    /// A batch of annotation.
    Annotate {
        /// Where.
        phase: Phase,
        /// The latents that were drawn.
        latents: LatentStats,
        /// Work done.
        work: Work,
    },
}

/// The loop's state.
#[derive(Clone, Debug)]
pub struct Em {
    /// The settings.
    pub config: EmConfig,
    /// The markers.
    pub markers: Markers,
    /// The next position.
    pub position: u64,
    /// The M-step's data of the round.
    pub annotated: Vec<WeightedAnnotated>,
}

impl Em {
    /// True where the next position is the first of its phase.
    pub fn begins_phase(&self) -> bool {
        let index = match self.config.phase(self.position) {
            Some(
                Phase::ColdStart { index }
                | Phase::EStep { index, .. }
                | Phase::Annotate { index, .. }
                | Phase::MStep { index, .. },
            ) => index,
            None => return false,
        };
        index == 0
    }

    /// True where the next position begins an E-step: the caller then refreshes the frozen scorer.
    pub fn begins_e_step(&self) -> bool {
        matches!(
            self.config.phase(self.position),
            Some(Phase::EStep { index: 0, .. })
        )
    }

    /// Does one position; `None` at the end.
    ///
    /// # Errors
    /// As the policy's; the state has then not moved.
    pub fn advance(
        &mut self,
        policies: &mut Policies<'_>,
        documents: &dyn Fn(usize) -> Document,
        n_documents: usize,
        seed: Seed,
    ) -> Result<Option<EmReport>, PolicyError> {
        let Some(phase) = self.config.phase(self.position) else {
            return Ok(None);
        };
        let draw = |name: &str, size: usize, index: u64| -> Vec<Document> {
            let order = batch(n_documents, size, index, seed.child(name));
            order.into_iter().map(documents).collect()
        };
        let seed_here = seed.child("position").nth(self.position);
        let config = &self.config;
        let m_size = config.m_batch_documents;
        let report = match phase {
            Phase::ColdStart { index } => {
                let own = self.own_latents(draw("cold", m_size, index));
                self.supervised(policies, phase, &own, index)?
            }
            Phase::EStep { round, index } => {
                let index = round * config.e_updates() + index;
                let batch = draw("e_step", config.e_batch_documents, index);
                let n_corpus_tokens = batch.iter().map(|document| document.n_corpus_tokens).sum();
                let batch: Vec<Trajectory> = batch.into_iter().map(Document::trajectory).collect();
                let (settings, lr) = (&config.e_step, config.e_schedule.at(index));
                let report =
                    e_step::update(policies, &batch, &self.markers, settings, lr, seed_here)?;
                EmReport::EStep {
                    phase,
                    report,
                    n_corpus_tokens,
                }
            }
            Phase::Annotate { round, index } => {
                let nth = round * config.annotate_batches() + index;
                let documents = draw("annotate", m_size, nth);
                self.annotate(policies, phase, nth, documents, seed_here)?
            }
            Phase::MStep { round, index } => {
                let seed = seed.child("m_step").nth(round);
                let order = batch(self.annotated.len(), m_size, index, seed);
                let batch: Vec<WeightedAnnotated> = order
                    .into_iter()
                    .map(|i| self.annotated[i].clone())
                    .collect();
                let nth = config.cold_start_updates + round * config.m_updates() + index;
                self.supervised(policies, phase, &batch, nth)?
            }
        };
        self.position += 1;
        Ok(Some(report))
    }

    /// Supervised update number `nth` of the run.
    fn supervised(
        &self,
        policies: &mut Policies<'_>,
        phase: Phase,
        batch: &[WeightedAnnotated],
        nth: u64,
    ) -> Result<EmReport, PolicyError> {
        let (weights, lr) = (self.config.weights, self.config.supervised_schedule.at(nth));
        let update = m_step::update(policies.policy, batch, &self.markers, weights, lr)?;
        Ok(EmReport::Supervised {
            phase,
            update,
            n_corpus_tokens: batch.iter().map(|document| document.n_corpus_tokens).sum(),
        })
    }

    /// Batch of annotation number `nth` of the run.
    fn annotate(
        &mut self,
        policies: &mut Policies<'_>,
        phase: Phase,
        nth: u64,
        documents: Vec<Document>,
        seed: Seed,
    ) -> Result<EmReport, PolicyError> {
        let config = &self.config;
        let first = nth * config.m_batch_documents as u64;
        let (mut own, mut searched) = (Vec::new(), Vec::new());
        for (document, nth) in documents.into_iter().zip(first..) {
            let side = if config.keeps_own(nth) {
                &mut own
            } else {
                &mut searched
            };
            side.push(document);
        }
        let rule = config.annotation_rule(self.markers);
        let penalty = config.e_step.penalty;
        let (drawn, work) = annotate(policies, &searched, &rule, config.choose, penalty, seed)?;
        if matches!(phase, Phase::Annotate { index: 0, .. }) {
            self.annotated.clear();
        }
        let latents = LatentStats::of(drawn.iter().map(|document| &document.annotated));
        self.annotated.extend(drawn);
        let own = self.own_latents(own);
        self.annotated.extend(own);
        Ok(EmReport::Annotate {
            phase,
            latents,
            work,
        })
    }

    /// Documents with the corpus' own latents. Where switching is impossible there is nothing to
    /// decide, so no marker may be learnt from them either.
    fn own_latents(&self, documents: Vec<Document>) -> Vec<WeightedAnnotated> {
        let is_plain = self.config.e_step.decision() == Decision::Absent;
        let whole = |document: Document| {
            let mut annotated = document.annotated;
            if is_plain {
                annotated.latents.fill(None);
            }
            WeightedAnnotated {
                annotated,
                weight: 1.0,
                n_corpus_tokens: document.n_corpus_tokens,
            }
        };
        documents.into_iter().map(whole).collect()
    }
}
