//! The programs of one problem, with what each earned by its tests and what it pays beside: for its
//! length (DAPO), and for its distance from a reference. Nothing is compared or trained here: see
//! [`crate::grpo`].

use crate::completion::Completion;
use crate::formulas::{log_ratio, overlong_penalty};
use crate::policy::{Example, Policy, PolicyError, Work};
use crate::settings::GrpoConfig;
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

    /// What the programs earned, less what each pays for its length. That is none of what a group
    /// is left out by: programs that all fail have no signal, however their lengths differ. (Where
    /// such groups are kept, their lengths are learnt from.)
    pub(crate) fn shaped_rewards(&self, config: &GrpoConfig) -> Vec<f32> {
        let (n_soft, n_max) = (config.overlong_tokens, config.writing.program_tokens_max);
        let pairs = self.rewards.iter().zip(&self.programs);
        let shaped = |(reward, program): (&f32, &Completion)| match n_soft {
            0 => *reward,
            _ => reward + overlong_penalty(program.raw().len(), n_soft, n_max),
        };
        pairs.map(shaped).collect()
    }
}

/// Has each program pay `coefficient` for each nat that the policy that drew it and the reference
/// differ by on its tokens, in place of what it paid before; 0 measures and charges nothing.
///
/// The mean over programs of `log π/π_ref`, an estimate of `KL(π ‖ π_ref)` in nats a program that
/// may be below 0, and the work of the reference.
///
/// The estimator in GRPO's own loss (`π_ref/π − log π_ref/π − 1` a token, arXiv 2402.03300) is not
/// used: its gradient at the policy that drew the tokens is that of `KL(π_ref ‖ π)`.
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
