//! The outer loop: cold start → K rounds of E-step, annotation, M-step (ALGORITHM section 5).
//!
//! The caller pulls: each [`Em::advance`] is one update or one batch of annotation. All the state
//! is [`Em::position`] and [`Em::annotated`]; the phase follows from the position alone, so a
//! caller who keeps these two can continue anywhere.

use crate::annotate::{Choose, annotate};
use crate::e_step::{self, EStepConfig, EStepReport, Policies};
use crate::interleave::TokenWeights;
use crate::m_step::{self, WeightedAnnotated};
use crate::policy::{PolicyError, UpdateStats, Work};
use crate::rollout::Decision;
use crate::schedule::{Schedule, batch};
use crate::seed::Seed;
use crate::trajectory::{Annotated, LatentStats, Markers, Trajectory};

/// What is left out of the loop, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    /// Nothing: the whole method.
    None,
    /// E-step only: latents are found and never trained on as data.
    NoEm,
    /// Cold start and M-step only, as TPT has it.
    NoRl,
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
    /// Step sizes of the cold start, over its updates.
    pub cold_start_schedule: Schedule,
    /// Step sizes of the E-step, over the E-step updates of all rounds.
    pub e_schedule: Schedule,
    /// Step sizes of the M-step, over the M-step updates of all rounds.
    pub m_schedule: Schedule,
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
        if self.ablation == Ablation::NoRl {
            0
        } else {
            self.e_updates
        }
    }

    fn annotate_batches(&self) -> u64 {
        match self.ablation {
            Ablation::NoEm => 0,
            Ablation::None | Ablation::NoRl => {
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
    /// True where the next position begins an E-step: the caller then refreshes the frozen scorer.
    pub fn begins_e_step(&self) -> bool {
        matches!(
            self.config.phase(self.position),
            Some(Phase::EStep { index: 0, .. })
        )
    }

    /// Does one position; `None` at the end. `documents` come with the corpus' own latents.
    ///
    /// # Errors
    /// As the policy's; the state has then not moved.
    pub fn advance(
        &mut self,
        policies: &mut Policies<'_>,
        documents: &dyn Fn(usize) -> Annotated,
        n_documents: usize,
        seed: Seed,
    ) -> Result<Option<EmReport>, PolicyError> {
        let Some(phase) = self.config.phase(self.position) else {
            return Ok(None);
        };
        let draw = |name: &str, size: usize, index: u64| -> Vec<Annotated> {
            let order = batch(n_documents, size, index, seed.child(name));
            order.into_iter().map(documents).collect()
        };
        let seed_here = seed.child("position").nth(self.position);
        let m_size = self.config.m_batch_documents;
        let report = match phase {
            Phase::ColdStart { index } => {
                let lr = self.config.cold_start_schedule.at(index);
                let own = self.own_latents(draw("cold", m_size, index));
                self.supervised(policies, phase, &own, lr)?
            }
            Phase::EStep { round, index } => {
                let index = round * self.config.e_updates + index;
                let batch = plain_of(draw("e_step", self.config.e_batch_documents, index));
                let (config, lr) = (&self.config.e_step, self.config.e_schedule.at(index));
                let report =
                    e_step::update(policies, &batch, &self.markers, config, lr, seed_here)?;
                EmReport::EStep {
                    phase,
                    report,
                    n_corpus_tokens: corpus_tokens(&batch),
                }
            }
            Phase::Annotate { round, index } => {
                let index = round * self.config.annotate_batches() + index;
                let documents = draw("annotate", m_size, index);
                self.annotate(policies, phase, documents, seed_here)?
            }
            Phase::MStep { round, index } => {
                let lr = self
                    .config
                    .m_schedule
                    .at(round * self.config.m_updates + index);
                let order = batch(
                    self.annotated.len(),
                    m_size,
                    index,
                    seed.child("m_step").nth(round),
                );
                let batch: Vec<WeightedAnnotated> = order
                    .into_iter()
                    .map(|i| self.annotated[i].clone())
                    .collect();
                self.supervised(policies, phase, &batch, lr)?
            }
        };
        self.position += 1;
        Ok(Some(report))
    }

    fn supervised(
        &self,
        policies: &mut Policies<'_>,
        phase: Phase,
        batch: &[WeightedAnnotated],
        learning_rate: f32,
    ) -> Result<EmReport, PolicyError> {
        let weights = self.config.weights;
        let update = m_step::update(
            policies.policy,
            batch,
            &self.markers,
            weights,
            learning_rate,
        )?;
        let n_corpus_tokens = batch
            .iter()
            .map(|d| d.annotated.trajectory.n_tokens() as u64)
            .sum();
        Ok(EmReport::Supervised {
            phase,
            update,
            n_corpus_tokens,
        })
    }

    fn annotate(
        &mut self,
        policies: &mut Policies<'_>,
        phase: Phase,
        documents: Vec<Annotated>,
        seed: Seed,
    ) -> Result<EmReport, PolicyError> {
        let n_own = (documents.len() as f32 * self.config.corpus_latents_share).round() as usize;
        let mut own = documents;
        let searched = plain_of(own.split_off(n_own));
        let rule = self.config.e_step.latent_rule(self.markers);
        let penalty = self.config.e_step.penalty;
        let (drawn, work) = annotate(
            policies,
            &searched,
            &rule,
            self.config.choose,
            penalty,
            seed,
        )?;
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
    fn own_latents(&self, documents: Vec<Annotated>) -> Vec<WeightedAnnotated> {
        let is_plain = self.config.e_step.decision() == Decision::Absent;
        let whole = |mut annotated: Annotated| {
            if is_plain {
                annotated.latents.fill(None);
            }
            WeightedAnnotated {
                annotated,
                weight: 1.0,
            }
        };
        documents.into_iter().map(whole).collect()
    }
}

fn plain_of(documents: Vec<Annotated>) -> Vec<Trajectory> {
    documents
        .into_iter()
        .map(|document| document.trajectory)
        .collect()
}

fn corpus_tokens(batch: &[Trajectory]) -> u64 {
    batch
        .iter()
        .map(|trajectory| trajectory.n_tokens() as u64)
        .sum()
}
