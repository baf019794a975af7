//! The same bits for any number of threads: training, scoring and generation.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, Restriction, SampleRule, Surrogate,
    TokenId, UpdateStats,
};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

/// Large enough that every product and loop is cut, with sizes that no cut divides.
const N_VOCABULARY: usize = 1501;

fn model(architecture: Architecture, recompute: bool, [compute, frozen]: [Precision; 2]) -> Lm {
    let config = ModelConfig {
        vocab_size: N_VOCABULARY,
        hidden_size: 140,
        intermediate_size: 605,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(16),
        max_position_embeddings: 256,
        initializer_range: 0.1,
        ..ModelConfig::new(architecture)
    };
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 1000,
        recompute,
        cache_bytes_max: 1 << 22,
        recorded_bytes_max: 1 << 28,
        compute,
        moments: Precision::Float32,
        frozen,
    };
    Lm::random(config, settings, Seed::root(1))
}

/// Documents of several lengths; three of them begin alike, and some targets are decisions.
fn documents() -> Vec<Example> {
    let document = |index: u64| {
        let token = |at: u64| {
            let seed = Seed::root(if index < 3 && at < 50 { 0 } else { index });
            (seed.nth(at).uniform() * N_VOCABULARY as f64) as TokenId
        };
        let tokens: Vec<TokenId> = (0..60 + 23 * index).map(token).collect();
        let mut weights = vec![0.01; tokens.len()];
        weights[0] = 0.0;
        weights[55] = -0.02;
        Example {
            restrictions: vec![Restriction {
                position: 40,
                choices: [tokens[40], 7, 9].into(),
            }],
            weights,
            tokens,
            old_logprobs: Vec::new(),
        }
    };
    (0..7).map(document).collect()
}

/// Takes a prompt, then writes.
struct Writer {
    prompt: Vec<TokenId>,
    n_written: usize,
    written: Vec<(TokenId, u32)>,
}

impl Episode for Writer {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(self.prompt.clone()),
            Observation::Fed { .. } => Move::Sample(SampleRule::plain(1.0, self.n_written)),
            Observation::Sampled {
                tokens, logprobs, ..
            } => {
                let bits = logprobs.iter().map(|logprob| logprob.to_bits());
                self.written = tokens.iter().copied().zip(bits).collect();
                Move::Done
            }
        }
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    stats: Vec<UpdateStats>,
    weights: Vec<u32>,
    scores: Vec<Vec<u32>>,
    written: Vec<Vec<(TokenId, u32)>>,
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn outcome(mut lm: Lm) -> Outcome {
    let documents = documents();
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-2,
    };
    let stats = (0..2).map(|_| lm.update(&documents, objective).unwrap());
    let stats = stats.collect();
    let weights = bits(lm.weights().data());
    let frozen = lm.snapshot();
    let (scores, _) = frozen.score(&documents).unwrap();
    let row = |(index, document): (usize, &Example)| Writer {
        prompt: document.tokens.clone(),
        n_written: 5 + index,
        written: Vec::new(),
    };
    let mut rows: Vec<Writer> = documents
        .iter()
        .cycle()
        .take(11)
        .enumerate()
        .map(row)
        .collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    frozen.run(&mut episodes, Seed::root(3)).unwrap();
    Outcome {
        stats,
        weights,
        scores: scores.iter().map(|scores| bits(scores)).collect(),
        written: rows.into_iter().map(|row| row.written).collect(),
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (whole, half) = (Precision::Float32, Precision::Bfloat16);
    for (architecture, recompute, precisions) in [
        (Architecture::Qwen2, false, [whole, whole]),
        (Architecture::Qwen3, true, [whole, half]),
        (Architecture::Llama, false, [half, half]),
    ] {
        let of_threads = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
            let lm = model(architecture, recompute, precisions);
            pool.build().unwrap().install(|| outcome(lm))
        };
        let alone = of_threads(1);
        assert!(alone.written.iter().all(|row| row.len() > 4), "rows write");
        for n_threads in [2, 3] {
            assert!(
                of_threads(n_threads) == alone,
                "{architecture:?} {precisions:?}: {n_threads}"
            );
        }
    }
}
