//! Writing a program as an episode: plain sampling, for evaluation and for RLVR.
//!
//! A model that was mid-trained with latents writes its decisions and rationales as tokens like any
//! others; they are deleted afterwards. What is sampled here is what any server samples from the
//! same checkpoint. [`crate::guided`] writes with decisions that are forced; nothing grades here.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::interleave::strip;
use crate::policy::{
    Episode, Example, Feed, Move, Observation, Policy, PolicyError, SampleRule, TokenId, Work,
};
use crate::seed::Seed;
use crate::trajectory::Markers;

/// How a program is written.
#[derive(Clone, Debug, PartialEq)]
pub struct WritingRule {
    /// The markers that are deleted, rationales with them; `None` deletes nothing.
    pub markers: Option<Markers>,
    /// Ends of text; writing stops after any of them.
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
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            choices: None,
            stop,
            n_tokens_max,
        }
    }
}

/// A program in the making, and then the program.
#[derive(Clone, Debug)]
pub struct Writing {
    pub(crate) rule: Arc<WritingRule>,
    pub(crate) n_prompt: usize,
    /// Prompt and program.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each token, 0 for the prompt.
    pub logprobs: Vec<f32>,
    /// True if the program ended with an end of text, not at a limit.
    pub ended: bool,
}

impl Writing {
    /// A program for a prompt; the prompt is never empty.
    pub fn new(prompt: Vec<TokenId>, rule: Arc<WritingRule>) -> Self {
        Self {
            rule,
            n_prompt: prompt.len(),
            logprobs: vec![0.0; prompt.len()],
            tokens: prompt,
            ended: false,
        }
    }

    /// The program as the model wrote it, markers included, without the end of text.
    pub fn raw(&self) -> &[TokenId] {
        let end = self.tokens.len() - usize::from(self.ended);
        &self.tokens[self.n_prompt..end]
    }

    /// The program without decisions and rationales.
    pub fn program(&self) -> Vec<TokenId> {
        match &self.rule.markers {
            Some(markers) => strip(self.raw(), markers),
            None => self.raw().to_vec(),
        }
    }

    /// Number of tokens that were written, the end of text included.
    pub fn n_written(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// The program as an example with this weight on every token that was written.
    pub fn example(&self, weight: f32) -> Example {
        let mut weights = vec![0.0; self.n_prompt];
        weights.resize(self.tokens.len(), weight);
        Example {
            tokens: self.tokens.clone(),
            weights,
            restrictions: Vec::new(),
            old_logprobs: self.logprobs.clone(),
        }
    }

    /// Appends what was sampled, and sees whether that is the end.
    pub(crate) fn keep(&mut self, tokens: &[TokenId], logprobs: &[f32]) {
        self.tokens.extend_from_slice(tokens);
        self.logprobs.extend_from_slice(logprobs);
        self.ended = tokens
            .last()
            .is_some_and(|token| self.rule.stops.contains(token));
    }
}

impl Episode for Writing {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let room = seen.room();
        match seen {
            Observation::Started { .. } => {
                return Move::Feed(Feed::unscored(self.tokens.clone()));
            }
            Observation::Fed { .. } => {}
            Observation::Sampled {
                tokens, logprobs, ..
            } => self.keep(tokens, logprobs),
        }
        let n_left = self.rule.program_tokens_max - self.n_written();
        match n_left.min(room) {
            n if n > 0 && !self.ended => {
                let rests = self.rule.rests.as_ref().unwrap_or(&self.rule.stops);
                Move::Sample(self.rule.sample(Arc::clone(rests), n))
            }
            _ => Move::Done,
        }
    }
}

/// Writes `group_size` programs for each prompt; row order is prompts, then members.
///
/// # Errors
/// As [`Policy::run`].
pub fn write(
    policy: &mut dyn Policy,
    prompts: &[Vec<TokenId>],
    rule: &WritingRule,
    group_size: usize,
    seed: Seed,
) -> Result<(Vec<Writing>, Work), PolicyError> {
    let rule = Arc::new(rule.clone());
    let mut rows: Vec<Writing> = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, group_size))
        .map(|prompt| Writing::new(prompt.clone(), Arc::clone(&rule)))
        .collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    let work = policy.run(&mut episodes, seed)?;
    Ok((rows, work))
}
