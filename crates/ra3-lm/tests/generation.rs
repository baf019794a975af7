//! Rollouts under a cache of any size: the same bits, a bound on the work, and an end.

use proptest::prelude::*;
use ra3::policy::{
    Episode, Example, Move, Observation, Policy, PolicyError, Restriction, SampleRule, Stop,
    TokenId, Work,
};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};

const N_CONTEXT: usize = 160;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 40,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: N_CONTEXT,
        ..ModelConfig::new(Architecture::Qwen2)
    }
}

/// The same model with room for so many tokens.
fn model(n_tokens: usize) -> Lm {
    let settings = TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: memory::cache_bytes(&config(), n_tokens),
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let mut lm = Lm::random(config(), settings, Seed::root(3));
    lm.weights_mut().data_mut().iter_mut().for_each(|w| {
        if *w != 1.0 {
            *w *= 20.0;
        }
    });
    lm
}

/// What a row does: tokens of a prompt, then feeds and samples by turns. Without a prompt it is
/// over at its start.
#[derive(Clone, Debug)]
struct Script {
    prompt: Vec<TokenId>,
    /// Lengths; even ones are sampled, odd ones fed.
    pieces: Vec<usize>,
    /// So much of a feed is said to be likely at every move, whatever comes.
    n_draft: usize,
}

/// Follows a script while the context has room, and keeps all that it sees.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    prompt: Vec<TokenId>,
    pieces: Vec<usize>,
    draft: Vec<TokenId>,
    seen: Vec<(Vec<TokenId>, Vec<u32>, Option<Stop>)>,
}

impl Row {
    fn new(script: &Script) -> Self {
        Self {
            prompt: script.prompt.clone(),
            pieces: script.pieces.clone(),
            draft: fed(script.n_draft),
            seen: Vec::new(),
        }
    }
}

/// What a feed of so many tokens feeds.
fn fed(n: usize) -> Vec<TokenId> {
    (0..n).map(|i| (i % 7) as TokenId).collect()
}

fn bits(logprobs: &[f32]) -> Vec<u32> {
    logprobs.iter().map(|logprob| logprob.to_bits()).collect()
}

impl Episode for Row {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let room = seen.room();
        match seen {
            Observation::Started { .. } if self.prompt.is_empty() => return Move::Done,
            Observation::Started { .. } => return Move::Feed(self.prompt.clone()),
            Observation::Fed { .. } => self.seen.push((vec![], vec![], None)),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => {
                self.seen
                    .push((tokens.to_vec(), bits(logprobs), Some(stop)));
            }
        }
        let Some(n) = self.pieces.pop() else {
            return Move::Done;
        };
        if room == 0 {
            return Move::Done;
        }
        if n % 2 == 1 {
            return Move::Feed(fed(n.min(room)));
        }
        Move::Sample(SampleRule {
            temperature: 0.8,
            top_k: None,
            top_p: None,
            choices: None,
            stop: [3].into(),
            n_tokens_max: n.max(1),
        })
    }

    fn draft(&self) -> &[TokenId] {
        &self.draft
    }
}

fn run(n_room: usize, scripts: &[Script]) -> Result<(Vec<Row>, Work), PolicyError> {
    let mut rows: Vec<Row> = scripts.iter().map(Row::new).collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    let work = model(n_room).run(&mut episodes, Seed::root(5))?;
    Ok((rows, work))
}

