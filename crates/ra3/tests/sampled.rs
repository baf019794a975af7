//! What is drawn against what is enumerated: the estimator and the bounds, through the sampler.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::bounds;
use ra3::e_step;
use ra3::enumeration::{Enumeration, annotations, latents};
use ra3::policy::{Example, Policy};
use ra3::rewards::Penalty;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::table::TablePolicy;
use ra3::trace::{Part, Trace};
use ra3::trajectory::{Annotated, Markers, Trajectory};

const MARKERS: Markers = Markers {
    act: 3,
    think: 4,
    close: 5,
    end: 0,
};
const VOCABULARY: usize = 6;

fn trajectory() -> Trajectory {
    Trajectory {
        prefix: vec![0, 1],
        lines: vec![vec![2], vec![1], vec![0]],
    }
}

fn config(penalty: Penalty) -> EStepConfig {
    EStepConfig {
        group_size: 8,
        rationale_tokens_max: 1,
        horizon: 0,
        penalty,
        ..EStepConfig::default()
    }
}

/// Every annotation of the trajectory.
fn annotated() -> Vec<Annotated> {
    annotations(&trajectory(), &latents(&MARKERS, VOCABULARY, 1))
}

/// Every annotation of the trajectory, scored.
fn enumerate(q: &TablePolicy, pi: &TablePolicy, p_0: &TablePolicy) -> Enumeration {
    Enumeration::of(q, &frozen(pi, p_0), &annotated(), &MARKERS).unwrap()
}

fn frozen(pi: &TablePolicy, p_0: &TablePolicy) -> Frozen {
    Frozen {
        scorer: Some(pi.snapshot()),
        reference: Some(p_0.snapshot()),
    }
}

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

/// The mean of the estimator is the gradient of `E_q Σ r` with `π` frozen.
#[test]
fn the_estimators_mean_is_the_exact_gradient() {
    for penalty in [
        Penalty::SwitchCost { cost: 0.7 },
        Penalty::ExactKl { alpha: 0.8 },
    ] {
        let (q, pi) = (table(2), table(3));
        let n_parts = 12;
        let batch = vec![trajectory(); 400];
        let parts: Vec<Vec<f64>> = (0..n_parts)
            .map(|part| {
                let (mut moved, frozen) = (q.clone(), frozen(&pi, &pi));
                let (config, seed) = (config(penalty), Seed::root(9).nth(part));
                e_step::update(&mut moved, &frozen, &batch, &MARKERS, &config, 1.0, seed).unwrap();
                moved
                    .logits
                    .iter()
                    .zip(&q.logits)
                    .map(|(new, old)| new - old)
                    .collect()
            })
            .collect();
        let mut n_moving = 0;
        for index in 0..q.logits.len() {
            let values: Vec<f64> = parts.iter().map(|part| part[index]).collect();
            let mean = values.iter().sum::<f64>() / n_parts as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let error = (variance / (n_parts as f64 * (n_parts as f64 - 1.0))).sqrt();
            let mut shifted = q.clone();
            shifted.logits[index] += 1e-3;
            let above = enumerate(&shifted, &pi, &pi).mean_return(penalty);
            shifted.logits[index] -= 2e-3;
            let expected = (above - enumerate(&shifted, &pi, &pi).mean_return(penalty)) / 2e-3;
            n_moving += usize::from(expected.abs() > 1e-3);
            // Five standard errors, and the rounding of f32 log-probabilities in the differences.
            assert!(
                (mean - expected).abs() < 5.0 * error + 2e-3,
                "{index}: {mean} ± {error} against {expected}"
            );
        }
        assert!(n_moving > 10, "the gradient is not trivially zero");
    }
}

#[test]
fn bounds_stay_below_the_likelihood_and_iwae_rises_to_it() {
    let alpha = 0.7;
    let (q, p0) = (table(6), table(7));
    let all = enumerate(&q, &q, &p0);
    let (elbo, log_likelihood) = (all.bound(alpha), all.log_likelihood(alpha));
    assert!(elbo < log_likelihood);
    let frozen = Frozen {
        scorer: None,
        reference: Some(p0.snapshot()),
    };
    let rule = config(Penalty::SwitchCost { cost: 0.0 }).latent_rule(MARKERS);
    let documents = vec![trajectory(); 3000];
    let ks = [1, 4, 16];
    let seed = Seed::root(1);
    let found = bounds::measure(
        &q,
        frozen.reference.as_deref(),
        &documents,
        &rule,
        alpha,
        &ks,
        seed,
    )
    .unwrap();
    let mean = |each: &[f64]| each.iter().sum::<f64>() / documents.len() as f64;
    assert!(
        (mean(&found.sticky.elbo) - elbo).abs() < 0.1,
        "{} {elbo}",
        mean(&found.sticky.elbo)
    );
    let iwae: Vec<f64> = found
        .sticky
        .iwae
        .iter()
        .map(|(_, each)| mean(each))
        .collect();
    assert!((iwae[0] - mean(&found.sticky.elbo)).abs() < 1e-9);
    assert!(iwae[0] < iwae[1] && iwae[1] < iwae[2], "{iwae:?}");
    assert!(iwae[2] < log_likelihood + 0.02 && log_likelihood - iwae[2] < 0.1);
}

/// The second likelihood: what plain sampling gives to the program, whatever latents it writes.
#[test]
fn written_bounds_stay_below_what_plain_sampling_gives_a_program() {
    let q = table(8);
    let all = enumerate(&q, &q, &q);
    // Every token over the whole vocabulary, a `</think>` that was forced included.
    let as_written = |annotated: &Annotated| {
        Trace::of(annotated, &MARKERS).sequence(|part| part != Part::Outside)
    };
    let rows: Vec<Example> = annotated().iter().map(as_written).collect();
    let (written, _) = q.score(&rows).unwrap();
    let sum = |row: &Vec<f32>| row.iter().map(|logprob| f64::from(*logprob)).sum();
    let joint: Vec<f64> = written.iter().map(sum).collect();
    let likelihood = joint.iter().map(|l| l.exp()).sum::<f64>().ln();
    let pairs = all.log_q().into_iter().zip(&joint);
    let elbo: f64 = pairs
        .map(|(log_q, joint)| log_q.exp() * (joint - log_q))
        .sum();
    assert!(elbo < likelihood - 0.01);

    let rule = config(Penalty::SwitchCost { cost: 0.0 }).latent_rule(MARKERS);
    let documents = vec![trajectory(); 3000];
    let seed = Seed::root(2);
    let found = bounds::measure(&q, None, &documents, &rule, 0.5, &[1, 16], seed).unwrap();
    let mean = |each: &[f64]| each.iter().sum::<f64>() / documents.len() as f64;
    let sampled = mean(&found.written.elbo);
    assert!((sampled - elbo).abs() < 0.1, "{sampled} {elbo}");
    let iwae = mean(&found.written.iwae[1].1);
    assert!(sampled < iwae && iwae < likelihood + 0.02 && likelihood - iwae < 0.1);
    // By enumeration: the probability of the two markers before each line.
    let decisions = written.iter().zip(&all.rollouts).zip(all.log_q());
    let expected: f64 = decisions
        .map(|((written, rollout), log_q)| {
            let Trace {
                lines, logprobs, ..
            } = &rollout.trace;
            let starts = lines.iter().map(|span| span.latent.start);
            let mass = starts.map(|at| f64::from(written[at] - logprobs[at]).exp());
            log_q.exp() * mass.sum::<f64>() / lines.len() as f64
        })
        .sum();
    assert!((found.marker_probability - expected).abs() < 0.01);
}
