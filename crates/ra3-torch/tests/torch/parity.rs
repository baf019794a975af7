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

pub(crate) fn native(folder: &Path) -> Lm {
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 400,
        recompute: false,
        cache_bytes_max: 1 << 28,
        recorded_bytes_max: 0,
        compute: Precision::Float32,
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
    native(folder.path()).weights().data().to_vec()
}

/// Feeds, then draws by some rules in turn, and keeps what it draws.
struct Drawing {
    prompt: Vec<TokenId>,
    rules: Vec<SampleRule>,
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
    /// All tokens, fed and drawn.
    path: Vec<TokenId>,
    /// Of each drawn token, its place in the path and that of its rule.
    places: Vec<(usize, usize)>,
    n_moves: usize,
}

impl Episode for Drawing {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        if let Observation::Sampled {
            tokens, logprobs, ..
        } = seen
        {
            self.logprobs.extend(logprobs);
            for token in tokens {
                self.places.push((self.path.len(), self.n_moves / 2 - 1));
                self.tokens.push(*token);
                self.path.push(*token);
            }
        }
        self.n_moves += 1;
        match self.n_moves {
            1 => {
                self.path.extend(&self.prompt);
                Move::Feed(self.prompt.clone())
            }
            n if n % 2 == 0 && n / 2 <= self.rules.len() => {
                Move::Sample(self.rules[n / 2 - 1].clone())
            }
            n if n / 2 < self.rules.len() => {
                self.path.push(n as TokenId);
                Move::Feed(vec![n as TokenId])
            }
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
            path: vec![],
            places: vec![],
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

/// A number this near to a token's share of the distribution may draw it where sums are rounded
/// otherwise.
const NEAR: f64 = 1e-5;
/// Likelihoods this near, as a share, may stand in either order where the likeliest come first:
/// scores agree to 1e-4 nats.
const ALIKE: f64 = 2e-4;

/// How far the number of a draw lies from the interval of the cumulative distribution that is some
/// token's, or would be if those as likely as it stood behind it or before it; infinite where the
/// rule leaves it none.
fn distance_to_share(
    policy: &Lm,
    (before, rule, uniform): (&[TokenId], &SampleRule, f64),
    token: TokenId,
) -> f64 {
    let all: Vec<TokenId> = match &rule.choices {
        Some(choices) => choices.to_vec(),
        None => (0..policy.shape().n_vocabulary as TokenId).collect(),
    };
    let sequence = |last: &TokenId| {
        let mut weights = vec![0.0; before.len() + 1];
        weights[before.len()] = 1.0;
        Example {
            tokens: [before, &[*last]].concat(),
            weights,
            restrictions: vec![],
            old_logprobs: vec![],
        }
    };
    let sequences: Vec<Example> = all.iter().map(sequence).collect();
    let (logprobs, _) = policy.score(&sequences).expect("good sequences");
    let weigh = |row: &Vec<f32>| (f64::from(row[before.len()]) / f64::from(rule.temperature)).exp();
    let mut shares: Vec<(TokenId, f64)> = all.into_iter().zip(logprobs.iter().map(weigh)).collect();
    let total = |shares: &[(TokenId, f64)]| shares.iter().map(|(_, share)| share).sum::<f64>();
    if let Some(p) = rule.top_p {
        let goal = f64::from(p) * total(&shares);
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        let is_reached = |(_, share): &(TokenId, f64)| {
            sum += share;
            sum >= goal
        };
        let last = shares.iter().position(is_reached);
        shares.truncate(last.map_or(shares.len(), |last| last + 1));
    }
    let whole = total(&shares);
    let Some(at) = shares.iter().position(|(other, _)| *other == token) else {
        return f64::INFINITY;
    };
    let share = shares[at].1;
    let is_alike = |(_, other): &&(TokenId, f64)| (other - share).abs() <= ALIKE * share;
    let n_alike = |alike: &mut dyn Iterator<Item = &(TokenId, f64)>| match rule.top_p {
        Some(_) => alike.take_while(is_alike).count(),
        None => 0,
    };
    let n_before = n_alike(&mut shares[..at].iter().rev());
    let n_behind = n_alike(&mut shares[at + 1..].iter());
    let low = total(&shares[..at - n_before]) / whole;
    let high = total(&shares[..=at + n_behind]) / whole;
    (low - uniform).max(uniform - high).max(0.0)
}

/// The same tokens for the same seed, up to a token whose number lies at its share's very end.
fn assert_same_draws(theirs: &[Drawing], ours: &[Drawing], native: &Lm, seed: Seed) {
    for (row, (found, expected)) in theirs.iter().zip(ours).enumerate() {
        let both = found.tokens.iter().zip(&expected.tokens);
        let parted = both.clone().position(|(found, expected)| found != expected);
        if let Some(at) = parted {
            let (place, rule) = expected.places[at];
            let uniform = seed.nth(row as u64).nth(at as u64).uniform();
            let drawn = (&expected.path[..place], &expected.rules[rule], uniform);
            for token in [expected.tokens[at], found.tokens[at]] {
                let far = distance_to_share(native, drawn, token);
                let both = [expected.tokens[at], found.tokens[at]];
                assert!(
                    far <= NEAR,
                    "row {row}, draw {at} of {both:?}: {token} is {far} away"
                );
            }
        } else {
            assert_eq!(found.tokens.len(), expected.tokens.len(), "row {row}");
        }
        let n_same = parted.unwrap_or(found.tokens.len());
        let both = found.logprobs.iter().zip(&expected.logprobs);
        for (found, expected) in both.take(n_same) {
            assert!((found - expected).abs() <= 1e-4, "{found} {expected}");
        }
    }
}

/// Scores ≤ 1e-4 nats apart, and the same draws.
fn assert_scores_and_draws_agree(root: u64) {
    let seed = Seed::root(root);
    let (ours, theirs) = (native(&base()), torch(&base()));
    assert_eq!(ours.shape(), theirs.shape());
    let n_vocabulary = ours.shape().n_vocabulary;
    let sequences = batch(n_vocabulary, 9, seed);
    let (expected, _) = ours.score(&sequences).expect("good sequences");
    let (found, _) = theirs.score(&sequences).expect("good sequences");
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= 1e-4, "{found} {expected}");
    }
    let drawn = [&theirs as &dyn Policy, &ours].map(|policy| draw(policy, n_vocabulary, seed));
    assert_same_draws(&drawn[0], &drawn[1], &ours, seed);
}

/// A root for which a number lies within rounding of the boundary between two tokens.
#[test]
fn draws_part_at_a_boundary_only() {
    if has_torch() {
        assert_scores_and_draws_agree(10_765_487_044_043_352_272);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn scores_and_draws_are_those_of_the_engine(root in any::<u64>()) {
        if has_torch() {
            assert_scores_and_draws_agree(root);
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
                let gaps = [&found, &expected].map(|stats| stats.logprob_gap.unwrap_or(-1.0));
                prop_assert!(near(gaps[0], gaps[1]) && gaps[1] > 0.1, "{:?}", gaps);
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
