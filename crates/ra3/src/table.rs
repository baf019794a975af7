//! The table policy: a softmax over the next token for each short context. Small enough that every
//! expectation can be summed exactly (see [`crate::enumeration`]), which is how the method is
//! tested.
//!
//! `p(token | history) = softmax(logits[context(history)])`, where the context is the last few
//! tokens and, if asked for, the latent in force. It keeps the seam's promises to the letter and
//! computes in `f64`; it has no optimizer but plain gradient descent.

use crate::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, SampleRule, Stop,
    Surrogate, TokenId, UpdateStats, Work,
};
use crate::refusals::Limits;
use crate::seed::Seed;

/// Tokens that a table's sequence has at most: an episode that never ends is an error soon.
const CONTEXT_MAX: usize = 1 << 16;

/// A softmax table over contexts of the last few tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePolicy {
    n_vocabulary: usize,
    n_context: usize,
    /// `<think>`, where the latent in force belongs to the context.
    think: Option<TokenId>,
    n_tokens_max: usize,
    /// `[context, token]`, `f64`.
    pub logits: Vec<f64>,
}

impl TablePolicy {
    /// A table with logits drawn uniformly from `[−size, size]`.
    pub fn random(n_vocabulary: usize, n_context: usize, size: f64, seed: Seed) -> Self {
        let n_contexts = (n_vocabulary + 1).pow(n_context as u32);
        let logits = (0..n_contexts * n_vocabulary)
            .map(|i| size * (2.0 * seed.nth(i as u64).uniform() - 1.0))
            .collect();
        Self {
            n_vocabulary,
            n_context,
            think: None,
            n_tokens_max: CONTEXT_MAX,
            logits,
        }
    }

    /// The same table with the latent in force in its context: the first token after the latest
    /// `<think>`, however long ago that was. A context's logits start equal for all latents.
    #[must_use]
    pub fn with_latent_in_force(mut self, think: TokenId) -> Self {
        let rows = self.logits.chunks(self.n_vocabulary);
        let copies = self.n_vocabulary + 1;
        self.logits = rows.flat_map(|row| row.repeat(copies)).collect();
        self.think = Some(think);
        self
    }

    /// The same table as a model whose context holds this many tokens.
    #[must_use]
    pub fn with_limit(mut self, n_tokens_max: usize) -> Self {
        self.n_tokens_max = n_tokens_max;
        self
    }

    /// The logits after a history, to build a policy whose behaviour is known.
    pub fn logits_after(&mut self, history: &[TokenId]) -> &mut [f64] {
        let row = self.row(history);
        &mut self.logits[row..row + self.n_vocabulary]
    }

    /// Where the logits after a history begin.
    fn row(&self, history: &[TokenId]) -> usize {
        let base = self.n_vocabulary + 1;
        let recent = &history[history.len().saturating_sub(self.n_context)..];
        // Contexts that are too short are filled with a token outside the vocabulary.
        let missing = self.n_context - recent.len();
        let index = (0..missing)
            .map(|_| self.n_vocabulary)
            .chain(recent.iter().map(|token| *token as usize))
            .fold(0, |index, token| index * base + token);
        let index = match self.think {
            None => index,
            Some(think) => index * base + self.latent_in_force(history, think),
        };
        index * self.n_vocabulary
    }

    fn latent_in_force(&self, history: &[TokenId], think: TokenId) -> usize {
        let latest = history.iter().rposition(|token| *token == think);
        latest
            .and_then(|at| history.get(at + 1))
            .map_or(self.n_vocabulary, |token| *token as usize)
    }

