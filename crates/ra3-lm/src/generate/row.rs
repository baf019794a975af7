//! One episode in the engine: its tokens, its path in the cache, and what it waits for.

use std::sync::Arc;

use ra3::policy::{Episode, Feed, Move, Observation, PolicyError, SampleRule, Stop, TokenId, Work};
use ra3::seed::Seed;

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
    /// The log-probability of the fed token at this position of the row.
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

/// What a row waits for.
#[derive(Debug)]
enum Waiting {
    /// Its first move.
    Start,
    /// Tokens from `start` on are in the network, with their log-probabilities.
    Feed {
        start: usize,
        scored: bool,
        choices: Option<Arc<[TokenId]>>,
        logprobs: Vec<f32>,
    },
    /// Tokens from `start` on are being sampled.
    Sample {
        start: usize,
        rule: SampleRule,
        logprobs: Vec<f32>,
    },
    /// Nothing: the episode is over.
    Nothing,
}

/// An episode in the engine.
pub(crate) struct Row<'e> {
    /// Its index among all rows.
    index: usize,
    episode: &'e mut dyn Episode,
    seed: Seed,
    n_draws: u64,
    tokens: Vec<TokenId>,
    /// Nodes of the first tokens; the others are not in the network yet.
    path: Vec<usize>,
    /// Nodes beyond them that the cache has promised it.
    n_promised: usize,
    was_parked: bool,
    waiting: Waiting,
}

