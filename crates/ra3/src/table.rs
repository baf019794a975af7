//! The table policy: a softmax over the next token for each short context. Small enough that every
//! expectation can be summed exactly, which is how the method is tested.

use crate::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, SampleRule, Stop,
    Surrogate, TokenId, UpdateStats, Work,
};
use crate::seed::Seed;

/// A softmax table over contexts of the last few tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePolicy {
    n_vocabulary: usize,
    n_context: usize,
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
            logits,
        }
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
        index * self.n_vocabulary
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

    fn sample(
        &self,
        history: &mut Vec<TokenId>,
        rule: &SampleRule,
        seed: Seed,
        n_draws: &mut u64,
    ) -> (Vec<f32>, Stop) {
        assert!(
            rule.top_k.is_none() && rule.top_p.is_none(),
            "the table samples plainly"
        );
        let mut logprobs = Vec::new();
        loop {
            let plain = self.logprobs(history, rule.choices.as_deref());
            let weights: Vec<f64> = plain
                .iter()
                .map(|l| (l / f64::from(rule.temperature)).exp())
                .collect();
            let mut left = seed.nth(*n_draws).uniform() * weights.iter().sum::<f64>();
            *n_draws += 1;
            let token = weights
                .iter()
                .position(|weight| {
                    left -= weight;
                    left < 0.0
                })
                .unwrap_or(self.n_vocabulary - 1);
            history.push(token as TokenId);
            logprobs.push(plain[token] as f32);
            if rule.stop.contains(&(token as TokenId)) {
                return (logprobs, Stop::Token);
            }
            if logprobs.len() == rule.n_tokens_max {
                return (logprobs, Stop::Length);
            }
        }
    }

    fn drive(&self, episode: &mut dyn Episode, seed: Seed, work: &mut Work) {
        let mut history: Vec<TokenId> = Vec::new();
        let mut n_draws = 0;
        let mut next = episode.next(Observation::Started);
        loop {
            let start = history.len();
            next = match next {
                Move::Done => break,
                Move::Feed(feed) => {
                    let mut logprobs = Vec::new();
                    for (index, token) in feed.tokens.iter().enumerate() {
                        let choices = feed.choices.as_deref().filter(|_| index == 0);
                        let logprob = self.logprobs(&history, choices)[*token as usize];
                        logprobs.push(if history.is_empty() {
                            0.0
                        } else {
                            logprob as f32
                        });
                        history.push(*token);
                    }
                    if !feed.scored {
                        logprobs.clear();
                    }
                    episode.next(Observation::Fed {
                        logprobs: &logprobs,
                    })
                }
                Move::Sample(rule) => {
                    let (logprobs, stop) = self.sample(&mut history, &rule, seed, &mut n_draws);
                    work.n_tokens_sampled += logprobs.len() as u64;
                    let tokens = &history[start..];
                    episode.next(Observation::Sampled {
                        tokens,
                        logprobs: &logprobs,
                        stop,
                    })
                }
            };
        }
        work.n_tokens += history.len() as u64;
        work.n_tokens_run += history.len() as u64;
    }
}

impl Policy for TablePolicy {
    fn run(&mut self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        let mut work = Work::default();
        for (index, episode) in episodes.iter_mut().enumerate() {
            self.drive(&mut **episode, seed.nth(index as u64), &mut work);
        }
        Ok(work)
    }

    /// Plain gradient descent: `logits ← logits − learning rate · gradient`.
    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        assert_eq!(
            objective.surrogate,
            Surrogate::LogLikelihood,
            "the table does not clip"
        );
        let mut ascent = vec![0.0; self.logits.len()];
        let mut stats = UpdateStats::default();
        for example in batch {
            for position in 1..example.tokens.len() {
                let weight = f64::from(example.weights[position]);
                if weight == 0.0 {
                    continue;
                }
                let restriction = example.restrictions.iter().find(|r| r.position == position);
                let choices = restriction.map(|restriction| &*restriction.choices);
                let history = &example.tokens[..position];
                let logprobs = self.logprobs(history, choices);
                let (row, token) = (self.row(history), example.tokens[position] as usize);
                stats.loss -= weight * logprobs[token];
                for (other, logprob) in logprobs.iter().enumerate() {
                    let own = f64::from(u8::from(other == token));
                    ascent[row + other] += weight * (own - logprob.exp());
                }
            }
        }
        stats.gradient_norm = ascent.iter().map(|g| g * g).sum::<f64>().sqrt();
        if !stats.loss.is_finite() {
            return Err(PolicyError::NonFiniteLoss { value: stats.loss });
        }
        let rate = f64::from(objective.learning_rate);
        self.logits
            .iter_mut()
            .zip(ascent)
            .for_each(|(logit, g)| *logit += rate * g);
        Ok(stats)
    }
}
