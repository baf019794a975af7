//! RLVR: GRPO on problems with tests (docs/algorithm.md, "RLVR"), and its relatives as settings.
//!
//! `G` programs a problem, reward from running the tests, and for every sampled token
//!
//! ```text
//! GRPO:     A = (R − mean) / std,   each program's tokens averaged, then the programs
//! Dr. GRPO: A =  R − mean,          tokens divided by a constant (arXiv 2503.20783)
//! RLOO:     A =  R − mean of the other programs, tokens summed (arXiv 2402.14740)
//! DAPO:     A = (R − mean) / std,   tokens averaged over the batch, clip-higher (arXiv 2503.14476)
//! ```
//!
//! Every token of a program was sampled from the whole vocabulary, its decisions and rationales
//! too, and every one carries the gradient: what is optimised is what any server samples.
//!
//! Grading is the caller's; rewards come in as numbers. Overlong shaping is a term that the caller
//! adds to them: [`crate::formulas::overlong_penalty`].

use crate::formulas::{Baseline, advantages};
use crate::generation::{Writing, WritingRule, write};
use crate::policy::TokenId;
use crate::policy::{Example, Objective, Policy, PolicyError, Surrogate, UpdateStats, Work};
use crate::seed::Seed;

/// How rewards become advantages, and how tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// How programs are written.
    pub writing: WritingRule,
    /// What is maximised; clipped where a batch is used more than once.
    pub surrogate: Surrogate,
    /// Updates on one batch of programs.
    pub updates_per_batch: usize,
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrpoReport {
    /// Mean reward of the programs.
    pub mean_reward: f64,
    /// Share of groups whose rewards differ.
    pub groups_with_signal: f64,
    /// Mean tokens of a program.
    pub program_tokens: f64,
    /// Share of programs that ended by themselves.
    pub ended_share: f64,
    /// The last update on this batch.
    pub update: UpdateStats,
    /// Everything that ran.
    pub work: Work,
}

/// One update: programs, rewards, advantages, policy gradient. `grade` gives one reward a program.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    prompts: &[Vec<TokenId>],
    grade: &mut dyn FnMut(&[Writing]) -> Vec<f32>,
    config: &GrpoConfig,
    learning_rate: f32,
    seed: Seed,
) -> Result<GrpoReport, PolicyError> {
    let (rows, work) = write(policy, prompts, &config.writing, config.group_size, seed)?;
    let rewards = graded(&rows, grade);
    let report = report_on(&rows, &rewards, config.group_size, work);
    train(policy, &rows, &rewards, config, learning_rate, report)
}

/// How long [`update_dynamically`] looks for signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Groups with signal that are enough.
    pub n_groups: usize,
    /// Batches of prompts that are drawn at most; the update is made with what there is then.
    pub n_tries_max: usize,
}

/// One update on groups with signal only (DAPO's dynamic sampling, arXiv 2503.14476): `prompts`
/// gives the batch of each try, and `grade` the rewards of that batch's programs. The report is on
/// all that was written.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::update`].
pub fn update_dynamically(
    policy: &mut dyn Policy,
    prompts: &mut dyn FnMut(usize) -> Vec<Vec<TokenId>>,
    grade: &mut dyn FnMut(&[Writing]) -> Vec<f32>,
    search: Search,
    config: &GrpoConfig,
    learning_rate: f32,
    seed: Seed,
) -> Result<GrpoReport, PolicyError> {
    let (mut kept, mut kept_rewards) = (Vec::new(), Vec::new());
    let (mut all, mut all_rewards) = (Vec::new(), Vec::new());
    let mut work = Work::default();
    for index in 0..search.n_tries_max {
        if kept.len() >= search.n_groups * config.group_size {
            break;
        }
        let here = seed.nth(index as u64);
        let batch = prompts(index);
        let (rows, cost) = write(policy, &batch, &config.writing, config.group_size, here)?;
        work += cost;
        let rewards = graded(&rows, grade);
        let groups = rows.chunks(config.group_size);
        for (group, rewards) in groups.zip(rewards.chunks(config.group_size)) {
            if has_signal(rewards) && kept.len() < search.n_groups * config.group_size {
                kept.extend_from_slice(group);
                kept_rewards.extend_from_slice(rewards);
            }
        }
        all.extend(rows);
        all_rewards.extend(rewards);
    }
    let report = report_on(&all, &all_rewards, config.group_size, work);
    train(policy, &kept, &kept_rewards, config, learning_rate, report)
}

