//! An update that learns from what was drawn begins with its backward pass, and is the same update
//! to the bit: of models of any shape, with any room for keys, values and activations, whatever was
//! scored in between.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use proptest::prelude::*;
use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, SampleRule, Surrogate, TokenId,
    UpdateStats, Work,
};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};

const N_CONTEXT: usize = 96;
const ROOMY: usize = 1 << 28;

fn config(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        vocab_size: 24,
        hidden_size: 16,
        intermediate_size: 40,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: N_CONTEXT,
        ..ModelConfig::new(architecture)
    }
}

/// What may differ between two engines that are the same model.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Tokens of the cache.
    cache_tokens: usize,
    recorded_bytes: usize,
    micro_tokens: usize,
}

fn model(architecture: Architecture, compute: Precision, room: Room) -> Lm {
    let config = config(architecture);
    let settings = TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: room.micro_tokens,
        recompute: false,
        cache_bytes_max: memory::cache_bytes(&config, room.cache_tokens),
        recorded_bytes_max: room.recorded_bytes,
        compute,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let mut lm = Lm::random(config, settings, Seed::root(3));
    // Larger weights tell one history from another.
    let of_matrices = lm.weights_mut().data_mut().iter_mut();
    of_matrices.filter(|w| **w != 1.0).for_each(|w| *w *= 12.0);
    lm
}

/// Feeds a prompt, and then samples and feeds by turns; says from the start what it is going to
/// feed, which is wrong wherever something else is sampled.
#[derive(Clone, Debug)]
struct Row {
    prompt: Vec<TokenId>,
    pieces: Vec<usize>,
    n_moves: usize,
    draft: Vec<TokenId>,
    tokens: Vec<TokenId>,
    /// By token; 0 where it was fed.
    logprobs: Vec<f32>,
}

fn row() -> impl Strategy<Value = Row> {
    let prompt = prop_oneof![
        // Beginnings that rows share, and prompts of their own.
        (9..20usize, 0..3u32).prop_map(|(n, last)| [vec![7; n], vec![last]].concat()),
        prop::collection::vec(0..24u32, 1..40),
    ];
    let pieces = prop::collection::vec(1..12usize, 1..6);
    (prompt, pieces, 0..30usize).prop_map(|(prompt, pieces, n_draft)| Row {
        prompt,
        pieces,
        n_moves: 0,
        draft: (0..n_draft).map(|at| at as TokenId % 5).collect(),
        tokens: Vec::new(),
        logprobs: Vec::new(),
    })
}

impl Row {
    fn feed(&mut self, tokens: Vec<TokenId>) -> Move {
        self.logprobs.resize(self.tokens.len() + tokens.len(), 0.0);
        self.tokens.extend(&tokens);
        Move::Feed(tokens)
    }

    /// Weights that differ by token, with targets among what was fed, too.
    fn example(&self, index: usize) -> Example {
        let weight = |at: usize| match (at * 7 + index * 3) % 5 {
            _ if at == 0 => 0.0,
            0 | 1 => 0.0,
            n => n as f32 * 0.25 - 0.8,
        };
        let mut example = Example::plain(
            self.tokens.clone(),
            (0..self.tokens.len()).map(weight).collect(),
        );
        example.old_logprobs.clone_from(&self.logprobs);
        example
    }
}

impl Episode for Row {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let room = seen.room();
        if let Observation::Sampled {
            tokens, logprobs, ..
        } = seen
        {
            self.tokens.extend(tokens);
            self.logprobs.extend(logprobs);
        }
        if self.tokens.is_empty() {
            return self.feed(self.prompt.clone());
        }
        let Some(n) = self.pieces.get(self.n_moves).copied() else {
            return Move::Done;
        };
        self.n_moves += 1;
        match room {
            0 => Move::Done,
            _ if n % 3 == 0 => self.feed((0..n.min(room)).map(|at| at as TokenId % 5).collect()),
            _ => Move::Sample(SampleRule::plain(0.9, n)),
        }
    }

    fn draft(&self) -> &[TokenId] {
        &self.draft
    }
}

/// Draws the rows and learns from them; what the update did, and the weights behind it.
fn learn(
    mut lm: Lm,
    rows: &[Row],
    is_expected: bool,
    is_scored: bool,
) -> (UpdateStats, Vec<u32>, Vec<Row>) {
    let mut rows = rows.to_vec();
    if is_expected {
        lm.expect_update();
    }
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    lm.run(&mut episodes, Seed::root(5)).unwrap();
    let examples = rows.iter().enumerate();
    let examples: Vec<Example> = examples.map(|(index, row)| row.example(index)).collect();
    if is_scored {
        lm.score(&examples).unwrap();
    }
    let objective = Objective {
        surrogate: Surrogate::over(1, 0.2, 0.2),
        learning_rate: 1e-2,
    };
    let stats = lm.update(&examples, objective).unwrap();
    let weights = lm.weights().data().iter().map(|w| w.to_bits()).collect();
    (stats, weights, rows)
}

