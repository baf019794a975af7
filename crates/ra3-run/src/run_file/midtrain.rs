//! Sections of the run file: mid-training by NTP and by RA3.

use ra3::annotate::Choose;
use ra3::formulas::Baseline;
use ra3::rewards::Penalty;
use serde::{Deserialize, Serialize};

/// Mid-training, both arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MidtrainSection {
    /// Documents of a supervised update, both arms.
    pub batch_documents: usize,
    /// Step size of NTP, cold start and M-step.
    pub supervised_peak: f32,
    /// Updates of linear warm-up of the supervised updates.
    pub warmup: u64,
    /// Share of the peak at which the supervised step size ends: it falls along a half cosine over
    /// all supervised updates of an arm (RA3's are those of its cold start and its M-steps).
    pub floor_share: f32,
    /// NTP also runs at RA3's compute.
    pub ntp_at_ra3_compute: bool,
    /// RA3.
    pub ra3: Ra3Section,
}

/// RA3's loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ra3Section {
    /// Updates on the corpus' own comments as latents.
    pub cold_start_updates: u64,
    /// Rounds of E-step and M-step.
    pub rounds: u64,
    /// E-step updates of a round.
    pub e_updates: u64,
    /// Documents annotated in a round.
    pub annotate_documents: usize,
    /// M-step updates of a round.
    pub m_updates: u64,
    /// Whether the optimizer's moments start anew with each phase.
    pub moments: MomentsName,
    /// The parts of the method that are left out.
    pub ablation: AblationName,
    /// The search for latents.
    pub e_step: EStepSection,
    /// The choice of the M-step's data.
    pub m_step: MStepSection,
}

/// A named ablation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AblationName {
    /// The whole method.
    None,
    /// A think at every line (as LaTRO and RLP do).
    ThinkEveryLine,
    /// E-step only.
    NoEm,
    /// Cold start and M-step only (as TPT does).
    NoRl,
    /// As `no_rl`, with rationales of random tokens.
    RandomLatents,
}

/// Whether the optimizer's moments start anew with each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentsName {
    /// One set of moments goes through cold start, E-steps and M-steps.
    Shared,
    /// Each phase of each round begins with none.
    ByPhase,
}

/// The search for latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EStepSection {
    /// Documents of an update.
    pub batch_documents: usize,
    /// Rollouts of a document.
    pub group_size: usize,
    /// Longest rationale in tokens.
    pub rationale_tokens_max: usize,
    /// Lines whose reward counts for a decision; 0 for all to the end.
    pub horizon: usize,
    /// Discount of a line.
    pub discount: f32,
    /// What a switch costs.
    pub penalty: Penalty,
    /// Who scores the lines.
    pub scorer: ScorerName,
    /// What is subtracted from a return.
    pub baseline: Baseline,
    /// Step size.
    pub learning_rate: f32,
    /// Updates of linear warm-up, over the E-step updates of all rounds.
    pub warmup: u64,
    /// Temperature of the rollouts.
    pub temperature: f32,
    /// Updates on one batch of rollouts; above 1 the surrogate is clipped.
    pub updates_per_batch: usize,
    /// Clip range of the surrogate.
    pub clip: f32,
    /// Probability with which a rollout's decision is forced to think.
    pub think_floor: f32,
}

/// Who scores the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScorerName {
    /// The model as it is.
    Live,
    /// The model at the start of the E-step.
    Frozen,
}

/// The choice of the M-step's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MStepSection {
    /// Which of the drawn annotations are kept.
    pub choose: Choose,
    /// Share of the data that keeps the corpus' own comments as latents.
    pub corpus_latents_share: f32,
    /// Loss weight of a line's token.
    pub line_weight: f32,
    /// Loss weight of a decision.
    pub decision_weight: f32,
    /// Loss weight of a rationale's token.
    pub rationale_weight: f32,
}
