//! The E-step, the M-step and the bounds against sums over every latent: nothing here is sampled.

use proptest::prelude::*;
use ra3::e_step::{Credit, policy_gradient};
use ra3::enumeration::{Enumeration, annotations, latents, mean};
use ra3::formulas::{Baseline, bernoulli_divergence, log_mean_exp};
use ra3::interleave::TokenWeights;
use ra3::m_step::{self, AnnotatedDocument, Draw};
use ra3::policy::{Policy, Surrogate};
use ra3::rewards::Penalty;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::table::TablePolicy;
use ra3::trajectory::{Annotated, Latent, Markers, Trajectory};

const MARKERS: Markers = Markers {
    act: 2,
    think: 3,
    close: 4,
    end: 0,
};
const VOCABULARY: usize = 5;
const PENALTIES: [Penalty; 4] = [
    Penalty::SwitchCost { cost: 0.7 },
    Penalty::ExactKl { alpha: 0.8 },
    Penalty::SwitchCostOnMean { cost: 0.7 },
    Penalty::SwitchCostOnProbability { cost: 0.7 },
];

fn table(seed: u64) -> TablePolicy {
    random(1.0, Seed::root(seed))
}

/// Remembers the last token and the latent in force, so that latents matter for later lines.
fn random(size: f64, seed: Seed) -> TablePolicy {
    let mut table =
        TablePolicy::random(VOCABULARY, 1, 0.0, seed).with_latent_in_force(MARKERS.think);
    for (index, logit) in table.logits.iter_mut().enumerate() {
        *logit = size * (2.0 * seed.nth(index as u64).uniform() - 1.0);
    }
    table
}

fn two_lines() -> Trajectory {
    Trajectory {
        prefix: vec![0, 1],
        lines: vec![vec![1, 0], vec![0]],
    }
}

/// Every annotation of a document.
fn annotated(trajectory: &Trajectory, rationale_tokens_max: usize) -> Vec<Annotated> {
    let all = latents(&MARKERS, VOCABULARY, rationale_tokens_max);
    annotations(trajectory, &all)
}

fn enumerate(
    q: &TablePolicy,
    pi: &TablePolicy,
    p_0: &TablePolicy,
    trajectory: &Trajectory,
    rationale_tokens_max: usize,
) -> Enumeration {
    let frozen = Frozen {
        scorer: Some(pi.snapshot()),
        reference: Some(p_0.snapshot()),
    };
    let all = annotated(trajectory, rationale_tokens_max);
    Enumeration::of(q, &frozen, &all, &MARKERS).expect("every token is in the vocabulary")
}

fn config(penalty: Penalty, baseline: Baseline) -> EStepConfig {
    EStepConfig {
        group_size: 2,
        rationale_tokens_max: 1,
        horizon: 0,
        penalty,
        baseline,
        ..EStepConfig::default()
    }
}

/// `Σ_groups q(group) · gradient(group)` over every ordered group of this size.
fn expected_estimate(
    q: &TablePolicy,
    all: &Enumeration,
    config: &EStepConfig,
    group_size: usize,
) -> Vec<f64> {
    let log_q = all.log_q();
    let n = log_q.len();
    let mut total = vec![0.0; q.logits.len()];
    for code in 0..n.pow(group_size as u32) {
        let members: Vec<usize> = (0..group_size)
            .map(|member| code / n.pow(member as u32) % n)
            .collect();
        let probability: f64 = members.iter().map(|m| log_q[*m]).sum::<f64>().exp();
        let group = all.group(&members);
        let examples = policy_gradient(&group, &Credit::of(&group, config).advantages);
        let (gradient, _) = q
            .gradient(&examples, Surrogate::LogLikelihood)
            .expect("good examples");
        let rows = total.iter_mut().zip(gradient);
        rows.for_each(|(sum, slope)| *sum += probability * slope);
    }
    total
}

/// Central differences of the mean return, for every logit.
fn differences(q: &TablePolicy, pi: &TablePolicy, p_0: &TablePolicy, penalty: Penalty) -> Vec<f64> {
    let step = 1e-2;
    let at = |index: usize, shift: f64| {
        let mut shifted = q.clone();
        shifted.logits[index] += shift;
        enumerate(&shifted, pi, p_0, &two_lines(), 1).mean_return(penalty)
    };
    (0..q.logits.len())
        .map(|index| (at(index, step) - at(index, -step)) / (2.0 * step))
        .collect()
}

