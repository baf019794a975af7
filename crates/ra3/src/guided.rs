//! Programs whose decisions are forced, or drawn between the two markers alone, or that begin with
//! a given plan: the table of forced decisions in an evaluation.
//!
//! The draws come from a neighbour of the model's own distribution, so such a program is never
//! trained on. Plain sampling is [`crate::generation`]'s.

use std::sync::Arc;

use crate::completion::Completion;
use crate::generation::WritingRule;
use crate::latent_rule::{Decision, Expect, LatentRule};
use crate::policy::{
    Episode, Move, Observation, Policy, PolicyError, SampleRule, Stop, TokenId, Work, run_all,
};
use crate::seed::Seed;

/// Decisions that are forced upon a program, or drawn between the two markers alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Guide {
    /// How decisions and rationales are found.
    pub latents: LatentRule,
    /// The tokens that end a line.
    pub newlines: Arc<[TokenId]>,
}

/// As [`crate::generation::complete`], under a guide; `plans` has a first rationale for each prompt
/// that is to begin with one, or nothing at all. A plan may make a program longer than its rule
/// allows.
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
    let mut rows = Vec::with_capacity(prompts.len() * group_size);
    for (index, prompt) in prompts.iter().enumerate() {
        let plan = plans.get(index).and_then(Option::as_deref);
        let row = GuidedProgram::begin(prompt, Arc::clone(&rule), guide, plan);
        rows.extend(std::iter::repeat_n(row, group_size));
    }
    let work = run_all(policy, &mut rows, seed)?;
    Ok((rows.into_iter().map(|row| row.written).collect(), work))
}

/// A program in the making.
#[derive(Clone, Debug)]
struct GuidedProgram {
    rule: Arc<WritingRule>,
    latents: LatentRule,
    line_stops: Arc<[TokenId]>,
    /// A latent for the first line, in place of a decision, with its markers.
    plan: Option<Vec<TokenId>>,
    expect: Expect,
    /// What the decision that is being drawn may be.
    choices: Arc<[TokenId]>,
    /// Where the line that is being written began, with its latent.
    line_start: usize,
    /// Tokens that the model's context can still take.
    room: usize,
    written: Completion,
}

impl GuidedProgram {
    fn begin(
        prompt: &[TokenId],
        rule: Arc<WritingRule>,
        guide: &Guide,
        plan: Option<&[TokenId]>,
    ) -> Self {
        let latents = guide.latents.clone();
        let line_stops = match latents.decision {
            Decision::Absent => Arc::clone(&rule.stops),
            Decision::Free | Decision::Exploring { .. } | Decision::Act | Decision::Think => {
                [&guide.newlines[..], &rule.stops].concat().into()
            }
        };
        let markers = latents.markers;
        Self {
            latents,
            line_stops,
            plan: plan.map(|plan| [&[markers.think], plan, &[markers.close]].concat()),
            expect: Expect::Line,
            choices: Arc::new([]),
            line_start: prompt.len(),
            room: 0,
            written: Completion::begin(prompt, rule.markers),
            rule,
        }
    }

    fn begin_line(&mut self) -> Move {
        self.line_start = self.written.trace.tokens.len();
        if let Some(plan) = self.plan.take() {
            return self.force(plan);
        }
        if self.written.ended || self.n_left() == 0 {
            return Move::Done;
        }
        self.choices = self.latents.choices(true, false);
        if self.choices.is_empty() {
            return self.write_line();
        }
        self.expect = Expect::Decision;
        Move::Sample(self.latents.decision(&self.choices))
    }

    fn n_left(&self) -> usize {
        self.rule.n_left(&self.written, self.room)
    }

    fn decided(&mut self, decision: TokenId, logprob: f32) -> Move {
        self.written.trace.decide(decision, logprob, &self.choices);
        if decision != self.latents.markers.think {
            return self.write_line();
        }
        self.expect = Expect::Rationale;
        let rule = self.latents.rationale();
        // One token is kept for a `</think>` that has to be forced.
        match rule.n_tokens_max.min(self.n_left().saturating_sub(1)) {
            0 => Move::Done,
            n_tokens_max => Move::Sample(SampleRule {
                temperature: rule.temperature,
                ..self.rule.sample(&rule.stop, n_tokens_max)
            }),
        }
    }

    fn thought(&mut self, tokens: &[TokenId], logprobs: &[f32], stop: Stop) -> Move {
        self.written.trace.draw(tokens, logprobs);
        if stop == Stop::Token {
            return self.write_line();
        }
        self.force(vec![self.latents.markers.close])
    }

    fn force(&mut self, tokens: Vec<TokenId>) -> Move {
        if tokens.len() > self.room {
            return Move::Done;
        }
        self.expect = Expect::Close;
        self.written.trace.force(&tokens);
        Move::Feed(tokens)
    }

    fn write_line(&mut self) -> Move {
        self.expect = Expect::Line;
        match self.n_left() {
            0 => Move::Done,
            n => Move::Sample(self.rule.sample(&self.line_stops, n)),
        }
    }

    fn line_sampled(&mut self, tokens: &[TokenId], logprobs: &[f32]) -> Move {
        let (start, stops) = (self.line_start, &self.rule.stops);
        self.written.end_line(start, tokens, logprobs, stops);
        self.begin_line()
    }
}

impl Episode for GuidedProgram {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        self.room = seen.room();
        match seen {
            Observation::Started { .. } => Move::Feed(self.written.trace.tokens.clone()),
            Observation::Fed { .. } if self.expect == Expect::Close => self.write_line(),
            Observation::Fed { .. } => self.begin_line(),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => match self.expect {
                Expect::Decision => self.decided(tokens[0], logprobs[0]),
                Expect::Rationale => self.thought(tokens, logprobs, stop),
                Expect::Line | Expect::Close => self.line_sampled(tokens, logprobs),
            },
        }
    }
}
