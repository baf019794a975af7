//! Writing a program as an episode, plain or interleaved with decisions and rationales: for
//! evaluation and for RLVR. It grades nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::interleave::strip;
use crate::policy::{
    Episode, Example, Feed, Move, Observation, Restriction, SampleRule, Stop, TokenId,
};
use crate::rollout::{Decision, decision_rule};
use crate::trajectory::Markers;

/// How a program is written.
#[derive(Clone, Debug, PartialEq)]
pub struct WritingRule {
    /// The markers.
    pub markers: Markers,
    /// By token id: true if the token ends with a newline, and so ends a line.
    pub line_ends: Arc<[bool]>,
    /// Ends of text beside the marker's: a model tuned to talk has its own.
    pub other_ends: Arc<[TokenId]>,
    /// What decisions may be; [`Decision::Absent`] writes plainly.
    pub decision: Decision,
    /// A latent for the first line, in place of a decision: the true plan of a problem.
    pub first_rationale: Option<Vec<TokenId>>,
    /// Longest rationale in tokens.
    pub rationale_tokens_max: usize,
    /// Longest program in tokens, markers and rationales included (a first rationale that is given
    /// may exceed it).
    pub program_tokens_max: usize,
    /// Temperature; 0 is greedy.
    pub temperature: f32,
    /// Keep the k likeliest tokens.
    pub top_k: Option<NonZeroUsize>,
    /// Keep the smallest set of likeliest tokens that reaches this probability.
    pub top_p: Option<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Prompt,
    Decision,
    Rationale,
    Given,
    Close,
    Line,
}

/// A program in the making, and then the program.
#[derive(Clone, Debug)]
pub struct Writing {
    rule: WritingRule,
    stops: Arc<[TokenId]>,
    expect: Expect,
    n_prompt: usize,
    /// Prompt and program.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each token, 0 for the prompt and for what was forced.
    pub logprobs: Vec<f32>,
    /// True for the tokens that were sampled.
    pub sampled: Vec<bool>,
    restrictions: Vec<Restriction>,
    /// True if the program ended with an end of text, not at a limit.
    pub ended: bool,
}

impl Writing {
    /// A program for a prompt; the prompt is never empty.
    pub fn new(prompt: Vec<TokenId>, rule: WritingRule) -> Self {
        let markers = rule.markers;
        let newlines = (0..rule.line_ends.len()).filter(|id| rule.line_ends[*id]);
        let stops: Vec<TokenId> = newlines
            .map(|id| id as TokenId)
            .chain([markers.end])
            .chain(rule.other_ends.iter().copied())
            .collect();
        let n_prompt = prompt.len();
        Self {
            rule,
            stops: stops.into(),
            expect: Expect::Prompt,
            n_prompt,
            logprobs: vec![0.0; n_prompt],
            sampled: vec![false; n_prompt],
            tokens: prompt,
            restrictions: Vec::new(),
            ended: false,
        }
    }

    /// The program as the model wrote it, markers included, without the end marker.
    pub fn raw(&self) -> &[TokenId] {
        let end = self.tokens.len() - usize::from(self.ended);
        &self.tokens[self.n_prompt..end]
    }

    /// The program without decisions and rationales.
    pub fn program(&self) -> Vec<TokenId> {
        strip(self.raw(), &self.rule.markers)
    }

    /// Number of tokens that were sampled.
    pub fn n_sampled(&self) -> usize {
        self.sampled.iter().filter(|sampled| **sampled).count()
    }

    /// The program as an example with this weight on every sampled token.
    pub fn example(&self, weight: f32) -> Example {
        let weigh = |sampled: &bool| if *sampled { weight } else { 0.0 };
        Example {
            tokens: self.tokens.clone(),
            weights: self.sampled.iter().map(weigh).collect(),
            restrictions: self.restrictions.clone(),
            old_logprobs: self.logprobs.clone(),
        }
    }

    fn n_left(&self) -> usize {
        self.rule
            .program_tokens_max
            .saturating_sub(self.tokens.len() - self.n_prompt)
    }

