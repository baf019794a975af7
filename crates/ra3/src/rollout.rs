//! One rollout of the E-step as an episode: the expert's lines are forced in, decisions and
//! rationales are sampled (or followed), and every log-probability is kept.
//!
//! `s_0, z_0, a_0, z_1, a_1, …` (docs/algorithm.md, "Setting"). It computes no rewards. Decisions
//! are drawn between `<act>` and `<think>`, and their log-probabilities are taken among the two:
//! `q` is a distribution over latents.
//!
//! The model's context has to hold the document with one marker a line. Where a think (`M + 2`
//! tokens in the worst case) would leave too little for the rest of it, the decision is `<act>` by
//! force: such a rollout always fits, and the forced decision carries no gradient.

use std::sync::Arc;

use crate::policy::{Episode, Feed, Move, Observation, SampleRule, Stop, TokenId};
use crate::trajectory::{Annotated, Latent, Line, Markers, Trajectory};

/// How latents are found.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentRule {
    /// The markers.
    pub markers: Markers,
    /// `M ≥ 1`: sampled tokens of a rationale, its `</think>` included where it is sampled.
    pub rationale_tokens_max: usize,
    /// Temperature of decisions.
    pub temperature: f32,
    /// Temperature of rationales; infinity draws them uniformly from the vocabulary.
    pub rationale_temperature: f32,
    /// What decisions may be.
    pub decision: Decision,
}

/// What decisions may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Sampled between `<act>` and `<think>`.
    Free,
    /// Always `<act>`.
    Act,
    /// Always `<think>`, where there is room for it.
    Think,
    /// There is nothing to decide: no marker is written at all (an infinite switch cost).
    Absent,
}

/// What a rollout found at one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineRecord {
    /// The latent.
    pub latent: Option<Latent>,
    /// `log q` of the decision, restricted to the two markers; 0 where it was forced.
    pub decision_logprob: f32,
    /// True if the decision was sampled and so carries gradient.
    pub decision_sampled: bool,
    /// True if the decision was `<act>` by force, for want of room.
    pub is_out_of_room: bool,
    /// `log q` of the rationale's tokens and of `</think>` unless it was forced.
    pub rationale_logprobs: Vec<f32>,
    /// `log π(a_t | h_t, z_t)` in nats.
    pub line_logprob: f32,
    /// Tokens of the line.
    pub n_line_tokens: usize,
}

impl LineRecord {
    /// `log q(z_t | h_t)`.
    pub fn latent_logprob(&self) -> f32 {
        self.decision_logprob + self.rationale_logprobs.iter().sum::<f32>()
    }

    /// True for a switch.
    pub fn is_think(&self) -> bool {
        self.latent.as_ref().is_some_and(Latent::is_think)
    }
}

/// Where the latents come from.
#[derive(Clone, Debug)]
enum Source<'a> {
    Sampled(LatentRule),
    Followed {
        latents: &'a [Option<Latent>],
        how: Scored,
    },
}

/// Under which distribution given latents are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored {
    /// `q`: decisions between the two markers, a close that was forced is certain.
    AsDrawn,
    /// What plain sampling would give: every token over the whole vocabulary.
    AsWritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Prefix,
    Decision,
    Rationale,
    Close,
    FollowedDecision,
    FollowedRationale,
    Line,
}

/// A rollout over one trajectory.
#[derive(Debug)]
pub struct Rollout<'a> {
    trajectory: &'a Trajectory,
    markers: Markers,
    source: Source<'a>,
    expect: Expect,
    /// Tokens that the model's context can still take.
    room: usize,
    /// By line: tokens of the document from there on, with one marker a line.
    n_rest: Vec<usize>,
    /// Lines at which a sampled rollout has to think; empty where it never has to.
    has_to_think: Vec<bool>,
    /// What was found, one a line that is done.
    pub records: Vec<LineRecord>,
    current: LineRecord,
}

impl<'a> Rollout<'a> {
    /// A rollout that samples its latents.
    pub fn sampled(trajectory: &'a Trajectory, rule: LatentRule) -> Self {
        Self::new(trajectory, rule.markers, Source::Sampled(rule))
    }

