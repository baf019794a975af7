//! One row of the engine, an episode or a sequence to be scored: its tokens, its path in the cache,
//! and what it waits for.

use std::sync::Arc;

use ra3::policy::{
    Episode, Example, Move, Observation, PolicyError, SampleRule, Stop, TokenId, Work,
};
use ra3::seed::Seed;

use super::ahead::Ahead;
use super::cache::Cache;
use crate::model::transformer::Transformer;

/// Tokens that a row is given room for beside those that it has.
const GROWTH_MIN: usize = 64;

/// Something that needs the logits of a node.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) row: usize,
    pub(crate) node: usize,
    pub(crate) kind: Kind,
}

/// What is asked of the logits.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// The log-probability of the token at this position of the row.
    Score {
        position: usize,
        token: TokenId,
        choices: Option<Arc<[TokenId]>>,
    },
    /// A draw.
    Draw { rule: SampleRule, uniform: f64 },
}

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) token: TokenId,
    pub(crate) logprob: f32,
}

/// What moves a row.
enum Driver<'e> {
    /// It asks for tokens.
    Episode {
        episode: &'e mut dyn Episode,
        seed: Seed,
        n_draws: u64,
    },
    /// Its tokens are known, and those of weight are scored.
    Sequence {
        sequence: &'e Example,
        /// One a token, 0 until it is known.
        logprobs: &'e mut [f32],
        /// Tokens that were asked about, or need not be.
        n_asked: usize,
    },
}

/// What a row waits for.
#[derive(Debug)]
enum Waiting {
    /// Its first move.
    Start,
    /// Tokens from `start` on are in the network.
    Feed { start: usize },
    /// Tokens from `start` on are being sampled.
    Sample {
        start: usize,
        rule: SampleRule,
        logprobs: Vec<f32>,
    },
    /// Nothing: it is over.
    Nothing,
}

/// An episode or a sequence in the engine.
pub(crate) struct Row<'e> {
    /// Its index among all rows.
    index: usize,
    driver: Driver<'e>,
    tokens: Vec<TokenId>,
    /// Nodes of the first tokens; the others are not in the network yet.
    path: Vec<usize>,
    /// Nodes behind them that were run before anybody asked for them.
    ahead: Ahead,
    /// Nodes beyond its path that the cache has promised it.
    n_promised: usize,
    was_parked: bool,
    waiting: Waiting,
}

impl<'e> Row<'e> {
    /// Row `index`, which draws from `seed` alone.
    pub(crate) fn episode(index: usize, episode: &'e mut dyn Episode, seed: Seed) -> Self {
        let n_draws = 0;
        Self::new(
            index,
            Driver::Episode {
                episode,
                seed,
                n_draws,
            },
        )
    }

    /// Row `index`, whose log-probabilities go to a place of its own.
    pub(crate) fn sequence(index: usize, sequence: &'e Example, logprobs: &'e mut [f32]) -> Self {
        let driver = Driver::Sequence {
            sequence,
            logprobs,
            n_asked: 1,
        };
        Self {
            tokens: sequence.tokens.clone(),
            waiting: Waiting::Feed { start: 0 },
            ..Self::new(index, driver)
        }
    }

    fn new(index: usize, driver: Driver<'e>) -> Self {
        Self {
            index,
            driver,
            tokens: Vec::new(),
            path: Vec::new(),
            ahead: Ahead::default(),
            n_promised: 0,
            was_parked: false,
            waiting: Waiting::Start,
        }
    }

    pub(crate) fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Asks for the first move; a row that was parked has had it.
    pub(crate) fn begin(&mut self, transformer: &Transformer) -> Result<(), PolicyError> {
        let Driver::Episode { episode, .. } = &mut self.driver else {
            return Ok(());
        };
        match self.waiting {
            Waiting::Start => {
                let room = transformer.config.max_position_embeddings;
                let first = episode.next(Observation::Started { room });
                self.follow(first, transformer)
            }
            Waiting::Feed { .. } | Waiting::Sample { .. } | Waiting::Nothing => Ok(()),
        }
    }

    /// Takes the room that it needs; false if there is too little, unless it is `alone`.
    ///
    /// That is room for its tokens and, where more may follow, for some more, since nobody knows
    /// how long it becomes. A row that was parked asks for twice its length: the lengths at which
    /// it is parked at least double, so what is computed anew for it is at most twice its last
    /// length.
    pub(crate) fn enter(&mut self, cache: &mut Cache, n_context: usize, alone: bool) -> bool {
        let shared = self.shared(cache);
        let growth = match (&self.driver, &self.waiting) {
            (Driver::Sequence { .. }, _) | (_, Waiting::Nothing) => 0,
            _ if self.was_parked => self.tokens.len().max(GROWTH_MIN),
            _ => GROWTH_MIN,
        };
        let n_wanted = self.tokens.len() - shared.len() + growth.min(n_context - self.tokens.len());
        if !alone && n_wanted > cache.n_open() {
            return false;
        }
        self.n_promised = n_wanted.min(cache.n_open());
        cache.promise(self.n_promised);
        shared.iter().for_each(|node| cache.hold(*node));
        self.path = shared;
        true
    }

