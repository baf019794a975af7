//! Invariants of the engine on small random models: what must not change anything does not.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

mod halves;

use std::sync::Arc;

use ra3::model::{Model, Saved};
use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, Restriction, SampleRule,
    Stop, Surrogate, TokenId,
};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

fn settings() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: 64 << 20,
        recorded_bytes_max: 1 << 28,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    }
}

fn model(architecture: Architecture, tied: bool) -> Lm {
    let config = ModelConfig {
        vocab_size: 50,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 96,
        tie_word_embeddings: tied,
        ..ModelConfig::new(architecture)
    };
    let mut lm = Lm::random(config, settings(), Seed::root(3));
    // Weights ten times as large as at the start of training: every path matters.
    lm.weights_mut().data_mut().iter_mut().for_each(|w| {
        if *w != 1.0 {
            *w *= 10.0;
        }
    });
    lm
}

fn tokens(n: usize, salt: u64) -> Vec<TokenId> {
    let seed = Seed::root(salt);
    (0..n)
        .map(|i| (seed.nth(i as u64).uniform() * 50.0) as TokenId)
        .collect()
}

fn example(tokens: Vec<TokenId>, scale: f32) -> Example {
    let mut weights: Vec<f32> = (0..tokens.len())
        .map(|i| scale * (1.0 + (i % 3) as f32 - 0.8))
        .collect();
    weights[0] = 0.0;
    Example {
        tokens,
        weights,
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    }
}

/// Three documents, two of which share twenty tokens; one target is restricted.
fn batch() -> Vec<Example> {
    let shared = tokens(20, 1);
    let fork = |salt, n| [shared.clone(), tokens(n, salt)].concat();
    let mut batch = vec![
        example(fork(2, 7), 0.02),
        example(fork(3, 12), 0.03),
        example(tokens(33, 4), 0.01),
    ];
    let choices: Arc<[TokenId]> = [batch[0].tokens[22], 7, 9].into();
    batch[0].restrictions.push(Restriction {
        position: 22,
        choices,
    });
    batch
}

/// The same with a target in a few rows, as an E-step has them: the last layer runs no others.
fn few_targets() -> Vec<Example> {
    let mut batch = batch();
    for example in &mut batch {
        let weights = example.weights.iter_mut().enumerate();
        weights.for_each(|(i, weight)| *weight *= f32::from(i % 5 == 2));
    }
    batch
}

const LIKELIHOOD: Objective = Objective {
    surrogate: Surrogate::LogLikelihood,
    learning_rate: 1e-3,
};

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let scale = a.iter().fold(1e-6f32, |top, x| top.max(x.abs()));
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{index}: {a} against {b}, scale {scale}"
        );
    }
}

fn all_models() -> Vec<Lm> {
    vec![
        model(Architecture::Qwen2, true),
        model(Architecture::Llama, false),
        model(Architecture::Qwen3, true),
    ]
}

fn all_cases() -> impl Iterator<Item = (Lm, Vec<Example>)> {
    let both = all_models().into_iter().zip(all_models());
    both.flat_map(|(a, b)| [(a, batch()), (b, few_targets())])
}

#[test]
fn gradients_equal_finite_differences() {
    for (mut lm, batch) in all_cases() {
        let (_, gradient) = lm.gradient(&batch, LIKELIHOOD).unwrap();
        let size = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        for draw in 0..40 {
            let direction = Seed::root(draw);
            let step = 1e-3f32;
            let delta: Vec<f32> = (0..gradient.len())
                .map(|i| direction.nth(i as u64).uniform() as f32 - 0.5)
                .collect();
            let mut value = |sign: f32| {
                let data = lm.weights_mut().data_mut();
                data.iter_mut()
                    .zip(&delta)
                    .for_each(|(w, d)| *w += sign * step * d);
                let loss = lm.gradient(&batch, LIKELIHOOD).unwrap().0.loss;
                let data = lm.weights_mut().data_mut();
                data.iter_mut()
                    .zip(&delta)
                    .for_each(|(w, d)| *w -= sign * step * d);
                loss
            };
            let expected = (value(1.0) - value(-1.0)) / f64::from(2.0 * step);
            let found: f64 = gradient
                .iter()
                .zip(&delta)
                .map(|(g, d)| f64::from(*g) * f64::from(*d))
                .sum();
            assert!(
                (found - expected).abs() < 0.01 * size,
                "{found} against {expected}, {size}"
            );
        }
    }
}

