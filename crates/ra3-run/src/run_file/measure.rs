//! Sections of the run file: evaluation and RLVR.

use std::path::PathBuf;

use ra3::grpo::Estimator;
use ra3_evals::bench::{self, Name, Selection};
use ra3_evals::contest::reward::Scheme;
use ra3_evals::task::Task;
use serde::{Deserialize, Serialize};

/// What is measured of every arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSection {
    /// Samples of each problem.
    pub n_samples: usize,
    /// Sampling temperature of the programs.
    pub temperature: f32,
    /// The k of pass@k.
    pub pass_at: Vec<usize>,
    /// Held-out documents for bits per byte and bounds.
    pub n_documents: usize,
    /// The K of IWAE_K.
    pub iwae: Vec<usize>,
    /// Prior probability of keeping the latent, for the bounds.
    pub alpha: f32,
    /// Longest program in tokens, rationales included.
    pub program_tokens_max: usize,
    /// The table of pass@1 by forced decision is made too.
    pub decision_table: bool,
    /// Processes that grade.
    pub n_workers: usize,
    /// What must hold of the sandbox.
    pub confinement: ConfinementName,
}

/// What must hold of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfinementName {
    /// Refuse to run unless the kernel confines the program.
    Require,
    /// Take what the kernel offers, and record it.
    BestEffort,
    /// Limits only.
    Off,
}

/// RLVR from every arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlvrSection {
    /// Updates.
    pub n_updates: u64,
    /// Problems of an update.
    pub batch_problems: usize,
    /// Programs of a problem.
    pub group_size: usize,
    /// Step size.
    pub learning_rate: f32,
    /// Updates of linear warm-up.
    pub warmup: u64,
    /// Sampling temperature.
    pub temperature: f32,
    /// How rewards become advantages.
    pub advantage: Estimator,
    /// Groups whose programs all got the same reward are left out.
    pub drop_groups_without_signal: bool,
    /// Batches of problems that are drawn at most until there are `batch_problems` groups with
    /// signal (DAPO's dynamic sampling); 1 takes the first batch as it is.
    pub n_tries_max: usize,
    /// Tokens before the longest program in which a penalty grows to 1 (DAPO's overlong shaping);
    /// 0 for none.
    pub overlong_tokens: usize,
    /// Updates on one batch of programs; above 1 the surrogate is clipped.
    pub updates_per_batch: usize,
    /// Clip range of the surrogate below 1.
    pub clip_low: f32,
    /// Clip range of the surrogate above 1 (DAPO: higher than below).
    pub clip_high: f32,
    /// Updates between two scores on the held-out problems.
    pub evaluate_every: u64,
    /// Samples of each problem in such a score.
    pub evaluate_samples: usize,
    /// What a program's tests come to.
    #[serde(default, skip_serializing_if = "RewardName::is_pass")]
    pub reward: RewardName,
    /// Problems from a published set; the testbed's where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<ProblemsSection>,
}

/// What a program's tests come to. Of contests' problems, a program that does not compile earns
/// −0.1, and none at all −1, as in open-r1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardName {
    /// 1 if all pass, else 0.
    #[default]
    Pass,
    /// The share that passes.
    Share,
    /// `pass`, and a tenth of `share`.
    Weighted,
}

impl RewardName {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands on references"
    )]
    fn is_pass(&self) -> bool {
        *self == Self::Pass
    }

    pub(crate) const fn scheme(self) -> Scheme {
        match self {
            Self::Pass => Scheme::PassFail,
            Self::Share => Scheme::Partial,
            Self::Weighted => Scheme::WeightedSum,
        }
    }
}

/// A published set of problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemsSection {
    /// Which.
    pub set: ProblemSetName,
    /// Its file, or a folder of Parquet files.
    pub data: PathBuf,
    /// About this share of the problems is held out for the scores, twins on one side.
    pub held_out_share: f64,
}

impl ProblemsSection {
    /// The problems of the file.
    ///
    /// # Errors
    /// It cannot be read, or is not of this set.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Task>> {
        let name = match self.set {
            ProblemSetName::Humaneval => Name::HumanEval,
            ProblemSetName::Leetcode => Name::LeetCode,
            ProblemSetName::MbppTrain => Name::MbppTrain,
            ProblemSetName::Puzzles => Name::Puzzles,
            ProblemSetName::Asserts => Name::AssertLists,
            ProblemSetName::Contest => Name::Contest(Selection::All),
        };
        Ok(bench::read(name, &self.data)?.tasks)
    }
}

/// A published set of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemSetName {
    /// HumanEval's record format.
    Humaneval,
    /// LeetCodeDataset.
    Leetcode,
    /// MBPP's training part without what MBPP+ tests.
    MbppTrain,
    /// Python Programming Puzzles.
    Puzzles,
    /// Questions with lists of asserts, as AceCode has them.
    Asserts,
    /// Contest problems, whose programs are whole: in the forms that `ra3 eval` reads.
    Contest,
}
