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

use crate::formulas::log_mean_exp;
use crate::latent_rule::{Decision, LatentRule};
use crate::policy::{Example, Policy, PolicyError, Work};
use crate::rollout::draw;
use crate::scoring::{Scored, lines_logprobs, rationale_logprobs, scored, sum};
use crate::seed::Seed;
use crate::statistics::{LatentStats, mean};
use crate::trace::{Part, Trace};
use crate::trajectory::{Annotated, Latent, Markers, Trajectory};

/// Bounds on one log-likelihood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// `J` with one sample a line, by document.
    pub elbo: Vec<f64>,
    /// `IWAE_K` by document, for each `K` asked for.
    pub iwae: Vec<(usize, Vec<f64>)>,
}

/// What thinks gain: `log π(a|h,z) − log π(a|h,act)`, the same line after the same history, with
/// this one switch replaced by a keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gain {
    /// Mean over thinks, in nats.
    pub mean: f64,
    /// Share of the thinks that gain anything: that make the line likelier.
    pub share: f64,
}

impl Gain {
    fn of(gains: &[f64]) -> Self {
        let pays = |gain: &f64| f64::from(u8::from(*gain > 0.0));
        Self {
            mean: mean(gains.iter().copied()),
            share: mean(gains.iter().map(pays)),
        }
    }
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
    /// What the thinks that were drawn gained.
    pub gain: Gain,
    /// Work done.
    pub work: Work,
}

/// `log p` of each document's lines, with no markers written.
///
/// # Errors
/// As [`Policy::score`].
pub fn exact(
    policy: &dyn Policy,
    documents: &[Trajectory],
) -> Result<(Vec<f64>, Work), PolicyError> {
    let traces: Vec<Trace> = documents.iter().map(Trace::plain).collect();
    documents_logprobs(policy, &traces)
}

/// `log π` of each document's lines with `<act>` before each.
///
/// # Errors
/// As [`Policy::score`].
pub fn all_act(
    policy: &dyn Policy,
    documents: &[Trajectory],
    markers: &Markers,
) -> Result<(Vec<f64>, Work), PolicyError> {
    let act = |trajectory: &Trajectory| {
        let annotated = Annotated {
            trajectory: trajectory.clone(),
            latents: vec![Some(Latent::Keep); trajectory.lines.len()],
        };
        Trace::of(&annotated, markers)
    };
    let traces: Vec<Trace> = documents.iter().map(act).collect();
    documents_logprobs(policy, &traces)
}

fn documents_logprobs(
    policy: &dyn Policy,
    traces: &[Trace],
) -> Result<(Vec<f64>, Work), PolicyError> {
    let (lines, work) = lines_logprobs(policy, traces)?;
    Ok((lines.iter().map(|lines| sum(lines)).collect(), work))
}

/// Draws `max K` rollouts of each document and bounds its log-likelihood. Lines are scored by the
/// policy itself; without a reference it is its own `p_0`.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::score`].
pub fn measure(
    policy: &dyn Policy,
    reference: Option<&dyn Policy>,
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
    let (traces, mut work) = draw(policy, documents, rule, k_max, seed)?;
    let (written, scoring) = policy.score(&as_written(&traces))?;
    work += scoring;
    let (of_rationales, scoring) = rationale_logprobs(reference, &traces)?;
    work += scoring;
    let rollouts = scored(traces, &written, &of_rationales);
    let first: Vec<&Scored> = rollouts.iter().step_by(k_max).collect();
    let lines = |rollout: &Scored| rollout.lines.iter().map(|line| line.line_logprob).collect();
    let drawn = first.iter().map(|rollout| (&rollout.trace, lines(rollout)));
    let (gain, scoring) = gain(policy, drawn, &rule.markers)?;
    work += scoring;
    let sticky = |rollout: &Scored| {
        let lines = rollout.lines.iter();
        lines.map(|line| line.log_weight(alpha)).sum()
    };
    let first_lines = first.iter().flat_map(|rollout| &rollout.lines);
    Ok(Bounds {
        sticky: bound(&rollouts.iter().map(sticky).collect::<Vec<_>>(), ks, k_max),
        written: bound(&written_log_weights(&rollouts, &written), ks, k_max),
        marker_probability: marker_probability(&rollouts, &written),
        line_logprob: first_lines.map(|line| f64::from(line.line_logprob)).sum(),
        latents: LatentStats::of_lengths(first.iter().map(|r| r.trace.latent_lengths())),
        gain,
        work,
    })
}

/// The rollouts as plain sampling would write them: every token over the whole vocabulary.
fn as_written(traces: &[Trace]) -> Vec<Example> {
    let everywhere = |trace: &Trace| Example {
        restrictions: Vec::new(),
        ..trace.sequence(|part| part != Part::Outside)
    };
    traces.iter().map(everywhere).collect()
}

