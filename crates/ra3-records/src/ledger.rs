//! What a run records: one typed JSON line for each update, evaluation and stage.
//!
//! The ledger holds no times: a run that was killed and continued has the same bytes as one that
//! was not. Every number comes back as it was written, those that are not finite too. Wall time and
//! peak memory go to `clock.jsonl` (see [`crate::clock`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of `ledger.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The first line: what runs, and on what.
    Run(RunRecord),
    /// What the corpus stage read, dropped and kept.
    Corpus(CorpusRecord),
    /// One optimizer step or one batch of annotation.
    Update(UpdateRecord),
    /// A model measured on held-out documents.
    HeldOut(HeldOutRecord),
    /// A model's programs, graded.
    Score(ScoreRecord),
    /// A stage that ended, with what it spent.
    Stage(StageRecord),
}

/// What runs, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Name of the run file's experiment.
    pub name: String,
    /// Root seed.
    pub seed: u64,
    /// blake3 of the resolved plan.
    pub plan_hash: String,
    /// Version of the `ra3` that ran it, and the commit that it was built from: `0.1.0 (1234…)`.
    pub version: String,
    /// Number of threads of the engine.
    pub n_threads: usize,
    /// The processor, as it calls itself.
    pub processor: String,
    /// The models that are compared, in their order.
    pub arms: Vec<ArmRecord>,
}

/// A model that is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmRecord {
    /// Its name, as in [`ScoreRecord::arm`]; after RLVR it is `rlvr-` and this name.
    pub name: String,
    /// Where it begins: `base`, another arm, or a checkpoint.
    pub from: String,
    /// What is done to it: `none`, `ntp` or `ra3`.
    pub method: String,
}

/// Counts of the corpus stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusRecord {
    /// Documents read, by source.
    pub n_read: BTreeMap<String, u64>,
    /// Documents, and pieces of long ones, that were dropped, by reason.
    pub n_dropped: BTreeMap<String, u64>,
    /// Bytes of the documents read.
    pub n_bytes_read: u64,
    /// Bytes of what was dropped after it was read.
    pub n_bytes_dropped: u64,
    /// Documents kept for training.
    pub n_train: u64,
    /// Documents kept for measuring.
    pub n_held_out: u64,
    /// Lines of the training documents.
    pub n_lines: u64,
    /// Corpus tokens of the training documents.
    pub n_tokens: u64,
    /// Bytes of the training documents.
    pub n_bytes: u64,
    /// Problems for RLVR.
    pub n_train_problems: u64,
    /// Problems for evaluation.
    pub n_held_out_problems: u64,
}

/// One optimizer step, or one batch of annotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRecord {
    /// The stage, such as `ra3` or `rlvr-ntp`.
    pub stage: String,
    /// Which part of the stage: `ntp`, `cold_start`, `e_step`, `annotate`, `m_step`, `grpo`.
    pub phase: String,
    /// Number of updates of this stage before this one.
    pub position: u64,
    /// Figures by name (`loss`, `gradient_norm`, `mean_return`, `think_rate`, `reward`, …).
    #[serde(with = "crate::number::map")]
    pub figures: BTreeMap<String, f64>,
    /// Corpus tokens seen by this stage so far.
    pub n_corpus_tokens: u64,
    /// Tokens sampled by this stage so far.
    pub n_tokens_sampled: u64,
    /// FLOPs spent by this stage so far.
    #[serde(with = "crate::number")]
    pub flops: f64,
}

/// A model measured on held-out documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRecord {
    /// The arm, such as `base`, `ntp` or `ra3`.
    pub arm: String,
    /// Which text was measured, the one that the arm was trained on: documents as they stand in the
    /// `corpus`, or `lifted` ones, whose comments became latents. Figures per byte of different
    /// texts do not compare.
    pub text: String,
    /// Documents measured.
    pub n_documents: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Bits per byte without latents: exact for a model without latents, forced `<act>` otherwise.
    #[serde(with = "crate::number")]
    pub bits_per_byte: f64,
    /// What gives `p_0` in the bounds: `reference`, the arm's model after the cold start, or the
    /// model `itself`, where no such model is known; empty without latents.
    pub prior: String,
    /// Upper bounds on bits per byte by name: `elbo`, `iwae_4`, … under the sticky prior,
    /// `written_elbo`, … under plain sampling; empty without latents.
    #[serde(with = "crate::number::map")]
    pub bounds: BTreeMap<String, f64>,
    /// 95 % bootstrap intervals over documents, by the names of bounds and `bits_per_byte`.
    pub intervals: BTreeMap<String, Interval>,
    /// Mean lines per latent, think rate, rationale tokens, gain of a think over an act in nats.
    #[serde(with = "crate::number::map")]
    pub latents: BTreeMap<String, f64>,
}

