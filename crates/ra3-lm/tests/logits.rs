//! Logits of whole sequences are those that sequences are scored by.

use ra3::policy::{Example, Policy, PolicyError, TokenId};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

const N_VOCABULARY: usize = 30;
const N_CONTEXT: usize = 24;

fn model(architecture: Architecture, tied: bool) -> Lm {
    let config = ModelConfig {
        vocab_size: N_VOCABULARY,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: N_CONTEXT,
        tie_word_embeddings: tied,
        ..ModelConfig::new(architecture)
    };
    let settings = TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 64,
        recompute: false,
        cache_bytes_max: 1 << 20,
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let mut lm = Lm::random(config, settings, Seed::root(8));
    lm.weights_mut().data_mut().iter_mut().for_each(|weight| {
        if *weight != 1.0 {
            *weight *= 15.0;
        }
    });
    lm
}

#[test]
fn every_row_is_the_distribution_after_its_token() {
    for (architecture, tied) in [
        (Architecture::Qwen2, true),
        (Architecture::Llama, false),
        (Architecture::Qwen3, true),
    ] {
        let lm = model(architecture, tied);
        for n in [1, 7, N_CONTEXT] {
            let tokens: Vec<TokenId> = (0..n).map(|i| (i * 7 % N_VOCABULARY) as TokenId).collect();
            let logits = lm.logits(&tokens).unwrap();
            assert_eq!(logits.len(), n * N_VOCABULARY);
            let sequence = Example {
                tokens: tokens.clone(),
                weights: (0..n).map(|i| f32::from(u8::from(i > 0))).collect(),
                restrictions: Vec::new(),
                old_logprobs: Vec::new(),
            };
            let scores = lm.score(&[sequence]).unwrap().0.remove(0);
            for (row, (token, expected)) in tokens.iter().zip(&scores).enumerate().skip(1) {
                let before = &logits[(row - 1) * N_VOCABULARY..row * N_VOCABULARY];
                let sum: f64 = before.iter().map(|logit| f64::from(*logit).exp()).sum();
                let found = f64::from(before[*token as usize]) - sum.ln();
                assert!(
                    (found - f64::from(*expected)).abs() < 1e-5,
                    "{found} {expected}"
                );
            }
            // What comes later changes nothing.
            let beginning = lm.logits(&tokens[..n.div_ceil(2)]).unwrap();
            assert_eq!(beginning, logits[..beginning.len()]);
        }
    }
}

#[test]
fn nothing_has_no_logits_and_what_does_not_fit_is_refused() {
    let lm = model(Architecture::Llama, false);
    assert!(lm.logits(&[]).unwrap().is_empty());
    let found = lm.logits(&[1; N_CONTEXT + 1]).unwrap_err();
    assert!(
        matches!(found, PolicyError::SequenceTooLong { .. }),
        "{found}"
    );
    let found = lm.logits(&[1, N_VOCABULARY as TokenId]).unwrap_err();
    assert!(matches!(found, PolicyError::UnknownToken { .. }), "{found}");
}
