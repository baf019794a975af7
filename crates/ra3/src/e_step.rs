//! The E-step: find latents by policy gradient, the line policy fixed (ALGORITHM section 3).
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
//! It neither changes the line policy on purpose nor draws training data: see [`crate::m_step`].

use crate::formulas::{Baseline, advantages, returns};
use crate::interleave::{TokenWeights, interleave};
use crate::policy::{
    Episode, Example, Objective, Policy, PolicyError, Surrogate, UpdateStats, Work,
};
use crate::rollout::{Decision, LatentRule, LineRecord, Rollout};
use crate::seed::Seed;
use crate::trajectory::{Annotated, Latent, LatentStats, Markers, Trajectory};

/// What a switch costs.
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
}

/// What is left out of the method, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Latents are kept or switched.
    Sticky,
    /// A new latent at every line (as LaTRO and RLP have it).
    ThinkEveryLine,
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
        match (self.penalty, self.persistence) {
            (Penalty::SwitchCost(cost), _) if cost == f32::INFINITY => Decision::Absent,
            (_, Persistence::ThinkEveryLine) => Decision::Think,
            (_, Persistence::Sticky) => Decision::Free,
        }
    }

    /// How rollouts find latents.
    pub fn latent_rule(&self, markers: Markers) -> LatentRule {
        LatentRule {
            markers,
            rationale_tokens_max: self.rationale_tokens_max,
            temperature: self.temperature,
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
    /// `p_0`, needed by the exact KL only.
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
    /// `log p_0(r)` by line, where a reference was asked.
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
    let rollouts = roll_out(policies, batch, &rule, config.group_size, seed, &mut work)?;
    let mut report = report_on(&rollouts, config);
    if config.decision() != Decision::Absent {
        let examples = examples(&rollouts, markers, config);
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
    let mut rows: Vec<Rollout<'_>> = batch
        .iter()
        .flat_map(|trajectory| (0..group_size).map(move |_| trajectory))
        .map(|trajectory| Rollout::sampled(trajectory, rule.clone()))
        .collect();
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
        None => records.iter().map(|lines| vec![0.0; lines.len()]).collect(),
        Some(reference) => follow(reference, &annotated, &rule.markers, seed, work)?
            .iter()
            .map(|lines| {
                lines
                    .iter()
                    .map(|line| line.rationale_logprobs.iter().sum())
                    .collect()
            })
            .collect(),
    };
    Ok(Rollouts {
        annotated: grouped(annotated, group_size),
        records: grouped(records, group_size),
        reference: grouped(reference, group_size),
    })
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
    let mut rows: Vec<Rollout<'_>> = annotated
        .iter()
        .map(|document| Rollout::followed(document, *markers))
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
    let mut groups = Vec::with_capacity(rows.len() / group_size);
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        groups.push(rows.by_ref().take(group_size).collect());
    }
    groups
}

/// `r_t` of one line.
pub fn reward(record: &LineRecord, reference_logprob: f32, penalty: Penalty) -> f32 {
    let price = match (&record.latent, penalty) {
        (None | Some(Latent::Keep), Penalty::SwitchCost(_)) | (None, _) => 0.0,
        (Some(Latent::Switch { .. }), Penalty::SwitchCost(cost)) => cost,
        (Some(latent), Penalty::ExactKl { alpha }) => {
            record.latent_logprob() - sticky_log_prior(latent, reference_logprob, alpha)
        }
    };
    record.line_logprob - price
}

/// `log p(z_t | h_t)` of the sticky prior (ALGORITHM section 2): `log α` for an act,
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

/// The policy gradient as examples: weight `A_t / n_rollouts` on every sampled token of `z_t`.
fn examples(rollouts: &Rollouts, markers: &Markers, config: &EStepConfig) -> Vec<Example> {
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
    let mut position = annotated.trajectory.prefix.len();
    for (index, record) in records.iter().enumerate() {
        let n_latent = record.latent.as_ref().map_or(0, Latent::n_tokens);
        for weight in &mut example.weights[position..position + n_latent] {
            *weight *= advantage(index);
        }
        if n_latent > 0 && !record.decision_sampled {
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
    if config.decision() == Decision::Think {
        example.restrictions.clear();
    }
    example
}

fn report_on(rollouts: &Rollouts, config: &EStepConfig) -> EStepReport {
    let mut report = EStepReport::default();
    let returns = all_returns(rollouts, config);
    let (mut n_rows, mut n_lines, mut gains) = (0usize, 0usize, Vec::new());
    for (group, rows) in rollouts.records.iter().enumerate() {
        for (member, records) in rows.iter().enumerate() {
            n_rows += 1;
            n_lines += records.len();
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
    report.mean_gain = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    report.latents = LatentStats::of(rollouts.annotated.iter().flatten());
    report
}
