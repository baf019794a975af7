//! Tokens that are added or started anew, and the optimizer's state on disk.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::model::{Model, Saved};
use ra3::policy::{Example, Objective, Policy, Surrogate};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

const WIDTH: usize = 16;

fn model(tied: bool, moments: Precision) -> Lm {
    let config = ModelConfig {
        vocab_size: 30,
        hidden_size: WIDTH,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 64,
        tie_word_embeddings: tied,
        ..ModelConfig::new(Architecture::Llama)
    };
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 64,
        recompute: false,
        cache_bytes_max: 1 << 20,
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments,
        frozen: Precision::Float32,
    };
    Lm::random(config, settings, Seed::root(6))
}

/// The rows of a tensor.
fn rows(lm: &Lm, name: &str) -> Vec<Vec<f32>> {
    let tensors = &lm.weights().layout.tensors;
    let range = tensors
        .iter()
        .find(|tensor| tensor.name == name)
        .unwrap()
        .range
        .clone();
    lm.weights().data()[range]
        .chunks(WIDTH)
        .map(<[f32]>::to_vec)
        .collect()
}

fn matrices(tied: bool) -> &'static [&'static str] {
    if tied {
        &["model.embed_tokens.weight"]
    } else {
        &["model.embed_tokens.weight", "lm_head.weight"]
    }
}

/// A row as it starts: the mean of all rows, and noise of a hundredth of their size.
fn assert_is_fresh(row: &[f32], rows: &[Vec<f32>], what: &str) {
    let n = rows.len() as f32;
    let size = rows.iter().flatten().map(|w| w * w).sum::<f32>() / (n * WIDTH as f32);
    let noise = 0.01 * size.sqrt();
    let mut square = 0.0;
    for (column, value) in row.iter().enumerate() {
        let mean = rows.iter().map(|row| row[column]).sum::<f32>() / n;
        square += (value - mean).powi(2) / WIDTH as f32;
        assert!(
            (value - mean).abs() < 5.0 * noise,
            "{what}: {value} is far from {mean}"
        );
    }
    assert!(square.sqrt() > 0.3 * noise, "{what}: there is noise");
}

#[test]
fn tokens_start_near_the_mean_in_every_matrix_that_has_rows_for_them() {
    for tied in [true, false] {
        let before = model(tied, Precision::Float32);
        let mut grown = before.clone();
        grown.grow_vocabulary(33, Seed::root(2));
        let mut restarted = before.clone();
        restarted.restart_tokens(&[4, 17], Seed::root(2));
        for name in matrices(tied) {
            let (old, new) = (rows(&before, name), rows(&grown, name));
            assert_eq!(new[..30], old[..]);
            for (token, row) in new.iter().enumerate().skip(30) {
                assert_is_fresh(row, &old, &format!("{name} of new token {token}"));
            }
            assert!(new[30] != new[31] && new[31] != new[32]);
            let again = rows(&restarted, name);
            for token in 0..30 {
                if [4, 17].contains(&token) {
                    assert_is_fresh(&again[token], &old, &format!("{name} of token {token}"));
                } else {
                    assert_eq!(again[token], old[token], "{name} of token {token}");
                }
            }
            assert_ne!(again[4], again[17]);
        }
        if !tied {
            let [embedding, head] = [
                rows(&grown, "model.embed_tokens.weight"),
                rows(&grown, "lm_head.weight"),
            ];
            assert_ne!(embedding[31], head[31], "each matrix has its own noise");
        }
    }
}

/// Moments that were lost on disk would show in the next step.
#[test]
fn a_run_resumes_with_the_same_bits_whatever_the_moments_precision() {
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-2,
    };
    let batch = |salt: u32| {
        let tokens: Vec<u32> = (0..12).map(|i| (i * 7 + salt) % 30).collect();
        let mut weights = vec![0.1; 12];
        weights[0] = 0.0;
        [Example {
            tokens,
            weights,
            restrictions: vec![],
            old_logprobs: vec![],
        }]
    };
    for precision in [Precision::Float32, Precision::Bfloat16] {
        let mut lm = model(false, precision);
        for salt in 0..4 {
            lm.update(&batch(salt), objective).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        lm.save(folder.path(), Saved::State).unwrap();
        let mut resumed = model(false, precision);
        resumed.load_state(folder.path()).unwrap();
        assert_eq!(resumed.weights().data(), lm.weights().data());
        let mut forgetful = resumed.clone();
        forgetful.reset_optimizer();
        for salt in 4..6 {
            let expected = lm.update(&batch(salt), objective).unwrap();
            assert_eq!(resumed.update(&batch(salt), objective).unwrap(), expected);
            forgetful.update(&batch(salt), objective).unwrap();
        }
        assert_eq!(
            resumed.weights().data(),
            lm.weights().data(),
            "{precision:?}"
        );
        assert_ne!(
            forgetful.weights().data(),
            lm.weights().data(),
            "moments matter"
        );
    }
}