    /// Nodes of its first tokens that other rows hold.
    fn shared(&self, cache: &Cache) -> Vec<usize> {
        let mut path: Vec<usize> = Vec::new();
        for token in &self.tokens {
            match cache.find(path.last().copied(), *token) {
                Some(node) if cache.is_held(node) => path.push(node),
                Some(_) | None => break,
            }
        }
        path
    }

    /// Finds or makes nodes for the tokens that have none, while there is room; new ones are
    /// appended to `fresh`.
    pub(crate) fn attach(&mut self, cache: &mut Cache, fresh: &mut Vec<usize>, n_max: usize) {
        while let Some(token) = self.tokens.get(self.path.len()) {
            let parent = self.path.last().copied();
            let known = cache.find(parent, *token);
            let is_shared = known.is_some_and(|node| cache.is_held(node));
            let has_room = is_shared || self.n_promised > 0 || cache.n_open() > 0;
            if !has_room || (known.is_none() && fresh.len() >= n_max) {
                return;
            }
            if self.n_promised > 0 {
                self.n_promised -= 1;
                cache.keep_promise(1);
            }
            let node = if let Some(node) = known {
                cache.hold(node);
                node
            } else {
                let node = cache.insert(parent, *token);
                fresh.push(node);
                node
            };
            self.path.push(node);
        }
    }

    /// Takes or makes a few nodes of what is likely to follow within the context, if all of its own
    /// tokens have theirs; false if there is none to take.
    pub(crate) fn run_ahead(
        &mut self,
        cache: &mut Cache,
        n_context: usize,
        fresh: &mut Vec<usize>,
        n_max: usize,
    ) -> bool {
        let Driver::Episode { episode, .. } = &self.driver else {
            return false;
        };
        let n_drawn = match &self.waiting {
            Waiting::Feed { .. } => 0,
            Waiting::Sample { start, .. } => self.tokens.len() - start,
            Waiting::Start | Waiting::Nothing => return false,
        };
        if n_drawn > 0 || self.path.len() < self.tokens.len() {
            return false;
        }
        let draft = episode.draft();
        let draft = &draft[..draft.len().min(n_context - self.tokens.len())];
        self.ahead.extend(&self.path, draft, cache, fresh, n_max)
    }

    /// Lets the nodes go that were run ahead; those that it has reached since are its own.
    pub(crate) fn let_ahead_go(&mut self, cache: &mut Cache) {
        self.ahead.release(&self.path, cache);
    }

    /// Gives its path back, to take it again later.
    pub(crate) fn park(&mut self, cache: &mut Cache) {
        self.was_parked = true;
        self.release(cache);
    }

    fn release(&mut self, cache: &mut Cache) {
        cache.release(&self.path);
        self.path.clear();
        cache.keep_promise(self.n_promised);
        self.n_promised = 0;
    }

    /// False once the episode is over; its path is then given back.
    pub(crate) fn is_live(&mut self, cache: &mut Cache) -> bool {
        let is_done = matches!(self.waiting, Waiting::Nothing);
        if is_done {
            self.release(cache);
        }
        !is_done
    }

    /// What it needs to know of nodes that are computed.
    pub(crate) fn ask(&mut self, row: usize, cache: &Cache, questions: &mut Vec<Question>) {
        match (&mut self.driver, &self.waiting) {
            (
                Driver::Sequence {
                    sequence,
                    logprobs,
                    n_asked,
                },
                _,
            ) => {
                for position in *n_asked..self.path.len() {
                    if sequence.weights[position] == 0.0 {
                        continue;
                    }
                    let choices = choices_at(sequence, position);
                    let known = cache.logprob(self.path[position]);
                    if let (None, Some(logprob)) = (&choices, known) {
                        logprobs[position] = logprob;
                        continue;
                    }
                    let token = sequence.tokens[position];
                    questions.push(Question {
                        row,
                        node: self.path[position - 1],
                        kind: Kind::Score {
                            position,
                            token,
                            choices,
                        },
                    });
                }
                *n_asked = (*n_asked).max(self.path.len());
            }
            (Driver::Episode { seed, n_draws, .. }, Waiting::Sample { rule, .. })
                if self.path.len() == self.tokens.len() =>
            {
                let node = *self
                    .path
                    .last()
                    .expect("an episode feeds before it samples");
                let kind = Kind::Draw {
                    rule: rule.clone(),
                    uniform: seed.nth(*n_draws).uniform(),
                };
                questions.push(Question { row, node, kind });
            }
            (Driver::Episode { .. }, _) => {}
        }
    }

