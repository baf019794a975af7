//! Writing programs: plain sampling, for evaluation and for RLVR, and the table of forced decisions
//! beside it.
//!
//! A model that was mid-trained with latents writes its decisions and rationales as tokens like any
//! others; they are deleted afterwards. What [`complete`] samples is what any server samples from
//! the same checkpoint. Nothing grades here.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::interleave::strip;
use crate::policy::{Policy, PolicyError, SampleRule, TokenId, Work};
use crate::rollout::{LatentRule, Rollout, run};
use crate::seed::Seed;
use crate::trace::Trace;
use crate::trajectory::Markers;

/// How a program is written.
#[derive(Clone, Debug, PartialEq)]
pub struct WritingRule {
    /// The markers that are deleted, rationales with them; `None` deletes nothing.
    pub markers: Option<Markers>,
    /// Stop ids: ends of text; writing stops after any of them.
    pub stops: Arc<[TokenId]>,
    /// Where given, all tokens after which sampling rests, the stops among them: a caller can then
    /// look at what is written so far. The draws are the same.
    pub rests: Option<Arc<[TokenId]>>,
    /// Longest program in tokens, markers and rationales included.
    pub program_tokens_max: usize,
    /// Temperature; 0 is greedy.
    pub temperature: f32,
    /// Keep the k likeliest tokens.
    pub top_k: Option<NonZeroUsize>,
    /// Keep the smallest set of likeliest tokens that reaches this probability.
    pub top_p: Option<f32>,
}

impl WritingRule {
    /// Sampling of at most so many tokens under this rule.
    pub(crate) fn sample(&self, stop: Arc<[TokenId]>, n_tokens_max: usize) -> SampleRule {
        SampleRule {
            top_k: self.top_k,
            top_p: self.top_p,
            stop,
            ..SampleRule::plain(self.temperature, n_tokens_max)
        }
    }
}

/// A program that was written for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Prompt and program, token by token.
    pub trace: Trace,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// True if the program ended with an end of text, not at a limit.
    pub ended: bool,
    /// What is deleted.
    pub markers: Option<Markers>,
}

impl Completion {
    /// What a rollout has written behind its prompt.
    pub fn of(rollout: Rollout<'_>) -> Self {
        Self {
            n_prompt: rollout.n_prefix,
            ended: rollout.ended,
            markers: rollout.markers(),
            trace: rollout.trace,
        }
    }

    /// The program as the model wrote it, markers included, without the end of text.
    pub fn raw(&self) -> &[TokenId] {
        let end = self.trace.tokens.len() - usize::from(self.ended);
        &self.trace.tokens[self.n_prompt..end]
    }

    /// The program without decisions and rationales.
    pub fn program(&self) -> Vec<TokenId> {
        match &self.markers {
            Some(markers) => strip(self.raw(), markers),
            None => self.raw().to_vec(),
        }
    }

    /// Number of tokens that were written, the end of text included.
    pub fn n_written(&self) -> usize {
        self.trace.tokens.len() - self.n_prompt
    }
}

/// Decisions that are forced upon a program, or drawn between the two markers alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Guide {
    /// How decisions and rationales are found.
    pub latents: LatentRule,
    /// The tokens that end a line.
    pub newlines: Arc<[TokenId]>,
}

/// Writes `group_size` programs for each prompt by plain sampling; row order is prompts, then
/// members.
///
/// # Errors
/// As [`Policy::run`].
pub fn complete(
    policy: &dyn Policy,
    prompts: &[Vec<TokenId>],
    rule: &WritingRule,
    group_size: usize,
    seed: Seed,
) -> Result<(Vec<Completion>, Work), PolicyError> {
    let rule = Arc::new(rule.clone());
    let rows = repeated(prompts, group_size)
        .map(|(_, prompt)| Rollout::plain(prompt, Arc::clone(&rule)))
        .collect();
    finish(policy, rows, seed)
}

/// As [`complete`], under a guide; `plans` has a first rationale for each prompt that is to begin
/// with one, or nothing at all.
///
/// # Errors
/// As [`Policy::run`].
pub fn complete_guided(
    policy: &dyn Policy,
    prompts: &[Vec<TokenId>],
    rule: &WritingRule,
    guide: &Guide,
    plans: &[Option<Vec<TokenId>>],
    group_size: usize,
    seed: Seed,
) -> Result<(Vec<Completion>, Work), PolicyError> {
    let rule = Arc::new(rule.clone());
    let row = |(index, prompt): (usize, &Vec<TokenId>)| {
        let latents = guide.latents.clone();
        let mut row = Rollout::guided(prompt, Arc::clone(&rule), latents, &guide.newlines);
        if let Some(Some(plan)) = plans.get(index) {
            row.begin_with(plan);
        }
        row
    };
    let rows = repeated(prompts, group_size).map(row).collect();
    finish(policy, rows, seed)
}

/// Each prompt so often, with its index.
fn repeated(
    prompts: &[Vec<TokenId>],
    group_size: usize,
) -> impl Iterator<Item = (usize, &Vec<TokenId>)> {
    let prompts = prompts.iter().enumerate();
    prompts.flat_map(move |prompt| std::iter::repeat_n(prompt, group_size))
}

fn finish(
    policy: &dyn Policy,
    mut rows: Vec<Rollout<'_>>,
    seed: Seed,
) -> Result<(Vec<Completion>, Work), PolicyError> {
    let work = run(policy, &mut rows, seed)?;
    Ok((rows.into_iter().map(Completion::of).collect(), work))
}
