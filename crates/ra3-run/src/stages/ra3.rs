//! The RA3 arm: pulls `ra3::em` and keeps what a continued run needs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ra3::e_step::{EStepReport, Policies};
use ra3::em::{Em, EmReport, Phase};
use ra3::m_step::WeightedAnnotated;
use ra3::policy::{Policy, UpdateStats};
use ra3::seed::Seed;
use ra3::trajectory::{Annotated, Latent, LatentStats, Trajectory};
use ra3_corpus::shards::Shards;
use ra3_lm::Lm;
use serde::{Deserialize, Serialize};

use super::training::Step;
use crate::atomic;

/// The loop and the models that it compares with.
pub(crate) struct Ra3Course<'a> {
    /// The loop.
    pub(crate) em: Em,
    /// The training documents.
    pub(crate) documents: &'a Shards,
    /// True if the scorer is frozen at the start of each E-step.
    pub(crate) scorer_is_frozen: bool,
    /// True if the rewards need `p_0`.
    pub(crate) needs_reference: bool,
    /// True if models that are not trained are kept in half the memory.
    pub(crate) frozen_is_half: bool,
    /// The model at the start of the E-step.
    pub(crate) scorer: Option<Lm>,
    /// `p_0`: the model after the cold start, the first that knows the markers.
    pub(crate) reference: Option<Lm>,
    /// The draws.
    pub(crate) seed: Seed,
}

impl Ra3Course<'_> {
    pub(crate) fn total(&self) -> u64 {
        self.em.config.n_positions()
    }

    pub(crate) fn step(&mut self, lm: &mut Lm) -> Result<Option<Step>> {
        if self.em.position == self.em.config.cold_start_updates {
            self.reference = Some(self.frozen(lm));
        }
        if self.scorer_is_frozen && self.em.begins_e_step() {
            self.scorer = Some(self.frozen(lm));
        }
        let reference = if self.needs_reference {
            self.reference.as_mut()
        } else {
            None
        };
        let mut policies = Policies {
            policy: lm,
            scorer: self.scorer.as_mut().map(|scorer| scorer as &mut dyn Policy),
            reference: reference.map(|reference| reference as &mut dyn Policy),
        };
        let documents = |index: usize| self.documents.annotated(index);
        let report = self
            .em
            .advance(&mut policies, &documents, self.documents.len(), self.seed)?;
        Ok(report.map(|report| step_of(&report)))
    }

    fn frozen(&self, lm: &Lm) -> Lm {
        let mut frozen = lm.frozen();
        if self.frozen_is_half {
            frozen.halve();
        }
        frozen
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let annotated: Vec<Kept> = self.em.annotated.iter().map(Kept::from).collect();
        let json = serde_json::to_vec(&annotated).expect("kept documents have only plain fields");
        atomic::write(&folder.join("annotated.json"), &json)?;
        for (name, model) in [("scorer", &self.scorer), ("reference", &self.reference)] {
            if let Some(model) = model {
                model.save_training(&folder.join(name))?;
            }
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
        for (name, model) in [
            ("scorer", &mut self.scorer),
            ("reference", &mut self.reference),
        ] {
            let folder = folder.join(name);
            if folder.exists() {
                let mut loaded = lm.frozen();
                loaded.load_training(&folder)?;
                if self.frozen_is_half {
                    loaded.halve();
                }
                *model = Some(loaded);
            }
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
    weight: f32,
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
        }
    }
}
