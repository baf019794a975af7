//! The E-step: find latents by policy gradient, the line policy fixed (docs/algorithm.md,
//! "E-step").
//!
//! `G` rollouts of each trajectory; the expert's lines are forced in, decisions and rationales are
//! sampled. For line `t` of rollout `g` (the letters are settings: [`EStepConfig`]):
//!
//! ```text
//! r_t = log π(a_t | h_t, z_t) − c · 1[z_t is think]                    (switch cost)
//! r_t = log π(a_t | h_t, z_t) − log q(z_t | h_t) + log p(z_t | h_t)    (exact KL)
//! R_t = Σ_{k=t}^{min(t+H, T)−1} γ^{k−t} r_k
//! A_t = R_t − mean of the other rollouts' R_t
//! maximise (1 / n) Σ_g Σ_t A_t · log q(z_t | h_t)                      (n rollouts in all)
//! ```
//!
//! `q` of a decision is the model's distribution *renormalised over the two markers*, among which
//! it is drawn, and the gradient is that of `log q`: it weighs `<act>` against `<think>` and asks
//! nothing of the probability that the model gives to both together, which cold start and M-step
//! teach. `q` of a rationale is over the whole vocabulary.
//!
//! It neither changes the line policy on purpose nor draws training data: see [`crate::m_step`].
//! The estimator is unbiased at temperature 1; at another temperature the draws come from a
//! neighbour of `q`, and no correction is made.

use crate::formulas::{Baseline, advantages, returns};
use crate::policy::{Example, Objective, Policy, PolicyError, Surrogate, UpdateStats, Work, train};
use crate::rollout::draw;
use crate::scoring::{Frozen, Scored, score};
use crate::seed::Seed;
use crate::settings::EStepConfig;
use crate::statistics::RolloutStats;
use crate::trace::Part;
use crate::trajectory::{Markers, Trajectory};

/// What an E-step update did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EStepReport {
    /// The rollouts.
    pub rollouts: RolloutStats,
    /// The last update on this batch.
    pub update: UpdateStats,
    /// Everything that ran: rollouts, scoring, updates.
    pub work: Work,
}

/// One update. `z ~ q` is drawn ([`draw`]), `π` scores the lines and `p_0` the rationales
/// ([`score`]), lines get their [`Credit`], and the policy gradient is followed. The step size is
/// this update's, the warm-up in it.
///
/// # Errors
/// As [`Policy::run`], [`Policy::score`] and [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    frozen: &Frozen,
    batch: &[Trajectory],
    markers: &Markers,
    config: &EStepConfig,
    learning_rate: f32,
    seed: Seed,
) -> Result<EStepReport, PolicyError> {
    let rule = config.exploring_rule(*markers);
    policy.expect_update();
    let (traces, mut work) = draw(policy, batch, &rule, config.group_size, seed)?;
    let (rollouts, scoring) = score(policy, frozen, traces)?;
    work += scoring;
    let credit = Credit::of(&rollouts, config);
    let examples = policy_gradient(&rollouts, &credit.advantages);
    let n_updates = config.updates_per_batch;
    let objective = Objective {
        surrogate: Surrogate::over(n_updates, config.clip, config.clip),
        learning_rate,
    };
    let (update, training) = train(policy, &examples, objective, n_updates)?;
    work += training;
    Ok(EStepReport {
        rollouts: RolloutStats::of(&rollouts, &credit, config.group_size),
        update,
        work,
    })
}

/// What each line of a batch of rollouts earned, `[rollout, line]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Credit {
    /// `r_t`.
    pub rewards: Vec<Vec<f32>>,
    /// `R_t`.
    pub returns: Vec<Vec<f32>>,
    /// `A_t`.
    pub advantages: Vec<Vec<f32>>,
}

impl Credit {
    /// Of rollouts in groups, each of one trajectory.
    pub fn of(rollouts: &[Scored], config: &EStepConfig) -> Self {
        let horizon = (config.horizon > 0).then_some(config.horizon);
        let reward = |rollout: &Scored| -> Vec<f32> {
            let lines = rollout.lines.iter();
            lines.map(|line| line.reward(config.penalty)).collect()
        };
        let rewards: Vec<Vec<f32>> = rollouts.iter().map(reward).collect();
        let to_go = |rewards: &Vec<f32>| returns(rewards, horizon, config.discount);
        let returns: Vec<Vec<f32>> = rewards.iter().map(to_go).collect();
        let groups = returns.chunks(config.group_size);
        let advantages = groups.flat_map(|group| by_line(group, config.baseline));
        Self {
            advantages: advantages.collect(),
            rewards,
            returns,
        }
    }
}

/// `A_t` of a group, of which each line is compared with the same line of the others.
fn by_line(returns: &[Vec<f32>], baseline: Baseline) -> Vec<Vec<f32>> {
    let mut found = returns.to_vec();
    for line in 0..returns[0].len() {
        let of_line: Vec<f32> = returns.iter().map(|row| row[line]).collect();
        for (row, advantage) in found.iter_mut().zip(advantages(&of_line, baseline)) {
            row[line] = advantage;
        }
    }
    found
}

/// The policy gradient as examples: weight `A_t / n` on every sampled token of `z_t`, so that the
/// gradient of `Σ w log q` estimates that of the mean return of a rollout.
pub fn policy_gradient(rollouts: &[Scored], advantages: &[Vec<f32>]) -> Vec<Example> {
    let scale = 1.0 / rollouts.len().max(1) as f32;
    let example = |(rollout, advantages): (&Scored, &Vec<f32>)| {
        rollout.trace.example(|part| match part {
            Part::Decision(line) | Part::Rationale(line) => advantages[line] * scale,
            Part::Outside | Part::Action(_) => 0.0,
        })
    };
    rollouts.iter().zip(advantages).map(example).collect()
}
