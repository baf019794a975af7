//! Rollouts and scores: all episodes at once, each step one packed pass of the network, and known
//! sequences by the same passes. A score has the bits of the draw that it is the score of.
//!
//! In a step every live row says what it needs: tokens to append, or a token to sample. New tokens
//! of all rows run together, whatever their lengths (continuous batching), and tokens that several
//! rows append after the same history run once (prefix sharing): rollouts of one trajectory cost
//! what their differences cost.
//!
//! A row enters when the cache has room for it and for its growth. When no live row can move for
//! want of room, the youngest is parked: it gives its room to the older ones, and enters again,
//! before any younger one, when there is room for twice its length. So all rows together run at
//! most three times their tokens, and with room enough each token once. What a row draws does not
//! depend on any of this, to the bit.

mod ahead;
mod attention;
mod cache;
mod drawn;
mod forward;
mod kept;
mod row;
mod sampler;

use std::collections::VecDeque;

use ra3::policy::{Episode, Example, Move, PolicyError, TokenId, Work};
use ra3::seed::Seed;
use rayon::prelude::*;

use crate::model::layer::numbers_a_row;
use crate::model::linear::Kernel;
use crate::model::recording::Recording;
use crate::model::transformer::Transformer;
use crate::model::weights::Weights;
use crate::model::workspace::Workspace;
use crate::train::TrainSettings;
use cache::Cache;
pub(crate) use cache::bytes_per_token;
pub(crate) use drawn::Drawn;
pub(crate) use kept::Kept;
use row::{Answer, Question, Row};

/// Rows that are live at once.
const LIVE_ROWS_MAX: usize = 512;
/// New tokens of a step.
const STEP_TOKENS_MAX: usize = 4096;
/// New tokens of a step that drafts fill it up to: fewer cost a pass about as much.
const AHEAD_TOKENS_MAX: usize = 64;
/// Nodes whose logits exist at once.
const LOGIT_ROWS_MAX: usize = 512;

/// A model as it draws and scores.
#[derive(Clone, Copy)]
pub(crate) struct Drawing<'a> {
    pub(crate) transformer: &'a Transformer,
    pub(crate) weights: &'a Weights,
    pub(crate) settings: &'a TrainSettings,
    /// Of the last run.
    pub(crate) kept: &'a Kept,
}

impl<'a> Drawing<'a> {
    /// Drives all episodes to their end. Row `i` draws from `seed.nth(i)` alone.
    pub(crate) fn run(
        self,
        episodes: &mut [&mut dyn Episode],
        seed: Seed,
    ) -> Result<Work, PolicyError> {
        let rows = episodes.iter_mut().enumerate().map(|(index, episode)| {
            let seed = seed.nth(index as u64);
            Row::episode(index, &mut **episode, seed)
        });
        let (is_learnt, last) = self.kept.begin();
        let drawn = Drawn::new(self.empty_cache(), self.recording(is_learnt, last));
        let Engine { drawn, work, .. } = self.drive(drawn, rows.collect())?;
        self.kept.put(self.weights.version(), self.kernel(), drawn);
        Ok(work)
    }

    /// Log-probabilities of the sequences' tokens that have weight, 0 for the others.
    pub(crate) fn score(self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        let limits = self.transformer.config.limits();
        limits.check_sequences(sequences)?;
        let zeros = |sequence: &Example| vec![0.0; sequence.tokens.len()];
        let mut logprobs: Vec<Vec<f32>> = sequences.iter().map(zeros).collect();
        let pairs = sequences.iter().zip(&mut logprobs).enumerate();
        let rows = pairs.map(|(index, (sequence, place))| Row::sequence(index, sequence, place));
        let (version, kernel) = (self.weights.version(), self.kernel());
        let kept = self.kept.take(version, kernel);
        let drawn = kept.unwrap_or_else(|| Drawn::new(self.empty_cache(), None));
        let Engine { drawn, work, .. } = self.drive(drawn, rows.collect())?;
        // Most of what is scored is not scored again: the cache goes, unless an update is to come.
        if drawn.is_recorded() {
            self.kept.put(version, kernel, drawn);
        }
        Ok((logprobs, work))
    }

