//! What the worker computes is what `ra3-lm` computes, on the committed base.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use ra3::model::{Model, Saved};
use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, Restriction, SampleRule, Surrogate,
    TokenId,
};
use ra3::seed::Seed;
use ra3_lm::config::Precision;
use ra3_lm::{Lm, TrainSettings};
use ra3_torch::TorchModel;

use crate::{base, has_torch, worker};

fn native(folder: &Path) -> Lm {
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 400,
        recompute: false,
        cache_bytes_max: 1 << 28,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    Lm::load(folder, settings).expect("a checkpoint")
}

fn torch(folder: &Path) -> TorchModel {
    TorchModel::load(worker(), folder).expect("a checkpoint")
}

/// Some tokens of a vocabulary.
fn tokens(n_vocabulary: usize, n: usize, seed: Seed) -> Vec<TokenId> {
    let at = |index| (seed.nth(index).uniform() * n_vocabulary as f64) as TokenId;
    (0..n as u64).map(at).collect()
}

/// Examples that begin alike, with weights of both signs, restrictions and old log-probabilities.
fn batch(n_vocabulary: usize, n: usize, seed: Seed) -> Vec<Example> {
    let start = tokens(n_vocabulary, 30, seed);
    let example = |index: usize| {
        let own = seed.child("own").nth(index as u64);
        let n_shared = [0, 9, 30][index % 3];
        let n_more = 5 + (own.uniform() * 40.0) as usize;
        let tokens = [&start[..n_shared], &tokens(n_vocabulary, n_more, own)[..]].concat();
        let weight = |at: usize| [0.02, -0.01, 0.0, 0.03][(at + index) % 4];
        let weights = (0..tokens.len()).map(|at| if at == 0 { 0.0 } else { weight(at) });
        let choices = [(tokens[3] + 1) % n_vocabulary as TokenId, tokens[3]];
        Example {
            weights: weights.collect(),
            restrictions: vec![Restriction {
                position: 3,
                choices: choices.into(),
            }],
            old_logprobs: vec![],
            tokens,
        }
    };
    (0..n).map(example).collect()
}

/// `‖a − b‖ / ‖b‖`
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let of_both = a.iter().zip(b).map(|(a, b)| f64::from(a - b));
    (square(&mut { of_both }) / square(&mut b.iter().map(|x| f64::from(*x)))).sqrt()
}

/// The exact weights of a model, by way of its files.
fn weights(model: &dyn Model) -> Vec<f32> {
    let folder = tempfile::tempdir().expect("a folder");
    model.save(folder.path(), Saved::Weights).expect("files");
    native(folder.path()).weights().data.clone()
}

/// Feeds, then draws by some rules in turn, and keeps what it draws.
struct Drawing {
    prompt: Vec<TokenId>,
    rules: Vec<SampleRule>,
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
    n_moves: usize,
}

impl Episode for Drawing {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        if let Observation::Sampled {
            tokens, logprobs, ..
        } = seen
        {
            self.tokens.extend(tokens);
            self.logprobs.extend(logprobs);
        }
        self.n_moves += 1;
        match self.n_moves {
            1 => Move::Feed(self.prompt.clone()),
            n if n % 2 == 0 && n / 2 <= self.rules.len() => {
                Move::Sample(self.rules[n / 2 - 1].clone())
            }
            n if n / 2 < self.rules.len() => Move::Feed(vec![n as TokenId]),
            _ => Move::Done,
        }
    }
}