#[test]
fn splitting_sharing_packing_and_recomputing_change_nothing() {
    for (lm, batch) in all_cases() {
        let (together, gradient) = lm.gradient(&batch, LIKELIHOOD).unwrap();
        assert!(
            together.work.n_tokens_run < together.work.n_tokens,
            "prefixes are shared"
        );
        let mut loss = 0.0;
        let mut sum = vec![0.0; gradient.len()];
        for example in batch.clone() {
            let (alone, part) = lm.gradient(&[example], LIKELIHOOD).unwrap();
            loss += alone.loss;
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        assert!(
            (loss - together.loss).abs() < 1e-5,
            "{loss} {}",
            together.loss
        );
        assert_close(&gradient, &sum, 1e-4);
        let dir = tempfile::tempdir().unwrap();
        lm.save(dir.path(), Saved::Finished).unwrap();
        for (n_tokens_micro, recompute) in [(1, false), (30, false), (4096, true)] {
            let other = TrainSettings {
                n_tokens_micro,
                recompute,
                ..settings()
            };
            let other = Lm::load(dir.path(), other).unwrap();
            let (stats, again) = other.gradient(&batch, LIKELIHOOD).unwrap();
            assert!((stats.loss - together.loss).abs() < 1e-5);
            assert_close(&gradient, &again, 1e-4);
            assert!(
                !recompute || again == gradient,
                "recomputation has the same bits"
            );
        }
    }
}

#[test]
fn the_clipped_surrogate_is_reinforce_at_ratio_one_and_flat_outside() {
    let lm = model(Architecture::Qwen2, true);
    let logprobs = score(&lm, &batch()[2].tokens);
    let mut example = batch().remove(2);
    example.old_logprobs = logprobs;
    let clipped = Surrogate::Clipped {
        low: 0.2,
        high: 0.2,
    };
    let clipped = Objective {
        surrogate: clipped,
        learning_rate: 1e-3,
    };
    let (_, plain) = lm
        .gradient(std::slice::from_ref(&example), LIKELIHOOD)
        .unwrap();
    let (stats, same) = lm
        .gradient(std::slice::from_ref(&example), clipped)
        .unwrap();
    assert_close(&plain, &same, 1e-3);
    assert_eq!(stats.clipped_share, 0.0);
    example
        .weights
        .iter_mut()
        .for_each(|weight| *weight = weight.abs());
    example.old_logprobs.iter_mut().for_each(|old| *old -= 1.0);
    let (stats, flat) = lm.gradient(&[example], clipped).unwrap();
    assert!(flat.iter().all(|g| *g == 0.0) && stats.clipped_share == 1.0);
}

/// What trains computes with other products than what draws, in `f32`: equal to rounding. In `bf16`
/// both have the same, to the bit.
#[test]
fn the_gap_between_drawing_and_training_is_rounding() {
    let cases = [
        (model(Architecture::Qwen2, true), 1e-6),
        (model(Architecture::Llama, true), 1e-6),
        (halves::model(Architecture::Qwen2, true), 0.0),
        (halves::model(Architecture::Llama, true), 0.0),
        (halves::model(Architecture::Qwen3, false), 0.0),
    ];
    for ((lm, tolerance), few) in cases.iter().flat_map(|case| [(case, false), (case, true)]) {
        let mut batch = if few { few_targets() } else { batch() };
        assert_eq!(lm.gradient(&batch, LIKELIHOOD).unwrap().0.logprob_gap, None);
        let (scores, _) = lm.score(&batch).unwrap();
        let (plain, gradient) = lm.gradient(&batch, LIKELIHOOD).unwrap();
        for shift in [0.0, 0.5] {
            for (example, scores) in batch.iter_mut().zip(&scores) {
                example.old_logprobs = scores.iter().map(|score| score + shift).collect();
            }
            let (stats, again) = lm.gradient(&batch, LIKELIHOOD).unwrap();
            let gap = stats.logprob_gap.unwrap();
            assert!((gap - f64::from(shift)).abs() <= *tolerance, "{gap}");
            // It is a figure, and nothing else has other bits.
            assert_eq!((stats.loss, again), (plain.loss, gradient.clone()));
        }
    }
}

#[test]
fn a_bad_batch_changes_nothing() {
    let mut lm = model(Architecture::Llama, true);
    let before = lm.weights().data().to_vec();
    let mut nan = batch();
    nan[0].weights[3] = f32::NAN;
    assert!(matches!(
        lm.update(&nan, LIKELIHOOD),
        Err(PolicyError::BadExample { index: 0, .. })
    ));
    let mut vast = batch();
    vast[0].weights[3] = f32::MAX;
    vast[0].weights[4] = f32::MAX;
    assert!(matches!(
        lm.update(&vast, LIKELIHOOD),
        Err(PolicyError::NonFiniteGradient { .. })
    ));
    let mut unknown = batch();
    unknown[1].tokens[2] = 50;
    assert!(matches!(
        lm.update(&unknown, LIKELIHOOD),
        Err(PolicyError::UnknownToken { .. })
    ));
    let long = vec![example(tokens(97, 5), 1.0)];
    assert!(matches!(
        lm.update(&long, LIKELIHOOD),
        Err(PolicyError::SequenceTooLong { .. })
    ));
    assert_eq!(lm.weights().data(), before);
}

#[test]
fn training_lowers_the_loss_and_resumes_with_the_same_bits() {
    let mut lm = model(Architecture::Qwen2, false);
    let first = lm.update(&batch()[2..], LIKELIHOOD).unwrap().loss;
    for _ in 0..5 {
        lm.update(&batch()[2..], LIKELIHOOD).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    lm.save(dir.path(), Saved::State).unwrap();
    let mut resumed = model(Architecture::Qwen2, false);
    resumed.load_state(dir.path()).unwrap();
    let (a, b) = (
        lm.update(&batch()[2..], LIKELIHOOD).unwrap(),
        resumed.update(&batch()[2..], LIKELIHOOD),
    );
    assert_eq!(a, b.unwrap());
    assert_eq!(lm.weights().data(), resumed.weights().data());
    assert!(a.loss < first);
}

#[test]
fn a_damaged_checkpoint_names_what_is_wrong() {
    let lm = model(Architecture::Qwen2, true);
    let dir = tempfile::tempdir().unwrap();
    lm.save(dir.path(), Saved::Finished).unwrap();
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let error = Lm::load(dir.path(), settings()).unwrap_err();
    assert!(
        error.to_string().contains("model.safetensors is damaged"),
        "{error}"
    );
    std::fs::write(&path, &whole).unwrap();
    let config = dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"vocab_size\": 50", "\"vocab_size\": 51"),
    )
    .unwrap();
    let error = Lm::load(dir.path(), settings()).unwrap_err().to_string();
    assert!(
        error.contains("model.embed_tokens.weight is [50, 24]"),
        "{error}"
    );
    std::fs::write(&config, text.replace("Qwen2ForCausalLM", "GptForCausalLM")).unwrap();
    assert!(
        Lm::load(dir.path(), settings())
            .unwrap_err()
            .to_string()
            .contains("config.json")
    );
}