    fn empty_cache(self) -> Cache {
        let n_bytes = self.settings.cache_bytes_max;
        Cache::new(&self.transformer.config, n_bytes, self.kernel())
    }

    /// An empty recording for a run that is learnt from, if there is room for one.
    fn recording(self, is_learnt: bool, last: Option<Recording>) -> Option<Recording> {
        let n_bytes = self.settings.recorded_bytes_max;
        let n_row = numbers_a_row(&self.transformer.config);
        (is_learnt && self.settings.can_record())
            .then(|| Recording::new(n_bytes, n_row, last))
            .filter(Recording::has_room)
    }

    fn kernel(self) -> Kernel {
        Kernel::of_generation(self.settings.compute)
    }

    /// Drives rows to their end.
    fn drive(self, drawn: Drawn, waiting: VecDeque<Row<'_>>) -> Result<Engine<'a>, PolicyError> {
        let mut engine = Engine {
            transformer: self.transformer,
            weights: self.weights,
            kernel: self.kernel(),
            drawn,
            work: Work::default(),
            workspace: Workspace::default(),
        };
        // Inside the pool this is one of the workers: no step wakes a thread to begin, or waits to
        // be woken by one.
        rayon::scope(|_| engine.drive(waiting))?;
        Ok(engine)
    }
}

/// Logits of the next token after every token of a sequence, `[tokens, vocabulary]`.
pub(crate) fn logits(
    transformer: &Transformer,
    weights: &Weights,
    settings: &TrainSettings,
    tokens: &[TokenId],
) -> Result<Vec<f32>, PolicyError> {
    let (n, config) = (tokens.len(), &transformer.config);
    if n > 0 {
        let whole = Move::Feed(tokens.to_vec());
        config.limits().check_move(0, &whole, 0)?;
    }
    let kernel = Kernel::of_generation(settings.compute);
    let mut cache = Cache::new(config, usize::MAX, kernel);
    let mut path: Vec<usize> = Vec::with_capacity(n);
    for token in tokens {
        path.push(cache.insert(path.last().copied(), *token));
    }
    let mut drawn = Drawn::new(cache, None);
    let workspace = &mut Workspace::default();
    forward::forward(transformer, weights, kernel, &mut drawn, &path, workspace);
    Ok(logits_of(weights, kernel, &drawn.cache, &path, workspace))
}

/// Logits of the next token after nodes that are computed, `[nodes, vocabulary]`.
fn logits_of(
    weights: &Weights,
    kernel: Kernel,
    cache: &Cache,
    nodes: &[usize],
    workspace: &mut Workspace,
) -> Vec<f32> {
    let head = &weights.layout.head;
    let mut hidden = workspace.take(nodes.len() * head.n_in);
    for (node, place) in nodes.iter().zip(hidden.chunks_mut(head.n_in)) {
        place.copy_from_slice(cache.hidden(*node));
    }
    let mut logits = workspace.take(nodes.len() * head.n_out);
    head.forward(kernel, &mut logits, weights, &hidden);
    workspace.give([hidden]);
    logits
}

struct Engine<'a> {
    transformer: &'a Transformer,
    weights: &'a Weights,
    kernel: Kernel,
    drawn: Drawn,
    work: Work,
    /// Buffers of the last step.
    workspace: Workspace,
}

