//! A rollout or a document as one flat sequence: tokens, which of them can be learnt from, how
//! likely they were when they were drawn, and where each line's latent and action stand.
//!
//! `s_0, z_0, a_0, z_1, a_1, …` on token ids (docs/algorithm.md, "Setting"). Everything that is
//! trained or scored comes from here: [`Trace::example`] and [`Trace::sequence`]. It computes no
//! rewards and no weights.

use std::ops::Range;
use std::sync::Arc;

use crate::policy::{Example, Restriction, TokenId};
use crate::trajectory::{Annotated, Latent, Markers, Trajectory};

/// Where a line stands in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSpan {
    /// Its latent: a decision alone for an act, `<think> … </think>` for a switch, empty where
    /// nothing was decided.
    pub latent: Range<usize>,
    /// Its action: the tokens of the line.
    pub action: Range<usize>,
}

impl LineSpan {
    /// True for a switch.
    pub fn is_think(&self) -> bool {
        self.latent.len() > 1
    }

    /// The rationale and its `</think>`: the latent without its decision.
    pub fn rationale(&self) -> Range<usize> {
        (self.latent.start + 1).min(self.latent.end)..self.latent.end
    }
}

/// What a token of a trace belongs to; lines are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// No line: a document's prefix, or a prompt.
    Outside,
    /// The `<act>` or `<think>` before this line.
    Decision(usize),
    /// The rationale before this line, its `</think>` included.
    Rationale(usize),
    /// The tokens of this line; a program that is one plain draw is one line.
    Action(usize),
}

/// A sequence, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The tokens.
    pub tokens: Vec<TokenId>,
    /// True where a token was chosen, by the policy that drew it or by a document's author: a
    /// target of learning. False for what was forced, and for the first token.
    pub mask: Vec<bool>,
    /// `log q` of each token in nats when it was drawn, 0 where it was forced; empty for a document
    /// that nobody drew.
    pub logprobs: Vec<f32>,
    /// Decisions that were drawn between the two markers, by rising position.
    pub restrictions: Vec<Restriction>,
    /// The lines.
    pub lines: Vec<LineSpan>,
}

impl Trace {
    /// A document with its latents, to be learnt from: everything but its first token and a
    /// `</think>` that was forced.
    pub fn of(annotated: &Annotated, markers: &Markers) -> Self {
        let Annotated {
            trajectory,
            latents,
        } = annotated;
        assert_eq!(trajectory.lines.len(), latents.len(), "one latent a line");
        Self::written(trajectory, |trace, line| {
            let Some(latent) = &latents[line] else {
                return;
            };
            latent.write(markers, &mut trace.tokens);
            trace.mask.resize(trace.tokens.len(), true);
            if latent.is_cut() {
                *trace.mask.last_mut().expect("a switch has tokens") = false;
            }
        })
    }

    /// A document without latents.
    pub fn plain(trajectory: &Trajectory) -> Self {
        Self::written(trajectory, |_, _| {})
    }

    /// A document with whatever `write_latent` puts before each of its lines.
    fn written(trajectory: &Trajectory, write_latent: impl Fn(&mut Self, usize)) -> Self {
        let mut trace = Self::default();
        trace.append(&trajectory.prefix, true);
        trace.mask[0] = false;
        for (index, line) in trajectory.lines.iter().enumerate() {
            let start = trace.tokens.len();
            write_latent(&mut trace, index);
            trace.end_line(start, |trace| trace.append(line, true));
        }
        trace
    }

    /// Appends forced tokens.
    pub(crate) fn force(&mut self, tokens: &[TokenId]) {
        self.append(tokens, false);
        self.logprobs.resize(self.tokens.len(), 0.0);
    }

    /// Appends drawn tokens.
    pub(crate) fn draw(&mut self, tokens: &[TokenId], logprobs: &[f32]) {
        self.append(tokens, true);
        self.logprobs.extend_from_slice(logprobs);
    }

    /// Appends a decision that was drawn among `choices`; among one it was forced.
    pub(crate) fn decide(&mut self, token: TokenId, logprob: f32, choices: &Arc<[TokenId]>) {
        if choices.len() > 1 {
            self.restrictions.push(Restriction {
                position: self.tokens.len(),
                choices: Arc::clone(choices),
            });
        }
        self.append(&[token], choices.len() > 1);
        self.logprobs.push(logprob);
    }

    /// Ends a line whose latent begins at `start`; `write` appends its action.
    pub(crate) fn end_line(&mut self, start: usize, write: impl FnOnce(&mut Self)) {
        let middle = self.tokens.len();
        write(self);
        self.lines.push(LineSpan {
            latent: start..middle,
            action: middle..self.tokens.len(),
        });
    }

    fn append(&mut self, tokens: &[TokenId], is_target: bool) {
        self.tokens.extend_from_slice(tokens);
        self.mask.resize(self.tokens.len(), is_target);
    }

    /// To be trained on: each target with the weight of its part.
    pub fn example(&self, weight: impl Fn(Part) -> f32) -> Example {
        let mut example = self.weighed(weight);
        for (weight, is_target) in example.weights.iter_mut().zip(&self.mask) {
            if !is_target {
                *weight = 0.0;
            }
        }
        example
    }

    /// To be scored ([`crate::policy::Policy::score`]): every token of the wanted parts, drawn or
    /// forced, but the first.
    pub fn sequence(&self, is_wanted: impl Fn(Part) -> bool) -> Example {
        let mut example = self.weighed(|part| f32::from(u8::from(is_wanted(part))));
        if let Some(first) = example.weights.first_mut() {
            *first = 0.0;
        }
        example
    }

    fn weighed(&self, weight: impl Fn(Part) -> f32) -> Example {
        let mut weights = vec![weight(Part::Outside); self.tokens.len()];
        for (line, span) in self.lines.iter().enumerate() {
            let decision = span.latent.start..span.rationale().start;
            weights[decision].fill(weight(Part::Decision(line)));
            weights[span.rationale()].fill(weight(Part::Rationale(line)));
            weights[span.action.clone()].fill(weight(Part::Action(line)));
        }
        Example {
            tokens: self.tokens.clone(),
            weights,
            restrictions: self.restrictions.clone(),
            old_logprobs: self.logprobs.clone(),
        }
    }

    /// The latent before a line.
    pub fn latent(&self, line: usize) -> Option<Latent> {
        let span = &self.lines[line];
        match span.latent.len() {
            0 => None,
            1 => Some(Latent::Keep),
            _ => {
                let close = span.latent.end - 1;
                Some(Latent::Switch {
                    rationale: self.tokens[span.rationale().start..close].to_vec(),
                    forced_close: !self.mask[close],
                })
            }
        }
    }

    /// The document with its latents: what is before the first line is its prefix.
    pub fn annotated(&self) -> Annotated {
        let n_prefix = self
            .lines
            .first()
            .map_or(self.tokens.len(), |span| span.latent.start);
        let action = |span: &LineSpan| self.tokens[span.action.clone()].to_vec();
        Annotated {
            trajectory: Trajectory {
                prefix: self.tokens[..n_prefix].to_vec(),
                lines: self.lines.iter().map(action).collect(),
            },
            latents: (0..self.lines.len())
                .map(|line| self.latent(line))
                .collect(),
        }
    }

    /// Tokens of each line's latent, as [`crate::statistics::LatentStats`] counts them.
    pub fn latent_lengths(&self) -> Vec<usize> {
        self.lines.iter().map(|span| span.latent.len()).collect()
    }
}
