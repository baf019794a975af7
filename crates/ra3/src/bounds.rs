//! How good a latent model is, measured on documents it was not trained on (docs/algorithm.md,
//! "How good is the latent model").
//!
//! All in nats, one number a document; bytes are the caller's. The exact log-likelihood of a model
//! without latents is [`exact`]. A latent model has lower bounds on two log-likelihoods, with the
//! same draws from `q` (decisions between the two markers):
//!
//! ```text
//! sticky:   log Σ_z Π_t p(z_t | h_t) π(a_t | h_t, z_t)         p is the sticky prior
//! written:  log Σ_z P(the tokens of z_0, a_0, z_1, a_1, …)     P is plain sampling from the model
//! ```
//!
//! The second is what a server would assign to the program with decisions and rationales deleted
//! (as far as every line has its decision, and no rationale is longer than `M`).

use crate::e_step::{Policies, Rollouts, follow, follow_how, roll_out, sticky_log_prior};
use crate::formulas::log_mean_exp;
use crate::policy::{Policy, PolicyError, Work};
use crate::rollout::{Decision, LatentRule, LineRecord, Scored};
use crate::seed::Seed;
use crate::trajectory::{Annotated, Latent, LatentStats, Markers, Trajectory};

/// Bounds on one log-likelihood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// `J` with one sample a line, by document.
    pub elbo: Vec<f64>,
    /// `IWAE_K` by document, for each `K` asked for.
    pub iwae: Vec<(usize, Vec<f64>)>,
}

/// Lower bounds on `log p(a | s_0)` and figures about the latents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Under the sticky prior.
    pub sticky: Bound,
    /// Under plain sampling.
    pub written: Bound,
    /// Mean probability, over decisions, that plain sampling gives to the two markers together.
    pub marker_probability: f64,
    /// `Σ log π` of the lines given the latents that were drawn, one draw a document: what
    /// [`crate::formulas::effective_choices`] reads. No bound by itself.
    pub line_logprob: f64,
    /// The latents that were drawn.
    pub latents: LatentStats,
    /// Mean over thinks of `log π(a|h,z) − log π(a|h,act)`: the same line after the same history,
    /// with this one switch replaced by a keep.
    pub gain: f64,
    /// Work done.
    pub work: Work,
}

/// `log p` of each document's lines, with no markers written.
///
/// # Errors
/// As [`Policy::run`].
pub fn exact(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    seed: Seed,
) -> Result<(Vec<f64>, Work), PolicyError> {
    given(policy, documents, markers, &|_| None, seed)
}

/// `log π` of each document's lines with `<act>` before each.
///
/// # Errors
/// As [`Policy::run`].
pub fn all_act(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    seed: Seed,
) -> Result<(Vec<f64>, Work), PolicyError> {
    given(policy, documents, markers, &|_| Some(Latent::Keep), seed)
}

fn given(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    latent: &dyn Fn(usize) -> Option<Latent>,
    seed: Seed,
) -> Result<(Vec<f64>, Work), PolicyError> {
    let annotated: Vec<Annotated> = documents
        .iter()
        .map(|trajectory| Annotated {
            trajectory: trajectory.clone(),
            latents: (0..trajectory.lines.len()).map(latent).collect(),
        })
        .collect();
    let mut work = Work::default();
    let records = follow(policy, &annotated, markers, seed, &mut work)?;
    let totals = records.iter().map(|lines| line_logprob(lines)).collect();
    Ok((totals, work))
}

fn line_logprob(lines: &[LineRecord]) -> f64 {
    lines.iter().map(|line| f64::from(line.line_logprob)).sum()
}

/// Draws `max K` rollouts of each document and bounds its log-likelihood.
///
/// # Errors
/// As [`Policy::run`].
pub fn measure(
    policies: &mut Policies<'_>,
    documents: &[Trajectory],
    rule: &LatentRule,
    alpha: f32,
    ks: &[usize],
    seed: Seed,
) -> Result<Bounds, PolicyError> {
    assert_eq!(
        rule.decision,
        Decision::Free,
        "bounds are of a model that decides"
    );
    let k_max = ks.iter().copied().max().unwrap_or(1).max(1);
    let mut work = Work::default();
    let rollouts = roll_out(policies, documents, rule, k_max, seed, &mut work)?;
    let policy = &mut *policies.policy;
    let written = as_written(policy, &rollouts, &rule.markers, seed, &mut work)?;
    let first: Vec<Annotated> = rollouts
        .annotated
        .iter()
        .map(|group| group[0].clone())
        .collect();
    let gains = gains(policy, &first, rule, seed, &mut work)?;
    let first_lines = rollouts.records.iter().map(|rows| line_logprob(&rows[0]));
    Ok(Bounds {
        sticky: bound(&sticky_log_weights(&rollouts, alpha), ks),
        written: bound(&written_log_weights(&rollouts, &written), ks),
        marker_probability: marker_probability(&rollouts, &written),
        line_logprob: first_lines.sum(),
        latents: LatentStats::of(first.iter()),
        gain: gains.iter().sum::<f64>() / gains.len().max(1) as f64,
        work,
    })
}

