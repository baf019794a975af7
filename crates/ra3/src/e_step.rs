//! The E-step: find latents by policy gradient, the line policy fixed (docs/algorithm.md,
//! "E-step").
//!
//! `G` rollouts of each trajectory; the expert's lines are forced in, decisions and rationales are
//! sampled. For line `t` of rollout `g`:
//!
//! ```text
//! r_t = log π(a_t | h_t, z_t) − c · 1[z_t is think]                    (switch cost)
//! r_t = log π(a_t | h_t, z_t) − log q(z_t | h_t) + log p(z_t | h_t)    (exact KL)
//! R_t = Σ_{k=t}^{min(t+H, T)−1} γ^{k−t} r_k
//! A_t = R_t − mean of the other rollouts' R_t
//! maximise Σ_g Σ_t A_t · log q(z_t | h_t)
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

use std::sync::Arc;

use crate::formulas::{Baseline, advantages, returns};
use crate::interleave::{TokenWeights, interleave};
use crate::policy::{
    Episode, Example, Objective, Policy, PolicyError, Restriction, Surrogate, UpdateStats, Work,
};
use crate::rollout::{Decision, LatentRule, LineRecord, Rollout, Scored};
use crate::seed::Seed;
use crate::trajectory::{Annotated, Latent, LatentStats, Markers, Trajectory};

/// What a switch costs, and what it is weighed against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Penalty {
    /// A constant in nats for each think. Infinity forbids thinking: there is then nothing to
    /// decide, no marker is written, and RA3 is next-token prediction.
    SwitchCost(f32),
    /// `log q − log p` of the sticky prior; `α` is its probability of keeping the latent, and the
    /// reference gives `p_0` of the rationale.
    ExactKl {
        /// Prior probability of keeping the latent.
        alpha: f32,
    },
    /// As [`Penalty::SwitchCost`], with the mean of a line's log-probabilities for their sum:
    /// long lines then weigh no more than short ones. No bound belongs to it.
    SwitchCostOnMean(f32),
    /// As [`Penalty::SwitchCost`], with the line's probability for its logarithm (VeriFree, arXiv
    /// 2505.21493). The cost is then a probability, too. No bound belongs to it.
    SwitchCostOnProbability(f32),
}

/// What is left out of the method, for comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Persistence {
    /// Latents are kept or switched.
    Sticky,
    /// A new latent at every line (as LaTRO and RLP have it).
    ThinkEveryLine,
    /// As [`Persistence::Sticky`], but with this probability the E-step forces a line's decision to
    /// think: exploration for a model that hardly ever thinks. A forced decision carries no
    /// gradient; its rationale does. The gradient of the decisions before it is then that of the
    /// exploring policy.
    StickyWithThinkFloor(f32),
}

/// Settings of the E-step.
#[derive(Clone, Debug, PartialEq)]
pub struct EStepConfig {
    /// `G`: rollouts of a trajectory.
    pub group_size: usize,
    /// `M`: longest rationale in tokens.
    pub rationale_tokens_max: usize,
    /// `H` in lines; `None` reaches to the end.
    pub horizon: Option<usize>,
    /// `γ`.
    pub discount: f32,
    /// What a switch costs.
    pub penalty: Penalty,
    /// What is subtracted from a return.
    pub baseline: Baseline,
    /// What is maximised; clipped where a batch is used more than once.
    pub surrogate: Surrogate,
    /// Updates on one batch of rollouts.
    pub updates_per_batch: usize,
    /// Temperature of the rollouts.
    pub temperature: f32,
    /// Whether latents may be kept.
    pub persistence: Persistence,
}

impl EStepConfig {
    /// What rollouts may decide.
    pub fn decision(&self) -> Decision {
        let is_impossible = match self.penalty {
            Penalty::SwitchCost(cost)
            | Penalty::SwitchCostOnMean(cost)
            | Penalty::SwitchCostOnProbability(cost) => cost == f32::INFINITY,
            Penalty::ExactKl { .. } => false,
        };
        match self.persistence {
            _ if is_impossible => Decision::Absent,
            Persistence::ThinkEveryLine => Decision::Think,
            Persistence::Sticky | Persistence::StickyWithThinkFloor(_) => Decision::Free,
        }
    }

    fn think_floor(&self) -> f32 {
        match self.persistence {
            Persistence::StickyWithThinkFloor(floor) => floor,
            Persistence::Sticky | Persistence::ThinkEveryLine => 0.0,
        }
    }

    /// How rollouts find latents.
    pub fn latent_rule(&self, markers: Markers) -> LatentRule {
        LatentRule {
            markers,
            rationale_tokens_max: self.rationale_tokens_max,
            temperature: self.temperature,
            rationale_temperature: self.temperature,
            decision: self.decision(),
        }
    }
}

