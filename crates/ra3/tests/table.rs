//! The table policy against what the seam promises.

use std::num::NonZeroUsize;
use std::sync::Arc;

use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, Restriction, SampleRule,
    Stop, Surrogate, TokenId,
};
use ra3::seed::Seed;
use ra3::table::TablePolicy;

/// Probabilities 1/2, 1/4, 1/8, 1/8 after any history.
fn halves() -> TablePolicy {
    let mut table = TablePolicy::random(4, 1, 0.0, Seed::root(0));
    let logs = [0.5f64, 0.25, 0.125, 0.125].map(f64::ln);
    for row in table.logits.chunks_mut(4) {
        row.copy_from_slice(&logs);
    }
    table
}

fn rule() -> SampleRule {
    SampleRule {
        temperature: 1.0,
        top_k: None,
        top_p: None,
        choices: None,
        stop: Arc::new([]),
        n_tokens_max: 1,
    }
}

/// Feeds a token, samples once, and keeps what it saw.
struct Once {
    rule: SampleRule,
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
    stop: Option<Stop>,
}

impl Once {
    fn new(rule: SampleRule) -> Self {
        Self {
            rule,
            tokens: vec![],
            logprobs: vec![],
            stop: None,
        }
    }
}

impl Episode for Once {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(vec![0]),
            Observation::Fed { .. } => Move::Sample(self.rule.clone()),
            Observation::Sampled {
                tokens,
                logprobs,
                stop,
                ..
            } => {
                self.tokens = tokens.to_vec();
                self.logprobs = logprobs.to_vec();
                self.stop = Some(stop);
                Move::Done
            }
        }
    }
}

fn sample(policy: &TablePolicy, rule: &SampleRule, n: usize) -> Vec<Once> {
    let mut rows: Vec<Once> = (0..n).map(|_| Once::new(rule.clone())).collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    policy
        .run(&mut episodes, Seed::root(7))
        .expect("known tokens");
    rows
}

fn check_shares(rule: &SampleRule, expected: [f64; 4]) {
    let n = 20_000;
    let rows = sample(&halves(), rule, n);
    for (token, expected) in expected.into_iter().enumerate() {
        let count = rows
            .iter()
            .filter(|row| row.tokens == [token as u32])
            .count();
        let found = count as f64 / n as f64;
        let error = (expected * (1.0 - expected) / n as f64).sqrt();
        assert!(
            (found - expected).abs() <= 5.0 * error,
            "{token}: {found} against {expected}"
        );
    }
}

