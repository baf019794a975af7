//! The M-step's data (docs/algorithm.md, "M-step"): documents with latents drawn from `q`, of which
//! the best are kept, or with the corpus' own. What is learnt of them is [`crate::m_step`]'s.

use crate::formulas::softmax;
use crate::latent_rule::LatentRule;
use crate::m_step::{AnnotatedDocument, Draw};
use crate::policy::{Policy, PolicyError, Work};
use crate::rewards::Penalty;
use crate::rollout::draw;
use crate::scoring::{Frozen, Scored, score};
use crate::seed::Seed;
use crate::trace::Trace;
use crate::trajectory::{Document, Trajectory};

/// Which draws are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Choose {
    /// One draw from `q`.
    // With braces, so that a `group_size` in its place is refused.
    Sample {},
    /// The best of a group by `Σ_t r_t`.
    BestOf {
        /// Draws of a document.
        group_size: usize,
    },
    /// All of a group, weighted by `softmax_g Σ_t r_t`: under the exact KL that is
    /// `log π + log p − log q`, and the weights are importance weights.
    ImportanceWeights {
        /// Draws of a document.
        group_size: usize,
    },
}

impl Choose {
    /// Draws of a document that an update of the M-step learns from, at most.
    pub fn n_learnt(self) -> usize {
        match self {
            Self::Sample {} | Self::BestOf { .. } => 1,
            Self::ImportanceWeights { group_size } => group_size,
        }
    }

    /// Draws of a document.
    pub fn group_size(self) -> usize {
        match self {
            Self::Sample {} => 1,
            Self::BestOf { group_size } | Self::ImportanceWeights { group_size } => group_size,
        }
    }
}

/// Annotates documents; their own latents are not looked at.
///
/// # Errors
/// As [`Policy::run`] and [`Policy::score`].
pub fn annotate(
    policy: &dyn Policy,
    frozen: &Frozen,
    batch: &[Document],
    rule: &LatentRule,
    choose: Choose,
    penalty: Penalty,
    seed: Seed,
) -> Result<(Vec<AnnotatedDocument>, Work), PolicyError> {
    let trajectories: Vec<Trajectory> = batch.iter().cloned().map(Document::trajectory).collect();
    let group_size = choose.group_size();
    let (traces, mut work) = draw(policy, &trajectories, rule, group_size, seed)?;
    let groups: Vec<Vec<Draw>> = if matches!(choose, Choose::Sample {}) {
        // The only draw is kept whatever it is worth.
        traces.iter().map(|trace| vec![kept(trace, 1.0)]).collect()
    } else {
        let (rollouts, scoring) = score(policy, frozen, traces)?;
        work += scoring;
        let groups = rollouts.chunks(group_size);
        groups.map(|group| choice(group, choose, penalty)).collect()
    };
    let documents = batch.iter().zip(groups);
    let documents = documents.map(|(document, draws)| AnnotatedDocument {
        draws,
        n_corpus_tokens: document.n_corpus_tokens,
    });
    Ok((documents.collect(), work))
}

/// Documents with the corpus' own latents. Where switching is impossible there is nothing to
/// decide, so no marker may be learnt from them either.
pub fn own_latents(
    documents: impl IntoIterator<Item = Document>,
    penalty: Penalty,
) -> Vec<AnnotatedDocument> {
    let own = |mut document: Document| {
        if penalty.forbids_thinking() {
            document.annotated.latents.fill(None);
        }
        AnnotatedDocument::single(document.annotated, document.n_corpus_tokens)
    };
    documents.into_iter().map(own).collect()
}

/// A draw of a smaller share is not worth its pass: it is less than a millionth of its document.
const SHARE_MIN: f32 = 1e-6;

/// The draws of a group that are learnt from.
fn choice(group: &[Scored], choose: Choose, penalty: Penalty) -> Vec<Draw> {
    let shares = shares(group, choose, penalty).into_iter();
    let draws = group.iter().zip(shares);
    draws
        .filter(|(_, share)| *share >= SHARE_MIN)
        .map(|(rollout, share)| kept(&rollout.trace, share))
        .collect()
}

fn kept(trace: &Trace, share: f32) -> Draw {
    let annotated = trace.annotated();
    Draw { annotated, share }
}

/// The share of each draw of a group, in sum 1.
fn shares(group: &[Scored], choose: Choose, penalty: Penalty) -> Vec<f32> {
    let totals: Vec<f64> = group
        .iter()
        .map(|rollout| {
            let lines = rollout.lines.iter();
            lines.map(|line| f64::from(line.reward(penalty))).sum()
        })
        .collect();
    if matches!(choose, Choose::ImportanceWeights { .. }) {
        let shares = softmax(&totals).into_iter();
        return shares.map(|share| share as f32).collect();
    }
    // The first of equals.
    let best = (0..totals.len())
        .rev()
        .max_by(|a, b| totals[*a].total_cmp(&totals[*b]));
    let keep = |index: usize| f32::from(u8::from(Some(index) == best));
    (0..totals.len()).map(keep).collect()
}
