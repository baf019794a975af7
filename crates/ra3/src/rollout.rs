//! One rollout as an episode: before each line a latent is decided, then the line is written, the
//! expert's or the policy's own. What happened is a [`Trace`].
//!
//! `s_0, z_0, a_0, z_1, a_1, …` (docs/algorithm.md, "Setting"). Decisions are drawn between `<act>`
//! and `<think>`, and their log-probabilities are taken among the two: `q` is a distribution over
//! latents. It computes no rewards.
//!
//! The model's context has to hold the expert's document with one marker a line. Where a think
//! (`M + 2` tokens in the worst case) would leave too little for the rest of it, the decision is
//! `<act>` by force: such a rollout always fits, and the forced decision carries no gradient.

use std::sync::Arc;

use crate::generation::WritingRule;
use crate::policy::{
    Episode, Move, Observation, Policy, PolicyError, SampleRule, Stop, TokenId, Work,
};
use crate::seed::Seed;
use crate::trace::Trace;
use crate::trajectory::{Markers, Trajectory};

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
    /// As `Free`, but `<think>` by force with this probability, for a model that hardly ever does.
    Exploring {
        /// The probability.
        think_floor: f32,
    },
    /// Always `<act>`.
    Act,
    /// Always `<think>`, where there is room for it.
    Think,
    /// There is nothing to decide: no marker is forced or asked for (an infinite switch cost, or
    /// plain sampling).
    Absent,
}

/// Where lines come from.
#[derive(Clone, Debug)]
enum Lines<'a> {
    /// They are forced in.
    Expert {
        trajectory: &'a Trajectory,
        /// By line: tokens of the document from there on, with one marker a line.
        n_rest: Vec<usize>,
        /// The document if no line switches: before each line `<act>`.
        kept: Vec<TokenId>,
    },
    /// They are sampled, up to any of these tokens.
    Free {
        rule: Arc<WritingRule>,
        line_stops: Arc<[TokenId]>,
    },
}

/// What the episode waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Line,
    Decision,
    Rationale,
    Close,
}

/// A rollout in the making, and then the rollout.
#[derive(Clone, Debug)]
pub struct Rollout<'a> {
    lines: Lines<'a>,
    latents: Option<LatentRule>,
    /// Lines at which the rollout has to think; empty where it never has to.
    has_to_think: Vec<bool>,
    /// A latent for the first line, in place of a decision, with its markers.
    first_latent: Option<Vec<TokenId>>,
    expect: Expect,
    /// What the decision that is being drawn may be.
    choices: Arc<[TokenId]>,
    /// Where the line that is being written began, with its latent.
    line_start: usize,
    /// Tokens of the document's prefix, or of the prompt.
    pub(crate) n_prefix: usize,
    /// Tokens that the model's context can still take.
    room: usize,
    /// What was written.
    pub trace: Trace,
    /// True if a program ended with an end of text, not at a limit.
    pub ended: bool,
}

impl<'a> Rollout<'a> {
    /// A rollout over the expert's lines.
    pub fn expert(trajectory: &'a Trajectory, latents: LatentRule) -> Self {
        let mut n_rest: Vec<usize> = trajectory.lines.iter().map(|line| line.len() + 1).collect();
        for line in (0..n_rest.len().saturating_sub(1)).rev() {
            n_rest[line] += n_rest[line + 1];
        }
        let act = latents.markers.act;
        let kept = trajectory.lines.iter();
        let kept = kept.flat_map(|line| std::iter::once(act).chain(line.iter().copied()));
        let lines = Lines::Expert {
            trajectory,
            n_rest,
            kept: kept.collect(),
        };
        Self::new(&trajectory.prefix, lines, Some(latents))
    }

    /// A program for a prompt, which is never empty, by plain sampling.
    pub fn plain(prompt: &[TokenId], rule: Arc<WritingRule>) -> Self {
        let line_stops = Arc::clone(rule.rests.as_ref().unwrap_or(&rule.stops));
        let lines = Lines::Free { rule, line_stops };
        Self::new(prompt, lines, None)
    }