#[test]
fn draws_have_the_shares_of_their_rule() {
    check_shares(&rule(), [0.5, 0.25, 0.125, 0.125]);
    let greedy = SampleRule {
        temperature: 0.0,
        ..rule()
    };
    check_shares(&greedy, [1.0, 0.0, 0.0, 0.0]);
    let two = SampleRule {
        top_k: NonZeroUsize::new(2),
        ..rule()
    };
    check_shares(&two, [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
    let nucleus = SampleRule {
        top_p: Some(0.8),
        ..rule()
    };
    check_shares(&nucleus, [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
    let chosen = SampleRule {
        choices: Some(Arc::new([1, 2])),
        ..rule()
    };
    check_shares(&chosen, [0.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
    // Temperature 1/2 squares the probabilities: 16, 4, 1, 1 parts of 22.
    let cold = SampleRule {
        temperature: 0.5,
        ..rule()
    };
    check_shares(&cold, [16.0 / 22.0, 4.0 / 22.0, 1.0 / 22.0, 1.0 / 22.0]);
}

#[test]
fn reported_logprobs_are_unmodified_and_restricted() {
    let narrow = SampleRule {
        temperature: 0.3,
        top_k: NonZeroUsize::new(1),
        ..rule()
    };
    assert_eq!(sample(&halves(), &narrow, 1)[0].logprobs, [0.5f32.ln()]);
    let chosen = SampleRule {
        choices: Some(Arc::new([2, 3])),
        ..rule()
    };
    let found = sample(&halves(), &chosen, 1)[0].logprobs[0];
    assert!((found - 0.5f32.ln()).abs() < 1e-6, "{found}");
}

#[test]
fn sampling_stops_for_its_reason() {
    let greedy = SampleRule {
        temperature: 0.0,
        n_tokens_max: 3,
        ..rule()
    };
    let row = &sample(&halves(), &greedy, 1)[0];
    assert_eq!(
        (row.tokens.as_slice(), row.stop),
        (&[0, 0, 0][..], Some(Stop::Length))
    );
    let stopping = SampleRule {
        stop: Arc::new([0]),
        ..greedy.clone()
    };
    let row = &sample(&halves(), &stopping, 1)[0];
    assert_eq!(
        (row.tokens.as_slice(), row.stop),
        (&[0][..], Some(Stop::Token))
    );
    let row = &sample(&halves().with_limit(3), &greedy, 1)[0];
    assert_eq!(
        (row.tokens.as_slice(), row.stop),
        (&[0, 0][..], Some(Stop::Context))
    );
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let long = SampleRule {
        n_tokens_max: 20,
        ..rule()
    };
    let few = sample(&halves(), &long, 2);
    let many = sample(&halves(), &long, 9);
    assert_eq!(few[1].tokens, many[1].tokens);
    assert_ne!(many[0].tokens, many[1].tokens);
}

fn example(weight: f32) -> Example {
    Example {
        tokens: vec![0, 1, 2],
        weights: vec![0.0, weight, 0.5],
        restrictions: vec![Restriction {
            position: 2,
            choices: Arc::new([2, 3]),
        }],
        old_logprobs: vec![0.0, 0.2f32.ln(), 0.5f32.ln()],
    }
}

/// `1/4` and then, of the two eighths, `1/2`; the first token has no context.
#[test]
fn scores_by_hand() {
    let score = |example: &Example| {
        let (logprobs, work) = halves()
            .score(std::slice::from_ref(example))
            .expect("a good example");
        assert_eq!((work.n_tokens, work.n_tokens_sampled), (3, 0));
        let [logprobs] = &logprobs[..] else {
            panic!("{} rows in place of one", logprobs.len());
        };
        logprobs.clone()
    };
    let quarter = 0.25f32.ln();
    assert_eq!(score(&example(1.0)), [0.0, quarter, 0.5f32.ln()]);
    // The size of a weight plays no part, nor do old log-probabilities.
    let bare = Example {
        old_logprobs: vec![],
        ..example(-7.0)
    };
    assert_eq!(score(&bare), score(&example(1.0)));
    // What is no target is not looked at.
    assert_eq!(score(&example(0.0)), [0.0, 0.0, 0.5f32.ln()]);
    let everywhere = Example {
        restrictions: vec![],
        ..example(1.0)
    };
    assert_eq!(score(&everywhere), [0.0, quarter, 0.125f32.ln()]);
}

/// A sequence is scored as it was sampled, at any temperature.
#[test]
fn what_was_sampled_scores_the_same() {
    let table = TablePolicy::random(4, 2, 1.0, Seed::root(2));
    let warm = SampleRule {
        temperature: 1.7,
        n_tokens_max: 9,
        ..rule()
    };
    for row in sample(&table, &warm, 20) {
        let known = Example {
            tokens: [&[0], &row.tokens[..]].concat(),
            weights: [&[0.0], &[1.0; 9][..]].concat(),
            restrictions: vec![],
            old_logprobs: vec![],
        };
        let (logprobs, _) = table.score(&[known]).expect("a good example");
        assert_eq!(logprobs[0][1..], row.logprobs);
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut table = halves();
    let kept = table.snapshot();
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1.0,
    };
    table.update(&[example(1.0)], objective).unwrap();
    let score = |policy: &dyn Policy| policy.score(&[example(1.0)]).unwrap().0;
    assert_eq!(score(&*kept), score(&halves()));
    assert_ne!(score(&*kept), score(&table));
}

/// Every slope of the objective against central differences, both surrogates.
#[test]
fn gradients_are_the_differences_of_the_loss() {
    let clip = Surrogate::Clipped {
        low: 0.1,
        high: 0.3,
    };
    for surrogate in [Surrogate::LogLikelihood, clip] {
        for weight in [1.5, -1.5] {
            let table = TablePolicy::random(4, 2, 1.0, Seed::root(1));
            let batch = [example(weight)];
            let (gradient, _) = table.gradient(&batch, surrogate).unwrap();
            let loss = |index: usize, shift: f64| {
                let mut shifted = table.clone();
                shifted.logits[index] += shift;
                shifted.gradient(&batch, surrogate).unwrap().1.loss
            };
            for (index, slope) in gradient.iter().enumerate() {
                let expected = -(loss(index, 1e-5) - loss(index, -1e-5)) / 2e-5;
                assert!((slope - expected).abs() < 1e-7, "{surrogate:?} {index}");
            }
        }
    }
}

/// `ρ = 0.25 / 0.2 = 1.25` at the first target and 1 at the second.
#[test]
fn clipping_by_hand() {
    let stats = |weight, high| {
        let surrogate = Surrogate::Clipped { low: 0.1, high };
        halves().gradient(&[example(weight)], surrogate).unwrap().1
    };
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
    close(stats(1.0, 0.3).loss, -(1.25 + 0.5));
    close(stats(1.0, 0.3).clipped_share, 0.0);
    close(stats(1.0, 0.1).loss, -(1.1 + 0.5));
    close(stats(1.0, 0.1).clipped_share, 0.5);
    let gap = stats(1.0, 0.3).logprob_gap.unwrap();
    close(gap, 1.25f64.ln() / 2.0);
    // A ratio above the range is still pushed down where the weight is negative.
    close(stats(-1.0, 0.1).loss, 1.25 - 0.5);
    close(stats(-1.0, 0.1).clipped_share, 0.0);
    close(
        stats(1.0, 0.3).mean_logprob,
        (0.25f64.ln() + 0.5 * 0.5f64.ln()) / 1.5,
    );
}

#[test]
fn a_table_is_unchanged_after_an_error() {
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1.0,
    };
    let check = |batch: Example, expected: &str| {
        let mut table = halves();
        let found = table.update(&[example(1.0), batch], objective).unwrap_err();
        assert!(found.to_string().contains(expected), "{found}");
        assert_eq!(table, halves());
    };
    check(example(f32::NAN), "a weight is not a finite number");
    let tokens = vec![0, 1, 2, 9];
    check(
        Example {
            tokens,
            ..example(1.0)
        },
        "one weight for each",
    );
    let weights = vec![1.0, 0.0, 0.0];
    check(
        Example {
            weights,
            ..example(1.0)
        },
        "cannot be a target",
    );
    let tokens = vec![0, 9, 2];
    check(
        Example {
            tokens,
            ..example(1.0)
        },
        "token id 9 is outside",
    );
    let tokens = vec![0, 1, 1];
    check(
        Example {
            tokens,
            ..example(1.0)
        },
        "not among its choices",
    );
    let clip = Surrogate::Clipped {
        low: 0.1,
        high: 0.1,
    };
    let bare = Example {
        old_logprobs: vec![],
        ..example(1.0)
    };
    assert!(
        halves().score(std::slice::from_ref(&bare)).is_ok(),
        "nothing is clipped"
    );
    let found = halves().score(&[example(f32::NAN)]).unwrap_err();
    assert!(matches!(found, PolicyError::BadExample { index: 0, .. }));
    let found = halves().gradient(&[bare], clip).unwrap_err();
    assert!(matches!(found, PolicyError::BadExample { index: 0, .. }));
}

#[test]
fn the_latent_in_force_is_remembered() {
    let think = 3;
    let mut table = TablePolicy::random(4, 1, 0.0, Seed::root(0)).with_latent_in_force(think);
    table.logits_after(&[think, 1, 0, 0, 2])[0] = 5.0;
    let first = |history: &[TokenId]| table.logprobs(history, None)[0];
    assert_eq!(first(&[think, 1, 2]), first(&[think, 1, 0, 0, 2]));
    assert!(first(&[think, 1, 2]) > first(&[think, 0, 2]));
    assert!(
        first(&[think, 1, 2]) > first(&[think, 1, think, 0, 2]),
        "the latest counts"
    );
    assert!(first(&[think, 1, 2]) > first(&[1, 2]));
}
