//! Settings of E-step and M-step as a run file has them, with what holds where it says nothing,
//! and those of RLVR. Those of the loop are [`crate::phases::EmConfig`].

use crate::annotate::Choose;
use crate::formulas::Baseline;
use crate::generation::WritingRule;
use crate::latent_rule::{Decision, LatentRule};
use crate::policy::Surrogate;
use crate::rewards::Penalty;
use crate::schedule::Schedule;
use crate::trajectory::Markers;

/// Settings of the E-step: `G` is `group_size`, `M` `rationale_tokens_max`, `H` `horizon`, `γ`
/// `discount`, and `c` stands in `penalty`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct EStepConfig {
    /// Documents of an update.
    pub batch_documents: usize,
    /// Rollouts of a document; 1 only with `baseline = "none"`.
    pub group_size: usize,
    /// Longest rationale; at most the context less 2.
    pub rationale_tokens_max: usize,
    /// Lines whose reward counts for a decision; 0 for all to the end.
    pub horizon: usize,
    /// Discount of a line.
    pub discount: f32,
    /// What a switch costs.
    pub penalty: Penalty,
    /// Who scores the lines.
    pub scorer: Scorer,
    /// What is subtracted from a return.
    pub baseline: Baseline,
    /// Step size; 0 moves nothing.
    pub learning_rate: f32,
    /// Updates of linear warm-up, over the E-step updates of all rounds.
    pub warmup: u64,
    /// Temperature of the rollouts. Greedy rollouts have no gradient.
    pub temperature: f32,
    /// Updates on one batch of rollouts; above 1 the surrogate is clipped.
    pub updates_per_batch: usize,
    /// Clip range of the surrogate.
    pub clip: f32,
    /// Probability with which a rollout's decision is forced to think; 1 forces all.
    // Exploration for a model that hardly ever thinks. A forced decision carries no gradient, its
    // rationale does; the gradient of the decisions before it is that of the exploring policy.
    pub think_floor: f32,
    /// Every line of a rollout has a rationale of its own (as LaTRO and RLP have it).
    pub think_every_line: bool,
}

/// Who scores the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Scorer {
    /// The model as it is.
    Live,
    /// The model at the start of the E-step.
    Frozen,
}

impl Default for EStepConfig {
    fn default() -> Self {
        Self {
            batch_documents: 16,
            group_size: 8,
            rationale_tokens_max: 48,
            horizon: 2,
            discount: 1.0,
            penalty: Penalty::SwitchCost { cost: 0.3 },
            scorer: Scorer::Live,
            baseline: Baseline::LeaveOneOut,
            learning_rate: 1e-5,
            warmup: 2,
            temperature: 1.0,
            updates_per_batch: 1,
            clip: 0.2,
            think_floor: 0.0,
            think_every_line: false,
        }
    }
}

impl EStepConfig {
    /// How latents are drawn from `q`.
    pub fn latent_rule(&self, markers: Markers) -> LatentRule {
        let mut rule = LatentRule::free(markers, self.rationale_tokens_max, self.temperature);
        if self.penalty.forbids_thinking() {
            rule.decision = Decision::Absent;
        } else if self.think_every_line {
            rule.decision = Decision::Think;
        }
        rule
    }

    /// How the E-step's own rollouts find latents: [`Self::latent_rule`], under the think floor.
    pub fn exploring_rule(&self, markers: Markers) -> LatentRule {
        let mut rule = self.latent_rule(markers);
        if rule.decision == Decision::Free && self.think_floor > 0.0 {
            let think_floor = self.think_floor;
            rule.decision = Decision::Exploring { think_floor };
        }
        rule
    }

    /// Step sizes, over the E-step updates of all rounds.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::Constant {
            peak: self.learning_rate,
            warmup: self.warmup,
        }
    }
}

/// The choice of the M-step's data, and the loss weights of cold start and M-step.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MStepConfig {
    /// Which of the drawn annotations are kept.
    pub choose: Choose,
    /// Annotation draws rationales of random tokens in place of the model's own: a control.
    pub random_rationales: bool,
    /// Share of the data that keeps the corpus' own comments as latents, where it has some.
    pub corpus_latents_share: f32,
    /// Loss weight of a line's token.
    pub line_weight: f32,
    /// Loss weight of a decision.
    pub decision_weight: f32,
    /// Loss weight of a rationale's token.
    pub rationale_weight: f32,
}

impl Default for MStepConfig {
    fn default() -> Self {
        Self {
            choose: Choose::Sample {},
            random_rationales: false,
            corpus_latents_share: 0.5,
            line_weight: 1.0,
            decision_weight: 1.0,
            rationale_weight: 1.0,
        }
    }
}

/// How rewards become advantages, and how tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Estimator {
    /// Group-normalised rewards, each program counts the same.
    Grpo,
    /// No division by the deviation; a constant length normaliser.
    DrGrpo,
    /// Leave-one-out, summed over tokens.
    Rloo,
    /// Group-normalised rewards, each token counts the same.
    Dapo,
}

/// Settings of RLVR.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoConfig {
    /// `G`: programs of a problem.
    pub group_size: usize,
    /// How rewards become advantages.
    pub estimator: Estimator,
    /// Groups whose rewards are all equal are left out of the normalisers too.
    pub drop_groups_without_signal: bool,
    /// Tokens before the longest program in which a penalty grows to 1; 0 for none.
    pub overlong_tokens: usize,
    /// How programs are written.
    pub writing: WritingRule,
    /// What is maximised; clipped where a batch is used more than once.
    pub surrogate: Surrogate,
    /// Updates on one batch of programs.
    pub updates_per_batch: usize,
}
