//! The RA3 arm: pulls `ra3::em` and keeps what a continued run needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ra3::e_step::{EStepReport, Policies};
use ra3::em::{Em, EmReport, Phase};
use ra3::m_step::WeightedAnnotated;
use ra3::policy::{Policy, UpdateStats};
use ra3::seed::Seed;
use ra3::trajectory::{Annotated, Latent, LatentStats, Trajectory};
use ra3_corpus::shards::Shards;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_lm::{Lm, TrainSettings};
use serde::{Deserialize, Serialize};

use super::base::save_model_to;
use super::rehearsal;
use super::training::Step;
use crate::atomic;
use crate::model_note::ModelNote;
use crate::number;
use crate::run_file::MomentsName;

/// `p_0`, the model after the cold start: the first that knows the markers. It never changes, so it
/// is written once, as the model `reference`, and no commit holds it again.
pub(crate) struct Reference {
    /// Where it is written.
    pub(crate) folder: PathBuf,
    /// Whose files travel with it.
    pub(crate) companions: PathBuf,
    /// Its tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// How it is run.
    pub(crate) settings: TrainSettings,
}

impl Reference {
    fn write(&self, lm: &Lm) -> Result<()> {
        let note = ModelNote::latent();
        save_model_to(&self.folder, &self.companions, lm, &self.tokenizer, &note)
    }

    fn load(&self) -> Result<Lm> {
        Lm::load(&self.folder, self.settings)
            .with_context(|| format!("cannot load the model {}", self.folder.display()))
    }
}

/// The loop and the models that it compares with.
pub(crate) struct Ra3Course<'a> {
    /// The loop.
    pub(crate) em: Em,
    /// The training documents.
    pub(crate) documents: &'a Shards,
    /// Whether the optimizer's moments start anew with each phase.
    pub(crate) moments: MomentsName,
    /// True if the scorer is frozen at the start of each E-step.
    pub(crate) scorer_is_frozen: bool,
    /// True if the rewards need `p_0`.
    pub(crate) needs_reference: bool,
    /// True if models that are not trained are kept in half the memory.
    pub(crate) frozen_is_half: bool,
    /// The model at the start of the E-step.
    pub(crate) scorer: Option<Lm>,
    /// Where `p_0` is kept.
    pub(crate) reference: Reference,
    /// `p_0`, as it was written, where the rewards need it.
    pub(crate) prior: Option<Lm>,
    /// The draws.
    pub(crate) seed: Seed,
}

impl Ra3Course<'_> {
    pub(crate) fn total(&self) -> u64 {
        self.em.config.n_positions()
    }

    pub(crate) fn rehearse(&self, lm: &Lm) -> Result<()> {
        let (config, documents) = (&self.em.config, self.documents);
        rehearsal::documents(lm, documents, config.m_batch_documents)?;
        let (group, n_max) = (config.e_step.group_size, config.e_step.rationale_tokens_max);
        rehearsal::rollouts(lm, documents, &self.em.markers, group, n_max)
    }

    pub(crate) fn step(&mut self, lm: &mut Lm) -> Result<Option<Step>> {
        if self.em.position == self.em.config.cold_start_updates {
            self.reference.write(lm)?;
        }
        let is_warm = self.em.position >= self.em.config.cold_start_updates;
        if self.needs_reference && is_warm && self.prior.is_none() {
            self.prior = Some(self.halved(self.reference.load()?));
        }
        if self.moments == MomentsName::ByPhase && self.em.begins_phase() {
            lm.reset_optimizer();
        }
        if self.scorer_is_frozen && self.em.begins_e_step() {
            self.scorer = Some(self.halved(lm.frozen()));
        }
        let mut policies = Policies {
            policy: lm,
            scorer: self.scorer.as_mut().map(|scorer| scorer as &mut dyn Policy),
            reference: self.prior.as_mut().map(|prior| prior as &mut dyn Policy),
        };
        let documents = |index: usize| self.documents.document(index);
        let report = self
            .em
            .advance(&mut policies, &documents, self.documents.len(), self.seed)?;
        Ok(report.map(|report| step_of(&report)))
    }

    fn halved(&self, mut model: Lm) -> Lm {
        if self.frozen_is_half {
            model.halve();
        }
        model
    }

    /// True if `p_0` is written: nothing writes it again, and what follows reads it.
    pub(crate) fn has_reference(&self) -> bool {
        self.em.position > self.em.config.cold_start_updates
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let annotated: Vec<Kept> = self.em.annotated.iter().map(Kept::from).collect();
        let json = serde_json::to_vec(&annotated).expect("kept documents have only plain fields");
        atomic::write(&folder.join("annotated.json"), &json)?;
        if let Some(scorer) = &self.scorer {
            scorer.save_training(&folder.join("scorer"))?;
        }
        Ok(())
    }

    /// `lm` lends its shape to the models that are read.
    pub(crate) fn load(&mut self, folder: &Path, position: u64, lm: &Lm) -> Result<()> {
        let path = folder.join("annotated.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let kept: Vec<Kept> = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        self.em.annotated = kept.into_iter().map(WeightedAnnotated::from).collect();
        self.em.position = position;
        let folder = folder.join("scorer");
        if folder.exists() {
            let mut scorer = lm.frozen();
            scorer.load_training(&folder)?;
            self.scorer = Some(self.halved(scorer));
        }
        Ok(())
    }
}

