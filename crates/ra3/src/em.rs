//! The outer loop: cold start → K rounds of E-step, annotation, M-step (docs/algorithm.md,
//! "The outer loop").
//!
//! The loop is a list of phases made from the settings ([`crate::phases`]), and the caller pulls:
//! each [`Em::advance`] is one update or one batch of annotation. What a caller has to keep to
//! continue anywhere is [`Em::position`], [`Em::annotated`] and the models of [`Em::frozen`].

use crate::annotate::{annotate, own_latents};
use crate::e_step;
use crate::m_step::{self, AnnotatedDocument};
use crate::phases::{Done, EmConfig, EmReport, Phase, Place};
use crate::policy::{Policy, PolicyError};
use crate::schedule::batch;
use crate::scoring::Frozen;
use crate::seed::Seed;
use crate::statistics::LatentStats;
use crate::trajectory::{Document, Markers, Trajectory};

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

/// Where the loop is, and what it draws there.
struct At<'a> {
    place: Place,
    documents: &'a dyn Fn(usize) -> Document,
    /// The run's, for the order of documents.
    seed: Seed,
    /// The position's, for rollouts.
    draws: Seed,
}

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
        let at = At {
            place,
            documents,
            seed,
            draws: seed.child("position").nth(self.position),
        };
        let report = match place.phase {
            Phase::ColdStart => self.cold_start(policy, &at)?,
            Phase::EStep => self.e_step(policy, &at)?,
            Phase::Annotate => self.annotate(policy, &at)?,
            Phase::MStep => self.m_step(policy, &at)?,
        };
        self.position += 1;
        Ok(Some(report))
    }

    /// True where `p_0` is read from here on and there is none yet.
    pub fn lacks_reference(&self, place: Place) -> bool {
        let is_read = self.config.e_step.penalty.needs_reference();
        is_read && place.phase != Phase::ColdStart && self.frozen.reference.is_none()
    }

    /// Takes the copies of the policy that this place needs.
    fn freeze(&mut self, policy: &dyn Policy, place: Place) {
        if self.lacks_reference(place) {
            self.frozen.reference = Some(policy.snapshot());
        }
        if self.config.takes_scorer(place) {
            self.frozen.scorer = Some(policy.snapshot());
        }
    }

    /// An update on the corpus' own latents, and on the lines alone of some other documents.
    fn cold_start(&self, policy: &mut dyn Policy, at: &At<'_>) -> Result<EmReport, PolicyError> {
        let (n, penalty) = (self.config.m_batch_documents, self.config.e_step.penalty);
        let n_for_lines = self.config.n_cold_start_documents_for_lines();
        let (among, seed) = (&self.cold_start_documents, at.seed.child("cold"));
        let order = batch(among.len(), n - n_for_lines, at.place.nth, seed).into_iter();
        let own = order.map(|nth| (at.documents)(among[nth]));
        let for_lines = self.batch(at, "cold_lines", n_for_lines);
        let (own, for_lines) = (own_latents(own, penalty), own_latents(for_lines, penalty));
        self.supervised(policy, &own, &for_lines, at)
    }

    /// An update of `q` by policy gradient.
    fn e_step(&self, policy: &mut dyn Policy, at: &At<'_>) -> Result<EmReport, PolicyError> {
        let (config, frozen, markers) = (&self.config.e_step, &self.frozen, &self.markers);
        let documents = self.batch(at, "e_step", config.batch_documents);
        let tokens = documents.iter().map(|document| document.n_corpus_tokens);
        let n_corpus_tokens = tokens.sum();
        let batch: Vec<Trajectory> = documents.into_iter().map(Document::trajectory).collect();
        let lr = self.config.e_step_lr(at.place);
        let found = e_step::update(policy, frozen, &batch, markers, config, lr, at.draws)?;
        let done = Done::EStep(found);
        Ok(at.place.report(done, n_corpus_tokens, found.work))
    }

    /// A batch of the round's data: documents that keep their own latents, and others whose latents
    /// are drawn.
    fn annotate(&mut self, policy: &dyn Policy, at: &At<'_>) -> Result<EmReport, PolicyError> {
        let (config, frozen) = (&self.config, &self.frozen);
        let documents = self.batch(at, "annotate", config.m_batch_documents);
        let (own, searched) = config.split_own(documents, at.place.nth);
        let (choose, penalty) = (config.m_step.choose, config.e_step.penalty);
        let rule = config.annotation_rule(self.markers);
        let (drawn, work) = annotate(policy, frozen, &searched, &rule, choose, penalty, at.draws)?;
        let draws = drawn.iter().flat_map(|document| &document.draws);
        let latents = LatentStats::of(draws.map(|draw| &draw.annotated));
        if at.place.index == 0 {
            self.annotated.clear();
        }
        self.annotated.extend(drawn);
        self.annotated.extend(own_latents(own, penalty));
        Ok(at.place.report(Done::Annotated(latents), 0, work))
    }

    /// An update on the round's data.
    fn m_step(&self, policy: &mut dyn Policy, at: &At<'_>) -> Result<EmReport, PolicyError> {
        let (n, seed) = (self.config.m_batch_documents, at.seed.child("m_step"));
        let seed = seed.nth(at.place.round);
        let order = batch(self.annotated.len(), n, at.place.index, seed).into_iter();
        let learnt: Vec<AnnotatedDocument> = order.map(|nth| self.annotated[nth].clone()).collect();
        self.supervised(policy, &learnt, &[], at)
    }

    /// The M-step's update, which is that of the cold start, too.
    fn supervised(
        &self,
        policy: &mut dyn Policy,
        learnt: &[AnnotatedDocument],
        for_lines: &[AnnotatedDocument],
        at: &At<'_>,
    ) -> Result<EmReport, PolicyError> {
        let (weights, lr) = (self.config.weights(), self.config.supervised_lr(at.place));
        let update = m_step::update(policy, learnt, for_lines, &self.markers, weights, lr)?;
        let documents = learnt.iter().chain(for_lines);
        let n_corpus_tokens = documents.map(|document| document.n_corpus_tokens).sum();
        let done = Done::Supervised(update);
        Ok(at.place.report(done, n_corpus_tokens, update.work))
    }

    /// A batch of a phase, among all documents.
    fn batch(&self, at: &At<'_>, name: &str, size: usize) -> Vec<Document> {
        let (nth, seed) = (at.place.nth, at.seed.child(name));
        let order = batch(self.n_documents, size, nth, seed);
        order.into_iter().map(at.documents).collect()
    }
}
