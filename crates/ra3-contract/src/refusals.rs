//! What a policy refuses, for which reason, and that it is unchanged afterwards.

use std::sync::Arc;

use ra3::policy::{
    Example, Move, Objective, Policy, PolicyError, Restriction, SampleRule, Surrogate, TokenId,
};

use crate::Subject;
use crate::script::{Script, feed, rule, run, score, tokens};

/// What a policy says of a sequence and draws after it: two that agree to the bit are the same.
fn probe(policy: &dyn Policy, subject: &Subject) -> (Vec<f32>, Script) {
    let sequence = tokens(subject, 12, 50);
    let sample = Move::Sample(SampleRule {
        n_tokens_max: 6,
        ..rule()
    });
    let mut script = [Script::new(vec![feed(&sequence[..4]), sample])];
    run(policy, &mut script, 9).expect("moves that are in order");
    let [script] = script;
    (score(policy, &sequence), script)
}

fn choices(tokens: &[TokenId]) -> Arc<[TokenId]> {
    tokens.into()
}

/// Moves that no policy makes, and a word of the reason.
fn bad_moves(subject: &Subject) -> Vec<(Move, &'static str)> {
    let unknown = subject.n_vocabulary as TokenId;
    let sample = |rule: SampleRule| Move::Sample(rule);
    let mut moves = vec![
        (feed(&[]), "feeds no token"),
        (feed(&[1, unknown]), "outside the vocabulary"),
        (
            sample(SampleRule {
                n_tokens_max: 0,
                ..rule()
            }),
            "samples no token",
        ),
        (
            sample(SampleRule {
                choices: Some(choices(&[])),
                ..rule()
            }),
            "no choices",
        ),
        (
            sample(SampleRule {
                choices: Some(choices(&[3, 4, 3])),
                ..rule()
            }),
            "twice",
        ),
        (
            sample(SampleRule {
                choices: Some(choices(&[3, unknown])),
                ..rule()
            }),
            "outside the vocabulary",
        ),
    ];
    for temperature in [-1.0, f32::NAN, f32::NEG_INFINITY] {
        moves.push((
            sample(SampleRule {
                temperature,
                ..rule()
            }),
            "temperature",
        ));
    }
    for top_p in [0.0, -0.5, 1.5, f32::NAN] {
        moves.push((
            sample(SampleRule {
                top_p: Some(top_p),
                ..rule()
            }),
            "top_p",
        ));
    }
    moves
}

pub(crate) fn moves(subject: &Subject) {
    let policy = (subject.make)();
    let before = probe(&*policy, subject);
    let refuse = |row: Vec<Move>, reason: &str| {
        // A row that is in order stands before it: errors name their row.
        let mut rows = [Script::new(vec![feed(&[1, 2])]), Script::new(row.clone())];
        let error = run(&*policy, &mut rows, 1).expect_err(reason);
        let found = error.to_string();
        assert!(
            found.contains(reason),
            "{row:?}: {found:?} does not say {reason:?}"
        );
        if let PolicyError::BadMove { index, .. } = error {
            assert_eq!(index, 1, "{found}");
        }
        assert_eq!(probe(&*policy, subject), before, "unchanged after {reason}");
    };
    for (bad, reason) in bad_moves(subject) {
        refuse(vec![feed(&[1]), bad.clone()], reason);
        if matches!(bad, Move::Feed(_)) {
            refuse(vec![bad], reason);
        }
    }
    refuse(vec![Move::Sample(rule())], "before it feeds");
}

fn example(subject: &Subject) -> Example {
    let tokens = tokens(subject, 10, 51);
    let target = tokens[6];
    let other = (target + 1) % subject.n_vocabulary as TokenId;
    Example {
        weights: (0..10)
            .map(|index| if index == 0 { 0.0 } else { 0.1 })
            .collect(),
        restrictions: vec![Restriction {
            position: 6,
            choices: Arc::new([other, target]),
        }],
        old_logprobs: vec![-1.0; 10],
        tokens,
    }
}

fn with(subject: &Subject, change: impl Fn(&mut Example)) -> Example {
    let mut example = example(subject);
    change(&mut example);
    example
}

