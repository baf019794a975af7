//! The RA3 arm: pulls `ra3::em` and keeps what a continued run needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ra3::e_step::EStepReport;
use ra3::em::Em;
use ra3::model::{Model, Saved};
use ra3::phases::{Done, EmReport, Phase, Place};
use ra3::policy::UpdateStats;
use ra3::seed::Seed;
use ra3::settings::Scorer;
use ra3::statistics::LatentStats;
use ra3_corpus::shards::Shards;
use ra3_text::tokenizer::Tokenizer;

use super::base::save_model;
use super::midtrain::REFERENCE;
use super::rehearsal;
use super::training::{Step, gap_figure};
use crate::engine::Engine;
use crate::model_note::ModelNote;
use crate::on_disk::read_json;
use crate::run_file::MomentsName;

/// Copies of the model that the loop compares with, each written once, under a name.
///
/// `reference` is `p_0`, the model after the cold start: the first that knows the markers.
/// `scorer-N` is the line policy at the start of round N's E-step, counted from 0.
pub(crate) struct Snapshots {
    /// Where they are written.
    pub(crate) models: PathBuf,
    /// Whose files travel with the reference.
    pub(crate) companions: PathBuf,
    /// Its tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// What runs them.
    pub(crate) engine: Engine,
}

impl Snapshots {
    fn reference(&self) -> PathBuf {
        self.models.join(REFERENCE)
    }

    fn scorer(&self, round: u64) -> PathBuf {
        self.models.join(scorer_name(round))
    }

    /// Writes what a continued run cannot make again.
    fn write(&self, em: &Em, lm: &dyn Model) -> Result<()> {
        // Also where nothing comes after the cold start: an arm is measured with it.
        if em.position == em.config.cold_start_updates {
            let note = ModelNote::latent();
            let (folder, companions) = (self.reference(), &self.companions);
            save_model(&folder, companions, lm, &self.tokenizer, &note)?;
        }
        if let Some(place) = em.config.place(em.position)
            && em.config.takes_scorer(place)
        {
            ra3_files::write_folder(&self.scorer(place.round), |folder| {
                lm.save(folder, Saved::Weights)
            })?;
        }
        Ok(())
    }

    /// Gives the loop back what it had taken when a run was at `place`.
    fn restore(&self, em: &mut Em, place: Place) -> Result<()> {
        if let Some(round) = scorer_needed(em, place) {
            em.frozen.scorer = Some(self.engine.load_frozen(&self.scorer(round))?);
        }
        Ok(())
    }
}

fn scorer_name(round: u64) -> String {
    format!("scorer-{round}")
}

/// The round whose scorer a run reads that continues at `place`.
fn scorer_needed(em: &Em, place: Place) -> Option<u64> {
    let has_scorers = em.config.n_e_updates() > 0 && em.config.e_step.scorer == Scorer::Frozen;
    let is_needed = has_scorers && place.phase != Phase::ColdStart && !place.begins_e_step();
    is_needed.then_some(place.round)
}

/// The loop and what a run keeps of it.
pub(crate) struct Ra3Course<'a> {
    /// The loop.
    pub(crate) em: Em,
    /// The training documents.
    pub(crate) documents: &'a Shards,
    /// Whether the optimizer's moments start anew with each phase.
    pub(crate) moments: MomentsName,
    /// The models that are written.
    pub(crate) snapshots: Snapshots,
    /// The draws.
    pub(crate) seed: Seed,
}