fn step_of(report: &EmReport) -> Step {
    let (phase, figures, n_corpus_tokens, work) = match report {
        EmReport::Supervised {
            phase,
            update,
            n_corpus_tokens,
        } => (phase, update_figures(update), *n_corpus_tokens, update.work),
        EmReport::EStep {
            phase,
            report,
            n_corpus_tokens,
        } => (phase, e_step_figures(report), *n_corpus_tokens, report.work),
        EmReport::Annotate {
            phase,
            latents,
            work,
        } => {
            let mut figures = BTreeMap::new();
            latent_figures(latents, &mut figures);
            (phase, figures, 0, *work)
        }
    };
    let phase = match phase {
        Phase::ColdStart { .. } => "cold_start",
        Phase::EStep { .. } => "e_step",
        Phase::Annotate { .. } => "annotate",
        Phase::MStep { .. } => "m_step",
    };
    Step {
        phase,
        figures,
        n_corpus_tokens,
        work,
        scores: Vec::new(),
        samples: Vec::new(),
        notes: Vec::new(),
    }
}

fn update_figures(update: &UpdateStats) -> BTreeMap<String, f64> {
    BTreeMap::from([
        ("loss".to_owned(), update.loss),
        ("gradient_norm".to_owned(), update.gradient_norm),
    ])
}

fn e_step_figures(report: &EStepReport) -> BTreeMap<String, f64> {
    let mut figures = update_figures(&report.update);
    // The loss of a policy gradient is no figure of merit.
    figures.remove("loss");
    figures.insert("mean_return".to_owned(), report.mean_return);
    figures.insert("mean_line_logprob".to_owned(), report.mean_line_logprob);
    figures.insert("mean_gain".to_owned(), report.mean_gain);
    figures.insert("out_of_room_share".to_owned(), report.out_of_room_share);
    latent_figures(&report.latents, &mut figures);
    figures
}

fn latent_figures(latents: &LatentStats, figures: &mut BTreeMap<String, f64>) {
    figures.insert("think_rate".to_owned(), latents.think_rate);
    figures.insert("persistence".to_owned(), latents.persistence);
    figures.insert("rationale_tokens".to_owned(), latents.rationale_tokens);
}

/// An annotated document as a committed state holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    prefix: Vec<u32>,
    lines: Vec<Vec<u32>>,
    latents: Vec<KeptLatent>,
    /// An importance weight, so whatever a diverging model gives.
    #[serde(with = "number::single")]
    weight: f32,
    n_corpus_tokens: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptLatent {
    Absent,
    Keep,
    Switch(Vec<u32>),
    ForcedSwitch(Vec<u32>),
}

impl From<&WeightedAnnotated> for Kept {
    fn from(document: &WeightedAnnotated) -> Self {
        let latent = |latent: &Option<Latent>| match latent {
            None => KeptLatent::Absent,
            Some(Latent::Keep) => KeptLatent::Keep,
            Some(Latent::Switch {
                rationale,
                forced_close: false,
            }) => KeptLatent::Switch(rationale.clone()),
            Some(Latent::Switch {
                rationale,
                forced_close: true,
            }) => KeptLatent::ForcedSwitch(rationale.clone()),
        };
        let Annotated {
            trajectory,
            latents,
        } = &document.annotated;
        Self {
            prefix: trajectory.prefix.clone(),
            lines: trajectory.lines.clone(),
            latents: latents.iter().map(latent).collect(),
            weight: document.weight,
            n_corpus_tokens: document.n_corpus_tokens,
        }
    }
}

impl From<Kept> for WeightedAnnotated {
    fn from(kept: Kept) -> Self {
        let latent = |latent: KeptLatent| match latent {
            KeptLatent::Absent => None,
            KeptLatent::Keep => Some(Latent::Keep),
            KeptLatent::Switch(rationale) => Some(Latent::Switch {
                rationale,
                forced_close: false,
            }),
            KeptLatent::ForcedSwitch(rationale) => Some(Latent::Switch {
                rationale,
                forced_close: true,
            }),
        };
        let trajectory = Trajectory {
            prefix: kept.prefix,
            lines: kept.lines,
        };
        let latents = kept.latents.into_iter().map(latent).collect();
        Self {
            annotated: Annotated {
                trajectory,
                latents,
            },
            weight: kept.weight,
            n_corpus_tokens: kept.n_corpus_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_kept_document_is_read_as_it_was(
            bits in any::<u32>(),
            odd in prop::sample::select(vec![
                f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 4.0, f32::MAX,
            ]),
            is_odd in any::<bool>(),
            rationale in prop::collection::vec(any::<u32>(), 0..4),
            forced_close in any::<bool>(),
        ) {
            let weight = if is_odd { odd } else { f32::from_bits(bits) };
            let switch = Latent::Switch { rationale: rationale.clone(), forced_close };
            let document = WeightedAnnotated {
                annotated: Annotated {
                    trajectory: Trajectory {
                        prefix: rationale,
                        lines: vec![vec![1, 2], vec![3], vec![0]],
                    },
                    latents: vec![None, Some(Latent::Keep), Some(switch)],
                },
                weight,
                n_corpus_tokens: u64::from(bits),
            };
            let json = serde_json::to_string(&Kept::from(&document)).unwrap();
            let kept: Kept = serde_json::from_str(&json).unwrap();
            let read = WeightedAnnotated::from(kept);
            prop_assert_eq!(&read.annotated, &document.annotated);
            prop_assert_eq!(read.n_corpus_tokens, document.n_corpus_tokens);
            let is_same = read.weight.to_bits() == weight.to_bits()
                || (read.weight.is_nan() && weight.is_nan());
            prop_assert!(is_same, "{} became {}", weight, read.weight);
        }
    }
}