    fn begin_line(&mut self) -> Move {
        if self.n_left() == 0 {
            return Move::Done;
        }
        let markers = self.rule.markers;
        if let Some(rationale) = self.rule.first_rationale.take() {
            self.expect = Expect::Given;
            let mut tokens = vec![markers.think];
            tokens.extend(rationale);
            tokens.push(markers.close);
            return self.force(tokens);
        }
        match self.rule.decision {
            Decision::Absent => self.write_line(),
            Decision::Act => self.decide(&[markers.act]),
            Decision::Think => self.decide(&[markers.think]),
            Decision::Free => self.decide(&[markers.act, markers.think]),
        }
    }

    fn decide(&mut self, choices: &[TokenId]) -> Move {
        self.expect = Expect::Decision;
        Move::Sample(decision_rule(choices, self.rule.temperature))
    }

    fn write_line(&mut self) -> Move {
        self.expect = Expect::Line;
        self.sample(Arc::clone(&self.stops), self.n_left())
    }

    fn sample(&self, stop: Arc<[TokenId]>, n_tokens_max: usize) -> Move {
        if n_tokens_max == 0 {
            return Move::Done;
        }
        Move::Sample(SampleRule {
            temperature: self.rule.temperature,
            top_k: self.rule.top_k,
            top_p: self.rule.top_p,
            choices: None,
            stop,
            n_tokens_max,
        })
    }

    fn force(&mut self, tokens: Vec<TokenId>) -> Move {
        self.keep(&tokens, &vec![0.0; tokens.len()], false);
        Move::Feed(Feed::unscored(tokens))
    }

    fn keep(&mut self, tokens: &[TokenId], logprobs: &[f32], sampled: bool) {
        self.tokens.extend_from_slice(tokens);
        self.logprobs.extend_from_slice(logprobs);
        self.sampled.resize(self.tokens.len(), sampled);
    }
}

impl Episode for Writing {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match (self.expect, seen) {
            (Expect::Prompt, Observation::Started) => {
                Move::Feed(Feed::unscored(self.tokens.clone()))
            }
            (Expect::Prompt, Observation::Fed { .. }) => self.begin_line(),
            (Expect::Given | Expect::Close, Observation::Fed { .. }) => self.write_line(),
            (
                expect,
                Observation::Sampled {
                    tokens,
                    logprobs,
                    stop,
                },
            ) => self.sampled_something(expect, tokens, logprobs, stop),
            (expect, seen) => unreachable!("expected {expect:?}, saw {seen:?}"),
        }
    }
}

impl Writing {
    fn sampled_something(
        &mut self,
        expect: Expect,
        tokens: &[TokenId],
        logprobs: &[f32],
        stop: Stop,
    ) -> Move {
        let markers = self.rule.markers;
        let position = self.tokens.len();
        let is_free = self.rule.decision == Decision::Free;
        self.keep(tokens, logprobs, expect != Expect::Decision || is_free);
        if stop == Stop::Context {
            return Move::Done;
        }
        match expect {
            Expect::Decision => {
                if is_free {
                    let choices: Arc<[TokenId]> = Arc::new([markers.act, markers.think]);
                    self.restrictions.push(Restriction { position, choices });
                }
                if tokens[0] == markers.act {
                    return self.write_line();
                }
                self.expect = Expect::Rationale;
                // One token is kept for a `</think>` that has to be forced.
                let n_left = self.n_left().saturating_sub(1);
                let n_max = self.rule.rationale_tokens_max.min(n_left);
                self.sample(Arc::new([markers.close]), n_max)
            }
            Expect::Rationale if stop == Stop::Token => self.write_line(),
            Expect::Rationale => {
                self.expect = Expect::Close;
                self.force(vec![markers.close])
            }
            _ => {
                let ends =
                    |token: &TokenId| *token == markers.end || self.rule.other_ends.contains(token);
                self.ended = tokens.last().is_some_and(ends);
                if self.ended {
                    Move::Done
                } else {
                    self.begin_line()
                }
            }
        }
    }
}
