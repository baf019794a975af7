//! The seam: what the algorithm asks of a model, in token ids and log-probabilities.
//!
//! Three verbs. *Run*: a rollout is an [`Episode`], a state machine that the policy drives; the
//! policy keeps all of them busy at once and shares their common prefixes. *Score*: known sequences
//! get the log-probabilities of their targets. *Update*: training is a list of [`Example`]s, tokens
//! with a weight for each target, so the same call serves NTP, SFT and policy gradients.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::seed::Seed;

/// A token id.
pub type TokenId = u32;

/// What an episode wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Append these tokens; never empty. Nobody reads their log-probabilities: known sequences are
    /// scored by [`Policy::score`].
    Feed(Vec<TokenId>),
    /// Sample tokens from the policy.
    Sample(SampleRule),
    /// The episode is over and will not be asked again.
    Done,
}

/// How tokens are sampled, and when sampling stops.
///
/// Log-probabilities that come back are those of the *unmodified* distribution at temperature 1,
/// restricted to `choices` where there are any: exactly what [`Example`] trains.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRule {
    /// 0 is greedy, infinity even.
    pub temperature: f32,
    /// Keep the k likeliest tokens.
    pub top_k: Option<NonZeroUsize>,
    /// Keep the smallest set of likeliest tokens whose probability reaches this.
    pub top_p: Option<f32>,
    /// Sample among these tokens only, renormalised (a decision between `<act>` and `<think>`).
    pub choices: Option<Arc<[TokenId]>>,
    /// Sampling stops after any of these tokens.
    pub stop: Arc<[TokenId]>,
    /// Sampling stops after this many tokens; at least 1.
    pub n_tokens_max: usize,
}

impl SampleRule {
    /// At most so many tokens from the whole vocabulary, with nothing that stops them.
    pub fn plain(temperature: f32, n_tokens_max: usize) -> Self {
        Self {
            temperature,
            top_k: None,
            top_p: None,
            choices: None,
            stop: Arc::new([]),
            n_tokens_max,
        }
    }
}

/// Why sampling stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The last token is a stop token.
    Token,
    /// The rule's limit on tokens.
    Length,
    /// The model's context is full, before anything else ended it.
    Context,
}

/// What the policy saw after the last move, and the `room` that is left: how many tokens can still
/// be appended before the model's context is full. An episode that asks for more than that is the
/// policy's error, so it looks at the room first.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// The first call.
    Started {
        /// The model's whole context, in tokens.
        room: usize,
    },
    /// After [`Move::Feed`].
    Fed {
        /// Tokens that can still be appended.
        room: usize,
    },
    /// After [`Move::Sample`].
    Sampled {
        /// The tokens, the stop token included.
        tokens: &'a [TokenId],
        /// Their log-probabilities in nats, see [`SampleRule`].
        logprobs: &'a [f32],
        /// Why sampling ended.
        stop: Stop,
        /// Tokens that can still be appended.
        room: usize,
    },
}

impl Observation<'_> {
    /// Tokens that can still be appended.
    pub fn room(&self) -> usize {
        match self {
            Self::Started { room } | Self::Fed { room } | Self::Sampled { room, .. } => *room,
        }
    }
}

/// One rollout as a state machine. One thread at a time asks it, which may be one of the policy's.
pub trait Episode: Send {
    /// Takes what the last move gave and says the next one.
    fn next(&mut self, seen: Observation<'_>) -> Move;

    /// Tokens that are likely to follow what the last move appends, drawn and fed ones alike: of a
    /// [`Move::Sample`] from its first draw on, of a [`Move::Feed`] behind its tokens.
    ///
    /// A hint, as the draft of speculative decoding: a policy may run some of them ahead, in one
    /// pass, and has them when they are asked for. It changes no draw and no log-probability, only
    /// the work, of which a draft that is wrong wastes some.
    fn draft(&self) -> &[TokenId] {
        &[]
    }
}

/// A target whose probability is taken among a few tokens, as when it was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Restriction {
    /// Index of the target in [`Example::tokens`].
    pub position: usize,
    /// The tokens that it was chosen among.
    pub choices: Arc<[TokenId]>,
}

