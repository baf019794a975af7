//! Sections of the run file: what is measured, RLVR, and how programs are graded.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ra3::settings::Estimator;
use ra3_evals::bench::{self, Name};
use ra3_evals::contest::reward::Scheme;
use ra3_evals::rlvr::difficulty::Band;
use ra3_evals::task::Task;
use ra3_sandbox::Level;
use ra3_testbed::Form;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured of every arm on held-out documents.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeldOutSection {
    /// Held-out documents for bits per byte and bounds, or all where there are fewer.
    pub n_documents: usize,
    /// The K of IWAE_K; an empty list leaves the ELBO alone.
    pub iwae: Vec<usize>,
    /// Prior probability of keeping the latent, for the bounds.
    pub alpha: f32,
}

impl Default for HeldOutSection {
    fn default() -> Self {
        Self {
            n_documents: 300,
            iwae: vec![1, 4, 16],
            alpha: 0.9,
        }
    }
}

/// A set of problems that every arm is measured on, before and after RLVR.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateSection {
    /// What its scores are called; the set's name where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The problems.
    pub problems: ProblemsSection,
    /// Samples of each problem.
    pub n_samples: usize,
    /// Sampling temperature of the programs; 0 is greedy.
    pub temperature: f32,
    /// The k of pass@k, each at most `n_samples`; not empty.
    pub pass_at: Vec<usize>,
    /// Longest program, rationales included; below the context.
    pub program_tokens_max: usize,
    /// The table of pass@1 by forced decision is made too.
    pub decision_table: bool,
}

impl Default for EvaluateSection {
    fn default() -> Self {
        Self {
            name: None,
            problems: ProblemsSection::default(),
            n_samples: 3,
            temperature: 0.8,
            pass_at: vec![1],
            program_tokens_max: 256,
            decision_table: true,
        }
    }
}

impl EvaluateSection {
    /// What its scores are called.
    pub(crate) fn name(&self) -> String {
        let set = self.problems.set;
        self.name.clone().unwrap_or_else(|| set.text())
    }
}

impl super::RunFile {
    /// Writes out what is measured where nothing is said: the testbed's held-out problems, where it
    /// has some.
    pub(crate) fn name_measures(&mut self) {
        let has_problems = self.corpus.n_held_out_problems(&Form::ALL) > 0;
        let of_testbed = || {
            has_problems
                .then(EvaluateSection::default)
                .into_iter()
                .collect()
        };
        self.evaluate.get_or_insert_with(of_testbed);
    }
}

/// Where programs run that are graded.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradingSection {
    /// Processes that grade. Changes no bit.
    #[schemars(extend("x-default" = "the number of cores"))]
    pub n_workers: usize,
    /// What must hold of the sandbox.
    pub confinement: Level,
}

impl Default for GradingSection {
    fn default() -> Self {
        Self {
            n_workers: super::n_cores(),
            confinement: Level::BestEffort,
        }
    }
}

/// RLVR from every arm that is not said to be without.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RlvrSection {
    /// The problems.
    pub problems: ProblemsSection,
    /// About this share of the problems is held out for the scores, twins on one side; the testbed
    /// has held-out problems of its own.
    pub held_out_share: f64,
    /// Updates; leave the section out for none.
    pub n_updates: u64,
    /// Problems of an update.
    pub batch_problems: usize,
    /// Programs of a problem.
    pub group_size: usize,
    /// Longest program, rationales included; below the context.
    pub program_tokens_max: usize,
    /// Step size; 0 moves nothing.
    pub learning_rate: f32,
    /// Updates of linear warm-up; where there are fewer updates, the peak is not reached.
    pub warmup: u64,
    /// Sampling temperature. Greedy programs have no gradient.
    pub temperature: f32,
    /// How rewards become advantages.
    pub advantage: Estimator,
    /// Groups whose programs all got the same reward are left out.
    pub drop_groups_without_signal: bool,
    /// Batches of problems that are drawn at most until there are `batch_problems` groups with
    /// signal (DAPO's dynamic sampling); 1 takes the first batch as it is.
    pub n_tries_max: usize,
    /// Tokens before the longest program in which a penalty grows to 1 (DAPO's overlong shaping);
    /// below `program_tokens_max`, 0 for none.
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
    pub reward: Scheme,
    /// A command that says what a program earns, in place of `reward`: a program and its
    /// arguments, which reads a line of JSON for each and answers with a number or named ones. It
    /// runs in the folder where `ra3` was called. Files among its parts are looked for beside the
    /// run file too; the stage depends on what stands in them, and not on what they read
    /// themselves: add an argument, such as a version, when that changes.
    pub reward_command: Vec<String>,
    /// How long the command may take for a program, in seconds.
    pub reward_seconds: f64,
    /// What a nat of distance from the model that RLVR begins with costs a program.
    pub kl: f32,
    /// Problems that are solved in a smaller share of their programs are left out.
    pub solved_min: f64,
    /// Problems that are solved in a larger share of their programs are left out.
    pub solved_max: f64,
    /// Programs of a problem before it may be left out.
    pub solved_after: u64,
}

