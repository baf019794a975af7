//! What training promises.

use std::sync::Arc;

use ra3::policy::{Example, Objective, Restriction, Surrogate, TokenId, UpdateStats};

use crate::Subject;
use crate::script::{score, tokens};

const LIKELIHOOD: Objective = Objective::likelihood(0.0);

/// What an update of a fresh policy says.
fn stats(subject: &Subject, batch: &[Example], objective: Objective) -> UpdateStats {
    (subject.make)()
        .update(batch, objective)
        .expect("a good batch")
}

/// An example with weights by position.
fn example(tokens: Vec<TokenId>, weight: impl Fn(usize) -> f32) -> Example {
    let weights = (0..tokens.len()).map(|i| if i == 0 { 0.0 } else { weight(i) });
    Example {
        weights: weights.collect(),
        tokens,
        restrictions: vec![],
        old_logprobs: vec![],
    }
}

fn restriction(example: &Example, position: usize, others: &[TokenId]) -> Restriction {
    let target = example.tokens[position];
    let mut choices: Vec<TokenId> = others.iter().copied().filter(|o| *o != target).collect();
    choices.push(target);
    Restriction {
        position,
        choices: choices.into(),
    }
}

/// Log-probabilities of an example's tokens as they count in its loss, from scores over the whole
/// vocabulary.
fn logprobs(subject: &Subject, example: &Example) -> Vec<f64> {
    let policy = (subject.make)();
    let mut logprobs: Vec<f64> = score(&*policy, &example.tokens)
        .into_iter()
        .map(f64::from)
        .collect();
    for Restriction { position, choices } in &example.restrictions {
        let among: f64 = choices
            .iter()
            .map(|choice| {
                let sequence = [&example.tokens[..*position], &[*choice]].concat();
                f64::from(score(&*policy, &sequence)[*position]).exp()
            })
            .sum();
        logprobs[*position] -= among.ln();
    }
    logprobs
}

fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    let bound = tolerance * (1.0 + expected.abs());
    assert!(
        (found - expected).abs() <= bound,
        "{what}: {found} instead of {expected}"
    );
}

/// The loss of one target is the log-probability that a score reports.
pub(crate) fn losses(subject: &Subject) {
    let sequence = tokens(subject, 14, 60);
    for position in 1..14 {
        for (weight, others) in [(1.0, None), (-2.0, Some([0, 5, 7])), (0.5, Some([1, 2, 3]))] {
            let mut one = example(
                sequence.clone(),
                |i| if i == position { weight } else { 0.0 },
            );
            one.restrictions = others
                .iter()
                .map(|others| restriction(&one, position, others))
                .collect();
            let logprob = logprobs(subject, &one)[position];
            let stats = stats(subject, &[one], LIKELIHOOD);
            let what = format!("loss at {position}");
            assert_near(
                &what,
                stats.loss,
                -f64::from(weight) * logprob,
                subject.tolerance,
            );
            let mean = if weight > 0.0 { logprob } else { 0.0 };
            assert_near("mean_logprob", stats.mean_logprob, mean, subject.tolerance);
            assert_eq!(stats.clipped_share, 0.0);
        }
    }
}

/// `min(ρ w, clip(ρ) w)` in `f64`, and whether the clipped side holds.
fn surrogate(weight: f64, ratio: f64, low: f64, high: f64) -> (f64, bool) {
    let clipped = ratio.clamp(1.0 - low, 1.0 + high) * weight;
    (clipped.min(ratio * weight), clipped < ratio * weight)
}

/// Both sides of the range, both signs, restricted and not, against the formula.
pub(crate) fn clipped(subject: &Subject) {
    let (low, high) = (0.2, 0.4);
    let objective = Objective {
        surrogate: Surrogate::Clipped {
            low: low as f32,
            high: high as f32,
        },
        learning_rate: 0.0,
    };
    let mut one = example(tokens(subject, 14, 61), |i| [0.3, -0.2, 0.1, -0.4][i % 4]);
    one.restrictions = vec![
        restriction(&one, 4, &[0, 3, 9]),
        restriction(&one, 9, &[2, 6]),
    ];
    let now = logprobs(subject, &one);
    let ratios = [1.0, 1.9, 0.5, 1.2, 0.7];
    let ratio = |i: usize| ratios[i % ratios.len()];
    one.old_logprobs = (0..14)
        .map(|i| (now[i] - f64::ln(ratio(i))) as f32)
        .collect();
    let terms: Vec<(f64, bool)> = (1..14)
        .map(|i| surrogate(f64::from(one.weights[i]), ratio(i), low, high))
        .collect();
    let n_clipped = terms.iter().filter(|(_, is_clipped)| *is_clipped).count();
    assert!(n_clipped > 2 && n_clipped < 11, "both kinds are here");
    let found = stats(subject, std::slice::from_ref(&one), objective);
    let expected = -terms.iter().map(|(term, _)| term).sum::<f64>();
    assert_near(
        "clipped loss",
        found.loss,
        expected,
        3.0 * subject.tolerance,
    );
    assert_near(
        "clipped_share",
        found.clipped_share,
        n_clipped as f64 / 13.0,
        1e-9,
    );
    // Where everything is clipped nothing is pulled.
    one.weights
        .iter_mut()
        .for_each(|weight| *weight = weight.abs());
    one.old_logprobs = now.iter().map(|logprob| (logprob - 1.0) as f32).collect();
    let found = stats(subject, std::slice::from_ref(&one), objective);
    assert_eq!((found.gradient_norm, found.clipped_share), (0.0, 1.0));
    // At the policy that drew them it is the likelihood's gradient.
    one.old_logprobs = now.iter().map(|logprob| *logprob as f32).collect();
    let found = stats(subject, std::slice::from_ref(&one), objective);
    let plain = stats(subject, &[one], LIKELIHOOD);
    let tolerance = 100.0 * subject.tolerance;
    assert_near(
        "gradient",
        found.gradient_norm,
        plain.gradient_norm,
        tolerance,
    );
}