/// A training sequence.
///
/// The loss of a batch is `− Σ_i weight_i · log p(token_i | token_<i)` over all its examples (or
/// the clipped surrogate, see [`Surrogate`]). Weights arrive normalised: the policy never divides
/// by anything, so splitting or packing a batch changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The whole sequence.
    pub tokens: Vec<TokenId>,
    /// One weight a token, for the token as a *target*; `weights[0]` is 0.
    pub weights: Vec<f32>,
    /// Restricted targets, by rising position.
    pub restrictions: Vec<Restriction>,
    /// One log-probability a token under the policy that sampled it; empty where nobody sampled
    /// it. Of what is trained they say only what the clipped surrogate clips.
    pub old_logprobs: Vec<f32>,
}

impl Example {
    /// A sequence that nobody sampled, every token over the whole vocabulary.
    pub fn plain(tokens: Vec<TokenId>, weights: Vec<f32>) -> Self {
        Self {
            tokens,
            weights,
            restrictions: Vec::new(),
            old_logprobs: Vec::new(),
        }
    }

    /// Up to its last target: from what follows nothing is learnt, and a trainer need not run it. A
    /// sequence without targets is its first token.
    #[must_use]
    pub fn learnt(&self) -> Self {
        let last = self.weights.iter().rposition(|weight| *weight != 0.0);
        let n = last.map_or(1, |last| last + 1).min(self.tokens.len());
        let kept = self.restrictions.iter().filter(|kept| kept.position < n);
        Self {
            tokens: self.tokens[..n].to_vec(),
            weights: self.weights[..n].to_vec(),
            restrictions: kept.cloned().collect(),
            old_logprobs: self.old_logprobs[..n.min(self.old_logprobs.len())].to_vec(),
        }
    }
}

/// What is maximised for each target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// `w · log p`: maximum likelihood for constant weights, REINFORCE for advantages.
    LogLikelihood,
    /// `min(ρ w, clip(ρ, 1 − low, 1 + high) w)` with `ρ = p / p_old` (PPO, arXiv 1707.06347).
    Clipped {
        /// Lower clip range.
        low: f32,
        /// Upper clip range (larger than `low` in DAPO's clip-higher).
        high: f32,
    },
}

impl Surrogate {
    /// What so many updates on one batch maximise: more than one have to stay near the policy that
    /// wrote it.
    pub fn over(n_updates: usize, low: f32, high: f32) -> Self {
        if n_updates > 1 {
            Self::Clipped { low, high }
        } else {
            Self::LogLikelihood
        }
    }
}

/// How a batch is trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// What is maximised.
    pub surrogate: Surrogate,
    /// The step size of this update; schedules are the caller's.
    pub learning_rate: f32,
}

impl Objective {
    /// Maximum likelihood, of supervised updates.
    pub const fn likelihood(learning_rate: f32) -> Self {
        Self {
            surrogate: Surrogate::LogLikelihood,
            learning_rate,
        }
    }
}

/// Work done by the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Tokens as the episodes or examples count them.
    pub n_tokens: u64,
    /// Tokens that the network really ran (shared prefixes once); in an update, with a forward pass
    /// of their own or without one.
    pub n_tokens_run: u64,
    /// Tokens that were sampled.
    pub n_tokens_sampled: u64,
    /// Floating point operations of the matrix products, forward and backward. An update that
    /// begins with its backward pass is counted whole, so that what a method costs does not depend
    /// on the room for recordings.
    pub flops: f64,
    /// Those of them that were not run, since drawing had done the same
    /// ([`Policy::expect_update`]).
    pub flops_recorded: f64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.n_tokens += other.n_tokens;
        self.n_tokens_run += other.n_tokens_run;
        self.n_tokens_sampled += other.n_tokens_sampled;
        self.flops += other.flops;
        self.flops_recorded += other.flops_recorded;
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateStats {
    /// The loss before the update, `f64` sum over targets.
    pub loss: f64,
    /// `Σ w log p` over targets of positive weight divided by their weights' sum: a mean
    /// log-probability in nats that can be compared between batches.
    pub mean_logprob: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Share of targets whose ratio was clipped (0 without a clipped surrogate).
    pub clipped_share: f64,
    /// Mean distance in nats between the log-probability of a target before the update and the one
    /// that it was sampled with ([`Example::old_logprobs`]); `None` where no target was sampled.
    pub logprob_gap: Option<f64>,
    /// Work done.
    pub work: Work,
}

