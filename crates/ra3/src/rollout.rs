//! A rollout of the E-step as an episode: before each of the expert's lines a latent is drawn, then
//! the line is forced in. What happened is a [`Trace`].
//!
//! `s_0, z_0, a_0, z_1, a_1, …` (docs/algorithm.md, "Setting"). Decisions are drawn between `<act>`
//! and `<think>`, and their log-probabilities are taken among the two: `q` is a distribution over
//! latents. It computes no rewards, and writes no lines of its own: see [`crate::generation`].
//!
//! The model's context has to hold the document with one marker a line. Where a think (`M + 2`
//! tokens in the worst case) would leave too little for the rest of it, the decision is `<act>` by
//! force: such a rollout always fits, and the forced decision carries no gradient.

use std::sync::Arc;

use crate::latent_rule::{Decision, Expect, LatentRule};
use crate::policy::{
    Episode, Move, Observation, Policy, PolicyError, Stop, TokenId, Work, run_all,
};
use crate::seed::Seed;
use crate::trace::Trace;
use crate::trajectory::Trajectory;

/// Draws `group_size` rollouts of each trajectory: trajectory after trajectory, then by member.
///
/// # Errors
/// As [`Policy::run`].
pub fn draw(
    policy: &dyn Policy,
    batch: &[Trajectory],
    rule: &LatentRule,
    group_size: usize,
    seed: Seed,
) -> Result<(Vec<Trace>, Work), PolicyError> {
    let members = batch
        .iter()
        .flat_map(|trajectory| std::iter::repeat_n(trajectory, group_size));
    let row = |(index, trajectory)| {
        let mut row = Rollout::expert(trajectory, rule.clone());
        if let Decision::Exploring { think_floor } = rule.decision {
            let seed = seed.child("explore").nth(index as u64);
            let has_to = |line: usize| seed.nth(line as u64).uniform() < f64::from(think_floor);
            row.think_at((0..trajectory.lines.len()).map(has_to).collect());
        }
        row
    };
    let mut rows: Vec<Rollout<'_>> = members.enumerate().map(row).collect();
    let work = run_all(policy, &mut rows, seed)?;
    Ok((rows.into_iter().map(|row| row.trace).collect(), work))
}

/// A rollout in the making, and then the rollout.
#[derive(Clone, Debug)]
pub struct Rollout<'a> {
    trajectory: &'a Trajectory,
    rule: LatentRule,
    /// Lines before which it has to think; empty where it never has to.
    has_to_think: Vec<bool>,
    /// By line: tokens of the document from there on, with one marker a line.
    n_rest: Vec<usize>,
    /// The document if no line switches: before each line `<act>`.
    kept: Vec<TokenId>,
    expect: Expect,
    /// What the decision that is being drawn may be.
    choices: Arc<[TokenId]>,
    /// Where the line that is being written began, with its latent.
    line_start: usize,
    /// What was written.
    pub trace: Trace,
}

impl<'a> Rollout<'a> {
    /// A rollout over the expert's lines.
    pub fn expert(trajectory: &'a Trajectory, rule: LatentRule) -> Self {
        let mut n_rest: Vec<usize> = trajectory.lines.iter().map(|line| line.len() + 1).collect();
        for line in (0..n_rest.len().saturating_sub(1)).rev() {
            n_rest[line] += n_rest[line + 1];
        }
        let act = rule.markers.act;
        let kept = trajectory.lines.iter();
        let kept = kept.flat_map(|line| std::iter::once(act).chain(line.iter().copied()));
        let mut trace = Trace::default();
        trace.force(&trajectory.prefix);
        Self {
            trajectory,
            kept: kept.collect(),
            rule,
            has_to_think: Vec::new(),
            n_rest,
            expect: Expect::Line,
            choices: Arc::new([]),
            line_start: trace.tokens.len(),
            trace,
        }
    }

    /// Forces the decision before these lines to think, where decisions are drawn at all.
    pub fn think_at(&mut self, lines: Vec<bool>) {
        self.has_to_think = lines;
    }

    /// Asks for the decision before the next line, where one is due.
    fn begin_line(&mut self, room: usize) -> Move {
        let line = self.trace.lines.len();
        if line == self.trajectory.lines.len() {
            return Move::Done;
        }
        self.line_start = self.trace.tokens.len();
        // `<think>` is the line's marker, which the rest counts; `</think>` may be forced.
        let can_think = room > self.n_rest[line] + self.rule.rationale_tokens_max;
        let has_to_think = self.has_to_think.get(line) == Some(&true);
        self.choices = self.rule.choices(can_think, has_to_think);
        if self.choices.is_empty() {
            return self.write_line();
        }
        self.expect = Expect::Decision;
        Move::Sample(self.rule.decision(&self.choices))
    }

    fn decided(&mut self, decision: TokenId, logprob: f32) -> Move {
        self.trace.decide(decision, logprob, &self.choices);
        if decision != self.rule.markers.think {
            return self.write_line();
        }
        self.expect = Expect::Rationale;
        Move::Sample(self.rule.rationale())
    }

    fn thought(&mut self, tokens: &[TokenId], logprobs: &[f32], stop: Stop) -> Move {
        self.trace.draw(tokens, logprobs);
        if stop == Stop::Token {
            return self.write_line();
        }
        self.expect = Expect::Close;
        let close = vec![self.rule.markers.close];
        self.trace.force(&close);
        Move::Feed(close)
    }

    fn write_line(&mut self) -> Move {
        self.expect = Expect::Line;
        let line = &self.trajectory.lines[self.trace.lines.len()];
        let write = |trace: &mut Trace| trace.force(line);
        self.trace.end_line(self.line_start, write);
        Move::Feed(line.clone())
    }
}

impl Episode for Rollout<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(self.trajectory.prefix.clone()),
            Observation::Fed { .. } if self.expect == Expect::Close => self.write_line(),
            Observation::Fed { room } => self.begin_line(room),
            Observation::Sampled {
                tokens, logprobs, ..
            } if self.expect == Expect::Decision => self.decided(tokens[0], logprobs[0]),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => self.thought(tokens, logprobs, stop),
        }
    }

    /// What follows if no line switches from here on; nothing where something else is certain to
    /// come first.
    fn draft(&self) -> &[TokenId] {
        let Some(n_rest) = self.n_rest.get(self.trace.lines.len()) else {
            return &[];
        };
        let rest = &self.kept[self.kept.len() - n_rest..];
        match (self.rule.decision, self.expect) {
            (Decision::Think | Decision::Absent, _) | (_, Expect::Rationale) => &[],
            (_, Expect::Decision) if !self.choices.contains(&self.rule.markers.act) => &[],
            (_, Expect::Decision | Expect::Line) => rest,
            // Behind `</think>` the line comes without a marker.
            (_, Expect::Close) => &rest[1..],
        }
    }
}