impl Ra3Course<'_> {
    pub(crate) fn total(&self) -> u64 {
        self.em.config.n_positions()
    }

    pub(crate) fn rehearse(&self, lm: &dyn Model) -> Result<()> {
        let (config, documents) = (&self.em.config, self.documents);
        rehearsal::documents(lm, documents, config.m_batch_documents)?;
        // What an update of the M-step learns of one document goes through as one tree, too.
        let group = config
            .e_step
            .group_size
            .max(config.m_step.choose.n_learnt());
        let n_max = config.e_step.rationale_tokens_max;
        rehearsal::rollouts(lm, documents, &self.em.markers, group, n_max)
    }

    pub(crate) fn step(&mut self, lm: &mut dyn Model) -> Result<Option<Step>> {
        self.snapshots.write(&self.em, lm)?;
        let Some(place) = self.em.config.place(self.em.position) else {
            return Ok(None);
        };
        if self.em.lacks_reference(place) {
            // As it was written: in the precision on disk, before and after a kill alike.
            let reference = self.snapshots.reference();
            self.em.frozen.reference = Some(self.snapshots.engine.load_frozen(&reference)?);
        }
        if self.moments == MomentsName::ByPhase && place.index == 0 {
            lm.reset_optimizer();
        }
        let documents = |index: usize| self.documents.document(index);
        let report = self.em.advance(lm, &documents, self.seed)?;
        Ok(report.map(|report| step_of(&report)))
    }

    /// The models that are written and that a run needs which continues here, by their folders:
    /// nothing writes them again.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let em = &self.em;
        let mut names = Vec::new();
        if em.position > em.config.cold_start_updates {
            names.push(REFERENCE.to_owned());
        }
        let place = em.config.place(em.position);
        names.extend(
            place
                .and_then(|place| scorer_needed(em, place))
                .map(scorer_name),
        );
        names
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec(&self.em.annotated).expect("they have only plain fields");
        Ok(ra3_files::write(&folder.join("annotated.json"), &json)?)
    }

    pub(crate) fn load(&mut self, folder: &Path, position: u64) -> Result<()> {
        let is_wrong = "is damaged, or of another version of ra3: begin the stage again with \
                        --restart-stage";
        self.em.annotated = read_json(&folder.join("annotated.json"), is_wrong)?;
        self.em.position = position;
        match self.em.config.place(position) {
            None => Ok(()),
            Some(place) => self.snapshots.restore(&mut self.em, place),
        }
    }
}

fn step_of(report: &EmReport) -> Step {
    let figures = match &report.done {
        Done::Supervised(update) => update_figures(update),
        Done::EStep(report) => e_step_figures(report),
        Done::Annotated(latents) => {
            let mut figures = BTreeMap::new();
            latent_figures(latents, &mut figures);
            figures
        }
    };
    Step {
        phase: match report.place.phase {
            Phase::ColdStart => "cold_start",
            Phase::EStep => "e_step",
            Phase::Annotate => "annotate",
            Phase::MStep => "m_step",
        },
        figures,
        n_corpus_tokens: report.n_corpus_tokens,
        work: report.work,
        ..Step::default()
    }
}

fn update_figures(update: &UpdateStats) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::from([
        ("loss".to_owned(), update.loss),
        ("gradient_norm".to_owned(), update.gradient_norm),
    ]);
    figures.extend(gap_figure(update));
    figures
}

fn e_step_figures(report: &EStepReport) -> BTreeMap<String, f64> {
    let mut figures = update_figures(&report.update);
    // The loss of a policy gradient is no figure of merit.
    figures.remove("loss");
    let rollouts = &report.rollouts;
    figures.insert("mean_return".to_owned(), rollouts.mean_return);
    figures.insert("mean_line_logprob".to_owned(), rollouts.mean_line_logprob);
    figures.insert("mean_gain".to_owned(), rollouts.mean_gain);
    figures.insert("rationale_nats".to_owned(), rollouts.rationale_nats);
    figures.insert("out_of_room_share".to_owned(), rollouts.out_of_room_share);
    latent_figures(&rollouts.latents, &mut figures);
    figures
}

fn latent_figures(latents: &LatentStats, figures: &mut BTreeMap<String, f64>) {
    figures.insert("think_rate".to_owned(), latents.think_rate);
    figures.insert("persistence".to_owned(), latents.persistence);
    figures.insert("rationale_tokens".to_owned(), latents.rationale_tokens);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ra3::m_step::{AnnotatedDocument, Draw};
    use ra3::trajectory::{Annotated, Latent, Trajectory};

    proptest! {
        #[test]
        fn every_kept_document_is_read_as_it_was(
            shares in prop::collection::vec(1e-6f32..=1.0, 0..4),
            n_corpus_tokens in any::<u64>(),
            rationale in prop::collection::vec(any::<u32>(), 0..4),
            forced_close in any::<bool>(),
        ) {
            let switch = Latent::Switch { rationale: rationale.clone(), forced_close };
            let latents = vec![None, Some(Latent::Keep), Some(switch)];
            let trajectory = Trajectory {
                prefix: rationale,
                lines: vec![vec![1, 2], vec![3], vec![0]],
            };
            let draws = shares.into_iter().enumerate().map(|(index, share)| {
                let mut latents = latents.clone();
                latents.rotate_left(index % 3);
                Draw { annotated: Annotated { trajectory: trajectory.clone(), latents }, share }
            });
            let document = AnnotatedDocument { draws: draws.collect(), n_corpus_tokens };
            let json = serde_json::to_string(&document).unwrap();
            let read: AnnotatedDocument = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, document);
        }
    }
}