#[test]
fn a_grown_vocabulary_leaves_old_tokens_alone() {
    let mut lm = model(Architecture::Llama, false);
    let before = lm.weights().data().to_vec();
    lm.grow_vocabulary(53, Seed::root(1));
    assert_eq!(lm.config().vocab_size, 53);
    assert_eq!(lm.weights().data()[..50 * 24], before[..50 * 24]);
    let added = &lm.weights().data()[50 * 24..53 * 24];
    assert!(added.iter().all(|w| w.abs() < 1.0) && added.iter().any(|w| *w != 0.0));
}

fn score(lm: &Lm, tokens: &[TokenId]) -> Vec<f32> {
    let (mut found, _) = lm.score(&[example(tokens.to_vec(), 1.0)]).unwrap();
    found.remove(0)
}

/// Feeds a prompt, then samples twice.
#[derive(Clone)]
struct Sampler {
    prompt: Vec<TokenId>,
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
    stops: Vec<Stop>,
}

impl Sampler {
    fn new(prompt: Vec<TokenId>) -> Self {
        Self {
            prompt,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stops: Vec::new(),
        }
    }
}

impl Episode for Sampler {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => return Move::Feed(self.prompt.clone()),
            Observation::Fed { .. } => {}
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => {
                self.tokens.extend_from_slice(tokens);
                self.logprobs.extend_from_slice(logprobs);
                self.stops.push(stop);
            }
        }
        if self.stops.len() == 2 || self.stops.contains(&Stop::Context) {
            return Move::Done;
        }
        Move::Sample(SampleRule {
            temperature: 0.7,
            top_k: None,
            top_p: Some(0.95),
            choices: None,
            stop: [11, 12].into(),
            n_tokens_max: 9,
        })
    }
}