    /// A program for a prompt with its decisions drawn between the markers, or forced.
    ///
    /// `newlines` are the tokens that end a line. The draws come from a neighbour of the model's
    /// own distribution, so such a program is never trained on.
    pub fn guided(
        prompt: &[TokenId],
        rule: Arc<WritingRule>,
        latents: LatentRule,
        newlines: &[TokenId],
    ) -> Self {
        let line_stops = match latents.decision {
            Decision::Absent => Arc::clone(&rule.stops),
            Decision::Free | Decision::Exploring { .. } | Decision::Act | Decision::Think => {
                [newlines, &rule.stops].concat().into()
            }
        };
        let lines = Lines::Free { rule, line_stops };
        Self::new(prompt, lines, Some(latents))
    }

    fn new(prefix: &[TokenId], lines: Lines<'a>, latents: Option<LatentRule>) -> Self {
        let mut trace = Trace::default();
        trace.force(prefix);
        Self {
            lines,
            latents,
            has_to_think: Vec::new(),
            first_latent: None,
            expect: Expect::Line,
            choices: Arc::new([]),
            line_start: prefix.len(),
            n_prefix: prefix.len(),
            room: 0,
            trace,
            ended: false,
        }
    }

    /// Forces the decision before these lines to think, where decisions are drawn at all.
    pub fn think_at(&mut self, lines: Vec<bool>) {
        self.has_to_think = lines;
    }

    /// Forces a first rationale: the true plan of a problem. It may make the program longer than
    /// its rule allows.
    pub fn begin_with(&mut self, rationale: &[TokenId]) {
        let latents = self.latents.as_ref();
        self.first_latent = latents.map(|LatentRule { markers, .. }| {
            [&[markers.think], rationale, &[markers.close]].concat()
        });
    }

    /// The markers that are deleted from what was written.
    pub(crate) fn markers(&self) -> Option<Markers> {
        match &self.lines {
            Lines::Expert { .. } => self.latents.as_ref().map(|latents| latents.markers),
            Lines::Free { rule, .. } => rule.markers,
        }
    }

    fn begin_line(&mut self) -> Move {
        self.line_start = self.trace.tokens.len();
        if let Some(latent) = self.first_latent.take() {
            return self.force(&latent);
        }
        if self.is_over() {
            return Move::Done;
        }
        self.choices = self.decisions();
        let temperature = match &self.latents {
            Some(latents) if !self.choices.is_empty() => latents.temperature,
            Some(_) | None => return self.write_line(),
        };
        self.expect = Expect::Decision;
        Move::Sample(SampleRule {
            choices: Some(Arc::clone(&self.choices)),
            ..SampleRule::plain(temperature, 1)
        })
    }

    fn is_over(&self) -> bool {
        match &self.lines {
            Lines::Expert { trajectory, .. } => self.trace.lines.len() == trajectory.lines.len(),
            Lines::Free { .. } => self.ended || self.n_left() == 0,
        }
    }

    /// Tokens that a program may still have.
    fn n_left(&self) -> usize {
        match &self.lines {
            Lines::Expert { .. } => self.room,
            Lines::Free { rule, .. } => {
                let n_written = self.trace.tokens.len() - self.n_prefix;
                let n_max = rule.program_tokens_max;
                n_max.saturating_sub(n_written).min(self.room)
            }
        }
    }

    /// What the next decision may be; nothing where there is none.
    fn decisions(&self) -> Arc<[TokenId]> {
        let Some(latents) = &self.latents else {
            return Arc::new([]);
        };
        let Markers { act, think, .. } = latents.markers;
        let has_to_think = self.has_to_think.get(self.trace.lines.len()) == Some(&true);
        match latents.decision {
            Decision::Absent => Arc::new([]),
            Decision::Act => Arc::new([act]),
            Decision::Free | Decision::Exploring { .. } | Decision::Think
                if !self.can_think(latents) =>
            {
                Arc::new([act])
            }
            Decision::Free | Decision::Exploring { .. } if has_to_think => Arc::new([think]),
            Decision::Free | Decision::Exploring { .. } => Arc::new([act, think]),
            Decision::Think => Arc::new([think]),
        }
    }

    /// True if the longest rationale leaves room for the rest of the document.
    fn can_think(&self, latents: &LatentRule) -> bool {
        match &self.lines {
            // `<think>` is the line's marker, which the rest counts; `</think>` may be forced.
            Lines::Expert { n_rest, .. } => {
                self.room > n_rest[self.trace.lines.len()] + latents.rationale_tokens_max
            }
            Lines::Free { .. } => true,
        }
    }