    /// A rollout that feeds given latents, to score them.
    pub fn followed(annotated: &'a Annotated, markers: Markers, how: Scored) -> Self {
        let latents = &annotated.latents;
        Self::new(
            &annotated.trajectory,
            markers,
            Source::Followed { latents, how },
        )
    }

    fn new(trajectory: &'a Trajectory, markers: Markers, source: Source<'a>) -> Self {
        let mut n_rest: Vec<usize> = trajectory.lines.iter().map(|line| line.len() + 1).collect();
        for line in (0..n_rest.len().saturating_sub(1)).rev() {
            n_rest[line] += n_rest[line + 1];
        }
        Self {
            trajectory,
            markers,
            source,
            expect: Expect::Prefix,
            room: 0,
            n_rest,
            has_to_think: Vec::new(),
            records: Vec::with_capacity(trajectory.lines.len()),
            current: LineRecord::default(),
        }
    }

    /// Forces the decision before these lines to think, where decisions are sampled at all.
    pub fn think_at(&mut self, has_to_think: impl Fn(usize) -> bool) {
        self.has_to_think = (0..self.trajectory.lines.len()).map(has_to_think).collect();
    }

    /// The trajectory with the latents that were found.
    pub fn annotated(&self) -> Annotated {
        Annotated {
            trajectory: self.trajectory.clone(),
            latents: self
                .records
                .iter()
                .map(|record| record.latent.clone())
                .collect(),
        }
    }

    fn decide(&mut self) -> Move {
        let Some(line) = self.trajectory.lines.get(self.records.len()) else {
            return Move::Done;
        };
        match &self.source {
            Source::Followed { latents, how } => match &latents[self.records.len()] {
                None => self.feed_line(line),
                Some(latent) => {
                    let token = if latent.is_think() {
                        self.markers.think
                    } else {
                        self.markers.act
                    };
                    self.current.latent = Some(latent.clone());
                    self.expect = Expect::FollowedDecision;
                    let both = || Arc::new([self.markers.act, self.markers.think]) as Arc<[_]>;
                    Move::Feed(Feed {
                        tokens: vec![token],
                        scored: true,
                        choices: (*how == Scored::AsDrawn).then(both),
                    })
                }
            },
            Source::Sampled(rule) => match rule.decision {
                Decision::Absent => self.feed_line(line),
                Decision::Free | Decision::Think if !self.can_think(rule) => {
                    self.current.is_out_of_room = true;
                    self.sample_decision(&[self.markers.act])
                }
                Decision::Free if self.has_to_think.get(self.records.len()) == Some(&true) => {
                    self.sample_decision(&[self.markers.think])
                }
                Decision::Free => self.sample_decision(&[self.markers.act, self.markers.think]),
                Decision::Act => self.sample_decision(&[self.markers.act]),
                Decision::Think => self.sample_decision(&[self.markers.think]),
            },
        }
    }

    /// True if the longest rationale leaves room for the rest of the document.
    fn can_think(&self, rule: &LatentRule) -> bool {
        // `<think>` is the line's marker, which the rest counts; `</think>` may have to be forced.
        let n_rest = self.n_rest[self.records.len()];
        self.room > n_rest + rule.rationale_tokens_max
    }

    fn sample_decision(&mut self, choices: &[TokenId]) -> Move {
        self.expect = Expect::Decision;
        self.current.decision_sampled = choices.len() > 1;
        let Source::Sampled(rule) = &self.source else {
            unreachable!("only sampled rollouts sample")
        };
        Move::Sample(decision_rule(choices, rule.temperature))
    }

    fn feed_line(&mut self, line: &Line) -> Move {
        self.expect = Expect::Line;
        Move::Feed(Feed::scored(line.clone()))
    }

    fn line_of_now(&mut self) -> Move {
        let trajectory = self.trajectory;
        self.feed_line(&trajectory.lines[self.records.len()])
    }
}

