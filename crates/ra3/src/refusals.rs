//! What a policy refuses, and why: the same for every policy.
//!
//! A policy calls these before it does anything, so that it is unchanged after a refusal.

use std::collections::BTreeSet;

use crate::policy::{
    Example, Move, Objective, PolicyError, Restriction, SampleRule, Surrogate, TokenId,
};

/// What a policy can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of its vocabulary.
    pub n_vocabulary: usize,
    /// Tokens of its context.
    pub n_tokens_max: usize,
}

impl Limits {
    /// Checks a move of row `index`, whose episode has `n_tokens` tokens so far.
    ///
    /// # Errors
    /// The move contradicts itself, names an unknown token, or does not fit the context.
    pub fn check_move(
        &self,
        index: usize,
        next: &Move,
        n_tokens: usize,
    ) -> Result<(), PolicyError> {
        let (found, n_appended) = match next {
            Move::Done => return Ok(()),
            Move::Feed(feed) => {
                self.check_tokens(feed)?;
                let reason = feed.is_empty().then_some("it feeds no token");
                (reason, feed.len())
            }
            Move::Sample(rule) => {
                self.check_tokens(rule.choices.as_deref().unwrap_or_default())?;
                (sample_reason(rule, n_tokens), 1)
            }
        };
        if let Some(reason) = found {
            return Err(PolicyError::BadMove { index, reason });
        }
        self.check_length(n_tokens + n_appended)
    }

    /// Checks a batch and what is to be done with it.
    ///
    /// # Errors
    /// An example or the objective contradicts itself, or an example names an unknown token or does
    /// not fit the context.
    pub fn check_batch(&self, batch: &[Example], objective: Objective) -> Result<(), PolicyError> {
        if let Some(reason) = objective_reason(objective) {
            return Err(PolicyError::BadObjective { reason });
        }
        self.check_examples(
            batch,
            matches!(objective.surrogate, Surrogate::Clipped { .. }),
        )
    }

    /// Checks sequences that are to be scored.
    ///
    /// # Errors
    /// As [`Self::check_batch`].
    pub fn check_sequences(&self, sequences: &[Example]) -> Result<(), PolicyError> {
        self.check_examples(sequences, false)
    }

    fn check_examples(&self, batch: &[Example], clips: bool) -> Result<(), PolicyError> {
        for (index, example) in batch.iter().enumerate() {
            if let Some(reason) = example_reason(example, clips) {
                return Err(PolicyError::BadExample { index, reason });
            }
            self.check_tokens(&example.tokens)?;
            for restriction in &example.restrictions {
                self.check_tokens(&restriction.choices)?;
            }
            self.check_length(example.tokens.len())?;
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), PolicyError> {
        let n_vocabulary = self.n_vocabulary;
        let unknown = tokens.iter().find(|token| **token as usize >= n_vocabulary);
        unknown.map_or(Ok(()), |token| {
            Err(PolicyError::UnknownToken {
                token: *token,
                n_vocabulary,
            })
        })
    }

    fn check_length(&self, n_tokens: usize) -> Result<(), PolicyError> {
        let n_tokens_max = self.n_tokens_max;
        if n_tokens <= n_tokens_max {
            return Ok(());
        }
        Err(PolicyError::SequenceTooLong {
            n_tokens,
            n_tokens_max,
        })
    }
}

fn sample_reason(rule: &SampleRule, n_tokens: usize) -> Option<&'static str> {
    if n_tokens == 0 {
        return Some("it samples before it feeds, and nothing says what comes first");
    }
    if rule.n_tokens_max == 0 {
        return Some("it samples no token");
    }
    // An infinite temperature is the even distribution.
    if rule.temperature.is_nan() || rule.temperature < 0.0 {
        return Some("its temperature is negative or no number");
    }
    if rule.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Some("its top_p is not above 0 and at most 1");
    }
    rule.choices.as_deref().and_then(choices_reason)
}

fn choices_reason(choices: &[TokenId]) -> Option<&'static str> {
    let distinct: BTreeSet<&TokenId> = choices.iter().collect();
    if choices.is_empty() {
        Some("there are no choices")
    } else if distinct.len() < choices.len() {
        Some("a choice is there twice")
    } else {
        None
    }
}

fn objective_reason(objective: Objective) -> Option<&'static str> {
    if !(objective.learning_rate >= 0.0 && objective.learning_rate.is_finite()) {
        return Some("the learning rate is negative or no finite number");
    }
    match objective.surrogate {
        Surrogate::LogLikelihood => None,
        // An infinite upper end leaves one side unclipped.
        Surrogate::Clipped { low, high } => (!(low >= 0.0 && high >= 0.0))
            .then_some("an end of the clip range is negative or no number"),
    }
}

fn example_reason(example: &Example, clips: bool) -> Option<&'static str> {
    let n = example.tokens.len();
    if n == 0 || example.weights.len() != n {
        return Some("it needs tokens, and one weight for each");
    }
    if example.weights[0] != 0.0 {
        return Some("the first token has no context and cannot be a target");
    }
    if example.weights.iter().any(|weight| !weight.is_finite()) {
        return Some("a weight is not a finite number");
    }
    if clips && example.old_logprobs.len() != n {
        return Some("a clipped surrogate needs one old log-probability for each token");
    }
    if clips && example.old_logprobs.iter().any(|old| !old.is_finite()) {
        return Some("an old log-probability is not a finite number");
    }
    let positions = example.restrictions.iter().map(|r| r.position);
    if !positions.is_sorted_by(|before, after| before < after) {
        return Some("the positions of its restrictions do not rise");
    }
    example
        .restrictions
        .iter()
        .find_map(|restriction| restriction_reason(example, restriction))
}

fn restriction_reason(example: &Example, restriction: &Restriction) -> Option<&'static str> {
    let Some(target) = example.tokens.get(restriction.position) else {
        return Some("a restriction is outside the sequence");
    };
    if restriction.position == 0 {
        return Some("the first token has no context and cannot be a target");
    }
    choices_reason(&restriction.choices).or_else(|| {
        let is_among = restriction.choices.contains(target);
        (!is_among).then_some("a restricted target is not among its choices")
    })
}