/// The models of an E-step. `None` for a model that is the policy itself, as it is.
pub struct Policies<'a> {
    /// `q`, and `π` where there is no scorer.
    pub policy: &'a mut dyn Policy,
    /// `π`, frozen at the start of the E-step.
    pub scorer: Option<&'a mut dyn Policy>,
    /// `p_0`, needed by the exact KL only. `None` makes the policy its own `p_0`: rationales are
    /// then free, and only the decisions pay.
    pub reference: Option<&'a mut dyn Policy>,
}

impl std::fmt::Debug for Policies<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Policies").finish_non_exhaustive()
    }
}

/// What an E-step update did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EStepReport {
    /// Mean over rollouts of `Σ_t r_t`.
    pub mean_return: f64,
    /// Mean over rollouts and lines of `log π(a_t | h_t, z_t)`.
    pub mean_line_logprob: f64,
    /// The latents of the rollouts.
    pub latents: LatentStats,
    /// Mean difference of `R_t` between thinks and acts of one group at one line, where both occur.
    pub mean_gain: f64,
    /// Share of lines whose decision was forced for want of room.
    pub out_of_room_share: f64,
    /// The last update on this batch.
    pub update: UpdateStats,
    /// Everything that ran: rollouts, scoring, updates.
    pub work: Work,
}

/// The rollouts of a batch: records by trajectory, then by member of the group.
#[derive(Debug)]
pub struct Rollouts {
    /// The trajectories with the latents that were found.
    pub annotated: Vec<Vec<Annotated>>,
    /// What was found at each line, with the scorer's line log-probabilities.
    pub records: Vec<Vec<Vec<LineRecord>>>,
    /// `log p_0(r)` by line; 0 where there is no rationale.
    pub reference: Vec<Vec<Vec<f32>>>,
}

/// One update: rollouts, rewards, advantages, policy gradient.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::update`].
pub fn update(
    policies: &mut Policies<'_>,
    batch: &[Trajectory],
    markers: &Markers,
    config: &EStepConfig,
    learning_rate: f32,
    seed: Seed,
) -> Result<EStepReport, PolicyError> {
    let mut work = Work::default();
    let rule = config.latent_rule(*markers);
    let mut rows = rows(batch, &rule, config.group_size);
    explore(&mut rows, config.think_floor(), seed.child("explore"));
    let rollouts = finish(policies, rows, &rule, config.group_size, seed, &mut work)?;
    let mut report = report_on(&rollouts, config);
    let examples = policy_gradient(&rollouts, markers, config);
    let is_weighted = |example: &Example| example.weights.iter().any(|weight| *weight != 0.0);
    // Where nothing was decided, or by all of a group alike, there is nothing to learn, and an
    // optimizer's momentum must not move.
    if examples.iter().any(is_weighted) {
        let objective = Objective {
            surrogate: config.surrogate,
            learning_rate,
        };
        for _ in 0..config.updates_per_batch {
            report.update = policies.policy.update(&examples, objective)?;
            work += report.update.work;
        }
    }
    report.work = work;
    Ok(report)
}

/// Draws `group_size` rollouts of each trajectory and has them scored.
///
/// # Errors
/// As [`Policy::run`].
pub fn roll_out(
    policies: &mut Policies<'_>,
    batch: &[Trajectory],
    rule: &LatentRule,
    group_size: usize,
    seed: Seed,
    work: &mut Work,
) -> Result<Rollouts, PolicyError> {
    let rows = rows(batch, rule, group_size);
    finish(policies, rows, rule, group_size, seed, work)
}

fn rows<'t>(batch: &'t [Trajectory], rule: &LatentRule, group_size: usize) -> Vec<Rollout<'t>> {
    batch
        .iter()
        .flat_map(|trajectory| (0..group_size).map(move |_| trajectory))
        .map(|trajectory| Rollout::sampled(trajectory, rule.clone()))
        .collect()
}

