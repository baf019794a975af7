//! How good a latent model is, measured on documents it was not trained on (ALGORITHM section 6).
//!
//! All in nats, summed over documents; bytes are the caller's. The exact log-likelihood of a model
//! without latents is [`exact`]; a latent model has lower bounds.

use crate::e_step::{Policies, follow, roll_out, sticky_log_prior};
use crate::formulas::log_mean_exp;
use crate::policy::{Policy, PolicyError, Work};
use crate::rollout::{Decision, LatentRule};
use crate::seed::Seed;
use crate::trajectory::{Annotated, Latent, LatentStats, Markers, Trajectory};

/// Lower bounds on `log p(a | s_0)` and figures about the latents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// `J` with one sample a line.
    pub elbo: f64,
    /// `(K, IWAE_K)` by rising K.
    pub iwae: Vec<(usize, f64)>,
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

/// `Σ log p` of the lines, with no markers written.
///
/// # Errors
/// As [`Policy::run`].
pub fn exact(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    seed: Seed,
) -> Result<(f64, Work), PolicyError> {
    given(policy, documents, markers, &|_| None, seed)
}

/// `Σ log π` of the lines with `<act>` before each.
///
/// # Errors
/// As [`Policy::run`].
pub fn all_act(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    seed: Seed,
) -> Result<(f64, Work), PolicyError> {
    given(policy, documents, markers, &|_| Some(Latent::Keep), seed)
}

fn given(
    policy: &mut dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
    latent: &dyn Fn(usize) -> Option<Latent>,
    seed: Seed,
) -> Result<(f64, Work), PolicyError> {
    let annotated: Vec<Annotated> = documents
        .iter()
        .map(|trajectory| Annotated {
            trajectory: trajectory.clone(),
            latents: (0..trajectory.lines.len()).map(latent).collect(),
        })
        .collect();
    let mut work = Work::default();
    let records = follow(policy, &annotated, markers, seed, &mut work)?;
    let total = records
        .iter()
        .flatten()
        .map(|line| f64::from(line.line_logprob))
        .sum();
    Ok((total, work))
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
    let mut bounds = Bounds::default();
    let rollouts = roll_out(policies, documents, rule, k_max, seed, &mut bounds.work)?;
    let mut iwae = vec![0.0; ks.len()];
    for (rows, references) in rollouts.records.iter().zip(&rollouts.reference) {
        let log_weights: Vec<f64> = rows
            .iter()
            .zip(references)
            .map(|(lines, reference)| {
                let lines = lines.iter().zip(reference);
                lines
                    .map(|(line, p0)| {
                        let latent = line.latent.as_ref().expect("every line was decided");
                        f64::from(line.line_logprob) - f64::from(line.latent_logprob())
                            + f64::from(sticky_log_prior(latent, *p0, alpha))
                    })
                    .sum()
            })
            .collect();
        bounds.elbo += log_weights[0];
        bounds.line_logprob += rows[0]
            .iter()
            .map(|line| f64::from(line.line_logprob))
            .sum::<f64>();
        for (total, k) in iwae.iter_mut().zip(ks) {
            *total += log_mean_exp(&log_weights[..*k]);
        }
    }
    bounds.iwae = ks.iter().copied().zip(iwae).collect();
    let first: Vec<Annotated> = rollouts
        .annotated
        .iter()
        .map(|group| group[0].clone())
        .collect();
    bounds.latents = LatentStats::of(first.iter());
    let gains = gains(policies.policy, &first, rule, seed, &mut bounds.work)?;
    bounds.gain = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    Ok(bounds)
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
