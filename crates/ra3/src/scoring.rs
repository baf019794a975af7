//! What the policy and the frozen models say of rollouts, line by line: log-probabilities of lines
//! and of rationales. No reward is made of them here: see [`crate::rewards`].

use crate::policy::{Example, Policy, PolicyError, Work};
use crate::rewards::LineScore;
use crate::trace::{LineSpan, Part, Trace};

/// The copies of the policy that were taken to compare it with. Where there is none, the policy
/// itself stands in its place, as it is.
#[derive(Default)]
pub struct Frozen {
    /// `π`, the line policy at the start of the E-step.
    pub scorer: Option<Box<dyn Policy>>,
    /// `p_0`, which the exact KL needs. Of a policy that is its own, rationales are free, and only
    /// the decisions pay.
    pub reference: Option<Box<dyn Policy>>,
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = formatter.debug_struct("Frozen");
        parts.field("scorer", &self.scorer.is_some());
        parts.field("reference", &self.reference.is_some());
        parts.finish()
    }
}

/// A rollout with the scores of its lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The rollout.
    pub trace: Trace,
    /// What the models say of each line.
    pub lines: Vec<LineScore>,
}

/// Has `π` score the lines and `p_0` the rationales of rollouts that `policy` drew.
///
/// # Errors
/// As [`Policy::score`].
pub fn score(
    policy: &dyn Policy,
    frozen: &Frozen,
    traces: Vec<Trace>,
) -> Result<(Vec<Scored>, Work), PolicyError> {
    let scorer = frozen.scorer.as_deref().unwrap_or(policy);
    let (of_lines, mut work) = action_logprobs(scorer, &traces)?;
    let (of_rationales, scoring) = rationale_logprobs(frozen.reference.as_deref(), &traces)?;
    work += scoring;
    Ok((scored(traces, &of_lines, &of_rationales), work))
}

/// Rollouts with the scores of their lines: `log q` is a trace's own, the others are given token by
/// token.
pub(crate) fn scored(
    traces: Vec<Trace>,
    of_lines: &[Vec<f32>],
    of_rationales: &[Vec<f32>],
) -> Vec<Scored> {
    let rows = traces.into_iter().zip(of_lines).zip(of_rationales);
    let scored = rows.map(|((trace, of_lines), of_rationales)| Scored {
        lines: line_scores(&trace, of_lines, of_rationales),
        trace,
    });
    scored.collect()
}

/// `log p_0` of every token of the rationales; where no reference is, `log q` as it was drawn.
pub(crate) fn rationale_logprobs(
    reference: Option<&dyn Policy>,
    traces: &[Trace],
) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
    match reference {
        None => {
            let drawn = traces.iter().map(|trace| trace.logprobs.clone());
            Ok((drawn.collect(), Work::default()))
        }
        Some(reference) => {
            let is_rationale = |part| matches!(part, Part::Rationale(_));
            reference.score(&sequences(traces, is_rationale))
        }
    }
}

/// What is to be scored of each trace.
fn sequences(traces: &[Trace], is_wanted: impl Fn(Part) -> bool) -> Vec<Example> {
    traces
        .iter()
        .map(|trace| trace.sequence(&is_wanted))
        .collect()
}

fn line_scores(trace: &Trace, of_lines: &[f32], of_rationales: &[f32]) -> Vec<LineScore> {
    let score = |span: &LineSpan| {
        // A `</think>` that was forced is certain under every model.
        let drawn = |logprobs: &[f32]| -> f32 {
            let positions = span.rationale().filter(|at| trace.mask[*at]);
            positions.map(|at| logprobs[at]).sum()
        };
        let decision = span.latent.clone().next();
        LineScore {
            is_think: decision.map(|_| span.is_think()),
            latent_logprob: decision.map_or(0.0, |at| trace.logprobs[at]) + drawn(&trace.logprobs),
            rationale_logprob: drawn(of_rationales),
            line_logprob: line_logprob(span, of_lines),
            n_line_tokens: span.action.len(),
        }
    };
    trace.lines.iter().map(score).collect()
}

/// `log π` of each trace's lines, token sums in `f64`.
///
/// # Errors
/// As [`Policy::score`].
pub fn lines_logprobs(
    policy: &dyn Policy,
    traces: &[Trace],
) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
    let (logprobs, work) = action_logprobs(policy, traces)?;
    let of_trace = |(trace, logprobs): (&Trace, Vec<f32>)| {
        let of_line = |span: &LineSpan| line_logprob(span, &logprobs);
        trace.lines.iter().map(of_line).collect()
    };
    Ok((traces.iter().zip(logprobs).map(of_trace).collect(), work))
}

/// `log π` of every token of the actions.
fn action_logprobs(
    policy: &dyn Policy,
    traces: &[Trace],
) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
    policy.score(&sequences(traces, |part| matches!(part, Part::Action(_))))
}

fn line_logprob(span: &LineSpan, logprobs: &[f32]) -> f32 {
    sum(&logprobs[span.action.clone()]) as f32
}

/// The sum in `f64`.
pub(crate) fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|logprob| f64::from(*logprob)).sum()
}