/// Examples that share a beginning, with other weights, signs, restrictions and old
/// log-probabilities at the same tokens.
fn batch(subject: &Subject) -> Vec<Example> {
    let start = tokens(subject, 10, 62);
    let with = |salt, n, weight: &dyn Fn(usize) -> f32| {
        example([start.clone(), tokens(subject, n, salt)].concat(), weight)
    };
    let mut batch = vec![
        with(63, 4, &|i| 0.1 + 0.02 * (i % 3) as f32),
        with(63, 4, &|i| 0.05 - 0.03 * (i % 4) as f32),
        with(64, 6, &|_| -0.07),
        with(65, 1, &|i| if i % 2 == 0 { 0.2 } else { 0.0 }),
        example(tokens(subject, 9, 66), |_| 0.04),
    ];
    batch[0].restrictions = vec![
        restriction(&batch[0], 3, &[1, 2]),
        restriction(&batch[0], 8, &[4]),
    ];
    batch[1].restrictions = vec![
        restriction(&batch[1], 3, &[1, 2]),
        restriction(&batch[1], 8, &[5]),
    ];
    batch[2].restrictions = vec![restriction(&batch[2], 8, &[4])];
    for (index, example) in batch.iter_mut().enumerate() {
        let olds = logprobs(subject, example);
        // Ratios between 0.6 and 1.6; two examples have the same ones.
        let shift = |i: usize| 0.25 * ((i + index.max(1)) % 5) as f64 - 0.5;
        example.old_logprobs = olds
            .iter()
            .enumerate()
            .map(|(i, old)| (old + shift(i)) as f32)
            .collect();
    }
    batch
}

fn weight_of(example: &Example) -> f64 {
    example
        .weights
        .iter()
        .map(|weight| f64::from(weight.max(0.0)))
        .sum()
}

fn n_targets(example: &Example) -> f64 {
    example
        .weights
        .iter()
        .filter(|weight| **weight != 0.0)
        .count() as f64
}

/// What follows the last target changes nothing, and neither does an example without targets.
pub(crate) fn ends(subject: &Subject) {
    let mut long = example(tokens(subject, 14, 61), |i| f32::from(u8::from(i < 9)));
    long.restrictions = vec![restriction(&long, 4, &[1, 2]), restriction(&long, 12, &[3])];
    let short = long.learnt();
    assert_eq!((short.tokens.len(), short.restrictions.len()), (9, 1));
    let nothing = example(tokens(subject, 12, 62), |_| 0.0);
    let expected = stats(subject, std::slice::from_ref(&short), LIKELIHOOD);
    let found = stats(subject, &[long, nothing], LIKELIHOOD);
    for (what, of) in FIGURES {
        assert_near(what, of(&found), of(&expected), subject.tolerance);
    }
    assert_eq!(found.work.n_tokens, 26, "counted as they came");
}

