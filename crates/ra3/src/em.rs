//! The outer loop: cold start → K rounds of E-step, annotation, M-step (docs/algorithm.md,
//! "The outer loop").
//!
//! The loop is a list of phases made from the settings ([`crate::phases`]), and the caller pulls:
//! each [`Em::advance`] is one update or one batch of annotation. What a caller has to keep to
//! continue anywhere is [`Em::position`], [`Em::annotated`] and the models of [`Em::frozen`].

use crate::annotate::annotate;
use crate::e_step::{self, EStepReport};
use crate::m_step::{self, AnnotatedDocument};
use crate::phases::{EmConfig, Phase, Place};
use crate::policy::{Policy, PolicyError, UpdateStats, Work};
use crate::schedule::batch;
use crate::scoring::Frozen;
use crate::seed::Seed;
use crate::settings::Scorer;
use crate::statistics::LatentStats;
use crate::trajectory::{Document, Markers, Trajectory};

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

/// The loop's state.
#[derive(Debug)]
pub struct Em {
    /// The settings.
    pub config: EmConfig,
    /// The markers.
    pub markers: Markers,
    /// The next position.
    pub position: u64,
    /// The M-step's data of the round.
    pub annotated: Vec<AnnotatedDocument>,
    /// The models that are compared with: copies of the policy, taken when they are first needed.
    pub frozen: Frozen,
    /// The documents of the cold start, by their indices.
    pub cold_start_documents: Vec<usize>,
    /// Documents in all.
    pub n_documents: usize,
}

/// What was done, the corpus tokens of what was learnt from, and all work.
type Step = (Done, u64, Work);

impl Em {
    /// The loop before its first position, with all of so many documents for every phase.
    pub fn new(config: EmConfig, markers: Markers, n_documents: usize) -> Self {
        Self {
            config,
            markers,
            position: 0,
            annotated: Vec::new(),
            frozen: Frozen::default(),
            cold_start_documents: (0..n_documents).collect(),
            n_documents,
        }
    }

    /// Does one position; `None` at the end.
    ///
    /// # Errors
    /// As the policy's; the position has then not moved.
    pub fn advance(
        &mut self,
        policy: &mut dyn Policy,
        documents: &dyn Fn(usize) -> Document,
        seed: Seed,
    ) -> Result<Option<EmReport>, PolicyError> {
        let Some(place) = self.config.place(self.position) else {
            return Ok(None);
        };
        self.freeze(policy, place);
        let draw = |name: &str, size: usize| -> Vec<Document> {
            let order = batch(self.n_documents, size, place.nth, seed.child(name));
            order.into_iter().map(documents).collect()
        };
        let m_size = self.config.m_batch_documents;
        let seed_here = seed.child("position").nth(self.position);
        let (done, n_corpus_tokens, work) = match place.phase {
            Phase::ColdStart => {
                let n_for_lines = self.config.n_cold_start_documents_for_lines();
                let (among, seed) = (&self.cold_start_documents, seed.child("cold"));
                let order = batch(among.len(), m_size - n_for_lines, place.nth, seed);
                let drawn = order.into_iter().map(|nth| documents(among[nth]));
                let own = self.own_latents(drawn.collect());
                let for_lines = self.own_latents(draw("cold_lines", n_for_lines));
                self.supervised(policy, [&own, &for_lines], place.nth)?
            }
            Phase::EStep => {
                let documents = draw("e_step", self.config.e_step.batch_documents);
                self.e_step(policy, place, documents, seed_here)?
            }
            Phase::Annotate => self.annotate(policy, place, draw("annotate", m_size), seed_here)?,
            Phase::MStep => {
                let seed = seed.child("m_step").nth(place.round);
                let order = batch(self.annotated.len(), m_size, place.index, seed);
                let kept = order.into_iter().map(|index| self.annotated[index].clone());
                let nth = self.config.cold_start_updates + place.nth;
                self.supervised(policy, [&kept.collect::<Vec<_>>(), &[]], nth)?
            }
        };
        self.position += 1;
        Ok(Some(EmReport {
            place,
            done,
            n_corpus_tokens,
            work,
        }))
    }

