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
//! An update is `complete → (the caller grades) → train`: [`crate::generation::complete`], rewards,
//! [`update`]. DAPO's dynamic sampling is a loop around the first two. Its overlong shaping is a
//! part of the advantage, and none of what a program earned: programs that all fail have no signal,
//! however their lengths differ. (Where such groups are kept, their lengths are learnt from.)
//!
//! Between grading and training, [`charge`] may have each program pay for its distance from a
//! reference, `β log π/π_ref`, whose mean is `β KL(π ‖ π_ref)`:
//!
//! ```text
//! A = A(R) − β (D − mean),  D = Σ_t log π(y_t) − log π_ref(y_t),  the mean of the others for RLOO
//! ```
//!
//! For Dr. GRPO and RLOO that is a penalty in the reward. It stays outside the division by `std`,
//! which would make it as large as any reward where all programs earn the same. The estimator in
//! GRPO's own loss (`π_ref/π − log π_ref/π − 1`, arXiv 2402.03300) is not what is used: its
//! gradient at the policy that drew the tokens is that of `KL(π_ref ‖ π)`, token by token.

use crate::completion::Completion;
use crate::formulas::{Baseline, advantages, log_ratio, overlong_penalty};
use crate::policy::{Example, Objective, Policy, PolicyError, UpdateStats, Work, train};
use crate::settings::{Estimator, GrpoConfig};
use crate::statistics::mean;

/// The programs of one problem, and what each earned.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The programs.
    pub programs: Vec<Completion>,
    /// One reward a program.
    pub rewards: Vec<f32>,
    /// What each program pays beside, which is no signal of the tests: 0 before [`charge`].
    pub penalties: Vec<f32>,
}

impl Group {
    /// Programs and their rewards in groups of `group_size`.
    pub fn split(programs: Vec<Completion>, rewards: &[f32], group_size: usize) -> Vec<Self> {
        assert_eq!(programs.len(), rewards.len(), "one reward a program");
        let mut programs = programs.into_iter();
        let groups = rewards.chunks(group_size).map(|rewards| Self {
            programs: programs.by_ref().take(rewards.len()).collect(),
            rewards: rewards.to_vec(),
            penalties: vec![0.0; rewards.len()],
        });
        groups.collect()
    }

    /// True if the rewards differ: otherwise the tests say nothing of the group.
    pub fn has_signal(&self) -> bool {
        self.rewards.iter().any(|reward| *reward != self.rewards[0])
    }
}

/// Has each program pay `coefficient` for each nat that the policy that drew it and the reference
/// differ by on its tokens, in place of what it paid before; 0 measures and charges nothing.
///
/// The mean over programs of `log π/π_ref`, an estimate of `KL(π ‖ π_ref)` in nats a program that
/// may be below 0, and the work of the reference.
///
/// # Errors
/// As [`Policy::score`].
pub fn charge(
    groups: &mut [Group],
    reference: &dyn Policy,
    coefficient: f32,
) -> Result<(f64, Work), PolicyError> {
    let programs = || groups.iter().flat_map(|group| &group.programs);
    let sequences: Vec<Example> = programs()
        .map(|program| program.trace.example(|_| 1.0))
        .collect();
    let (scores, work) = reference.score(&sequences)?;
    let pairs = programs().zip(&scores);
    let ratios: Vec<f64> = pairs
        .map(|(program, scores)| log_ratio(&program.trace.logprobs, scores, &program.trace.mask))
        .collect();
    let price = |ratio: &f64| match coefficient {
        // Even where the reference rules a token out.
        0.0 => 0.0,
        _ => (f64::from(coefficient) * ratio) as f32,
    };
    let mut prices = ratios.iter().map(price);
    for group in groups {
        group.penalties = prices.by_ref().take(group.programs.len()).collect();
    }
    Ok((mean(ratios.into_iter()), work))
}

/// The updates on one batch of groups; what the last did, and the work of all.
///
/// # Errors
/// As [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    groups: &[Group],
    config: &GrpoConfig,
    learning_rate: f32,
) -> Result<(UpdateStats, Work), PolicyError> {
    let objective = Objective {
        surrogate: config.surrogate,
        learning_rate,
    };
    let examples = examples(groups, config);
    train(policy, &examples, objective, config.updates_per_batch)
}

/// The policy gradient as examples: each token of a program with its advantage, normalised.
pub fn examples(groups: &[Group], config: &GrpoConfig) -> Vec<Example> {
    let kept: Vec<&Group> = groups
        .iter()
        .filter(|group| group.has_signal() || !config.drop_groups_without_signal)
        .collect();
    let programs = || kept.iter().flat_map(|group| &group.programs);
    let n_programs = programs().count() as f32;
    let n_tokens: usize = programs().map(Completion::n_written).sum();
    let mut examples = Vec::new();
    for group in &kept {
        let advantages = charged_advantages(group, config);
        for (program, advantage) in group.programs.iter().zip(advantages) {
            let n_own = program.n_written().max(1) as f32;
            let weight = advantage
                * match config.estimator {
                    Estimator::Grpo => 1.0 / (n_programs * n_own),
                    Estimator::DrGrpo => {
                        1.0 / (n_programs * config.writing.program_tokens_max as f32)
                    }
                    Estimator::Rloo => 1.0 / n_programs,
                    Estimator::Dapo => 1.0 / n_tokens.max(1) as f32,
                };
            // A program of no tokens has nothing that could learn.
            if weight != 0.0 && program.n_written() > 0 {
                examples.push(program.trace.example(|_| weight));
            }
        }
    }
    examples
}

/// A group's advantages, less what each program pays beside against what the others pay.
fn charged_advantages(group: &Group, config: &GrpoConfig) -> Vec<f32> {
    let earned = group_advantages(&shaped_rewards(group, config), config.estimator);
    let baseline = match config.estimator {
        Estimator::Rloo => Baseline::LeaveOneOut,
        Estimator::DrGrpo | Estimator::Grpo | Estimator::Dapo => Baseline::GroupMean,
    };
    let paid = advantages(&group.penalties, baseline);
    let pairs = earned.into_iter().zip(paid);
    pairs.map(|(earned, paid)| earned - paid).collect()
}

/// What a group's programs earned, less what each pays for its length.
fn shaped_rewards(group: &Group, config: &GrpoConfig) -> Vec<f32> {
    let (n_soft, n_max) = (config.overlong_tokens, config.writing.program_tokens_max);
    let pairs = group.rewards.iter().zip(&group.programs);
    let shaped = |(reward, program): (&f32, &Completion)| match n_soft {
        0 => *reward,
        _ => reward + overlong_penalty(program.raw().len(), n_soft, n_max),
    };
    pairs.map(shaped).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_by_hand() {
        let rewards = [1.0, 0.0, 0.0, 0.0];
        for (estimator, expected) in [
            (Estimator::Grpo, [1.732, -0.577, -0.577, -0.577]),
            (Estimator::DrGrpo, [0.75, -0.25, -0.25, -0.25]),
            (Estimator::Rloo, [1.0, -0.333, -0.333, -0.333]),
        ] {
            let found = group_advantages(&rewards, estimator);
            let pairs = found.iter().zip(expected);
            let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-3, "{estimator:?}: {found:?}");
        }
    }
}