type Figure = (&'static str, fn(&UpdateStats) -> f64);

const FIGURES: [Figure; 3] = [
    ("loss", |stats| stats.loss),
    ("mean_logprob", |stats| stats.mean_logprob),
    ("gradient_norm", |stats| stats.gradient_norm),
];

/// A batch is the sum of its examples, whatever they share and in whatever order they come.
pub(crate) fn splitting(subject: &Subject) {
    let batch = batch(subject);
    let clip = Surrogate::Clipped {
        low: 0.1,
        high: 0.3,
    };
    for surrogate in [Surrogate::LogLikelihood, clip] {
        let objective = Objective {
            surrogate,
            learning_rate: 0.0,
        };
        let together = stats(subject, &batch, objective);
        let singles: Vec<UpdateStats> = batch
            .iter()
            .map(|example| stats(subject, std::slice::from_ref(example), objective))
            .collect();
        let sum = |of: &dyn Fn(&Example, &UpdateStats) -> f64| -> f64 {
            batch
                .iter()
                .zip(&singles)
                .map(|(example, stats)| of(example, stats))
                .sum()
        };
        let tolerance = 3.0 * subject.tolerance;
        assert_near(
            "loss",
            together.loss,
            sum(&|_, stats| stats.loss),
            tolerance,
        );
        let mean = sum(&|example, stats| stats.mean_logprob * weight_of(example))
            / sum(&|example, _| weight_of(example));
        assert_near("mean_logprob", together.mean_logprob, mean, tolerance);
        let share = sum(&|example, stats| stats.clipped_share * n_targets(example))
            / sum(&|example, _| n_targets(example));
        assert_near("clipped_share", together.clipped_share, share, 1e-9);
        assert!(
            surrogate == Surrogate::LogLikelihood || share > 0.05,
            "some are clipped"
        );
        let n_tokens: usize = batch.iter().map(|example| example.tokens.len()).sum();
        assert_eq!(together.work.n_tokens, n_tokens as u64);
        assert!(together.work.n_tokens_run <= n_tokens as u64);
        let reversed: Vec<Example> = batch.iter().rev().cloned().collect();
        let reversed = stats(subject, &reversed, objective);
        let twice = [batch.clone(), batch.clone()].concat();
        let twice = stats(subject, &twice, objective);
        for (factor, other) in [(1.0, reversed), (2.0, twice)] {
            assert_near("loss", other.loss, factor * together.loss, tolerance);
            assert_near(
                "mean_logprob",
                other.mean_logprob,
                together.mean_logprob,
                tolerance,
            );
            assert_near("clipped_share", other.clipped_share, share, 1e-9);
            let norm = factor * together.gradient_norm;
            assert_near(
                "gradient",
                other.gradient_norm,
                norm,
                100.0 * subject.tolerance,
            );
        }
        opposite(subject, &batch[0], objective);
    }
}

/// An example and its opposite pull nothing, but for what is clipped.
fn opposite(subject: &Subject, one: &Example, objective: Objective) {
    let mut other = one.clone();
    other
        .weights
        .iter_mut()
        .for_each(|weight| *weight = -*weight);
    let both = stats(subject, &[one.clone(), other.clone()], objective);
    let alone: f64 = [one, &other]
        .map(|example| stats(subject, std::slice::from_ref(example), objective).loss)
        .iter()
        .sum();
    assert_near("opposite losses", both.loss, alone, 3.0 * subject.tolerance);
    if objective.surrogate == Surrogate::LogLikelihood {
        assert!(
            both.gradient_norm < 100.0 * subject.tolerance,
            "{}",
            both.gradient_norm
        );
    }
}

/// An update moves towards what has weight, away from what has negative weight, and not at all
/// with a step size of zero; a restricted target leaves tokens outside its choices alone in their
/// own proportions.
pub(crate) fn updates(subject: &Subject) {
    let sequence = tokens(subject, 12, 70);
    for weight in [1.0, -1.0] {
        let one = example(sequence.clone(), |i| if i == 7 { weight } else { 0.0 });
        let mut policy = (subject.make)();
        let before = score(&*policy, &sequence);
        let still = policy
            .update(std::slice::from_ref(&one), LIKELIHOOD)
            .expect("a good batch");
        assert_eq!(score(&*policy, &sequence), before, "a step size of zero");
        let moved = Objective {
            learning_rate: 1e-3,
            ..LIKELIHOOD
        };
        let first = policy
            .update(std::slice::from_ref(&one), moved)
            .expect("a good batch");
        assert_near("loss of the same policy", first.loss, still.loss, 1e-9);
        let after = score(&*policy, &sequence);
        assert!(
            (after[7] - before[7]) * weight > 0.0,
            "{} → {} with weight {weight}",
            before[7],
            after[7]
        );
        let next = policy.update(&[one], moved).expect("a good batch");
        assert!(next.loss < first.loss, "the loss falls");
    }
    restricted_gradient(subject, &sequence);
}

/// Among one choice nothing is left to learn.
fn restricted_gradient(subject: &Subject, sequence: &[TokenId]) {
    let mut one = example(sequence.to_vec(), |i| if i == 7 { 1.0 } else { 0.0 });
    one.restrictions = vec![Restriction {
        position: 7,
        choices: Arc::new([sequence[7]]),
    }];
    let stats = stats(subject, &[one], LIKELIHOOD);
    assert_near("loss of no choice", stats.loss, 0.0, subject.tolerance);
    assert!(
        stats.gradient_norm < 100.0 * subject.tolerance,
        "{}",
        stats.gradient_norm
    );
}