fn check_gradient(found: &[f64], expected: &[f64], scale: f64, what: &str) {
    let size = expected.iter().map(|slope| slope.abs()).fold(0.0, f64::max);
    assert!(size > 0.05, "{what}: the gradient is not trivially zero");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Third derivatives times step², and f32 log-probabilities divided by the step.
        let error = (found - scale * expected).abs();
        assert!(
            error < 3e-4,
            "{what} {index}: {found} against {scale} · {expected}"
        );
    }
}

/// The mean over *all* groups is the gradient: no standard error, no luck.
#[test]
fn the_mean_over_all_groups_is_the_gradient() {
    let (q, pi, p_0) = (table(1), table(2), table(3));
    let all = enumerate(&q, &pi, &p_0, &two_lines(), 1);
    for penalty in PENALTIES {
        let expected = differences(&q, &pi, &p_0, penalty);
        for (baseline, group_size, scale) in [
            (Baseline::None, 1, 1.0),
            (Baseline::LeaveOneOut, 2, 1.0),
            // The group's mean contains the rollout itself, which costs (G − 1) / G.
            (Baseline::GroupMean, 2, 0.5),
        ] {
            let config = config(penalty, baseline);
            let found = expected_estimate(&q, &all, &config, group_size);
            let what = format!("{penalty:?} {baseline:?}");
            check_gradient(&found, &expected, scale, &what);
        }
    }
}

/// A horizon of one line leaves out what a latent does for later lines: the estimate then differs.
#[test]
fn a_short_horizon_is_another_objective() {
    let (q, pi, p_0) = (table(1), table(2), table(3));
    let all = enumerate(&q, &pi, &p_0, &two_lines(), 1);
    let whole = config(Penalty::SwitchCost { cost: 0.7 }, Baseline::None);
    let mut short = whole.clone();
    short.horizon = 1;
    let far = expected_estimate(&q, &all, &whole, 1);
    let near = expected_estimate(&q, &all, &short, 1);
    assert!(far.iter().zip(&near).any(|(a, b)| (a - b).abs() > 1e-2));
}

#[test]
fn exact_gradient_steps_never_lower_the_bound() {
    let (mut q, pi, p_0) = (table(4), table(5), table(6));
    let alpha = 0.8;
    let config = config(Penalty::ExactKl { alpha }, Baseline::None);
    let mut bound = f64::NEG_INFINITY;
    for _ in 0..40 {
        let all = enumerate(&q, &pi, &p_0, &two_lines(), 1);
        let next = all.bound(alpha);
        assert!(next >= bound - 1e-6, "{bound} then {next}");
        assert!(next <= all.log_likelihood(alpha) + 1e-6);
        bound = next;
        let gradient = expected_estimate(&q, &all, &config, 1);
        let logits = q.logits.iter_mut().zip(gradient);
        logits.for_each(|(logit, slope)| *logit += 0.5 * slope);
    }
    let first = enumerate(&table(4), &pi, &p_0, &two_lines(), 1).bound(alpha);
    assert!(bound > first + 0.1, "{first} to {bound}");
}

/// With `q` and the prior fixed, only `E_q Σ log π` moves.
#[test]
fn m_steps_never_lower_the_bound() {
    let (q, mut pi, p_0) = (table(7), table(8), table(9));
    let alpha = 0.8;
    let all = enumerate(&q, &pi, &p_0, &two_lines(), 2);
    let weights = all.log_q().into_iter().map(|log_q| log_q.exp() as f32);
    let draws = annotated(&two_lines(), 2).into_iter().zip(weights);
    let data = [AnnotatedDocument {
        draws: draws
            .map(|(annotated, share)| Draw { annotated, share })
            .collect(),
        n_corpus_tokens: 0,
    }];
    let lines_only = TokenWeights {
        prefix: 0.0,
        line: 1.0,
        decision: 0.0,
        rationale: 0.0,
    };
    let mut bounds = vec![];
    for _ in 0..15 {
        bounds.push(enumerate(&q, &pi, &p_0, &two_lines(), 2).bound(alpha));
        m_step::update(&mut pi, &data, &[], &MARKERS, lines_only, 1.0).unwrap();
    }
    assert!(
        bounds.windows(2).all(|pair| pair[1] > pair[0]),
        "{bounds:?}"
    );
}