    /// Log-probabilities of all tokens after a history, restricted to `choices` if there are any;
    /// the others have `−∞`.
    pub fn logprobs(&self, history: &[TokenId], choices: Option<&[TokenId]>) -> Vec<f64> {
        let row = self.row(history);
        let allowed =
            |token: usize| choices.is_none_or(|choices| choices.contains(&(token as TokenId)));
        let logits: Vec<f64> = (0..self.n_vocabulary)
            .map(|token| {
                if allowed(token) {
                    self.logits[row + token]
                } else {
                    f64::NEG_INFINITY
                }
            })
            .collect();
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - top).exp()).sum();
        logits.iter().map(|logit| logit - top - sum.ln()).collect()
    }

    fn draw(&self, logprobs: &[f64], rule: &SampleRule, uniform: f64) -> usize {
        let likelier = |a: &usize, b: &usize| logprobs[*b].total_cmp(&logprobs[*a]);
        let is_allowed = |token: &usize| logprobs[*token] > f64::NEG_INFINITY;
        let mut kept: Vec<usize> = (0..self.n_vocabulary).filter(is_allowed).collect();
        if rule.temperature <= 0.0 {
            // The first of equals, so ties go to the lowest id.
            return kept.into_iter().min_by(likelier).expect("a vocabulary");
        }
        let weigh = |token: &usize| (logprobs[*token] / f64::from(rule.temperature)).exp();
        if rule.top_k.is_some() || rule.top_p.is_some() {
            kept.sort_by(likelier);
            kept.truncate(rule.top_k.map_or(usize::MAX, std::num::NonZeroUsize::get));
            let enough =
                rule.top_p.map_or(f64::INFINITY, f64::from) * kept.iter().map(weigh).sum::<f64>();
            let mut sum = 0.0;
            let reaches = |token: &usize| {
                sum += weigh(token);
                sum >= enough
            };
            let n = kept.iter().position(reaches).map_or(kept.len(), |i| i + 1);
            kept.truncate(n);
        }
        let mut left = uniform * kept.iter().map(weigh).sum::<f64>();
        let exceeds = |token: &&usize| {
            left -= weigh(token);
            left < 0.0
        };
        // Rounding alone can leave something over: then it is the last that can be drawn at all.
        let is_possible = |token: &&usize| weigh(token) > 0.0;
        let drawn = kept.iter().find(exceeds);
        *drawn
            .or_else(|| kept.iter().rfind(is_possible))
            .expect("some token is possible")
    }

    fn sample(
        &self,
        history: &mut Vec<TokenId>,
        rule: &SampleRule,
        seed: Seed,
        n_draws: &mut u64,
    ) -> (Vec<f32>, Stop) {
        let n_max = rule.n_tokens_max.min(self.n_tokens_max - history.len());
        let mut logprobs = Vec::new();
        for _ in 0..n_max {
            let plain = self.logprobs(history, rule.choices.as_deref());
            let token = self.draw(&plain, rule, seed.nth(*n_draws).uniform());
            *n_draws += 1;
            history.push(token as TokenId);
            logprobs.push(plain[token] as f32);
            if rule.stop.contains(&(token as TokenId)) {
                return (logprobs, Stop::Token);
            }
        }
        let stop = if n_max == rule.n_tokens_max {
            Stop::Length
        } else {
            Stop::Context
        };
        (logprobs, stop)
    }

    fn drive(
        &self,
        index: usize,
        episode: &mut dyn Episode,
        seed: Seed,
        work: &mut Work,
    ) -> Result<(), PolicyError> {
        let mut history: Vec<TokenId> = Vec::new();
        let mut n_draws = 0;
        let mut next = episode.next(Observation::Started {
            room: self.n_tokens_max,
        });
        loop {
            self.limits().check_move(index, &next, history.len())?;
            let start = history.len();
            next = match next {
                Move::Done => break,
                Move::Feed(tokens) => {
                    history.extend(tokens);
                    episode.next(Observation::Fed {
                        room: self.n_tokens_max - history.len(),
                    })
                }
                Move::Sample(rule) => {
                    let (logprobs, stop) = self.sample(&mut history, &rule, seed, &mut n_draws);
                    work.n_tokens_sampled += logprobs.len() as u64;
                    episode.next(Observation::Sampled {
                        tokens: &history[start..],
                        logprobs: &logprobs,
                        stop,
                        room: self.n_tokens_max - history.len(),
                    })
                }
            };
        }
        work.n_tokens += history.len() as u64;
        work.n_tokens_run += history.len() as u64;
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            n_vocabulary: self.n_vocabulary,
            n_tokens_max: self.n_tokens_max,
        }
    }

    /// What an update climbs, and by how much: the loss is `−` the objective, and the gradient is
    /// of the objective with respect to [`TablePolicy::logits`].
    ///
    /// # Errors
    /// As [`Policy::update`].
    pub fn gradient(
        &self,
        batch: &[Example],
        surrogate: Surrogate,
    ) -> Result<(Vec<f64>, UpdateStats), PolicyError> {
        let mut ascent = vec![0.0; self.logits.len()];
        let mut sums = Sums::default();
        let objective = Objective {
            surrogate,
            learning_rate: 0.0,
        };
        self.limits().check_batch(batch, objective)?;
        for example in batch {
            for position in targets(example) {
                self.climb(example, position, surrogate, &mut ascent, &mut sums);
            }
        }
        let stats = UpdateStats {
            loss: -sums.objective,
            mean_logprob: if sums.positive_weight > 0.0 {
                sums.positive_logprob / sums.positive_weight
            } else {
                0.0
            },
            gradient_norm: ascent.iter().map(|g| g * g).sum::<f64>().sqrt(),
            clipped_share: sums.n_clipped as f64 / sums.n_targets.max(1) as f64,
            logprob_gap: (sums.n_sampled > 0).then(|| sums.gap / sums.n_sampled as f64),
            work: work_of(batch),
        };
        Ok((ascent, stats))
    }

    /// Log-probabilities of all tokens where a target stands, under its restriction.
    fn logprobs_at(&self, example: &Example, position: usize) -> Vec<f64> {
        let restriction = example.restrictions.iter().find(|r| r.position == position);
        let choices = restriction.map(|restriction| &*restriction.choices);
        self.logprobs(&example.tokens[..position], choices)
    }

    fn climb(
        &self,
        example: &Example,
        position: usize,
        surrogate: Surrogate,
        ascent: &mut [f64],
        sums: &mut Sums,
    ) {
        let weight = f64::from(example.weights[position]);
        let logprobs = self.logprobs_at(example, position);
        let row = self.row(&example.tokens[..position]);
        let token = example.tokens[position] as usize;
        // The slope is the derivative of the term with respect to log p.
        let (term, slope, is_clipped) = match surrogate {
            Surrogate::LogLikelihood => (weight * logprobs[token], weight, false),
            Surrogate::Clipped { low, high } => {
                let old = f64::from(example.old_logprobs[position]);
                clipped(weight, (logprobs[token] - old).exp(), low, high)
            }
        };
        sums.objective += term;
        sums.n_targets += 1;
        sums.n_clipped += usize::from(is_clipped);
        if let Some(old) = example.old_logprobs.get(position) {
            sums.gap += (logprobs[token] - f64::from(*old)).abs();
            sums.n_sampled += 1;
        }
        sums.positive_weight += weight.max(0.0);
        sums.positive_logprob += weight.max(0.0) * logprobs[token];
        for (other, logprob) in logprobs.iter().enumerate() {
            let own = f64::from(u8::from(other == token));
            ascent[row + other] += slope * (own - logprob.exp());
        }
    }
}

