//! Writing programs by plain sampling, for RLVR and for evaluation.
//!
//! A model that was mid-trained with latents writes its decisions and rationales as tokens like any
//! others; they are deleted afterwards. What [`complete`] samples is what any server samples from
//! the same checkpoint. Nothing grades here; decisions are forced in [`crate::guided`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::completion::Completion;
use crate::policy::{
    Episode, Move, Observation, Policy, PolicyError, SampleRule, TokenId, Work, run_all,
};
use crate::seed::Seed;
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
    pub(crate) fn sample(&self, stop: &Arc<[TokenId]>, n_tokens_max: usize) -> SampleRule {
        SampleRule {
            top_k: self.top_k,
            top_p: self.top_p,
            stop: Arc::clone(stop),
            ..SampleRule::plain(self.temperature, n_tokens_max)
        }
    }

    /// Tokens that a program may still have in a context with so much room.
    pub(crate) fn n_left(&self, program: &Completion, room: usize) -> usize {
        let n_max = self.program_tokens_max;
        n_max.saturating_sub(program.n_written()).min(room)
    }
}

/// Writes `group_size` programs for each prompt; row order is prompts, then members.
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
    let members = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, group_size));
    let row = |prompt: &Vec<TokenId>| Program::begin(prompt, Arc::clone(&rule));
    let mut rows: Vec<Program> = members.map(row).collect();
    let work = run_all(policy, &mut rows, seed)?;
    Ok((rows.into_iter().map(|row| row.written).collect(), work))
}

/// A program in the making.
#[derive(Clone, Debug)]
pub struct Program {
    rule: Arc<WritingRule>,
    /// What is written so far.
    pub written: Completion,
}

impl Program {
    /// A program for a prompt, which is never empty.
    pub fn begin(prompt: &[TokenId], rule: Arc<WritingRule>) -> Self {
        let written = Completion::begin(prompt, rule.markers);
        Self { rule, written }
    }
}

impl Episode for Program {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let room = seen.room();
        match seen {
            Observation::Started { .. } => return Move::Feed(self.written.trace.tokens.clone()),
            Observation::Fed { .. } => {}
            Observation::Sampled {
                tokens, logprobs, ..
            } => {
                let start = self.written.trace.tokens.len();
                let stops = &self.rule.stops;
                self.written.end_line(start, tokens, logprobs, stops);
            }
        }
        match self.rule.n_left(&self.written, room) {
            n if n == 0 || self.written.ended => Move::Done,
            n => {
                let rests = self.rule.rests.as_ref().unwrap_or(&self.rule.stops);
                Move::Sample(self.rule.sample(rests, n))
            }
        }
    }
}