impl Engine<'_> {
    /// Drives rows to their end, the first ones first.
    fn drive(&mut self, mut waiting: VecDeque<Row<'_>>) -> Result<(), PolicyError> {
        let mut live: Vec<Row<'_>> = Vec::new();
        while !(waiting.is_empty() && live.is_empty()) {
            self.admit(&mut live, &mut waiting)?;
            assert!(!live.is_empty(), "a row that is alone is let in");
            let moved = self.step(&mut live)?;
            live.retain_mut(|row| row.is_live(&mut self.drawn.cache));
            if !moved {
                self.park(&mut live, &mut waiting)?;
            }
        }
        Ok(())
    }

    /// Lets rows in, the oldest first, while there is room.
    fn admit<'e>(
        &mut self,
        live: &mut Vec<Row<'e>>,
        waiting: &mut VecDeque<Row<'e>>,
    ) -> Result<(), PolicyError> {
        let n_context = self.transformer.config.max_position_embeddings;
        while live.len() < LIVE_ROWS_MAX
            && let Some(row) = waiting.front_mut()
        {
            row.begin(self.transformer)?;
            if !row.enter(&mut self.drawn.cache, n_context, live.is_empty()) {
                break;
            }
            live.extend(waiting.pop_front());
        }
        Ok(())
    }

    /// One step; false if nothing could move for want of room.
    fn step(&mut self, live: &mut [Row<'_>]) -> Result<bool, PolicyError> {
        let mut fresh = Vec::new();
        for row in live.iter_mut() {
            row.attach(&mut self.drawn.cache, &mut fresh, STEP_TOKENS_MAX);
        }
        self.run_ahead(live, &mut fresh);
        let (drawn, workspace) = (&mut self.drawn, &mut self.workspace);
        let (transformer, weights) = (self.transformer, self.weights);
        forward::forward(transformer, weights, self.kernel, drawn, &fresh, workspace);
        self.count_pass(&fresh);
        let mut moved = !fresh.is_empty();
        while self.answer_rows(live)? {
            moved = true;
        }
        self.workspace.sweep();
        for row in live.iter_mut() {
            row.let_ahead_go(&mut self.drawn.cache);
        }
        Ok(moved)
    }

    /// Fills a small pass up with what rows are likely to need in the next ones.
    fn run_ahead(&mut self, live: &mut [Row<'_>], fresh: &mut Vec<usize>) {
        let n_context = self.transformer.config.max_position_embeddings;
        let mut is_more = true;
        while is_more && fresh.len() < AHEAD_TOKENS_MAX {
            is_more = false;
            for row in live.iter_mut() {
                is_more |= row.run_ahead(&mut self.drawn.cache, n_context, fresh, AHEAD_TOKENS_MAX);
            }
        }
    }

    /// Lets rows ask, draw and move on as far as the nodes that are computed go; false if none did.
    fn answer_rows(&mut self, live: &mut [Row<'_>]) -> Result<bool, PolicyError> {
        let mut questions = Vec::new();
        for (index, row) in live.iter_mut().enumerate() {
            row.ask(index, &self.drawn.cache, &mut questions);
        }
        let answers = self.answer(&questions);
        if answers.iter().any(|answer| answer.logprob.is_nan()) {
            return Err(PolicyError::NotANumber);
        }
        for (question, answer) in questions.iter().zip(answers) {
            live[question.row].take(question, answer, &mut self.drawn.cache);
        }
        let mut moved = !questions.is_empty();
        for row in live.iter_mut() {
            moved |= row.advance(self.transformer, &mut self.work)?;
            row.attach(&mut self.drawn.cache, &mut Vec::new(), 0);
        }
        Ok(moved)
    }

    /// Sends the youngest row back to wait, if any is left; what has to make room is computed again
    /// later.
    fn park<'e>(
        &mut self,
        live: &mut Vec<Row<'e>>,
        waiting: &mut VecDeque<Row<'e>>,
    ) -> Result<(), PolicyError> {
        // Rows that are over before they begin do not move either.
        let Some(mut row) = live.pop() else {
            return Ok(());
        };
        if live.is_empty() {
            return Err(self.too_small(row.n_tokens()));
        }
        row.park(&mut self.drawn.cache);
        waiting.push_front(row);
        Ok(())
    }

    fn too_small(&self, n_tokens: usize) -> PolicyError {
        PolicyError::CacheTooSmall {
            n_tokens,
            n_tokens_max: self.drawn.cache.n_nodes_max(),
            n_bytes: n_tokens * bytes_per_token(&self.transformer.config),
        }
    }

    /// Answers the questions; those about one node share its logits.
    fn answer(&mut self, questions: &[Question]) -> Vec<Answer> {
        let mut by_node: Vec<usize> = (0..questions.len()).collect();
        by_node.sort_by_key(|index| questions[*index].node);
        let groups: Vec<&[usize]> = by_node
            .chunk_by(|a, b| questions[*a].node == questions[*b].node)
            .collect();
        let config = &self.transformer.config;
        self.work.flops += config.head_flops(groups.len());
        let mut answers = vec![Answer::default(); questions.len()];
        for groups in groups.chunks(LOGIT_ROWS_MAX) {
            let nodes = groups.iter().map(|group| questions[group[0]].node);
            let nodes: Vec<usize> = nodes.collect();
            let (weights, workspace) = (self.weights, &mut self.workspace);
            let logits = logits_of(weights, self.kernel, &self.drawn.cache, &nodes, workspace);
            let found: Vec<Vec<Answer>> = logits
                .par_chunks(config.vocab_size)
                .zip(groups)
                .map(|(logits, group)| {
                    let ask = |index: &usize| &questions[*index];
                    sampler::answer(logits, &group.iter().map(ask).collect::<Vec<_>>())
                })
                .collect();
            self.workspace.give([logits]);
            for (group, found) in groups.iter().zip(found) {
                for (index, answer) in group.iter().zip(found) {
                    answers[*index] = answer;
                }
            }
        }
        answers
    }

    fn count_pass(&mut self, fresh: &[usize]) {
        let positions = fresh.iter().map(|node| self.drawn.cache.depth(*node));
        self.work.flops += self.transformer.config.layer_flops(positions);
        self.work.n_tokens_run += fresh.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use ra3::policy::Observation;

    use super::*;
    use crate::model::config::{Architecture, ModelConfig};

    /// Feeds five tokens.
    struct Five;

    impl Episode for Five {
        fn next(&mut self, seen: Observation<'_>) -> Move {
            match seen {
                Observation::Started { .. } => Move::Feed(vec![3, 1, 4, 1, 5]),
                Observation::Fed { .. } | Observation::Sampled { .. } => Move::Done,
            }
        }
    }

    fn config() -> ModelConfig {
        ModelConfig {
            vocab_size: 8,
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            max_position_embeddings: 16,
            ..ModelConfig::new(Architecture::Qwen2)
        }
    }

    /// Whether a row that feeds five tokens moves in each of its first steps, and how it ends.
    fn steps(n_tokens: usize) -> (Vec<bool>, bool) {
        let (config, mut episode) = (config(), Five);
        let weights = Weights::random(&config, Seed::root(1));
        let n_bytes = n_tokens * bytes_per_token(&config);
        let cache = Cache::new(&config, n_bytes, Kernel::Rows);
        let transformer = Transformer::new(config);
        let mut engine = Engine {
            transformer: &transformer,
            weights: &weights,
            kernel: Kernel::Rows,
            drawn: Drawn::new(cache, None),
            work: Work::default(),
            workspace: Workspace::default(),
        };
        let mut waiting = VecDeque::from([Row::episode(0, &mut episode, Seed::root(2))]);
        let mut live = Vec::new();
        engine.admit(&mut live, &mut waiting).expect("a good move");
        assert_eq!((live.len(), waiting.len()), (1, 0), "a row alone is let in");
        let moves = (0..3).map(|_| engine.step(&mut live).expect("numbers"));
        let moves = moves.collect();
        let is_live = live[0].is_live(&mut engine.drawn.cache);
        if is_live {
            let error = engine
                .park(&mut live, &mut waiting)
                .expect_err("it is alone");
            assert_eq!(error, engine.too_small(5));
        }
        (moves, is_live)
    }

    /// A step that says that something moved when nothing can would go on for ever.
    #[test]
    fn a_step_moves_while_there_is_room() {
        assert_eq!(steps(5), (vec![true, false, false], false));
        assert_eq!(steps(4), (vec![true, false, false], true));
    }
}
