//! What scoring promises.

use ra3::policy::{Example, Objective, Restriction, TokenId};

use crate::Subject;
use crate::script::{distribution, score, sequence, tokens};

fn scores(subject: &Subject, sequences: &[Example]) -> Vec<Vec<f32>> {
    let (found, _) = (subject.make)()
        .score(sequences)
        .expect("sequences that are in order");
    assert_eq!(found.len(), sequences.len());
    found
}

fn among(position: usize, choices: &[TokenId]) -> Restriction {
    Restriction {
        position,
        choices: choices.into(),
    }
}

/// A token's score is its share in the distribution after its history; the first has none.
pub(crate) fn shares(subject: &Subject) {
    let whole = tokens(subject, 9, 40);
    let found = score(&*(subject.make)(), &whole);
    assert_eq!((found.len(), found[0]), (9, 0.0));
    for at in [1, 4, 8] {
        let expected = distribution(subject, &whole[..at])[whole[at] as usize].ln();
        assert!((f64::from(found[at]) - expected).abs() < 1e-5 + subject.tolerance);
    }
}

/// What has no weight is 0; how large a weight is, and what a token's probability once was, plays
/// no part.
pub(crate) fn targets(subject: &Subject) {
    let whole = sequence(&tokens(subject, 13, 41));
    let all = scores(subject, std::slice::from_ref(&whole)).remove(0);
    for step in [2, 3, 5] {
        let mut some = whole.clone();
        some.old_logprobs = vec![-1.0; 13];
        for (at, weight) in some.weights.iter_mut().enumerate().skip(1) {
            *weight = if at % step == 1 {
                -0.25 * at as f32
            } else {
                0.0
            };
        }
        let found = scores(subject, &[some]).remove(0);
        for at in 1..13 {
            let expected = if at % step == 1 { all[at] } else { 0.0 };
            assert_eq!(found[at], expected, "token {at} of every {step}");
        }
    }
    let silent = Example {
        weights: vec![0.0; 13],
        ..whole
    };
    assert_eq!(scores(subject, &[silent]), [[0.0; 13]]);
}

/// A restricted target is scored as if it had been drawn among its choices, and nothing after it
/// changes.
pub(crate) fn choices(subject: &Subject) {
    let prompt = tokens(subject, 6, 43);
    let shares = distribution(subject, &prompt);
    let plain = sequence(&[&prompt[..], &[8, 2, 4, 8]].concat());
    for choices in [vec![3, 8], vec![8, 3, 5], vec![8]] {
        let restricted = Example {
            restrictions: vec![among(6, &choices)],
            ..plain.clone()
        };
        // Sequences that share their tokens do not share how these are scored.
        let batch = [restricted.clone(), plain.clone(), restricted];
        let rows = scores(subject, &batch);
        let total: f64 = choices.iter().map(|choice| shares[*choice as usize]).sum();
        let expected = (shares[8] / total).ln();
        let found = f64::from(rows[0][6]);
        assert!(
            (found - expected).abs() < 1e-5 + subject.tolerance,
            "{found} among {choices:?} for {expected}"
        );
        assert_eq!(rows[0][7..], rows[1][7..]);
        assert_eq!(rows[0][..6], rows[1][..6]);
        assert_eq!(rows[0], rows[2]);
        assert!((f64::from(rows[1][6]) - shares[8].ln()).abs() < 1e-5 + subject.tolerance);
    }
}

/// A sequence has the same bits whoever stands beside it, whatever they share, in any order; and
/// its tokens are counted.
pub(crate) fn neighbours(subject: &Subject) {
    let start = tokens(subject, 10, 45);
    let mut batch: Vec<Example> = (0..6)
        .map(|salt| sequence(&[&start[..4 + salt], &tokens(subject, 7, 50 + salt as u64)].concat()))
        .collect();
    batch[2].restrictions = vec![among(3, &[start[3], (start[3] + 1) % 12])];
    batch.push(batch[1].clone());
    let together = scores(subject, &batch);
    for (alone, together) in batch.iter().zip(&together) {
        assert_eq!(scores(subject, std::slice::from_ref(alone))[0], *together);
    }
    batch.reverse();
    let mut turned = scores(subject, &batch);
    turned.reverse();
    assert_eq!(turned, together);
    let (none, work) = (subject.make)().score(&[]).expect("no sequences");
    assert_eq!((none.len(), work.n_tokens, work.n_tokens_run), (0, 0, 0));
    let (_, work) = (subject.make)()
        .score(&batch)
        .expect("sequences that are in order");
    let n_tokens: usize = batch.iter().map(|example| example.tokens.len()).sum();
    assert_eq!((work.n_tokens, work.n_tokens_sampled), (n_tokens as u64, 0));
    assert!(!subject.computes_once || work.n_tokens_run <= work.n_tokens);
}

/// A snapshot says what the policy says, and goes on saying it when the policy has moved.
pub(crate) fn snapshots(subject: &Subject) {
    let mut policy = (subject.make)();
    let snapshot = policy.snapshot();
    let whole = sequence(&tokens(subject, 12, 46));
    let tolerance = 1e-6 + subject.tolerance;
    let distance = |a: &[f32], b: &[f32]| {
        let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
        differences.fold(0.0, f64::max)
    };
    let before = score(&*policy, &whole.tokens);
    assert!(distance(&score(&*snapshot, &whole.tokens), &before) <= tolerance);
    for _ in 0..3 {
        let objective = Objective::likelihood(1e-2);
        policy
            .update(std::slice::from_ref(&whole), objective)
            .expect("a good batch");
    }
    assert!(distance(&score(&*policy, &whole.tokens), &before) > 10.0 * tolerance);
    assert!(distance(&score(&*snapshot, &whole.tokens), &before) <= tolerance);
}