    fn think(&mut self, latents: &LatentRule) -> Move {
        self.expect = Expect::Rationale;
        // One token is kept for a `</think>` that has to be forced.
        let n_max = latents
            .rationale_tokens_max
            .min(self.n_left().saturating_sub(1));
        let stop: Arc<[TokenId]> = Arc::new([latents.markers.close]);
        match &self.lines {
            _ if n_max == 0 => Move::Done,
            Lines::Expert { .. } => Move::Sample(SampleRule {
                stop,
                ..SampleRule::plain(latents.rationale_temperature, n_max)
            }),
            Lines::Free { rule, .. } => Move::Sample(SampleRule {
                temperature: latents.rationale_temperature,
                ..rule.sample(stop, n_max)
            }),
        }
    }

    fn force(&mut self, tokens: &[TokenId]) -> Move {
        if tokens.len() > self.room {
            return Move::Done;
        }
        self.expect = Expect::Close;
        self.trace.force(tokens);
        Move::Feed(tokens.to_vec())
    }

    fn write_line(&mut self) -> Move {
        self.expect = Expect::Line;
        match &self.lines {
            Lines::Expert { trajectory, .. } => {
                let line = &trajectory.lines[self.trace.lines.len()];
                let write = |trace: &mut Trace| trace.force(line);
                self.trace.end_line(self.line_start, write);
                Move::Feed(line.clone())
            }
            Lines::Free {
                rule, line_stops, ..
            } => match self.n_left() {
                0 => Move::Done,
                n => Move::Sample(rule.sample(Arc::clone(line_stops), n)),
            },
        }
    }

    fn sampled(&mut self, tokens: &[TokenId], logprobs: &[f32], stop: Stop) -> Move {
        match (self.expect, self.latents.clone()) {
            (Expect::Decision, Some(latents)) => {
                self.trace.decide(tokens[0], logprobs[0], &self.choices);
                if tokens[0] == latents.markers.think {
                    self.think(&latents)
                } else {
                    self.write_line()
                }
            }
            (Expect::Rationale, Some(latents)) => {
                self.trace.draw(tokens, logprobs);
                if stop == Stop::Token {
                    self.write_line()
                } else {
                    self.force(&[latents.markers.close])
                }
            }
            _ => self.line_sampled(tokens, logprobs),
        }
    }

    fn line_sampled(&mut self, tokens: &[TokenId], logprobs: &[f32]) -> Move {
        let write = |trace: &mut Trace| trace.draw(tokens, logprobs);
        self.trace.end_line(self.line_start, write);
        let last = tokens.last();
        self.ended = match &self.lines {
            Lines::Expert { .. } => false,
            Lines::Free { rule, .. } => last.is_some_and(|token| rule.stops.contains(token)),
        };
        self.begin_line()
    }
}

/// Drives rollouts to their end.
///
/// # Errors
/// As [`Policy::run`].
pub(crate) fn run(
    policy: &dyn Policy,
    rows: &mut [Rollout<'_>],
    seed: Seed,
) -> Result<Work, PolicyError> {
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    policy.run(&mut episodes, seed)
}

impl Episode for Rollout<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        self.room = seen.room();
        match seen {
            Observation::Started { .. } => Move::Feed(self.trace.tokens.clone()),
            Observation::Fed { .. } if self.expect == Expect::Close => self.write_line(),
            Observation::Fed { .. } => self.begin_line(),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => self.sampled(tokens, logprobs, stop),
        }
    }

    /// What follows if no line switches from here on; nothing where something else is certain to
    /// come first.
    fn draft(&self) -> &[TokenId] {
        let (Lines::Expert { n_rest, kept, .. }, Some(latents)) = (&self.lines, &self.latents)
        else {
            return &[];
        };
        let Some(n_rest) = n_rest.get(self.trace.lines.len()) else {
            return &[];
        };
        let rest = &kept[kept.len() - n_rest..];
        match (latents.decision, self.expect) {
            (Decision::Think | Decision::Absent, _) | (_, Expect::Rationale) => &[],
            (_, Expect::Decision) if !self.choices.contains(&latents.markers.act) => &[],
            (_, Expect::Decision | Expect::Line) => rest,
            // Behind `</think>` the line comes without a marker.
            (_, Expect::Close) => &rest[1..],
        }
    }
}