    /// Takes an answer to a question of its own.
    pub(crate) fn take(&mut self, question: &Question, answer: Answer, cache: &mut Cache) {
        match (&question.kind, &mut self.driver, &mut self.waiting) {
            (
                Kind::Score {
                    position, choices, ..
                },
                Driver::Sequence { logprobs, .. },
                _,
            ) => {
                logprobs[*position] = answer.logprob;
                if choices.is_none() {
                    cache.set_logprob(self.path[*position], answer.logprob);
                }
            }
            (
                Kind::Draw { .. },
                Driver::Episode { n_draws, .. },
                Waiting::Sample { logprobs, .. },
            ) => {
                self.tokens.push(answer.token);
                logprobs.push(answer.logprob);
                *n_draws += 1;
            }
            (kind, _, waiting) => unreachable!("{kind:?} was asked while {waiting:?}"),
        }
    }

    /// Collects what is known, and makes the next move where that completes one. True if it did.
    pub(crate) fn advance(
        &mut self,
        transformer: &Transformer,
        work: &mut Work,
    ) -> Result<bool, PolicyError> {
        match self.waiting {
            Waiting::Feed { .. } if self.path.len() < self.tokens.len() => Ok(false),
            Waiting::Feed { start } => {
                work.n_tokens += (self.tokens.len() - start) as u64;
                let room = transformer.config.max_position_embeddings - self.tokens.len();
                let next = match &mut self.driver {
                    Driver::Episode { episode, .. } => episode.next(Observation::Fed { room }),
                    // What was asked of its last tokens has been answered.
                    Driver::Sequence { .. } => Move::Done,
                };
                self.follow(next, transformer)?;
                Ok(true)
            }
            Waiting::Sample { .. } => self.advance_sample(transformer, work),
            Waiting::Start | Waiting::Nothing => Ok(false),
        }
    }

    fn advance_sample(
        &mut self,
        transformer: &Transformer,
        work: &mut Work,
    ) -> Result<bool, PolicyError> {
        let (
            Driver::Episode { episode, .. },
            Waiting::Sample {
                start,
                rule,
                logprobs,
            },
        ) = (&mut self.driver, &mut self.waiting)
        else {
            unreachable!("called for an episode that samples")
        };
        let n_drawn = self.tokens.len() - *start;
        if n_drawn == 0 || self.path.len() == self.tokens.len() {
            return Ok(false);
        }
        let last = self.tokens[self.tokens.len() - 1];
        let n_context = transformer.config.max_position_embeddings;
        let stop = if rule.stop.contains(&last) {
            Stop::Token
        } else if n_drawn >= rule.n_tokens_max {
            Stop::Length
        } else if self.tokens.len() >= n_context {
            Stop::Context
        } else {
            return Ok(false);
        };
        work.n_tokens += n_drawn as u64;
        work.n_tokens_sampled += n_drawn as u64;
        let (start, logprobs) = (*start, std::mem::take(logprobs));
        let seen = Observation::Sampled {
            tokens: &self.tokens[start..],
            logprobs: &logprobs,
            stop,
            room: n_context - self.tokens.len(),
        };
        let next = episode.next(seen);
        self.follow(next, transformer)?;
        Ok(true)
    }

    fn follow(&mut self, next: Move, transformer: &Transformer) -> Result<(), PolicyError> {
        let start = self.tokens.len();
        transformer
            .config
            .limits()
            .check_move(self.index, &next, start)?;
        self.waiting = match next {
            Move::Done => Waiting::Nothing,
            Move::Feed(tokens) => {
                self.tokens.extend(tokens);
                Waiting::Feed { start }
            }
            Move::Sample(rule) => Waiting::Sample {
                start,
                rule,
                logprobs: Vec::new(),
            },
        };
        Ok(())
    }
}

/// What a target was chosen among, if not all.
fn choices_at(sequence: &Example, position: usize) -> Option<Arc<[TokenId]>> {
    let restrictions = &sequence.restrictions;
    let at = restrictions.binary_search_by_key(&position, |restriction| restriction.position);
    at.ok().map(|at| Arc::clone(&restrictions[at].choices))
}

#[cfg(test)]
mod tests;