impl RlvrSection {
    /// The shares of solved programs between which problems stay; none where all do.
    pub(crate) fn difficulty(&self) -> Option<Band> {
        let is_open = self.solved_min <= 0.0 && self.solved_max >= 1.0;
        (!is_open).then_some(Band {
            low: self.solved_min,
            high: self.solved_max,
            n_programs_min: self.solved_after,
        })
    }
}

impl Default for RlvrSection {
    fn default() -> Self {
        Self {
            problems: ProblemsSection::default(),
            held_out_share: 0.1,
            n_updates: 100,
            batch_problems: 16,
            group_size: 8,
            program_tokens_max: 256,
            learning_rate: 1e-6,
            warmup: 2,
            temperature: 1.0,
            advantage: Estimator::Grpo,
            drop_groups_without_signal: true,
            n_tries_max: 1,
            overlong_tokens: 0,
            updates_per_batch: 1,
            clip_low: 0.2,
            clip_high: 0.28,
            evaluate_every: 10,
            evaluate_samples: 2,
            reward: Scheme::Pass,
            reward_command: Vec::new(),
            reward_seconds: 60.0,
            kl: 0.0,
            solved_min: 0.0,
            solved_max: 1.0,
            solved_after: 16,
        }
    }
}

/// A set of problems.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProblemsSection {
    /// Which problems.
    pub set: ProblemSetName,
    /// Its file, or a folder of Parquet files; the testbed has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
}

impl ProblemsSection {
    /// The problems of the file.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Task>> {
        let data = self.data.as_deref().unwrap_or(Path::new(""));
        let name = self.set.bench().context("the testbed has no file")?;
        Ok(bench::read(name, data)?.tasks)
    }
}

/// A set of problems by the name that `ra3 eval` has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemSetName {
    /// Those of `[corpus.testbed]`.
    #[default]
    Testbed,
    /// Those of them that have HumanEval's form.
    TestbedHumaneval,
    /// Those of them that have MBPP's form.
    TestbedMbpp,
    /// HumanEval's record format: HumanEval itself, or problems of one's own.
    Humaneval,
    /// HumanEval+.
    #[serde(rename = "humaneval+")]
    HumanevalPlus,
    /// MBPP, or sanitized MBPP.
    Mbpp,
    /// MBPP+.
    #[serde(rename = "mbpp+")]
    MbppPlus,
    /// LiveCodeBench's code generation.
    Livecodebench,
    /// LeetCodeDataset.
    Leetcode,
    /// MBPP's training part without what MBPP+ tests.
    MbppTrain,
    /// Python Programming Puzzles.
    Puzzles,
    /// Questions with lists of asserts, as AceCode has them.
    Asserts,
    /// Contest problems (Codeforces and others), whose programs are whole: in the forms that
    /// `ra3 eval` reads.
    Codeforces,
}

impl ProblemSetName {
    /// The set as `ra3 eval` has it; none of the testbed's.
    pub(crate) fn bench(self) -> Option<Name> {
        Name::of(&self.text())
    }

    /// The forms of the testbed's problems that are meant; `None` where others are.
    pub(crate) const fn forms(self) -> Option<&'static [Form]> {
        match self {
            Self::Testbed => Some(&Form::ALL),
            Self::TestbedHumaneval => Some(&[Form::Humaneval]),
            Self::TestbedMbpp => Some(&[Form::Mbpp]),
            _ => None,
        }
    }

    /// As scores call it.
    pub(crate) fn text(self) -> String {
        super::name_of(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Allowed, key};
    use super::*;

    #[test]
    fn a_set_is_called_as_its_scores_are() {
        let set = key("evaluate.problems.set").unwrap();
        let Allowed::OneOf(names) = set.allowed else {
            panic!("sets are named");
        };
        for name in names {
            let set: ProblemSetName = toml::Value::from(*name).try_into().unwrap();
            assert_eq!(set.text(), *name);
            assert_eq!(set.bench().is_none(), set.forms().is_some(), "{name}");
        }
    }
}