fn draw(policy: &dyn Policy, n_vocabulary: usize, seed: Seed) -> Vec<Drawing> {
    let among: Arc<[TokenId]> = tokens(64, 2, seed).iter().map(|token| token * 2).collect();
    let choices: Arc<[TokenId]> = Arc::new([among[0], among[1] + 1]);
    let rules = |index: usize| {
        vec![
            SampleRule {
                stop: Arc::new([5, 11]),
                ..SampleRule::plain(1.0, 20)
            },
            SampleRule {
                choices: Some(Arc::clone(&choices)),
                ..SampleRule::plain(0.7, 1)
            },
            SampleRule {
                top_p: index.is_multiple_of(2).then_some(0.9),
                ..SampleRule::plain(1.2, 8)
            },
        ]
    };
    let mut drawings: Vec<Drawing> = (0..24)
        .map(|index| Drawing {
            prompt: tokens(n_vocabulary, 12, seed.nth(index / 6)),
            rules: rules(index as usize),
            tokens: vec![],
            logprobs: vec![],
            n_moves: 0,
        })
        .collect();
    let mut episodes: Vec<&mut dyn Episode> = drawings
        .iter_mut()
        .map(|drawing| drawing as &mut dyn Episode)
        .collect();
    policy
        .run(&mut episodes, seed)
        .expect("moves that are in order");
    drawings
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Scores ≤ 1e-4 nats apart, and the same tokens for the same seed.
    #[test]
    fn scores_and_draws_are_those_of_the_engine(root in any::<u64>()) {
        if has_torch() {
            let seed = Seed::root(root);
            let (ours, theirs) = (native(&base()), torch(&base()));
            prop_assert_eq!(ours.shape(), theirs.shape());
            let n_vocabulary = ours.shape().n_vocabulary;
            let sequences = batch(n_vocabulary, 9, seed);
            let (expected, _) = ours.score(&sequences).expect("good sequences");
            let (found, _) = theirs.score(&sequences).expect("good sequences");
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                prop_assert!((found - expected).abs() <= 1e-4, "{} {}", found, expected);
            }
            let drawn = draw(&theirs, n_vocabulary, seed);
            for (found, expected) in drawn.iter().zip(draw(&ours, n_vocabulary, seed)) {
                prop_assert_eq!(&found.tokens, &expected.tokens);
                for (found, expected) in found.logprobs.iter().zip(&expected.logprobs) {
                    prop_assert!((found - expected).abs() <= 1e-4, "{} {}", found, expected);
                }
            }
        }
    }

    /// Weights ≤ 1e-5 apart after updates of both kinds, and what the updates say of themselves.
    #[test]
    fn updates_are_those_of_the_engine(root in any::<u64>()) {
        if has_torch() {
            let seed = Seed::root(root);
            let (mut ours, mut theirs) = (native(&base()), torch(&base()));
            let n_vocabulary = ours.shape().n_vocabulary;
            for step in 0..3 {
                let mut batch = batch(n_vocabulary, 7, seed.nth(step));
                let (olds, _) = ours.score(&batch).expect("good sequences");
                for (example, mut olds) in batch.iter_mut().zip(olds) {
                    let shift = |at: usize| 0.2 * (at % 5) as f32 - 0.4;
                    olds.iter_mut().enumerate().for_each(|(at, old)| *old += shift(at));
                    example.old_logprobs = olds;
                }
                let surrogate = Surrogate::over(1 + step as usize, 0.1, 0.3);
                let objective = Objective { surrogate, learning_rate: 1e-3 };
                let expected = ours.update(&batch, objective).expect("a good batch");
                let found = theirs.update(&batch, objective).expect("a good batch");
                let near = |found: f64, expected: f64| {
                    (found - expected).abs() <= 1e-4 * (1.0 + expected.abs())
                };
                prop_assert!(near(found.loss, expected.loss), "{:?} {:?}", found, expected);
                prop_assert!(near(found.mean_logprob, expected.mean_logprob));
                prop_assert!(near(found.gradient_norm, expected.gradient_norm));
                prop_assert!((found.clipped_share - expected.clipped_share).abs() < 0.02);
                prop_assert_eq!(found.work.n_tokens, expected.work.n_tokens);
                prop_assert_eq!(found.work.n_tokens_run, expected.work.n_tokens_run);
                prop_assert!(near(found.work.flops / 1e9, expected.work.flops / 1e9));
            }
            let far = distance(&weights(&theirs), &weights(&ours));
            prop_assert!(far <= 1e-5, "{}", far);
        }
    }

    /// Rows that are added or started anew, a state that is continued, a snapshot.
    #[test]
    fn the_rest_of_a_model_is_that_of_the_engine(root in any::<u64>(), n_more in 1usize..5) {
        if has_torch() {
            let seed = Seed::root(root);
            let (mut ours, mut theirs) = (native(&base()), torch(&base()));
            let n_vocabulary = ours.shape().n_vocabulary + n_more;
            let models: [&mut dyn Model; 2] = [&mut ours, &mut theirs];
            for model in models {
                model.grow_vocabulary(n_vocabulary, seed);
                model.grow_vocabulary(n_vocabulary - 1, seed);
                model.restart_tokens(&[7, 3], seed.child("restart"));
            }
            prop_assert_eq!(ours.shape(), theirs.shape());
            let far = distance(&weights(&theirs), &weights(&ours));
            prop_assert!(far <= 1e-6, "{}", far);
            let objective = Objective {
                surrogate: Surrogate::LogLikelihood,
                learning_rate: 1e-3,
            };
            let batches = [0, 1].map(|step| batch(n_vocabulary, 5, seed.nth(step)));
            theirs.update(&batches[0], objective).expect("a good batch");
            let folder = tempfile::tempdir().expect("a folder");
            theirs.save(folder.path(), Saved::State).expect("files");
            let mut continued = torch(folder.path());
            continued.load_state(folder.path()).expect("a state");
            let before = weights(&theirs);
            theirs.rehearse(&batches[1], objective).expect("a good batch");
            prop_assert_eq!(weights(&theirs), before);
            for model in [&mut theirs, &mut continued] {
                model.update(&batches[1], objective).expect("a good batch");
            }
            prop_assert_eq!(weights(&theirs), weights(&continued));
        }
    }
}
