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
//! less, where programs pay for their distance from a reference ([`crate::group::charge`]),
//!
//! ```text
//! β (D − mean),  D = Σ_t log π(y_t) − log π_ref(y_t),  the mean of the others for RLOO
//! ```
//!
//! which for Dr. GRPO and RLOO is a penalty in the reward. It stays outside the division by `std`:
//! that would make it as large as any reward where all programs earn the same.
//!
//! Every token of a program was sampled from the whole vocabulary, its decisions and rationales
//! too, and every one carries the gradient: what is optimised is what any server samples.
//!
//! An update is [`crate::generation::complete`], the caller's grading, [`update`]; DAPO's dynamic
//! sampling is a loop around the first two.

use crate::completion::Completion;
use crate::formulas::{Baseline, advantages};
use crate::group::Group;
use crate::policy::{Example, Objective, Policy, PolicyError, UpdateStats, Work, train};
use crate::settings::{Estimator, GrpoConfig};

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
    let scale = |program: &Completion| match config.estimator {
        Estimator::Grpo => 1.0 / (n_programs * program.n_written().max(1) as f32),
        Estimator::DrGrpo => 1.0 / (n_programs * config.writing.program_tokens_max as f32),
        Estimator::Rloo => 1.0 / n_programs,
        Estimator::Dapo => 1.0 / n_tokens.max(1) as f32,
    };
    let advantages = kept
        .iter()
        .flat_map(|group| charged_advantages(group, config));
    let mut examples = Vec::new();
    for (program, advantage) in programs().zip(advantages) {
        let weight = advantage * scale(program);
        // A program of no tokens has nothing that could learn.
        if weight != 0.0 && program.n_written() > 0 {
            examples.push(program.trace.example(|_| weight));
        }
    }
    examples
}

/// A group's advantages, less what each program pays beside against what the others pay.
fn charged_advantages(group: &Group, config: &GrpoConfig) -> Vec<f32> {
    let earned = group_advantages(&group.shaped_rewards(config), config.estimator);
    let baseline = match config.estimator {
        Estimator::Rloo => Baseline::LeaveOneOut,
        Estimator::DrGrpo | Estimator::Grpo | Estimator::Dapo => Baseline::GroupMean,
    };
    let paid = advantages(&group.penalties, baseline);
    let pairs = earned.into_iter().zip(paid);
    pairs.map(|(earned, paid)| earned - paid).collect()
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