    /// Takes the copies of the policy that this place needs.
    fn freeze(&mut self, policy: &dyn Policy, place: Place) {
        let config = &self.config.e_step;
        let is_warm = place.phase != Phase::ColdStart;
        let needs_reference = is_warm && config.penalty.needs_reference();
        if needs_reference && self.frozen.reference.is_none() {
            self.frozen.reference = Some(policy.snapshot());
        }
        if place.begins_e_step() && config.scorer == Scorer::Frozen {
            self.frozen.scorer = Some(policy.snapshot());
        }
    }

    /// Supervised update number `nth` of the run, on documents and on those that are there for
    /// their lines alone.
    fn supervised(
        &self,
        policy: &mut dyn Policy,
        [batch, for_lines]: [&[AnnotatedDocument]; 2],
        nth: u64,
    ) -> Result<Step, PolicyError> {
        let (config, markers) = (&self.config, &self.markers);
        let n_updates = config.n_supervised_updates();
        let lr = config.supervised_schedule.at(nth, n_updates);
        let update = m_step::update(policy, batch, for_lines, markers, config.weights(), lr)?;
        let documents = batch.iter().chain(for_lines);
        let n_corpus_tokens = documents.map(|document| document.n_corpus_tokens).sum();
        Ok((Done::Supervised(update), n_corpus_tokens, update.work))
    }

    fn e_step(
        &self,
        policy: &mut dyn Policy,
        place: Place,
        documents: Vec<Document>,
        seed: Seed,
    ) -> Result<Step, PolicyError> {
        let config = &self.config.e_step;
        let lr = config.schedule().at(place.nth, self.config.n_e_updates());
        let tokens = documents.iter().map(|document| document.n_corpus_tokens);
        let n_corpus_tokens = tokens.sum();
        let batch: Vec<Trajectory> = documents.into_iter().map(Document::trajectory).collect();
        let (frozen, markers) = (&self.frozen, &self.markers);
        let report = e_step::update(policy, frozen, &batch, markers, config, lr, seed)?;
        Ok((Done::EStep(report), n_corpus_tokens, report.work))
    }

    /// Draws a batch of the round's data, beside the documents that keep their own latents.
    fn annotate(
        &mut self,
        policy: &dyn Policy,
        place: Place,
        documents: Vec<Document>,
        seed: Seed,
    ) -> Result<Step, PolicyError> {
        let (config, m_step) = (&self.config, &self.config.m_step);
        let first = place.nth * config.m_batch_documents as u64;
        let (mut own, mut searched) = (Vec::new(), Vec::new());
        for (document, nth) in documents.into_iter().zip(first..) {
            if config.keeps_own(nth) && document.annotated.has_rationale() {
                own.push(document);
            } else {
                searched.push(document);
            }
        }
        let mut rule = config.e_step.latent_rule(self.markers);
        if m_step.random_rationales {
            rule.rationale_temperature = f32::INFINITY;
        }
        let (frozen, choose, penalty) = (&self.frozen, m_step.choose, config.e_step.penalty);
        let (drawn, work) = annotate(policy, frozen, &searched, &rule, choose, penalty, seed)?;
        if place.index == 0 {
            self.annotated.clear();
        }
        let draws = drawn.iter().flat_map(|document| &document.draws);
        let latents = LatentStats::of(draws.map(|draw| &draw.annotated));
        self.annotated.extend(drawn);
        let own = self.own_latents(own);
        self.annotated.extend(own);
        Ok((Done::Annotated(latents), 0, work))
    }

    /// Documents with the corpus' own latents. Where switching is impossible there is nothing to
    /// decide, so no marker may be learnt from them either.
    fn own_latents(&self, documents: Vec<Document>) -> Vec<AnnotatedDocument> {
        let is_plain = self.config.e_step.penalty.forbids_thinking();
        let whole = |document: Document| {
            let mut annotated = document.annotated;
            if is_plain {
                annotated.latents.fill(None);
            }
            AnnotatedDocument::single(annotated, document.n_corpus_tokens)
        };
        documents.into_iter().map(whole).collect()
    }
}
