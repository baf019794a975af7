//! Writing a program with its decisions forced, or drawn between the two markers, or after a given
//! first rationale: the table that shows what thinking is worth to a model.
//!
//! These programs come from a neighbour of the model's distribution, so they are never trained on;
//! see [`crate::generation`] for what is.

use std::sync::Arc;

use crate::generation::{Writing, WritingRule};
use crate::policy::{Episode, Feed, Move, Observation, Stop, TokenId};
use crate::rollout::{Decision, decision_rule};
use crate::trajectory::Markers;

/// What is forced upon a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Guide {
    /// The markers.
    pub markers: Markers,
    /// What decisions may be; [`Decision::Absent`] leaves them to plain sampling.
    pub decision: Decision,
    /// By token id: true if the token ends with a newline, and so ends a line.
    pub line_ends: Arc<[bool]>,
    /// Longest rationale in tokens, `≥ 1`; a longer one is closed by force.
    pub rationale_tokens_max: usize,
    /// A latent for the first line, in place of a decision: the true plan of a problem. It may make
    /// the program longer than the rule allows.
    pub first_rationale: Option<Vec<TokenId>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Prompt,
    Decision,
    Rationale,
    Given,
    Line,
}

/// A guided program in the making.
#[derive(Clone, Debug)]
pub struct Guided {
    /// The program.
    pub writing: Writing,
    guide: Guide,
    line_stops: Arc<[TokenId]>,
    expect: Expect,
    room: usize,
}

impl Guided {
    /// A program for a prompt; the prompt is never empty.
    pub fn new(prompt: Vec<TokenId>, rule: Arc<WritingRule>, guide: Guide) -> Self {
        let newlines = (0..guide.line_ends.len()).filter(|id| guide.line_ends[*id]);
        let line_stops = newlines
            .map(|id| id as TokenId)
            .chain(rule.stops.iter().copied())
            .collect();
        Self {
            writing: Writing::new(prompt, rule),
            guide,
            line_stops,
            expect: Expect::Prompt,
            room: 0,
        }
    }

    fn n_left(&self) -> usize {
        let n_max = self.writing.rule.program_tokens_max;
        n_max
            .saturating_sub(self.writing.n_written())
            .min(self.room)
    }

    fn begin_line(&mut self) -> Move {
        let Markers {
            act, think, close, ..
        } = self.guide.markers;
        if let Some(rationale) = self.guide.first_rationale.take() {
            let tokens = [&[think], &rationale[..], &[close]].concat();
            return self.force(tokens);
        }
        match self.guide.decision {
            Decision::Absent => self.sample(Expect::Line, Arc::clone(&self.writing.rule.stops), 0),
            Decision::Act => self.decide(&[act]),
            Decision::Think => self.decide(&[think]),
            Decision::Free => self.decide(&[act, think]),
        }
    }

    fn decide(&mut self, choices: &[TokenId]) -> Move {
        if self.n_left() == 0 {
            return Move::Done;
        }
        self.expect = Expect::Decision;
        Move::Sample(decision_rule(choices, self.writing.rule.temperature))
    }

    fn write_line(&mut self) -> Move {
        self.sample(Expect::Line, Arc::clone(&self.line_stops), 0)
    }

    /// Samples what is left but for `n_kept` tokens.
    fn sample(&mut self, expect: Expect, stop: Arc<[TokenId]>, n_kept: usize) -> Move {
        self.expect = expect;
        let n_max = match expect {
            Expect::Rationale => self.guide.rationale_tokens_max,
            Expect::Prompt | Expect::Decision | Expect::Given | Expect::Line => usize::MAX,
        };
        match self.n_left().saturating_sub(n_kept).min(n_max) {
            0 => Move::Done,
            n => Move::Sample(self.writing.rule.sample(stop, n)),
        }
    }

    fn force(&mut self, tokens: Vec<TokenId>) -> Move {
        if tokens.len() > self.room {
            return Move::Done;
        }
        self.expect = Expect::Given;
        self.writing.keep(&tokens, &vec![0.0; tokens.len()]);
        Move::Feed(Feed::unscored(tokens))
    }

    fn sampled(&mut self, tokens: &[TokenId], stop: Stop) -> Move {
        let Markers { act, close, .. } = self.guide.markers;
        match self.expect {
            Expect::Decision if tokens[0] == act => self.write_line(),
            // One token is kept for a `</think>` that has to be forced.
            Expect::Decision => self.sample(Expect::Rationale, Arc::new([close]), 1),
            Expect::Rationale if stop == Stop::Token => self.write_line(),
            Expect::Rationale => self.force(vec![close]),
            Expect::Line if self.writing.ended || stop != Stop::Token => Move::Done,
            Expect::Line => self.begin_line(),
            Expect::Prompt | Expect::Given => unreachable!("nothing is sampled there"),
        }
    }
}

impl Episode for Guided {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        self.room = seen.room();
        match seen {
            Observation::Started { .. } => Move::Feed(Feed::unscored(self.writing.tokens.clone())),
            Observation::Fed { .. } if self.expect == Expect::Prompt => self.begin_line(),
            Observation::Fed { .. } if self.guide.decision == Decision::Absent => self.begin_line(),
            Observation::Fed { .. } => self.write_line(),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => {
                self.writing.keep(tokens, logprobs);
                self.sampled(tokens, stop)
            }
        }
    }
}