/// `KL(q ‖ p)` of a one-line document splits as docs/algorithm.md says.
#[test]
fn the_divergence_splits_into_decision_and_rationale() {
    let (q, p_0, alpha) = (table(10), table(11), 0.8f32);
    let line = Trajectory {
        prefix: vec![0, 1],
        lines: vec![vec![0]],
    };
    let all = enumerate(&q, &q, &p_0, &line, 2);
    let log_q = all.log_q();
    let gap: Vec<f64> = log_q
        .iter()
        .zip(all.log_prior(alpha))
        .map(|(q, p)| q - p)
        .collect();
    let is_keep = |i: &usize| all.rollouts[*i].trace.latent(0) == Some(Latent::Keep);
    let act = log_q[(0..log_q.len()).find(is_keep).unwrap()].exp();
    let of_rationale: f64 = (0..log_q.len())
        .filter(|i| !is_keep(i))
        .map(|i| {
            let (trace, line) = (&all.rollouts[i].trace, &all.rollouts[i].lines[0]);
            let decision_logprob = trace.logprobs[trace.lines[0].latent.start];
            let log_r = f64::from(line.latent_logprob - decision_logprob);
            log_q[i].exp() / (1.0 - act) * (log_r - f64::from(line.rationale_logprob))
        })
        .sum();
    let split = bernoulli_divergence(act, f64::from(alpha)) + (1.0 - act) * of_rationale;
    assert!((mean(&log_q, &gap) - split).abs() < 1e-5);
    assert!(of_rationale > 0.01, "the tables differ");
}

/// The exact means of `IWAE_1` and `IWAE_2`, from every pair of rollouts.
#[test]
fn two_samples_bound_better_than_one() {
    let (q, pi, p_0, alpha) = (table(12), table(13), table(14), 0.6);
    let all = enumerate(&q, &pi, &p_0, &two_lines(), 1);
    let log_q = all.log_q();
    let log_weights: Vec<f64> = all.rewards(Penalty::ExactKl { alpha });
    let mut two = 0.0;
    for (first, a) in log_q.iter().zip(&log_weights) {
        for (second, b) in log_q.iter().zip(&log_weights) {
            two += (first + second).exp() * log_mean_exp(&[*a, *b]);
        }
    }
    let (one, whole) = (all.bound(alpha), all.log_likelihood(alpha));
    assert!(
        one + 1e-3 < two && two + 1e-3 < whole,
        "{one} {two} {whole}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bounds_stay_below_the_likelihood_of_any_table(
        seed in any::<u64>(),
        size in 0.1f64..4.0,
        alpha in 0.05f32..0.95,
        rationale_tokens_max in 1usize..=2,
        n_lines in 1usize..=2,
    ) {
        let random = |name| random(size, Seed::root(seed).child(name));
        let mut trajectory = two_lines();
        trajectory.lines.truncate(n_lines);
        let (q, pi, p_0) = (random("q"), random("pi"), random("p_0"));
        let all = enumerate(&q, &pi, &p_0, &trajectory, rationale_tokens_max);
        let ones = vec![1.0; all.rollouts.len()];
        for log in [all.log_q(), all.log_prior(alpha), all.log_posterior(alpha)] {
            prop_assert!((mean(&log, &ones) - 1.0).abs() < 1e-4, "not a distribution");
        }
        let (bound, whole) = (all.bound(alpha), all.log_likelihood(alpha));
        prop_assert!(bound <= whole + 1e-5, "{bound} above {whole}");
        // What is missing is the divergence of q from the posterior, and nothing else.
        let log_q = all.log_q();
        let posterior = all.log_posterior(alpha);
        let gap: Vec<f64> = log_q.iter().zip(posterior).map(|(q, p)| q - p).collect();
        prop_assert!((whole - bound - mean(&log_q, &gap)).abs() < 1e-3);
    }
}