/// `min(ρ w, clip(ρ, 1 − low, 1 + high) w)`, its derivative with respect to `log ρ`, and whether
/// that is the clipped side.
fn clipped(weight: f64, ratio: f64, low: f32, high: f32) -> (f64, f64, bool) {
    let (floor, ceiling) = (1.0 - f64::from(low), 1.0 + f64::from(high));
    let (free, bounded) = (ratio * weight, ratio.clamp(floor, ceiling) * weight);
    if bounded < free {
        (bounded, 0.0, true)
    } else {
        (free, free, false)
    }
}

#[derive(Debug, Default)]
struct Sums {
    objective: f64,
    positive_weight: f64,
    positive_logprob: f64,
    n_targets: usize,
    n_clipped: usize,
    gap: f64,
    n_sampled: usize,
}

/// Positions of an example's targets.
fn targets(example: &Example) -> impl Iterator<Item = usize> {
    let positions = 1..example.tokens.len();
    positions.filter(|position| example.weights[*position] != 0.0)
}

fn work_of(batch: &[Example]) -> Work {
    let n_tokens = batch.iter().map(|e| e.tokens.len() as u64).sum();
    Work {
        n_tokens,
        n_tokens_run: n_tokens,
        ..Work::default()
    }
}

impl Policy for TablePolicy {
    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        let mut work = Work::default();
        for (index, episode) in episodes.iter_mut().enumerate() {
            self.drive(index, &mut **episode, seed.nth(index as u64), &mut work)?;
        }
        Ok(work)
    }

    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        self.limits().check_sequences(sequences)?;
        let score = |example: &Example| {
            let mut found = vec![0.0; example.tokens.len()];
            for position in targets(example) {
                let token = example.tokens[position] as usize;
                found[position] = self.logprobs_at(example, position)[token] as f32;
            }
            found
        };
        let found: Vec<Vec<f32>> = sequences.iter().map(score).collect();
        if found.iter().flatten().any(|logprob| logprob.is_nan()) {
            return Err(PolicyError::NotANumber);
        }
        Ok((found, work_of(sequences)))
    }

    fn snapshot(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }

    /// Plain gradient descent: `logits ← logits − learning rate · gradient`.
    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        self.limits().check_batch(batch, objective)?;
        let (ascent, stats) = self.gradient(batch, objective.surrogate)?;
        if !stats.loss.is_finite() {
            return Err(PolicyError::NonFiniteLoss { value: stats.loss });
        }
        if !stats.gradient_norm.is_finite() {
            return Err(PolicyError::NonFiniteGradient {
                value: stats.gradient_norm,
            });
        }
        let rate = f64::from(objective.learning_rate);
        let rows = self.logits.iter_mut().zip(ascent);
        rows.for_each(|(logit, slope)| *logit += rate * slope);
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn rule() -> SampleRule {
        SampleRule::plain(1.0, 1)
    }

    /// Draws at the ends of the unit interval and between, from four log-probabilities.
    fn draws(logprobs: [f64; 4], rule: &SampleRule) -> [usize; 5] {
        let table = TablePolicy::random(4, 0, 0.0, Seed::root(0));
        [0.0, 0.45, 0.55, 0.95, 1.0].map(|uniform| table.draw(&logprobs, rule, uniform))
    }

    /// A share that underflows is drawn at neither end: not where nothing has to be exceeded yet,
    /// and not where rounding leaves something over.
    #[test]
    fn what_has_no_share_is_never_drawn() {
        let half = 0.5f64.ln();
        assert_eq!(
            draws([-800.0, half, half, -800.0], &rule()),
            [1, 1, 2, 2, 2]
        );
        assert_eq!(
            draws([half, -800.0, -800.0, half], &rule()),
            [0, 0, 3, 3, 3]
        );
        let choices = [f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY, -800.0];
        assert_eq!(draws(choices, &rule()), [1; 5]);
    }

    /// A nucleus is a share of what top-k kept: of 7/8, 0.85 is 0.744, which 1/2 and 1/4 reach.
    #[test]
    fn a_nucleus_is_a_share_of_what_was_kept() {
        let logprobs = [0.125, 0.5, 0.25, 0.125].map(f64::ln);
        let both = SampleRule {
            top_k: NonZeroUsize::new(3),
            top_p: Some(0.85),
            ..rule()
        };
        assert_eq!(draws(logprobs, &both), [1, 1, 1, 2, 2]);
        let wide = SampleRule {
            top_p: Some(0.9),
            ..both
        };
        assert_eq!(draws(logprobs, &wide), [1, 1, 1, 0, 0]);
    }

    #[test]
    fn an_update_runs_the_tokens_of_its_examples() {
        let example = |n: usize| Example::plain(vec![1; n], vec![0.0; n]);
        let batch = [example(3), example(5)];
        let table = TablePolicy::random(4, 1, 1.0, Seed::root(0));
        let stats = table.gradient(&batch, Surrogate::LogLikelihood);
        let work = stats.expect("they are in order").1.work;
        let expected = Work {
            n_tokens: 8,
            n_tokens_run: 8,
            ..Work::default()
        };
        assert_eq!(work, expected);
    }
}
