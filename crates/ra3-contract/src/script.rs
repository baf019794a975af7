//! Episodes that follow a list of moves and keep what they see.

use std::num::NonZeroUsize;

use ra3::policy::{
    Episode, Example, Move, Observation, Policy, PolicyError, SampleRule, Stop, TokenId, Work,
};
use ra3::seed::Seed;

use crate::Subject;

/// What an episode saw after a move.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) stop: Option<Stop>,
    pub(crate) room: usize,
}

/// A list of moves, and what was seen: first the start, then one entry a move.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    moves: Vec<Move>,
    /// By move, what is likely to follow; nothing where there is none.
    pub(crate) drafts: Vec<Vec<TokenId>>,
    pub(crate) seen: Vec<Seen>,
}

impl Script {
    pub(crate) fn new(moves: Vec<Move>) -> Self {
        Self {
            moves,
            drafts: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// All tokens that were sampled.
    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        self.seen
            .iter()
            .flat_map(|seen| seen.tokens.clone())
            .collect()
    }

    /// The log-probabilities of all tokens that were sampled.
    pub(crate) fn logprobs(&self) -> Vec<f32> {
        self.seen
            .iter()
            .flat_map(|seen| seen.logprobs.clone())
            .collect()
    }
}

impl Episode for Script {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let room = seen.room();
        let (tokens, logprobs, stop) = match seen {
            Observation::Started { .. } | Observation::Fed { .. } => (&[][..], &[][..], None),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => (tokens, logprobs, Some(stop)),
        };
        self.seen.push(Seen {
            tokens: tokens.to_vec(),
            logprobs: logprobs.to_vec(),
            stop,
            room,
        });
        // The start was the first entry.
        self.moves
            .get(self.seen.len() - 1)
            .cloned()
            .unwrap_or(Move::Done)
    }

    fn draft(&self) -> &[TokenId] {
        let last = self.seen.len().checked_sub(1);
        last.and_then(|last| self.drafts.get(last))
            .map_or(&[], Vec::as_slice)
    }
}

/// Runs scripts to their end.
pub(crate) fn run(
    policy: &dyn Policy,
    scripts: &mut [Script],
    seed: u64,
) -> Result<Work, PolicyError> {
    let mut episodes: Vec<&mut dyn Episode> = scripts
        .iter_mut()
        .map(|script| script as &mut dyn Episode)
        .collect();
    policy.run(&mut episodes, Seed::root(seed))
}

/// Runs lists of moves in a fresh policy.
pub(crate) fn play(subject: &Subject, rows: Vec<Vec<Move>>, seed: u64) -> Vec<Script> {
    let mut scripts: Vec<Script> = rows.into_iter().map(Script::new).collect();
    run(&*(subject.make)(), &mut scripts, seed).expect("moves that are in order");
    scripts
}

/// All tokens of a sequence but the first as targets.
pub(crate) fn sequence(tokens: &[TokenId]) -> Example {
    let mut weights = vec![1.0; tokens.len()];
    if let Some(first) = weights.first_mut() {
        *first = 0.0;
    }
    Example {
        tokens: tokens.to_vec(),
        weights,
        restrictions: vec![],
        old_logprobs: vec![],
    }
}

/// Log-probabilities of a sequence; the first is 0.
pub(crate) fn score(policy: &dyn Policy, tokens: &[TokenId]) -> Vec<f32> {
    let (mut found, _) = policy
        .score(&[sequence(tokens)])
        .expect("a sequence that fits");
    found.remove(0)
}

/// `p(token | prompt)` of every token, by the scores of the sequences that end in it.
pub(crate) fn distribution(subject: &Subject, prompt: &[TokenId]) -> Vec<f64> {
    let rows: Vec<Example> = (0..subject.n_vocabulary as TokenId)
        .map(|token| sequence(&[prompt, &[token]].concat()))
        .collect();
    let (rows, _) = (subject.make)().score(&rows).expect("sequences that fit");
    let last = |row: &Vec<f32>| f64::from(row[prompt.len()]).exp();
    let shares: Vec<f64> = rows.iter().map(last).collect();
    let total: f64 = shares.iter().sum();
    assert!((total - 1.0).abs() < 1e-4, "probabilities sum to {total}");
    shares
}

pub(crate) fn feed(tokens: &[TokenId]) -> Move {
    Move::Feed(tokens.to_vec())
}

/// One token from the whole distribution.
pub(crate) fn rule() -> SampleRule {
    SampleRule::plain(1.0, 1)
}

pub(crate) fn top_k(k: usize) -> NonZeroUsize {
    NonZeroUsize::new(k).expect("at least one")
}

/// Some tokens of the vocabulary.
pub(crate) fn tokens(subject: &Subject, n: usize, salt: u64) -> Vec<TokenId> {
    let seed = Seed::root(1000 + salt);
    let n_vocabulary = subject.n_vocabulary as f64;
    (0..n as u64)
        .map(|index| (seed.nth(index).uniform() * n_vocabulary) as TokenId)
        .collect()
}