fn script() -> impl Strategy<Value = Script> {
    let prompt = prop_oneof![
        // Prompts that share a long beginning, and prompts of their own.
        (1..30usize, 0..4u32).prop_map(|(n, last)| {
            let mut prompt = vec![7; n];
            prompt.push(last);
            prompt
        }),
        prop::collection::vec(0..40u32, 0..50),
    ];
    (prompt, prop::collection::vec(0..40usize, 0..6)).prop_map(|(prompt, pieces)| Script {
        prompt,
        pieces,
        n_draft: 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_size_of_the_cache_changes_no_bit_and_costs_a_bounded_amount(
        scripts in prop::collection::vec(script(), 1..14),
        n_room in N_CONTEXT..3 * N_CONTEXT,
    ) {
        let (rows, free) = run(100 * N_CONTEXT, &scripts).unwrap();
        let (pressed_rows, pressed) = run(n_room, &scripts).unwrap();
        prop_assert_eq!(&rows, &pressed_rows);
        prop_assert_eq!(free.n_tokens, pressed.n_tokens);
        prop_assert!(free.n_tokens_run <= free.n_tokens);
        prop_assert!(
            pressed.n_tokens_run <= 3 * pressed.n_tokens,
            "{} run for {}", pressed.n_tokens_run, pressed.n_tokens
        );
        // A row's neighbours change no bit either.
        let alone = run(N_CONTEXT, &scripts[..1]).unwrap().0;
        prop_assert_eq!(&rows[0], &alone[0]);
    }

    #[test]
    fn drafts_change_no_bit_whatever_the_size_of_the_cache(
        scripts in prop::collection::vec((script(), 0..200usize), 1..14),
        n_room in N_CONTEXT..3 * N_CONTEXT,
    ) {
        let (plain, drafts): (Vec<Script>, Vec<usize>) = scripts.into_iter().unzip();
        let drafting = plain.iter().zip(&drafts);
        let drafting: Vec<Script> = drafting
            .map(|(script, n_draft)| Script { n_draft: *n_draft, ..script.clone() })
            .collect();
        let (rows, work) = run(100 * N_CONTEXT, &plain).unwrap();
        for n_room in [100 * N_CONTEXT, n_room] {
            let (found, with_drafts) = run(n_room, &drafting).unwrap();
            for (row, found) in rows.iter().zip(&found) {
                prop_assert_eq!(&row.seen, &found.seen);
            }
            prop_assert_eq!(work.n_tokens, with_drafts.n_tokens);
            prop_assert_eq!(work.n_tokens_sampled, with_drafts.n_tokens_sampled);
        }
    }

    #[test]
    fn the_size_of_the_cache_changes_no_score(
        rows in prop::collection::vec((script(), 0..40u32, 1..60usize), 1..14),
        n_room in N_CONTEXT..3 * N_CONTEXT,
    ) {
        let sequences: Vec<Example> = rows.iter().map(sequence).collect();
        let (found, free) = model(100 * N_CONTEXT).score(&sequences).unwrap();
        let (pressed_found, pressed) = model(n_room).score(&sequences).unwrap();
        let bits = |rows: &[Vec<f32>]| rows.iter().map(|row| bits(row)).collect::<Vec<_>>();
        prop_assert_eq!(bits(&found), bits(&pressed_found));
        prop_assert_eq!(free.n_tokens, pressed.n_tokens);
        prop_assert!(free.n_tokens_run <= free.n_tokens);
        prop_assert!(pressed.n_tokens_run <= pressed.n_tokens, "each token at most once");
        for (sequence, found) in sequences.iter().zip(&found) {
            for (weight, logprob) in sequence.weights.iter().zip(found) {
                prop_assert_eq!(*weight == 0.0, *logprob == 0.0);
            }
        }
    }
}

/// A script's prompt and some tokens more, of which those after the prompt and every third before
/// are targets, one of them restricted.
fn sequence((script, token, n): &(Script, TokenId, usize)) -> Example {
    let n_prompt = script.prompt.len().max(1);
    let tokens: Vec<TokenId> = script
        .prompt
        .iter()
        .copied()
        .chain((0..*n as TokenId).map(|i| (token + 3 * i) % 40))
        .take(N_CONTEXT)
        .collect();
    let is_target = |at: usize| at > 0 && (at >= n_prompt || at.is_multiple_of(3));
    let restriction = (n_prompt < tokens.len()).then(|| Restriction {
        position: n_prompt,
        choices: [tokens[n_prompt], (tokens[n_prompt] + 1) % 40].into(),
    });
    Example {
        weights: (0..tokens.len())
            .map(|at| f32::from(u8::from(is_target(at))))
            .collect(),
        tokens,
        restrictions: restriction.into_iter().collect(),
        old_logprobs: vec![],
    }
}

/// Rows of so many tokens each: a prompt of five of its own, and the rest sampled.
fn plain(n_rows: usize, n_tokens: usize) -> Vec<Script> {
    (0..n_rows)
        .map(|row| Script {
            n_draft: 0,
            prompt: vec![row as TokenId; 5],
            // Stops are rare, so a row samples again until it is long enough.
            pieces: vec![2; (n_tokens - 5) / 2],
        })
        .collect()
}

/// Rows that were started anew for each token of a neighbour ran seven times their tokens here.
#[test]
fn parked_rows_are_computed_again_at_most_once_or_twice() {
    for (n_rows, n_room) in [(2, 150), (2, 120), (8, 120), (8, 100), (20, 90)] {
        let scripts: Vec<Script> = plain(n_rows, 80);
        // 90 tokens hold one row of 80 and no more.
        let (rows, work) = run(n_room, &scripts).unwrap();
        let n = work.n_tokens as f64;
        assert!(
            work.n_tokens_run as f64 <= 1.6 * n,
            "{n_rows} rows, room {n_room}: {} run for {n}",
            work.n_tokens_run
        );
        assert_eq!(rows, run(10_000, &scripts).unwrap().0);
    }
}

/// Groups whose prompt fits the cache only once are one prompt's price, also from group to group.
#[test]
fn a_shared_prompt_is_not_computed_again_for_the_rows_that_wait() {
    let prompt: Vec<TokenId> = (0..100).map(|i| i * 7 % 40).collect();
    let script = Script {
        prompt,
        pieces: vec![8],
        n_draft: 0,
    };
    let (_, work) = run(N_CONTEXT, &vec![script; 40]).unwrap();
    let n_sampled = work.n_tokens_sampled;
    assert!(
        work.n_tokens_run <= 100 + n_sampled,
        "{} run for 100 and {n_sampled}",
        work.n_tokens_run
    );
}

/// A row takes its last tokens from the room that nobody was promised; what ends at its start has
/// no need of it.
#[test]
fn rows_that_are_over_at_their_start_take_no_room() {
    let over = Script {
        prompt: vec![],
        pieces: vec![],
        n_draft: 0,
    };
    let mut scripts = plain(1, 150);
    scripts.extend(vec![over; 300]);
    let (rows, work) = run(N_CONTEXT, &scripts).unwrap();
    // A stop ends a piece of two after one.
    assert!(work.n_tokens > 140, "{} tokens", work.n_tokens);
    assert_eq!(rows, run(10_000, &scripts).unwrap().0);
}

#[test]
fn a_rollout_that_can_never_fit_says_what_it_needs() {
    let feed = Script {
        prompt: vec![1; 61],
        pieces: vec![],
        n_draft: 0,
    };
    let error = run(60, &[feed.clone(), feed.clone()]).unwrap_err();
    let n_bytes = memory::cache_bytes(&config(), 61);
    assert_eq!(
        error,
        PolicyError::CacheTooSmall {
            n_tokens: 61,
            n_tokens_max: 60,
            n_bytes,
        }
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("at least {n_bytes} bytes")),
        "{text}"
    );
    assert!(run(61, &[feed.clone(), feed]).is_ok());
    // The tokens that are sampled count, too: the last one is drawn and never computed.
    let sample = plain(1, 61);
    assert!(run(60, &sample).is_ok());
    assert!(matches!(
        run(40, &sample).unwrap_err(),
        PolicyError::CacheTooSmall {
            n_tokens: 41,
            n_tokens_max: 40,
            ..
        }
    ));
    assert!(run(0, &sample).is_err());
}

/// A row whose prompt is fed again, and what it wrote.
fn written(row: &Row) -> Example {
    let sampled = row.seen.iter().filter(|seen| seen.2.is_some());
    let tokens: Vec<TokenId> = row
        .prompt
        .iter()
        .chain(sampled.flat_map(|seen| &seen.0))
        .copied()
        .collect();
    let is_sampled = |at| f32::from(u8::from(at >= row.prompt.len()));
    Example {
        weights: (0..tokens.len()).map(is_sampled).collect(),
        tokens,
        restrictions: vec![],
        old_logprobs: vec![],
    }
}

/// What was run is there for a score, until the weights change: but for the last token of a row,
/// which nothing followed, and for a few whose places others have taken.
#[test]
fn what_was_drawn_is_scored_without_a_pass_until_the_weights_change() {
    let mut lm = model(100 * N_CONTEXT);
    let scripts = plain(6, 40);
    let draw = |lm: &Lm| {
        let mut rows: Vec<Row> = scripts.iter().map(Row::new).collect();
        let mut episodes: Vec<&mut dyn Episode> =
            rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
        let work = lm.run(&mut episodes, Seed::root(5)).unwrap();
        (rows, work)
    };
    let (rows, first) = draw(&lm);
    let sequences: Vec<Example> = rows.iter().map(written).collect();
    let (scores, work) = lm.score(&sequences).unwrap();
    assert!(work.n_tokens_run < first.n_tokens_run / 10, "{work:?}");
    for (row, scores) in rows.iter().zip(&scores) {
        let drawn: Vec<u32> = row.seen.iter().flat_map(|seen| seen.1.clone()).collect();
        let scored = bits(&scores[row.prompt.len()..]);
        assert_eq!(drawn, scored, "a score has the bits of the draw");
    }
    // A score gives the cache back, a copy has none, and other weights or kernels have another.
    let (again, work) = lm.score(&sequences).unwrap();
    assert_eq!(again, scores);
    assert!(work.n_tokens_run > first.n_tokens_run / 2, "{work:?}");
    draw(&lm);
    let (of_copy, work) = lm.clone().score(&sequences).unwrap();
    assert_eq!(of_copy, scores);
    assert!(work.n_tokens_run > first.n_tokens_run / 2, "{work:?}");
    let (rows_again, second) = draw(&lm);
    assert_eq!((rows, first), (rows_again, second), "a run begins anew");
    lm.weights_mut().data_mut()[0] += 1.0;
    let (changed, work) = lm.score(&sequences).unwrap();
    assert_ne!(changed, scores);
    assert_eq!(changed, lm.clone().score(&sequences).unwrap().0);
    assert!(work.n_tokens_run > first.n_tokens_run / 2, "{work:?}");
    draw(&lm);
    lm.set_compute_precision(Precision::Bfloat16);
    let short = lm.score(&sequences).unwrap().0;
    assert_eq!(short, lm.clone().score(&sequences).unwrap().0);
}