fn graded(rows: &[Writing], grade: &mut dyn FnMut(&[Writing]) -> Vec<f32>) -> Vec<f32> {
    let rewards = grade(rows);
    assert_eq!(rewards.len(), rows.len(), "one reward a program");
    rewards
}

fn report_on(rows: &[Writing], rewards: &[f32], group_size: usize, work: Work) -> GrpoReport {
    let groups = rewards.chunks(group_size);
    GrpoReport {
        mean_reward: mean(rewards.iter().map(|reward| f64::from(*reward))),
        groups_with_signal: mean(groups.map(|group| f64::from(u8::from(has_signal(group))))),
        program_tokens: mean(rows.iter().map(|row| row.raw().len() as f64)),
        ended_share: mean(rows.iter().map(|row| f64::from(u8::from(row.ended)))),
        update: UpdateStats::default(),
        work,
    }
}

fn train(
    policy: &mut dyn Policy,
    rows: &[Writing],
    rewards: &[f32],
    config: &GrpoConfig,
    learning_rate: f32,
    mut report: GrpoReport,
) -> Result<GrpoReport, PolicyError> {
    let groups: Vec<&[f32]> = rewards.chunks(config.group_size).collect();
    let examples = examples(rows, &groups, config);
    // Without any signal there is nothing to learn, and an optimizer's momentum must not move.
    if !examples.is_empty() {
        let objective = Objective {
            surrogate: config.surrogate,
            learning_rate,
        };
        for _ in 0..config.updates_per_batch {
            report.update = policy.update(&examples, objective)?;
            report.work += report.update.work;
        }
    }
    Ok(report)
}

fn examples(rows: &[Writing], groups: &[&[f32]], config: &GrpoConfig) -> Vec<Example> {
    let kept: Vec<usize> = (0..groups.len())
        .filter(|group| has_signal(groups[*group]) || !config.drop_groups_without_signal)
        .collect();
    let in_group = |group: usize| group * config.group_size..(group + 1) * config.group_size;
    let n_rows = (kept.len() * config.group_size) as f32;
    let n_tokens: usize = kept
        .iter()
        .flat_map(|group| in_group(*group))
        .map(|row| rows[row].n_written())
        .sum();
    let mut examples = Vec::new();
    for group in kept {
        let advantages = group_advantages(groups[group], config.estimator);
        for (row, advantage) in in_group(group).zip(advantages) {
            let n_own = rows[row].n_written().max(1) as f32;
            let weight = advantage
                * match config.estimator {
                    Estimator::Grpo => 1.0 / (n_rows * n_own),
                    Estimator::DrGrpo => 1.0 / (n_rows * config.writing.program_tokens_max as f32),
                    Estimator::Rloo => 1.0 / n_rows,
                    Estimator::Dapo => 1.0 / n_tokens.max(1) as f32,
                };
            // A program of no tokens has nothing that could learn.
            if weight != 0.0 && rows[row].n_written() > 0 {
                examples.push(rows[row].example(weight));
            }
        }
    }
    examples
}

/// Advantages of one group of rewards.
pub fn group_advantages(rewards: &[f32], estimator: Estimator) -> Vec<f32> {
    let baseline = match estimator {
        Estimator::Rloo => Baseline::LeaveOneOut,
        Estimator::DrGrpo => Baseline::GroupMean,
        Estimator::Grpo | Estimator::Dapo => Baseline::Standardised,
    };
    advantages(rewards, baseline)
}

fn has_signal(rewards: &[f32]) -> bool {
    rewards.iter().any(|reward| *reward != rewards[0])
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_by_hand() {
        let close = |found: Vec<f32>, expected: [f32; 4]| {
            found
                .iter()
                .zip(expected)
                .for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{found:?}"));
        };
        let rewards = [1.0, 0.0, 0.0, 0.0];
        close(
            group_advantages(&rewards, Estimator::Grpo),
            [1.732, -0.577, -0.577, -0.577],
        );
        close(
            group_advantages(&rewards, Estimator::DrGrpo),
            [0.75, -0.25, -0.25, -0.25],
        );
        close(
            group_advantages(&rewards, Estimator::Rloo),
            [1.0, -0.333, -0.333, -0.333],
        );
        assert!(!has_signal(&[1.0, 1.0]) && has_signal(&rewards));
    }
}