/// The rollouts scored as plain sampling would write them.
fn as_written(
    policy: &mut dyn Policy,
    rollouts: &Rollouts,
    markers: &Markers,
    seed: Seed,
    work: &mut Work,
) -> Result<Vec<Vec<Vec<LineRecord>>>, PolicyError> {
    let mut written = Vec::with_capacity(rollouts.annotated.len());
    for group in &rollouts.annotated {
        let how = Scored::AsWritten;
        written.push(follow_how(policy, group, markers, how, seed, work)?);
    }
    Ok(written)
}

/// `Σ_t log π + log p − log q` of every draw, by document.
fn sticky_log_weights(rollouts: &Rollouts, alpha: f32) -> Vec<Vec<f64>> {
    let of_line = |line: &LineRecord, p_0: f32| {
        let latent = line.latent.as_ref().expect("every line was decided");
        f64::from(line.line_logprob) - f64::from(line.latent_logprob())
            + f64::from(sticky_log_prior(latent, p_0, alpha))
    };
    let groups = rollouts.records.iter().zip(&rollouts.reference);
    groups
        .map(|(rows, references)| {
            let rows = rows.iter().zip(references);
            rows.map(|(lines, p_0)| lines.iter().zip(p_0).map(|(l, p)| of_line(l, *p)).sum())
                .collect()
        })
        .collect()
}

/// `Σ_t log P(z_t, a_t | before) − log q` of every draw, by document.
fn written_log_weights(rollouts: &Rollouts, written: &[Vec<Vec<LineRecord>>]) -> Vec<Vec<f64>> {
    let of_line = |(drawn, written): (&LineRecord, &LineRecord)| {
        f64::from(written.line_logprob) + f64::from(written.latent_logprob())
            - f64::from(drawn.latent_logprob())
    };
    let groups = rollouts.records.iter().zip(written);
    groups
        .map(|(rows, written)| {
            let rows = rows.iter().zip(written);
            rows.map(|(drawn, written)| drawn.iter().zip(written).map(of_line).sum())
                .collect()
        })
        .collect()
}

fn marker_probability(rollouts: &Rollouts, written: &[Vec<Vec<LineRecord>>]) -> f64 {
    let drawn = rollouts.records.iter().flatten().flatten();
    let written = written.iter().flatten().flatten();
    let decided: Vec<f64> = drawn
        .zip(written)
        .filter(|(drawn, _)| drawn.decision_sampled)
        .map(|(drawn, written)| {
            (f64::from(written.decision_logprob) - f64::from(drawn.decision_logprob)).exp()
        })
        .collect();
    decided.iter().sum::<f64>() / decided.len().max(1) as f64
}

fn bound(log_weights: &[Vec<f64>], ks: &[usize]) -> Bound {
    let iwae = |k: &usize| {
        let of = |draws: &Vec<f64>| log_mean_exp(&draws[..*k]);
        (*k, log_weights.iter().map(of).collect())
    };
    Bound {
        elbo: log_weights.iter().map(|draws| draws[0]).collect(),
        iwae: ks.iter().map(iwae).collect(),
    }
}

/// For every think of the documents, what it gained over an act at the same place.
fn gains(
    policy: &mut dyn Policy,
    documents: &[Annotated],
    rule: &LatentRule,
    seed: Seed,
    work: &mut Work,
) -> Result<Vec<f64>, PolicyError> {
    let mut variants = Vec::new();
    let mut places = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        for line in 0..document.latents.len() {
            if document.latents[line]
                .as_ref()
                .is_some_and(Latent::is_think)
            {
                variants.push(without_think(document, line));
                places.push((index, line));
            }
        }
    }
    let with = follow(policy, documents, &rule.markers, seed, work)?;
    let without = follow(policy, &variants, &rule.markers, seed, work)?;
    let gain = |(variant, (index, line)): (usize, (usize, usize))| {
        let (think, act) = (&with[index][line], &without[variant][line]);
        f64::from(think.line_logprob) - f64::from(act.line_logprob)
    };
    Ok(places.into_iter().enumerate().map(gain).collect())
}

/// The document up to `line`, with an act there in place of its think.
pub fn without_think(document: &Annotated, line: usize) -> Annotated {
    let mut latents = document.latents[..=line].to_vec();
    latents[line] = Some(Latent::Keep);
    let trajectory = Trajectory {
        prefix: document.trajectory.prefix.clone(),
        lines: document.trajectory.lines[..=line].to_vec(),
    };
    Annotated {
        trajectory,
        latents,
    }
}