/// Chooses the lines at which a rollout has to think.
fn explore(rows: &mut [Rollout<'_>], think_floor: f32, seed: Seed) {
    for (index, row) in rows.iter_mut().enumerate() {
        let seed = seed.nth(index as u64);
        row.think_at(|line| seed.nth(line as u64).uniform() < f64::from(think_floor));
    }
}

fn finish(
    policies: &mut Policies<'_>,
    mut rows: Vec<Rollout<'_>>,
    rule: &LatentRule,
    group_size: usize,
    seed: Seed,
    work: &mut Work,
) -> Result<Rollouts, PolicyError> {
    *work += run(policies.policy, &mut rows, seed)?;
    let annotated: Vec<Annotated> = rows.iter().map(Rollout::annotated).collect();
    let mut records: Vec<Vec<LineRecord>> = rows.into_iter().map(|row| row.records).collect();
    if let Some(scorer) = policies.scorer.as_deref_mut() {
        let scored = follow(scorer, &annotated, &rule.markers, seed, work)?;
        for (line, scored) in records
            .iter_mut()
            .flatten()
            .zip(scored.into_iter().flatten())
        {
            line.line_logprob = scored.line_logprob;
        }
    }
    let reference = match policies.reference.as_deref_mut() {
        None => rationale_logprobs(&records),
        Some(reference) => {
            rationale_logprobs(&follow(reference, &annotated, &rule.markers, seed, work)?)
        }
    };
    Ok(Rollouts {
        annotated: grouped(annotated, group_size),
        records: grouped(records, group_size),
        reference: grouped(reference, group_size),
    })
}

fn rationale_logprobs(rows: &[Vec<LineRecord>]) -> Vec<Vec<f32>> {
    let of_line = |line: &LineRecord| line.rationale_logprobs.iter().sum();
    rows.iter()
        .map(|lines| lines.iter().map(of_line).collect())
        .collect()
}

/// Scores given latents under a policy, line by line.
///
/// # Errors
/// As [`Policy::run`].
pub fn follow(
    policy: &mut dyn Policy,
    annotated: &[Annotated],
    markers: &Markers,
    seed: Seed,
    work: &mut Work,
) -> Result<Vec<Vec<LineRecord>>, PolicyError> {
    follow_how(policy, annotated, markers, Scored::AsDrawn, seed, work)
}

/// As [`follow`], under a distribution that is named.
///
/// # Errors
/// As [`Policy::run`].
pub fn follow_how(
    policy: &mut dyn Policy,
    annotated: &[Annotated],
    markers: &Markers,
    how: Scored,
    seed: Seed,
    work: &mut Work,
) -> Result<Vec<Vec<LineRecord>>, PolicyError> {
    let mut rows: Vec<Rollout<'_>> = annotated
        .iter()
        .map(|document| Rollout::followed(document, *markers, how))
        .collect();
    *work += run(policy, &mut rows, seed)?;
    Ok(rows.into_iter().map(|row| row.records).collect())
}

fn run(policy: &mut dyn Policy, rows: &mut [Rollout<'_>], seed: Seed) -> Result<Work, PolicyError> {
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    policy.run(&mut episodes, seed)
}

fn grouped<T>(rows: Vec<T>, group_size: usize) -> Vec<Vec<T>> {
    let n_groups = rows.len() / group_size;
    let mut rows = rows.into_iter();
    (0..n_groups)
        .map(|_| rows.by_ref().take(group_size).collect())
        .collect()
}

/// `r_t` of one line.
pub fn reward(record: &LineRecord, reference_logprob: f32, penalty: Penalty) -> f32 {
    let Some(latent) = &record.latent else {
        return record.line_logprob;
    };
    let price = |cost: f32| if latent.is_think() { cost } else { 0.0 };
    match penalty {
        Penalty::SwitchCost(cost) => record.line_logprob - price(cost),
        Penalty::SwitchCostOnMean(cost) => {
            record.line_logprob / record.n_line_tokens.max(1) as f32 - price(cost)
        }
        Penalty::SwitchCostOnProbability(cost) => record.line_logprob.exp() - price(cost),
        Penalty::ExactKl { alpha } => {
            let log_prior = sticky_log_prior(latent, reference_logprob, alpha);
            record.line_logprob - (record.latent_logprob() - log_prior)
        }
    }
}

/// `log p(z_t | h_t)` of the sticky prior (docs/algorithm.md, "The bound"): `log α` for an act,
/// `log (1 − α) + log p_0(r)` for a think.
pub fn sticky_log_prior(latent: &Latent, reference_logprob: f32, alpha: f32) -> f32 {
    match latent {
        Latent::Keep => alpha.ln(),
        Latent::Switch { .. } => (1.0 - alpha).ln() + reference_logprob,
    }
}

/// `R_t` by trajectory, member and line.
fn all_returns(rollouts: &Rollouts, config: &EStepConfig) -> Vec<Vec<Vec<f32>>> {
    let of_row = |records: &Vec<LineRecord>, reference: &Vec<f32>| {
        let rewards: Vec<f32> = records
            .iter()
            .zip(reference)
            .map(|(record, reference)| reward(record, *reference, config.penalty))
            .collect();
        returns(&rewards, config.horizon, config.discount)
    };
    let groups = rollouts.records.iter().zip(&rollouts.reference);
    groups
        .map(|(rows, references)| {
            rows.iter()
                .zip(references)
                .map(|(r, p)| of_row(r, p))
                .collect()
        })
        .collect()
}

/// The policy gradient as examples: weight `A_t / n_rollouts` on every sampled token of `z_t`, so
/// that the gradient of `Σ w log q` estimates that of the mean return of a rollout.
pub fn policy_gradient(
    rollouts: &Rollouts,
    markers: &Markers,
    config: &EStepConfig,
) -> Vec<Example> {
    let scale = 1.0
        / rollouts
            .annotated
            .iter()
            .map(Vec::len)
            .sum::<usize>()
            .max(1) as f32;
    let returns = all_returns(rollouts, config);
    let mut examples = Vec::new();
    for (group, returns) in returns.iter().enumerate() {
        let n_lines = returns.first().map_or(0, Vec::len);
        let by_line: Vec<Vec<f32>> = (0..n_lines)
            .map(|line| {
                let column: Vec<f32> = returns.iter().map(|row| row[line]).collect();
                advantages(&column, config.baseline)
            })
            .collect();
        for (member, annotated) in rollouts.annotated[group].iter().enumerate() {
            let records = &rollouts.records[group][member];
            let advantage = |line: usize| by_line[line][member] * scale;
            examples.push(example(annotated, records, markers, config, advantage));
        }
    }
    examples
}

fn example(
    annotated: &Annotated,
    records: &[LineRecord],
    markers: &Markers,
    config: &EStepConfig,
    advantage: impl Fn(usize) -> f32,
) -> Example {
    // Weight 1 marks the latent tokens that were sampled; each is then given its line's advantage.
    let marks = TokenWeights {
        prefix: 0.0,
        line: 0.0,
        decision: 1.0,
        rationale: 1.0,
    };
    let mut example = interleave(annotated, markers, marks);
    let needs_old = matches!(config.surrogate, Surrogate::Clipped { .. });
    if needs_old {
        example.old_logprobs = vec![0.0; example.tokens.len()];
    }
    let choices: Arc<[_]> = Arc::new([markers.act, markers.think]);
    let mut position = annotated.trajectory.prefix.len();
    for (index, record) in records.iter().enumerate() {
        let n_latent = record.latent.as_ref().map_or(0, Latent::n_tokens);
        for weight in &mut example.weights[position..position + n_latent] {
            *weight *= advantage(index);
        }
        if record.decision_sampled {
            let choices = Arc::clone(&choices);
            example.restrictions.push(Restriction { position, choices });
        } else if n_latent > 0 {
            example.weights[position] = 0.0;
        }
        if needs_old && n_latent > 0 {
            example.old_logprobs[position] = record.decision_logprob;
            for (at, logprob) in record.rationale_logprobs.iter().enumerate() {
                example.old_logprobs[position + 1 + at] = *logprob;
            }
        }
        position += n_latent + annotated.trajectory.lines[index].len();
    }
    example
}

fn report_on(rollouts: &Rollouts, config: &EStepConfig) -> EStepReport {
    let mut report = EStepReport::default();
    let returns = all_returns(rollouts, config);
    let (mut n_rows, mut n_lines, mut n_out, mut gains) = (0usize, 0usize, 0usize, Vec::new());
    for (group, rows) in rollouts.records.iter().enumerate() {
        for (member, records) in rows.iter().enumerate() {
            n_rows += 1;
            n_lines += records.len();
            n_out += records.iter().filter(|line| line.is_out_of_room).count();
            for (record, reference) in records.iter().zip(&rollouts.reference[group][member]) {
                report.mean_return += f64::from(reward(record, *reference, config.penalty));
                report.mean_line_logprob += f64::from(record.line_logprob);
            }
        }
        for line in 0..rows.first().map_or(0, Vec::len) {
            let mean = |think: bool| {
                let chosen: Vec<f32> = (0..rows.len())
                    .filter(|member| rows[*member][line].is_think() == think)
                    .map(|member| returns[group][member][line])
                    .collect();
                (!chosen.is_empty())
                    .then(|| f64::from(chosen.iter().sum::<f32>()) / chosen.len() as f64)
            };
            gains.extend(mean(true).zip(mean(false)).map(|(think, act)| think - act));
        }
    }
    report.mean_return /= n_rows.max(1) as f64;
    report.mean_line_logprob /= n_lines.max(1) as f64;
    report.out_of_room_share = n_out as f64 / n_lines.max(1) as f64;
    report.mean_gain = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    report.latents = LatentStats::of(rollouts.annotated.iter().flatten());
    report
}