impl Episode for Rollout<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        self.room = seen.room();
        match (self.expect, seen) {
            (Expect::Prefix, Observation::Started { .. }) => {
                Move::Feed(Feed::unscored(self.trajectory.prefix.clone()))
            }
            (Expect::Prefix, Observation::Fed { .. }) => self.decide(),
            (
                Expect::Decision,
                Observation::Sampled {
                    tokens, logprobs, ..
                },
            ) => self.decided(tokens[0], logprobs[0]),
            (
                Expect::Rationale,
                Observation::Sampled {
                    tokens,
                    logprobs,
                    stop,
                    ..
                },
            ) => self.thought(tokens, logprobs, stop),
            (Expect::Close, Observation::Fed { .. }) => self.line_of_now(),
            (Expect::FollowedDecision, Observation::Fed { logprobs, .. }) => {
                self.follow_decision(logprobs[0])
            }
            (Expect::FollowedRationale, Observation::Fed { logprobs, .. }) => {
                self.follow_rationale(logprobs)
            }
            (Expect::Line, Observation::Fed { logprobs, .. }) => self.line_done(logprobs),
            (expect, seen) => unreachable!("expected {expect:?}, saw {seen:?}"),
        }
    }
}

impl Rollout<'_> {
    fn decided(&mut self, token: TokenId, logprob: f32) -> Move {
        self.current.decision_logprob = logprob;
        if token != self.markers.think {
            self.current.latent = Some(Latent::Keep);
            return self.line_of_now();
        }
        let Source::Sampled(rule) = &self.source else {
            unreachable!("only sampled rollouts sample")
        };
        self.expect = Expect::Rationale;
        Move::Sample(SampleRule {
            temperature: rule.rationale_temperature,
            top_k: None,
            top_p: None,
            choices: None,
            stop: Arc::new([self.markers.close]),
            n_tokens_max: rule.rationale_tokens_max,
        })
    }

    fn thought(&mut self, tokens: &[TokenId], logprobs: &[f32], stop: Stop) -> Move {
        self.current.rationale_logprobs = logprobs.to_vec();
        let closed = stop == Stop::Token;
        let n_rationale = tokens.len() - usize::from(closed);
        let rationale = tokens[..n_rationale].to_vec();
        self.current.latent = Some(Latent::Switch {
            rationale,
            forced_close: !closed,
        });
        if closed {
            return self.line_of_now();
        }
        self.expect = Expect::Close;
        Move::Feed(Feed::unscored(vec![self.markers.close]))
    }
}

impl Rollout<'_> {
    fn follow_decision(&mut self, logprob: f32) -> Move {
        self.current.decision_logprob = logprob;
        self.current.decision_sampled = true;
        let Some(Latent::Switch { rationale, .. }) = &self.current.latent else {
            return self.line_of_now();
        };
        let mut tokens = rationale.clone();
        tokens.push(self.markers.close);
        self.expect = Expect::FollowedRationale;
        Move::Feed(Feed::scored(tokens))
    }

    fn follow_rationale(&mut self, logprobs: &[f32]) -> Move {
        let is_certain = matches!(
            self.source,
            Source::Followed {
                how: Scored::AsDrawn,
                ..
            }
        );
        let forced = is_certain && self.current.latent.as_ref().is_some_and(Latent::is_cut);
        let n_drawn = logprobs.len() - usize::from(forced);
        self.current.rationale_logprobs = logprobs[..n_drawn].to_vec();
        self.line_of_now()
    }

    fn line_done(&mut self, logprobs: &[f32]) -> Move {
        self.current.n_line_tokens = logprobs.len();
        self.current.line_logprob = logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() as f32;
        self.records.push(std::mem::take(&mut self.current));
        self.decide()
    }
}

/// One token among a few.
pub(crate) fn decision_rule(choices: &[TokenId], temperature: f32) -> SampleRule {
    SampleRule {
        temperature,
        top_k: None,
        top_p: None,
        choices: Some(choices.into()),
        stop: Arc::new([]),
        n_tokens_max: 1,
    }
}