/// Why a policy could not do what was asked. The policy is unchanged after an error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The loss was NaN or infinite; the optimizer has not moved.
    #[error("the loss is {value}, and the weights were left as they are")]
    NonFiniteLoss {
        /// The loss.
        value: f64,
    },
    /// The gradient norm was NaN or infinite; the optimizer has not moved.
    #[error("the norm of the gradient is {value}, and the weights were left as they are")]
    NonFiniteGradient {
        /// The norm.
        value: f64,
    },
    /// A log-probability was NaN: a weight is, or what was computed with them ran out of range.
    #[error("a log-probability is NaN: the model's weights are damaged, or far too large")]
    NotANumber,
    /// A token is not in the vocabulary.
    #[error("token id {token} is outside the vocabulary of {n_vocabulary} tokens")]
    UnknownToken {
        /// The id.
        token: TokenId,
        /// Size of the vocabulary.
        n_vocabulary: usize,
    },
    /// A sequence does not fit the model's context.
    #[error("a sequence of {n_tokens} tokens does not fit a context of {n_tokens_max}")]
    SequenceTooLong {
        /// Its length.
        n_tokens: usize,
        /// The context.
        n_tokens_max: usize,
    },
    /// One rollout alone needs more room than the key and value cache has.
    #[error(
        "a rollout of {n_tokens} tokens does not fit the key and value cache, which holds \
         {n_tokens_max}: give it at least {n_bytes} bytes"
    )]
    CacheTooSmall {
        /// Its length so far.
        n_tokens: usize,
        /// The tokens that fit.
        n_tokens_max: usize,
        /// Bytes that a rollout of its length needs.
        n_bytes: usize,
    },
    /// The policy was loaded to be run only.
    #[error("the weights were loaded to be run at half the memory, and cannot be trained")]
    NotTrainable,
    /// A move contradicts itself (no tokens, a temperature below 0, …).
    #[error("a move of episode {index}: {reason}")]
    BadMove {
        /// The episode's index.
        index: usize,
        /// What is wrong with the move.
        reason: &'static str,
    },
    /// An objective contradicts itself.
    #[error("the objective: {reason}")]
    BadObjective {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An example contradicts itself (lengths that differ, a weight on the first token, …).
    #[error("example {index}: {reason}")]
    BadExample {
        /// Its index in the batch.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What runs the model has failed, whatever was asked of it.
    #[error("{reason}")]
    Engine {
        /// How, and what to do.
        reason: String,
    },
}

/// A language model, seen from the algorithm.
pub trait Policy {
    /// Says that an update learns from the rollouts of the next run: an engine may keep what it
    /// computed of them, and compute it no second time. Changes no result.
    fn expect_update(&mut self) {}

    /// Drives all episodes to their end. Row `i` draws from `seed.nth(i)` alone, so its tokens do
    /// not depend on its neighbours.
    ///
    /// # Errors
    /// An unknown token or a feed longer than the context.
    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError>;

    /// `log p(token | everything before)` in nats for every token of the sequences whose weight is
    /// not 0, and 0 for the others: what [`Policy::update`] would train, under its restrictions.
    /// The size of a weight and old log-probabilities play no part.
    ///
    /// # Errors
    /// A bad example, or a log-probability that is no number.
    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError>;

    /// One optimizer step on a batch.
    ///
    /// # Errors
    /// A bad example, or a non-finite loss or gradient; the policy is then unchanged.
    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError>;

    /// The policy as it is now, to be run and scored with and never trained: a frozen scorer or a
    /// reference.
    fn snapshot(&self) -> Box<dyn Policy>;
}

/// Drives episodes of one kind to their end.
///
/// # Errors
/// As [`Policy::run`].
pub fn run_all<E: Episode>(
    policy: &dyn Policy,
    rows: &mut [E],
    seed: Seed,
) -> Result<Work, PolicyError> {
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    policy.run(&mut episodes, seed)
}

/// So many updates on one batch; what the last did, and the work of all. The gap is that of the
/// first: later ones have moved away from what was sampled. Where no target has a
/// weight there is nothing to learn, and an optimizer's momentum must not move.
///
/// # Errors
/// As [`Policy::update`].
pub fn train(
    policy: &mut dyn Policy,
    batch: &[Example],
    objective: Objective,
    n_updates: usize,
) -> Result<(UpdateStats, Work), PolicyError> {
    let (mut last, mut work) = (UpdateStats::default(), Work::default());
    let is_target = |example: &Example| example.weights.iter().any(|weight| *weight != 0.0);
    if batch.iter().any(is_target) {
        for _ in 0..n_updates {
            let gap = last.logprob_gap;
            last = policy.update(batch, objective)?;
            last.logprob_gap = gap.or(last.logprob_gap);
            work += last.work;
        }
    }
    Ok((last, work))
}
