//! Episodes that follow a list of moves and keep what they see.

use std::num::NonZeroUsize;

use ra3::policy::{
    Episode, Feed, Move, Observation, Policy, PolicyError, SampleRule, Stop, TokenId, Work,
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
    pub(crate) seen: Vec<Seen>,
}

impl Script {
    pub(crate) fn new(moves: Vec<Move>) -> Self {
        Self {
            moves,
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

    /// All log-probabilities that were reported.
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
            Observation::Started { .. } => (&[][..], &[][..], None),
            Observation::Fed { logprobs, .. } => (&[][..], logprobs, None),
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
}

/// Runs scripts to their end.
pub(crate) fn run(
    policy: &mut dyn Policy,
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
    run(&mut *(subject.make)(), &mut scripts, seed).expect("moves that are in order");
    scripts
}

/// Log-probabilities of a sequence, fed at once; the first is 0.
pub(crate) fn score(policy: &mut dyn Policy, tokens: &[TokenId]) -> Vec<f32> {
    let mut script = [Script::new(vec![feed(tokens)])];
    run(policy, &mut script, 0).expect("a sequence that fits");
    script[0].logprobs()
}

/// `p(token | prompt)` of every token, by the scores of the sequences that end in it.
pub(crate) fn distribution(subject: &Subject, prompt: &[TokenId]) -> Vec<f64> {
    let rows = (0..subject.n_vocabulary as TokenId)
        .map(|token| vec![feed(&[prompt, &[token]].concat())])
        .collect();
    let rows = play(subject, rows, 0);
    let last = |row: &Script| row.logprobs()[prompt.len()];
    let shares: Vec<f64> = rows.iter().map(|row| f64::from(last(row)).exp()).collect();
    let total: f64 = shares.iter().sum();
    assert!((total - 1.0).abs() < 1e-4, "probabilities sum to {total}");
    shares
}

pub(crate) fn feed(tokens: &[TokenId]) -> Move {
    Move::Feed(Feed::scored(tokens.to_vec()))
}

/// One token from the whole distribution.
pub(crate) fn rule() -> SampleRule {
    SampleRule {
        temperature: 1.0,
        top_k: None,
        top_p: None,
        choices: None,
        stop: [].into(),
        n_tokens_max: 1,
    }
}

pub(crate) fn top_k(k: usize) -> Option<NonZeroUsize> {
    Some(NonZeroUsize::new(k).expect("at least one"))
}

/// Some tokens of the vocabulary.
pub(crate) fn tokens(subject: &Subject, n: usize, salt: u64) -> Vec<TokenId> {
    let seed = Seed::root(1000 + salt);
    let n_vocabulary = subject.n_vocabulary as f64;
    (0..n as u64)
        .map(|index| (seed.nth(index).uniform() * n_vocabulary) as TokenId)
        .collect()
}