/// `Σ_t log P(z_t, a_t | before) − log q` of every draw.
fn written_log_weights(rollouts: &[Scored], written: &[Vec<f32>]) -> Vec<f64> {
    let of_row = |(rollout, written): (&Scored, &Vec<f32>)| {
        let spans = rollout.trace.lines.iter().zip(&rollout.lines);
        spans
            .map(|(span, line)| {
                f64::from(line.line_logprob) + sum(&written[span.latent.clone()])
                    - f64::from(line.latent_logprob)
            })
            .sum()
    };
    rollouts.iter().zip(written).map(of_row).collect()
}

/// What plain sampling gives to both markers together: at a decision that was drawn, the ratio of
/// its probability among all tokens to that among the two.
fn marker_probability(rollouts: &[Scored], written: &[Vec<f32>]) -> f64 {
    let of_row = |(rollout, written): (&Scored, &Vec<f32>)| -> Vec<f64> {
        let trace = &rollout.trace;
        let decided = trace.restrictions.iter().map(|restriction| {
            let at = restriction.position;
            (f64::from(written[at]) - f64::from(trace.logprobs[at])).exp()
        });
        decided.collect()
    };
    mean(rollouts.iter().zip(written).flat_map(of_row))
}

/// From the log-weights of `n_draws` draws a document.
fn bound(log_weights: &[f64], ks: &[usize], n_draws: usize) -> Bound {
    let documents = || log_weights.chunks(n_draws);
    let iwae = |k: &usize| {
        (
            *k,
            documents()
                .map(|draws| log_mean_exp(&draws[..*k]))
                .collect(),
        )
    };
    Bound {
        elbo: documents().map(|draws| draws[0]).collect(),
        iwae: ks.iter().map(iwae).collect(),
    }
}

/// What thinks gain where the model has to think before every line: the share of lines before which
/// one pays. Decisions of `rule` do not matter.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::score`].
pub fn gain_everywhere(
    policy: &dyn Policy,
    documents: &[Trajectory],
    rule: &LatentRule,
    seed: Seed,
) -> Result<(Gain, Work), PolicyError> {
    let rule = LatentRule {
        decision: Decision::Think,
        ..rule.clone()
    };
    let (traces, mut work) = draw(policy, documents, &rule, 1, seed)?;
    let (scores, scoring) = lines_logprobs(policy, &traces)?;
    work += scoring;
    let (gain, scoring) = gain(policy, traces.iter().zip(scores), &rule.markers)?;
    work += scoring;
    Ok((gain, work))
}

/// What every think of some rollouts, whose lines have these log-probabilities, gained.
fn gain<'t>(
    policy: &dyn Policy,
    rollouts: impl Iterator<Item = (&'t Trace, Vec<f32>)>,
    markers: &Markers,
) -> Result<(Gain, Work), PolicyError> {
    let (mut thinks, mut with) = (Vec::new(), Vec::new());
    for (trace, logprobs) in rollouts {
        for (line, logprob) in logprobs.into_iter().enumerate() {
            if trace.lines[line].is_think() {
                thinks.push((trace, line));
                with.push(f64::from(logprob));
            }
        }
    }
    let (without, work) = act_logprobs(policy, &thinks, markers)?;
    let gain = |(with, without): (&f64, &f32)| with - f64::from(*without);
    let gains: Vec<f64> = with.iter().zip(&without).map(gain).collect();
    Ok((Gain::of(&gains), work))
}

/// `log π` of each of these lines of traces, with an act there in place of its think.
///
/// # Errors
/// As [`Policy::score`].
pub fn act_logprobs(
    policy: &dyn Policy,
    lines: &[(&Trace, usize)],
    markers: &Markers,
) -> Result<(Vec<f32>, Work), PolicyError> {
    let variants: Vec<Trace> = lines
        .iter()
        .map(|(trace, line)| without_think(trace, *line, markers))
        .collect();
    let (logprobs, work) = lines_logprobs(policy, &variants)?;
    let of_lines = logprobs.iter().zip(lines);
    let of_lines = of_lines.map(|(logprobs, (_, line))| logprobs[*line]);
    Ok((of_lines.collect(), work))
}

/// The document up to `line`, with an act there in place of its think.
pub fn without_think(trace: &Trace, line: usize, markers: &Markers) -> Trace {
    let mut annotated = trace.annotated();
    annotated.trajectory.lines.truncate(line + 1);
    annotated.latents.truncate(line + 1);
    annotated.latents[line] = Some(Latent::Keep);
    Trace::of(&annotated, markers)
}