/// An estimate with a bootstrap interval over problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The estimate.
    #[serde(with = "crate::number")]
    pub mean: f64,
    /// 2.5 % quantile.
    #[serde(with = "crate::number")]
    pub low: f64,
    /// 97.5 % quantile.
    #[serde(with = "crate::number")]
    pub high: f64,
}

impl Interval {
    /// True where all values were alike: that says nothing of how well the mean is known.
    pub fn has_no_width(&self) -> bool {
        self.low == self.high
    }

    /// Cut to where a share, or a difference of shares, can be.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            low: self.low.max(low),
            high: self.high.min(high),
            ..self
        }
    }
}

impl From<ra3_statistics::pass_at_k::Estimate> for Interval {
    fn from(found: ra3_statistics::pass_at_k::Estimate) -> Self {
        Self {
            mean: found.mean,
            low: found.low,
            high: found.high,
        }
    }
}

/// A model's programs, graded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRecord {
    /// The stage that took it: one that measures a finished model, or RLVR on its way.
    pub stage: String,
    /// The arm, such as `base` or `ra3`; for RLVR `rlvr-ra3`.
    pub arm: String,
    /// Updates of the stage before this score (0 for a finished model).
    pub position: u64,
    /// Tokens sampled by the stage before this score.
    pub n_tokens_sampled: u64,
    /// How programs were written: `plain` by plain sampling, as any server samples; with decisions
    /// drawn between the markers (`free`) or forced (`act`, `think`); or after the `true_plan`.
    pub decision: String,
    /// Benchmark and its variant.
    pub benchmark: String,
    /// Problems.
    pub n_problems: u64,
    /// Samples for each problem.
    pub n_samples: u64,
    /// Sampling temperature.
    #[serde(with = "crate::number")]
    pub temperature: f64,
    /// pass@k by `k`.
    pub pass_at: BTreeMap<String, Interval>,
    /// pass@1 by family.
    #[serde(with = "crate::number::map")]
    pub by_family: BTreeMap<String, f64>,
    /// Right samples of each problem, in the problems' order: what arms are compared by.
    pub n_right: Vec<u64>,
    /// Share of the lines that were written after a decision of their own.
    #[serde(with = "crate::number")]
    pub decided_lines: f64,
    /// Verdicts by name.
    pub verdicts: BTreeMap<String, u64>,
    /// Programs with a plan of their own, by family; under an empty name where there are none.
    pub plans: BTreeMap<String, PlanRecord>,
}

/// Programs that say what they will do, in a rationale or a comment, beside all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRecord {
    /// All programs.
    pub n_programs: u64,
    /// Those that are right.
    pub n_right: u64,
    /// Programs with a plan.
    pub n_planned: u64,
    /// Those that are right.
    pub n_planned_right: u64,
}

impl std::ops::AddAssign for PlanRecord {
    fn add_assign(&mut self, other: Self) {
        self.n_programs += other.n_programs;
        self.n_right += other.n_right;
        self.n_planned += other.n_planned;
        self.n_planned_right += other.n_planned_right;
    }
}

impl std::iter::Sum for PlanRecord {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

impl PlanRecord {
    /// Share with a plan, share of these that are right, and of the others: `45 %`, `96 %`, `20 %`.
    pub fn cells(&self) -> [String; 3] {
        let percent = |part: u64, all: u64| {
            let known = (all > 0).then(|| 100.0 * part as f64 / all as f64);
            known.map_or_else(|| "–".to_owned(), |share| format!("{share:.1}"))
        };
        [
            percent(self.n_planned, self.n_programs),
            percent(self.n_planned_right, self.n_planned),
            percent(
                self.n_right - self.n_planned_right,
                self.n_programs - self.n_planned,
            ),
        ]
    }

    /// What the cells are called.
    pub const HEAD: [&'static str; 3] = ["with a plan, %", "right with, %", "without, %"];
}

/// A stage that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// The stage.
    pub stage: String,
    /// Corpus tokens seen.
    pub n_corpus_tokens: u64,
    /// Tokens sampled.
    pub n_tokens_sampled: u64,
    /// Tokens that the network ran.
    pub n_tokens_run: u64,
    /// FLOPs spent.
    #[serde(with = "crate::number")]
    pub flops: f64,
}