impl<'e> Row<'e> {
    /// Row `index`, which draws from `seed` alone.
    pub(crate) fn new(index: usize, episode: &'e mut dyn Episode, seed: Seed) -> Self {
        Self {
            index,
            episode,
            seed,
            n_draws: 0,
            tokens: Vec::new(),
            path: Vec::new(),
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
        match self.waiting {
            Waiting::Start => {
                let first = self.episode.next(Observation::Started {
                    room: transformer.config.max_position_embeddings,
                });
                self.follow(first, transformer)
            }
            Waiting::Feed { .. } | Waiting::Sample { .. } | Waiting::Nothing => Ok(()),
        }
    }

    /// Takes the room that it needs; false if there is too little, unless it is `alone`.
    ///
    /// That is room for its tokens and for some more, since nobody knows how long it becomes. A row
    /// that was parked asks for twice its length: the lengths at which it is parked at least
    /// double, so what is computed anew for it is at most twice its last length.
    pub(crate) fn enter(&mut self, cache: &mut Cache, n_context: usize, alone: bool) -> bool {
        let shared = self.shared(cache);
        let growth = if self.was_parked {
            self.tokens.len().max(GROWTH_MIN)
        } else {
            GROWTH_MIN
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
    pub(crate) fn ask(&self, row: usize, cache: &Cache, questions: &mut Vec<Question>) {
        match &self.waiting {
            Waiting::Feed {
                start,
                scored: true,
                choices,
                logprobs,
            } => {
                for position in start + logprobs.len()..self.path.len() {
                    let first_choices = choices.as_ref().filter(|_| position == *start);
                    if position == 0
                        || (first_choices.is_none() && cache.logprob(self.path[position]).is_some())
                    {
                        continue;
                    }
                    let token = self.tokens[position];
                    let kind = Kind::Score {
                        position,
                        token,
                        choices: first_choices.cloned(),
                    };
                    questions.push(Question {
                        row,
                        node: self.path[position - 1],
                        kind,
                    });
                }
            }
            Waiting::Sample { rule, .. } if self.path.len() == self.tokens.len() => {
                let node = *self
                    .path
                    .last()
                    .expect("an episode feeds before it samples");
                let uniform = self.seed.nth(self.n_draws).uniform();
                let kind = Kind::Draw {
                    rule: rule.clone(),
                    uniform,
                };
                questions.push(Question { row, node, kind });
            }
            Waiting::Feed { scored: false, .. }
            | Waiting::Sample { .. }
            | Waiting::Start
            | Waiting::Nothing => {}
        }
    }

    /// Takes an answer to a question of its own.
    pub(crate) fn take(&mut self, question: &Question, answer: Answer, cache: &mut Cache) {
        match (&question.kind, &mut self.waiting) {
            (
                Kind::Score {
                    position,
                    choices: None,
                    ..
                },
                _,
            ) => {
                cache.set_logprob(self.path[*position], answer.logprob);
            }
            (Kind::Score { .. }, Waiting::Feed { logprobs, .. }) => logprobs.push(answer.logprob),
            (Kind::Draw { .. }, Waiting::Sample { logprobs, .. }) => {
                self.tokens.push(answer.token);
                logprobs.push(answer.logprob);
                self.n_draws += 1;
            }
            (kind, waiting) => unreachable!("{kind:?} was asked while {waiting:?}"),
        }
    }

    /// Collects what is known, and makes the next move where that completes one. True if it did.
    pub(crate) fn advance(
        &mut self,
        transformer: &Transformer,
        cache: &Cache,
        work: &mut Work,
    ) -> Result<bool, PolicyError> {
        match &mut self.waiting {
            Waiting::Feed {
                start,
                scored,
                logprobs,
                ..
            } => {
                if *scored {
                    for position in *start + logprobs.len()..self.path.len() {
                        let logprob = if position == 0 {
                            0.0
                        } else {
                            cache.logprob(self.path[position]).expect("it was asked")
                        };
                        logprobs.push(logprob);
                    }
                }
                if self.path.len() < self.tokens.len() {
                    return Ok(false);
                }
                work.n_tokens += (self.tokens.len() - *start) as u64;
                let logprobs = std::mem::take(logprobs);
                let room = transformer.config.max_position_embeddings - self.tokens.len();
                let next = self.episode.next(Observation::Fed {
                    logprobs: &logprobs,
                    room,
                });
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
        let Waiting::Sample {
            start,
            rule,
            logprobs,
        } = &mut self.waiting
        else {
            unreachable!("called for a row that samples")
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
        let next = self.episode.next(seen);
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
            Move::Feed(Feed {
                tokens,
                scored,
                choices,
            }) => {
                self.tokens.extend(tokens);
                Waiting::Feed {
                    start,
                    scored,
                    choices,
                    logprobs: Vec::new(),
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::cache::bytes_per_token;
    use crate::model::config::{Architecture, ModelConfig};

    /// Feeds so many tokens, each another than the one before.
    struct Prompt(u32);

    impl Episode for Prompt {
        fn next(&mut self, _: Observation<'_>) -> Move {
            Move::Feed(Feed::unscored((0..self.0).map(|i| i % 7).collect()))
        }
    }

    fn transformer() -> Transformer {
        Transformer::new(ModelConfig {
            vocab_size: 8,
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            max_position_embeddings: 300,
            ..ModelConfig::new(Architecture::Qwen2)
        })
    }

    fn room_for(n_tokens: usize) -> Cache {
        let config = transformer().config;
        Cache::new(&config, n_tokens * bytes_per_token(&config))
    }

    /// Whether a row of so many tokens enters, and the room that it leaves open. Beside it the
    /// first `n_held` tokens are held.
    fn enter(
        n_tokens: u32,
        n_room: usize,
        n_context: usize,
        alone: bool,
        n_held: u32,
        was_parked: bool,
    ) -> (bool, usize) {
        let (mut episode, mut cache) = (Prompt(n_tokens), room_for(n_room));
        let mut parent = None;
        for i in 0..n_held {
            parent = Some(cache.insert(parent, i % 7));
        }
        let mut row = Row::new(0, &mut episode, Seed::root(0));
        row.was_parked = was_parked;
        row.begin(&transformer()).expect("a good move");
        assert_eq!(row.n_tokens(), n_tokens as usize);
        let has_entered = row.enter(&mut cache, n_context, alone);
        assert_eq!(
            row.path.len(),
            if has_entered { n_held as usize } else { 0 }
        );
        (has_entered, cache.n_open())
    }

    #[test]
    fn a_row_is_promised_room_for_its_tokens_and_for_some_more() {
        // 64 more than it has; a row that was parked twice what it has, if that is more.
        assert_eq!(enter(5, 100, 300, false, 0, false), (true, 100 - 69));
        assert_eq!(enter(5, 100, 300, false, 0, true), (true, 100 - 69));
        assert_eq!(enter(90, 200, 300, false, 0, false), (true, 200 - 154));
        assert_eq!(enter(90, 200, 300, false, 0, true), (true, 200 - 180));
        // No more than the context holds.
        assert_eq!(enter(5, 100, 16, false, 0, false), (true, 100 - 16));
        assert_eq!(enter(90, 200, 100, false, 0, true), (true, 200 - 100));
        // What others hold is there already.
        assert_eq!(enter(5, 100, 300, false, 3, false), (true, 100 - 69));
        assert_eq!(enter(5, 69, 300, false, 3, false), (true, 0));
    }

    #[test]
    fn a_row_enters_where_there_is_room_or_nobody_else() {
        assert_eq!(enter(5, 69, 300, false, 0, false), (true, 0));
        assert_eq!(enter(5, 68, 300, false, 0, false), (false, 68));
        assert_eq!(enter(5, 68, 300, true, 0, false), (true, 0));
        assert_eq!(enter(5, 3, 300, true, 0, false), (true, 0));
    }

    /// Two rows of the same five tokens that enter before either has nodes, and take them in turn
    /// in steps of at most `n_max` new ones: nodes of the rows, new ones, and open room, a step.
    fn attach(n_room: usize, n_max: usize) -> Vec<([usize; 2], usize, usize)> {
        let (mut first, mut second, mut cache) = (Prompt(5), Prompt(5), room_for(n_room));
        let mut rows = [&mut first, &mut second].map(|prompt| Row::new(0, prompt, Seed::root(0)));
        for row in &mut rows {
            row.begin(&transformer()).expect("a good move");
            assert!(row.enter(&mut cache, 300, true));
        }
        let mut steps = Vec::new();
        for _ in 0..2 {
            let mut fresh = Vec::new();
            for row in &mut rows {
                row.attach(&mut cache, &mut fresh, n_max);
            }
            let lengths = [0, 1].map(|at| rows[at].path.len());
            assert_eq!(rows[0].path[..lengths[1]], rows[1].path[..lengths[1]]);
            steps.push((lengths, fresh.len(), cache.n_open()));
        }
        steps
    }

    #[test]
    fn rows_share_nodes_and_keep_to_their_room_and_to_the_step() {
        // Room for everything: 69 are promised to each, and what is shared is promised to neither.
        assert_eq!(attach(200, 9), [([5, 5], 5, 67), ([5, 5], 0, 67)]);
        // The second row was promised the 31 that were left.
        assert_eq!(attach(100, 9), [([5, 5], 5, 5), ([5, 5], 0, 5)]);
        // It was promised nothing, and needs no room for what the first one holds.
        assert_eq!(attach(5, 9), [([5, 5], 5, 0), ([5, 5], 0, 0)]);
        assert_eq!(attach(4, 9), [([4, 4], 4, 0), ([4, 4], 0, 0)]);
        // New nodes of a step are counted, those of other rows are not.
        assert_eq!(attach(200, 3), [([3, 3], 3, 65), ([5, 5], 2, 67)]);
    }
}