/// Examples whose parts do not belong together, and a word of the reason.
fn bad_parts(subject: &Subject) -> Vec<(Example, &'static str)> {
    let unknown = subject.n_vocabulary as TokenId;
    let with = |change: &dyn Fn(&mut Example)| with(subject, change);
    let mut bad = vec![
        (with(&|example| example.tokens.clear()), "needs tokens"),
        (
            with(&|example| {
                example.tokens.clear();
                example.weights.clear();
            }),
            "needs tokens",
        ),
        (
            with(&|example| example.weights.truncate(9)),
            "one weight for each",
        ),
        (
            with(&|example| example.weights[0] = 0.5),
            "cannot be a target",
        ),
        (
            with(&|example| example.old_logprobs.truncate(9)),
            "one old log-probability",
        ),
        (
            with(&|example| example.old_logprobs.clear()),
            "one old log-probability",
        ),
        (
            with(&|example| example.tokens[3] = unknown),
            "outside the vocabulary",
        ),
    ];
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let weight = with(&|example| example.weights[4] = value);
        let first = with(&|example| example.weights[0] = value);
        let old = with(&|example| example.old_logprobs[4] = value);
        bad.push((weight, "weight is not"));
        bad.push((first, "cannot be a target"));
        bad.push((old, "old log-probability is not"));
    }
    bad
}

/// Examples whose restrictions cannot be, and a word of the reason.
fn bad_restrictions(subject: &Subject) -> Vec<(Example, &'static str)> {
    let unknown = subject.n_vocabulary as TokenId;
    let good = example(subject);
    let target = good.tokens[6];
    let other = (target + 1) % unknown;
    let one = |position: usize, choices: &[TokenId]| {
        with(subject, |example| {
            let choices = choices.into();
            example.restrictions = vec![Restriction { position, choices }];
        })
    };
    let before = Restriction {
        position: 3,
        choices: Arc::new([good.tokens[3]]),
    };
    let and_then =
        |next: &Restriction| with(subject, |example| example.restrictions.push(next.clone()));
    vec![
        (one(6, &[target, unknown]), "outside the vocabulary"),
        (one(6, &[other]), "not among its choices"),
        (one(6, &[]), "no choices"),
        (one(6, &[target, other, target]), "twice"),
        (one(0, &[good.tokens[0]]), "cannot be a target"),
        (one(10, &[target]), "outside the sequence"),
        (one(usize::MAX, &[target]), "outside the sequence"),
        (and_then(&before), "do not rise"),
        (and_then(&good.restrictions[0]), "do not rise"),
    ]
}

pub(crate) fn examples(subject: &Subject) {
    let objective = Objective {
        surrogate: Surrogate::Clipped {
            low: 0.2,
            high: 0.2,
        },
        learning_rate: 1e-2,
    };
    let good = example(subject);
    let mut policy = (subject.make)();
    // A step before it: the optimizer has something to lose.
    policy
        .update(std::slice::from_ref(&good), objective)
        .expect("a good example");
    let before = probe(&*policy, subject);
    let mut refuse = |batch: &[Example], objective: Objective, reason: &str| {
        let error = policy.update(batch, objective).expect_err(reason);
        let found = error.to_string();
        assert!(found.contains(reason), "{found:?} does not say {reason:?}");
        if let PolicyError::BadExample { index, .. } = error {
            assert_eq!(index, batch.len() - 1, "{found}");
        }
        assert_eq!(probe(&*policy, subject), before, "unchanged after {reason}");
    };
    for (bad, reason) in bad_parts(subject)
        .into_iter()
        .chain(bad_restrictions(subject))
    {
        if !reason.contains("old log-probability") {
            let scored = [good.clone(), bad.clone()];
            let error = (subject.make)().score(&scored).expect_err(reason);
            let found = error.to_string();
            assert!(found.contains(reason), "{found:?} does not say {reason:?}");
        }
        refuse(&[good.clone(), bad], objective, reason);
    }
    let long = Example {
        tokens: tokens(subject, subject.n_tokens_max + 1, 52),
        weights: vec![0.0; subject.n_tokens_max + 1],
        restrictions: vec![],
        old_logprobs: vec![0.0; subject.n_tokens_max + 1],
    };
    refuse(&[long], objective, "does not fit a context");
    for learning_rate in [f32::NAN, f32::INFINITY, -1.0] {
        let objective = Objective {
            learning_rate,
            ..objective
        };
        refuse(std::slice::from_ref(&good), objective, "learning rate");
    }
    for (low, high) in [(f32::NAN, 0.2), (0.2, f32::NAN), (-0.1, 0.2), (0.2, -0.1)] {
        let surrogate = Surrogate::Clipped { low, high };
        let objective = Objective {
            surrogate,
            ..objective
        };
        refuse(std::slice::from_ref(&good), objective, "clip range");
    }
    // What it does next is what one does that was never asked.
    let mut fresh = (subject.make)();
    for _ in 0..2 {
        fresh
            .update(std::slice::from_ref(&good), objective)
            .expect("a good example");
    }
    policy.update(&[good], objective).expect("a good example");
    assert_eq!(probe(&*policy, subject), probe(&*fresh, subject));
}