fn sample(lm: &Lm, rows: &mut [Sampler]) {
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    lm.run(&mut episodes, Seed::root(5)).unwrap();
}

fn rows() -> Vec<Sampler> {
    let shared = tokens(12, 1);
    let mut rows: Vec<Sampler> = (0..6).map(|_| Sampler::new(shared.clone())).collect();
    rows.push(Sampler::new(tokens(3, 2)));
    rows.push(Sampler::new(tokens(90, 3)));
    rows
}

/// The trainer's log-probability of a token: the loss of the sequence with weight 1 on it.
fn trainer_logprob(lm: &Lm, tokens: &[TokenId], position: usize) -> f64 {
    let mut weights = vec![0.0; tokens.len()];
    weights[position] = 1.0;
    let example = Example {
        tokens: tokens.to_vec(),
        weights,
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    };
    -lm.gradient(&[example], LIKELIHOOD).unwrap().0.loss
}

#[test]
fn the_samplers_logprobs_are_the_trainers() {
    for lm in all_models() {
        let document = tokens(40, 9);
        for (position, logprob) in score(&lm, &document).iter().enumerate().skip(1) {
            let expected = trainer_logprob(&lm, &document, position);
            assert!(
                (f64::from(*logprob) - expected).abs() < 1e-4,
                "{logprob} {expected}"
            );
        }
        let mut rows = rows();
        sample(&lm, &mut rows);
        for row in &rows {
            let whole = [row.prompt.clone(), row.tokens.clone()].concat();
            for (index, logprob) in row.logprobs.iter().enumerate() {
                let expected = trainer_logprob(&lm, &whole, row.prompt.len() + index);
                assert!(
                    (f64::from(*logprob) - expected).abs() < 1e-4,
                    "{logprob} {expected}"
                );
            }
        }
        assert_eq!(
            rows[7].stops.last(),
            Some(&Stop::Context),
            "96 tokens are the context"
        );
    }
}

#[test]
fn shared_prefixes_run_once() {
    let lm = model(Architecture::Qwen2, true);
    let sequences = vec![example(tokens(40, 9), 1.0); 4];
    let (found, work) = lm.score(&sequences).unwrap();
    assert_eq!((work.n_tokens, work.n_tokens_run), (160, 40));
    assert!(found.iter().all(|logprobs| *logprobs == found[0]));
    let mut rows = vec![Sampler::new(tokens(40, 9)); 4];
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    let work = lm.run(&mut episodes, Seed::root(0)).unwrap();
    assert!(work.n_tokens_run <= 40 + work.n_tokens_sampled);
    assert_eq!(lm.run(&mut [], Seed::root(0)).unwrap().n_tokens, 0);
}
