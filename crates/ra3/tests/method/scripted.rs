//! A policy that says what it was told to, and keeps everything that it was asked.

use std::cell::RefCell;

use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, SampleRule, Stop, TokenId,
    UpdateStats, Work,
};
use ra3::seed::Seed;

/// Tokens that its context holds.
const CONTEXT: usize = 1 << 20;

/// `log p` of a token after a history.
type Logprob = fn(&[TokenId], TokenId) -> f32;

/// Row `i` of a run samples the tokens of the `i`-th script, one after the other; a run that
/// samples nothing needs none.
pub(crate) struct Scripted {
    scripts: Vec<Vec<TokenId>>,
    logprob: Logprob,
    /// What each run was asked with.
    pub(crate) seeds: RefCell<Vec<Seed>>,
    /// What the rows of the last run asked, in their order.
    pub(crate) moves: RefCell<Vec<Vec<Move>>>,
    /// What they said is likely to follow, after each move.
    pub(crate) drafts: RefCell<Vec<Vec<Vec<TokenId>>>>,
    /// What was scored, call after call.
    pub(crate) scored: RefCell<Vec<Vec<Example>>>,
    /// What was trained on.
    pub(crate) updates: Vec<(Vec<Example>, Objective)>,
}

impl Scripted {
    /// A policy with these scripts, one a row.
    pub(crate) fn new(scripts: &[&[TokenId]], logprob: Logprob) -> Self {
        Self {
            scripts: scripts.iter().map(|script| script.to_vec()).collect(),
            logprob,
            seeds: RefCell::default(),
            moves: RefCell::default(),
            drafts: RefCell::default(),
            scored: RefCell::default(),
            updates: Vec::new(),
        }
    }

    /// The one batch that was trained on.
    pub(crate) fn trained(&self) -> &[Example] {
        let [(examples, _)] = &self.updates[..] else {
            panic!("{} updates in place of one", self.updates.len());
        };
        examples
    }

    fn sample(
        &self,
        history: &mut Vec<TokenId>,
        rule: &SampleRule,
        script: &mut impl Iterator<Item = TokenId>,
    ) -> (Vec<f32>, Stop) {
        assert!(rule.n_tokens_max > 0, "at least one token is sampled");
        let mut logprobs = Vec::new();
        loop {
            let token = script.next().expect("the script is long enough");
            let choices = rule.choices.as_deref();
            assert!(
                choices.is_none_or(|choices| choices.contains(&token)),
                "{token} is not among {choices:?}"
            );
            logprobs.push((self.logprob)(history, token));
            history.push(token);
            if rule.stop.contains(&token) {
                return (logprobs, Stop::Token);
            }
            if logprobs.len() == rule.n_tokens_max {
                return (logprobs, Stop::Length);
            }
        }
    }

    fn drive(&self, episode: &mut dyn Episode, row: usize, work: &mut Work) {
        let script = self.scripts.get(row).cloned().unwrap_or_default();
        let mut script = script.into_iter();
        let (mut history, mut moves, mut drafts) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = episode.next(Observation::Started { room: CONTEXT });
        loop {
            moves.push(next.clone());
            drafts.push(episode.draft().to_vec());
            assert!(moves.len() < 1000, "row {row} does not end");
            let start = history.len();
            next = match next {
                Move::Done => break,
                Move::Feed(tokens) => {
                    assert!(!tokens.is_empty(), "a feed is never empty");
                    history.extend(tokens);
                    episode.next(Observation::Fed {
                        room: CONTEXT - history.len(),
                    })
                }
                Move::Sample(rule) => {
                    let (logprobs, stop) = self.sample(&mut history, &rule, &mut script);
                    work.n_tokens_sampled += logprobs.len() as u64;
                    episode.next(Observation::Sampled {
                        tokens: &history[start..],
                        logprobs: &logprobs,
                        stop,
                        room: CONTEXT - history.len(),
                    })
                }
            };
        }
        let samples = moves.iter().any(|asked| matches!(asked, Move::Sample(_)));
        assert!(
            !samples || script.next().is_none(),
            "row {row} did not say all of its script"
        );
        self.moves.borrow_mut().push(moves);
        self.drafts.borrow_mut().push(drafts);
        work.n_tokens += history.len() as u64;
    }
}

impl Policy for Scripted {
    /// A run costs 1,000 operations.
    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        self.seeds.borrow_mut().push(seed);
        self.moves.borrow_mut().clear();
        self.drafts.borrow_mut().clear();
        let mut work = Work {
            flops: 1000.0,
            ..Work::default()
        };
        for (row, episode) in episodes.iter_mut().enumerate() {
            self.drive(&mut **episode, row, &mut work);
        }
        Ok(work)
    }

    /// A call costs 100 operations.
    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        self.scored.borrow_mut().push(sequences.to_vec());
        let score = |example: &Example| {
            let targets = example.tokens.iter().zip(&example.weights).enumerate();
            let logprob = |(at, (token, weight)): (usize, (&TokenId, &f32))| {
                let history = &example.tokens[..at];
                if *weight == 0.0 {
                    0.0
                } else {
                    (self.logprob)(history, *token)
                }
            };
            targets.map(logprob).collect()
        };
        let work = Work {
            flops: 100.0,
            ..Work::default()
        };
        Ok((sequences.iter().map(score).collect(), work))
    }

    /// A copy that says the same, and was asked nothing yet.
    fn snapshot(&self) -> Box<dyn Policy> {
        let scripts: Vec<&[TokenId]> = self.scripts.iter().map(Vec::as_slice).collect();
        Box::new(Self::new(&scripts, self.logprob))
    }

    /// The `n`-th update has the loss `n` and costs one operation.
    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        self.updates.push((batch.to_vec(), objective));
        Ok(UpdateStats {
            loss: self.updates.len() as f64,
            work: Work {
                n_tokens_run: 10,
                flops: 1.0,
                ..Work::default()
            },
            ..UpdateStats::default()
        })
    }
}