fn architecture() -> impl Strategy<Value = Architecture> {
    prop_oneof![
        Just(Architecture::Qwen2),
        Just(Architecture::Qwen3),
        Just(Architecture::Llama)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_update_on_what_was_recorded_is_the_same_to_the_bit(
        architecture in architecture(),
        rows in prop::collection::vec(row(), 1..10),
        cache_tokens in prop_oneof![N_CONTEXT..3 * N_CONTEXT, Just(100 * N_CONTEXT)],
        recorded_bytes in prop_oneof![Just(ROOMY), 0..1usize << 20],
        micro_tokens in prop_oneof![1..200usize, Just(4096)],
        is_scored in any::<bool>(),
    ) {
        let room = Room { cache_tokens, recorded_bytes, micro_tokens };
        let of = |is_expected, room| {
            let lm = model(architecture, Precision::Bfloat16, room);
            learn(lm, &rows, is_expected, is_scored)
        };
        let (expected, weights, drawn) = of(false, room);
        let (found, found_weights, found_drawn) = of(true, room);
        prop_assert!(drawn.iter().zip(&found_drawn).all(|(a, b)| a.tokens == b.tokens));
        prop_assert_eq!(found.loss.to_bits(), expected.loss.to_bits());
        prop_assert_eq!(found.gradient_norm.to_bits(), expected.gradient_norm.to_bits());
        prop_assert_eq!(found.logprob_gap, expected.logprob_gap);
        prop_assert!(found_weights == weights);
        prop_assert_eq!(
            Work { flops_recorded: 0.0, ..found.work },
            expected.work
        );
        if recorded_bytes == ROOMY && cache_tokens > 50 * N_CONTEXT && expected.work.flops > 0.0 {
            prop_assert!(found.work.flops_recorded > 0.3 * found.work.flops, "nothing was found");
        }
    }
}

/// Four rows of a prompt each.
fn prompts() -> Vec<Row> {
    let row = |first: TokenId| Row {
        prompt: (first..first + 15).collect(),
        pieces: vec![8],
        n_moves: 0,
        draft: Vec::new(),
        tokens: Vec::new(),
        logprobs: Vec::new(),
    };
    (0..4).map(row).collect()
}

const AMPLE: Room = Room {
    cache_tokens: 100 * N_CONTEXT,
    recorded_bytes: ROOMY,
    micro_tokens: 4096,
};

/// In `f32` training's sums are others than generation's, so nothing is recorded.
#[test]
fn in_f32_an_update_runs_its_own_forward_pass() {
    let of = |is_expected| {
        let lm = model(Architecture::Qwen2, Precision::Float32, AMPLE);
        learn(lm, &prompts(), is_expected, true)
    };
    let ((expected, weights, _), (found, found_weights, _)) = (of(false), of(true));
    assert!(expected.work == found.work && weights == found_weights);
}

/// Draws rows of a prompt; the tokens of the first.
fn draw(lm: &Lm, seed: u64) -> Vec<TokenId> {
    let mut rows = prompts();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    lm.run(&mut episodes, Seed::root(seed)).unwrap();
    rows.swap_remove(0).tokens
}

/// The share of an update's work that was found.
fn found_by_update(lm: &mut Lm, tokens: &[TokenId]) -> f64 {
    let mut weights = vec![1.0; tokens.len()];
    weights[0] = 0.0;
    let example = Example::plain(tokens.to_vec(), weights);
    let work = lm.update(&[example], Objective::likelihood(1e-2));
    let work = work.unwrap().work;
    work.flops_recorded / (work.flops - 3.0 * 2.0 * 16.0 * 24.0 * (tokens.len() - 1) as f64)
}

#[test]
fn what_was_recorded_serves_one_update_on_its_own_rows() {
    let mut lm = model(Architecture::Qwen3, Precision::Bfloat16, AMPLE);
    let tokens = draw(&lm, 5);
    assert_eq!(found_by_update(&mut lm, &tokens), 0.0, "none was expected");
    for seed in 0..3 {
        lm.expect_update();
        let tokens = draw(&lm, seed);
        let copied = found_by_update(&mut lm.clone(), &tokens);
        assert_eq!(copied, 0.0, "a copy has drawn nothing");
        assert_eq!(found_by_update(&mut lm, &tokens), 1.0 / 3.0);
        let again = found_by_update(&mut lm, &tokens);
        assert_eq!(again, 0.0, "the weights have moved");
    }
    lm.expect_update();
    let unknown: Vec<TokenId> = draw(&lm, 5).into_iter().rev().collect();
    assert_eq!(found_by_update(&mut lm, &unknown), 0.0);
    lm.expect_update();
    draw(&lm, 5);
    let tokens = draw(&lm, 5);
    let found = found_by_update(&mut lm, &tokens);
    assert_eq!(found, 0.0, "the run before the last was recorded");
}

/// A batch that is refused leaves what was drawn to no update, and the next one is as good as ever.
#[test]
fn a_refused_update_is_followed_by_a_good_one() {
    let mut lm = model(Architecture::Llama, Precision::Bfloat16, AMPLE);
    lm.expect_update();
    let tokens = draw(&lm, 5);
    let bad = Example::plain(vec![99, 1], vec![0.0, 1.0]);
    lm.update(&[bad], Objective::likelihood(1e-2)).unwrap_err();
    assert_eq!(found_by_update(&mut lm, &tokens), 0.0);
    lm.expect_update();
    let tokens = draw(&lm, 5);
    assert_eq!(found_by_update(&mut lm, &tokens), 1.0 / 3.0);
}
