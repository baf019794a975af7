//! Counted work against numbers worked out by hand, for a model whose heads are wider than itself.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::policy::{Episode, Example, Move, Objective, Observation, Policy, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

/// A layer has `2 · 16 · 32 + 2 · 16 · 16 + 3 · 16 · 24 = 2688` parameters in products, the body
/// 8064, the head `16 · 40 = 640`; a token that sees another takes `3 · 2 · 32` products.
fn model(recompute: bool) -> Lm {
    let config = ModelConfig {
        vocab_size: 40,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(8),
        max_position_embeddings: 64,
        ..ModelConfig::new(Architecture::Qwen3)
    };
    let settings = TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 20,
        recompute,
        cache_bytes_max: 1 << 20,
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    Lm::random(config, settings, Seed::root(1))
}

/// FLOPs of one forward pass over `n_tokens`, of which each sees itself and those before it.
fn body(n_tokens: u32) -> f64 {
    let n_seen = n_tokens * (n_tokens + 1) / 2;
    2.0 * f64::from(8064 * n_tokens + 192 * n_seen)
}

/// FLOPs of what one layer has behind its attention: `16 · 32 + 3 · 16 · 24 = 1664` parameters.
fn behind_attention(n_rows: u32) -> f64 {
    2.0 * f64::from(1664 * n_rows)
}

fn head(n_targets: u32) -> f64 {
    2.0 * f64::from(640 * n_targets)
}

struct Feeds(Vec<Vec<TokenId>>);

impl Episode for Feeds {
    fn next(&mut self, _: Observation<'_>) -> Move {
        self.0.pop().map_or(Move::Done, Move::Feed)
    }
}

fn run(rows: &[&[TokenId]]) -> f64 {
    let mut rows: Vec<Feeds> = rows.iter().map(|row| Feeds(vec![row.to_vec()])).collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    let work = model(false).run(&mut episodes, Seed::root(0));
    work.unwrap().flops
}

fn tokens(n: u32) -> Vec<TokenId> {
    (0..n).map(|i| i * 7 % 40).collect()
}

#[test]
fn a_run_counts_its_products() {
    assert_eq!(body(1), 2.0 * (8064.0 + 192.0));
    assert_eq!(run(&[&tokens(10)]), body(10));
    // Shared tokens run once.
    assert_eq!(run(&[&tokens(10), &tokens(10)]), body(10));
    let longer = [&tokens(10)[..], &[3, 4]].concat();
    assert_eq!(run(&[&tokens(10), &longer]), body(12));
}

#[test]
fn a_score_counts_its_products() {
    let score = |sequences: &[Example]| model(false).score(sequences).unwrap().1.flops;
    let one = example(|_| 1.0);
    // The first token has no score.
    assert_eq!(score(std::slice::from_ref(&one)), body(10) + head(9));
    assert_eq!(
        score(&[example(|i| if i > 6 { 0.5 } else { 0.0 })]),
        body(10) + head(3)
    );
    assert_eq!(score(&[example(|_| 0.0)]), body(10));
    // Shared tokens run once, and their logits are computed once.
    let mut longer = one.clone();
    longer.tokens.extend([3, 4]);
    longer.weights.extend([1.0, 1.0]);
    assert_eq!(score(&[one.clone(), longer]), body(12) + head(11));
    assert_eq!(score(&[one.clone(), one]), body(10) + head(9));
}

fn example(weights: impl Fn(usize) -> f32) -> Example {
    Example {
        tokens: tokens(10),
        weights: (0..10)
            .map(|i| if i == 0 { 0.0 } else { weights(i) })
            .collect(),
        restrictions: vec![],
        old_logprobs: vec![],
    }
}

#[test]
fn an_update_counts_its_products() {
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-3,
    };
    let flops = |recompute, batch: &[Example]| {
        model(recompute)
            .update(batch, objective)
            .unwrap()
            .work
            .flops
    };
    let all = example(|_| 0.1);
    let batch = std::slice::from_ref(&all);
    assert_eq!(flops(false, batch), 3.0 * (body(9) + head(9)));
    assert_eq!(flops(true, batch), 4.0 * body(9) + 3.0 * head(9));
    // Rows without a target have no logits, and nothing behind the last attention; those behind the
    // last target are not run, and the last token has no row. A shared row has its logits once.
    let some = example(|i| if i % 2 == 0 { 0.1 } else { 0.0 });
    let layers = body(8) - behind_attention(4);
    let batch = std::slice::from_ref(&some);
    assert_eq!(flops(false, batch), 3.0 * (layers + head(4)));
    assert_eq!(flops(true, batch), 4.0 * layers + 3.0 * head(4));
    assert_eq!(
        flops(false, &[all.clone(), some]),
        3.0 * (body(9) + head(9))
    );
    // Two trees in two micro-batches are twice the work; of one the last layer runs all nine
    // rows, of the other ten of fifteen.
    let mut other = all.clone();
    other.tokens[0] = 39;
    other.tokens.extend([1; 6]);
    other.weights.extend([0.0, 0.0, 0.0, 0.0, 0.0, 0.1]);
    let both = 3.0 * (body(9) + body(15) - behind_attention(5) + head(19));
    assert_eq!(flops(false, &[all, other]), both);
}
