//! The method against exact enumeration on the table policy.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::annotate::Choose;
use ra3::bounds;
use ra3::e_step::{
    self, EStepConfig, Penalty, Persistence, Policies, follow, reward, sticky_log_prior,
};
use ra3::em::{Ablation, Em, EmConfig, EmReport};
use ra3::formulas::{Baseline, log_mean_exp};
use ra3::interleave::{TokenWeights, interleave, strip};
use ra3::policy::{Surrogate, Work};
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3::trajectory::{Annotated, Latent, Markers, Trajectory};

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
        horizon: None,
        discount: 1.0,
        penalty,
        baseline: Baseline::LeaveOneOut,
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
        temperature: 1.0,
        persistence: Persistence::Sticky,
    }
}

/// Everything that can stand before a line with rationales of at most one token.
fn latents() -> Vec<Latent> {
    let mut all = vec![
        Latent::Keep,
        Latent::Switch {
            rationale: vec![],
            forced_close: false,
        },
    ];
    let tokens = (0..VOCABULARY as u32).filter(|token| *token != MARKERS.close);
    all.extend(tokens.map(|t| Latent::Switch {
        rationale: vec![t],
        forced_close: true,
    }));
    all
}

/// Every annotation of the trajectory.
fn enumeration() -> Vec<Annotated> {
    let mut all = vec![Vec::new()];
    for _ in trajectory().lines {
        let extend = |before: &Vec<Option<Latent>>| -> Vec<Vec<Option<Latent>>> {
            let with = |latent| [before.clone(), vec![Some(latent)]].concat();
            latents().into_iter().map(with).collect()
        };
        all = all.iter().flat_map(extend).collect();
    }
    all.into_iter()
        .map(|latents| Annotated {
            trajectory: trajectory(),
            latents,
        })
        .collect()
}

/// `(log q(z), Σ_t r_t, Σ_t log π + log p)` of every annotation.
fn sums(
    q: &TablePolicy,
    pi: &TablePolicy,
    reference: &TablePolicy,
    penalty: Penalty,
    alpha: f32,
) -> Vec<(f64, f64, f64)> {
    let all = enumeration();
    let mut work = Work::default();
    let score = |policy: &TablePolicy, work: &mut Work| {
        follow(&mut policy.clone(), &all, &MARKERS, Seed::root(0), work).unwrap()
    };
    let (by_q, by_pi) = (score(q, &mut work), score(pi, &mut work));
    let by_reference = score(reference, &mut work);
    (0..all.len())
        .map(|i| {
            let (mut log_q, mut total, mut joint) = (0.0, 0.0, 0.0);
            for line in 0..all[i].latents.len() {
                let mut record = by_q[i][line].clone();
                record.line_logprob = by_pi[i][line].line_logprob;
                let p0: f32 = by_reference[i][line].rationale_logprobs.iter().sum();
                let latent = all[i].latents[line].as_ref().unwrap();
                log_q += f64::from(record.latent_logprob());
                total += f64::from(reward(&record, p0, penalty));
                joint += f64::from(record.line_logprob + sticky_log_prior(latent, p0, alpha));
            }
            (log_q, total, joint)
        })
        .collect()
}

fn exact_objective(q: &TablePolicy, pi: &TablePolicy, penalty: Penalty) -> f64 {
    sums(q, pi, pi, penalty, 0.5)
        .iter()
        .map(|(log_q, total, _)| log_q.exp() * total)
        .sum()
}

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

#[test]
fn the_probabilities_of_all_annotations_sum_to_one() {
    let total: f64 = sums(
        &table(1),
        &table(1),
        &table(1),
        Penalty::SwitchCost(1.0),
        0.5,
    )
    .iter()
    .map(|(log_q, _, _)| log_q.exp())
    .sum();
    assert!((total - 1.0).abs() < 1e-5, "{total}");
}

/// The mean of the estimator is the gradient of `E_q Σ r` with `π` frozen.
#[test]
fn the_estimators_mean_is_the_exact_gradient() {
    for penalty in [Penalty::SwitchCost(0.7), Penalty::ExactKl { alpha: 0.8 }] {
        let (q, pi) = (table(2), table(3));
        let n_parts = 12;
        let batch = vec![trajectory(); 400];
        let parts: Vec<Vec<f64>> = (0..n_parts)
            .map(|part| {
                let (mut moved, mut scorer, mut reference) = (q.clone(), pi.clone(), pi.clone());
                let mut policies = Policies {
                    policy: &mut moved,
                    scorer: Some(&mut scorer),
                    reference: Some(&mut reference),
                };
                let seed = Seed::root(9).nth(part);
                e_step::update(&mut policies, &batch, &MARKERS, &config(penalty), 1.0, seed)
                    .unwrap();
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
            let above = exact_objective(&shifted, &pi, penalty);
            shifted.logits[index] -= 2e-3;
            let expected = (above - exact_objective(&shifted, &pi, penalty)) / 2e-3;
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
fn a_step_along_the_estimate_raises_the_bound_and_an_m_step_the_likelihood() {
    let penalty = Penalty::SwitchCost(0.7);
    let (q, pi) = (table(4), table(5));
    let (mut moved, mut scorer) = (q.clone(), pi.clone());
    let before = exact_objective(&q, &pi, penalty);
    let batch = vec![trajectory(); 500];
    for step in 0..5 {
        let mut policies = Policies {
            policy: &mut moved,
            scorer: Some(&mut scorer),
            reference: None,
        };
        let seed = Seed::root(step);
        e_step::update(&mut policies, &batch, &MARKERS, &config(penalty), 0.3, seed).unwrap();
    }
    let after = exact_objective(&moved, &pi, penalty);
    assert!(after > before + 0.05, "{before} {after}");

    // M-step: Σ_z q(z) log p(z, a) over the annotations rises with π, q fixed.
    let weighted: Vec<_> = enumeration()
        .into_iter()
        .zip(sums(&q, &pi, &pi, penalty, 0.5))
        .map(
            |(annotated, (log_q, _, _))| ra3::m_step::WeightedAnnotated {
                annotated,
                weight: log_q.exp() as f32,
            },
        )
        .collect();
    let weights = TokenWeights {
        prefix: 0.0,
        line: 1.0,
        decision: 1.0,
        rationale: 1.0,
    };
    let mut model = pi.clone();
    let losses: Vec<f64> = (0..5)
        .map(|_| {
            ra3::m_step::update(&mut model, &weighted, &MARKERS, weights, 0.5)
                .unwrap()
                .loss
        })
        .collect();
    assert!(
        losses.windows(2).all(|pair| pair[1] < pair[0]),
        "{losses:?}"
    );
}

#[test]
fn bounds_stay_below_the_likelihood_and_iwae_rises_to_it() {
    let alpha = 0.7;
    let (q, p0) = (table(6), table(7));
    let all = sums(&q, &q, &p0, Penalty::SwitchCost(0.0), alpha);
    let log_likelihood = all
        .iter()
        .map(|(_, _, joint)| joint.exp())
        .sum::<f64>()
        .ln();
    let elbo: f64 = all
        .iter()
        .map(|(log_q, _, joint)| log_q.exp() * (joint - log_q))
        .sum();
    assert!(elbo < log_likelihood);
    let (mut policy, mut reference) = (q.clone(), p0.clone());
    let rule = config(Penalty::SwitchCost(0.0)).latent_rule(MARKERS);
    let documents = vec![trajectory(); 3000];
    let mut policies = Policies {
        policy: &mut policy,
        scorer: None,
        reference: Some(&mut reference),
    };
    let ks = [1, 4, 16];
    let seed = Seed::root(1);
    let found = bounds::measure(&mut policies, &documents, &rule, alpha, &ks, seed).unwrap();
    let mean = |total: f64| total / documents.len() as f64;
    assert!(
        (mean(found.elbo) - elbo).abs() < 0.1,
        "{} {elbo}",
        mean(found.elbo)
    );
    let iwae: Vec<f64> = found.iwae.iter().map(|(_, total)| mean(*total)).collect();
    assert!((iwae[0] - mean(found.elbo)).abs() < 1e-9);
    assert!(iwae[0] < iwae[1] && iwae[1] < iwae[2], "{iwae:?}");
    assert!(iwae[2] < log_likelihood + 0.02 && log_likelihood - iwae[2] < 0.1);
    assert!((log_mean_exp(&[0.0, 2f64.ln()]) - 1.5f64.ln()).abs() < 1e-12);
}

fn em_config(cost: f32) -> EmConfig {
    EmConfig {
        cold_start_updates: 0,
        rounds: 2,
        e_updates: 3,
        e_batch_documents: 4,
        annotate_documents: 8,
        m_updates: 4,
        m_batch_documents: 4,
        corpus_latents_share: 0.0,
        e_step: config(Penalty::SwitchCost(cost)),
        choose: Choose::Sample,
        weights: TokenWeights {
            prefix: 0.0,
            line: 1.0,
            decision: 1.0,
            rationale: 1.0,
        },
        cold_start_schedule: Schedule::Constant {
            peak: 0.1,
            warmup: 0,
        },
        e_schedule: Schedule::Constant {
            peak: 0.5,
            warmup: 0,
        },
        m_schedule: Schedule::Constant {
            peak: 0.2,
            warmup: 0,
        },
        ablation: Ablation::None,
    }
}

fn documents(index: usize) -> Annotated {
    let lines = vec![vec![1 + (index % 2) as u32], vec![2], vec![0]];
    let latents = vec![Some(Latent::Keep); 3];
    Annotated {
        trajectory: Trajectory {
            prefix: vec![0, 1],
            lines,
        },
        latents,
    }
}

fn run_em(config: EmConfig, policy: &mut TablePolicy, stop_at: u64) -> (Em, Vec<EmReport>) {
    let mut em = Em {
        config,
        markers: MARKERS,
        position: 0,
        annotated: Vec::new(),
    };
    let reports = advance_to(&mut em, policy, stop_at);
    (em, reports)
}

fn advance_to(em: &mut Em, policy: &mut TablePolicy, stop_at: u64) -> Vec<EmReport> {
    let mut reports = Vec::new();
    while em.position < stop_at {
        let mut policies = Policies {
            policy,
            scorer: None,
            reference: None,
        };
        match em
            .advance(&mut policies, &documents, 12, Seed::root(3))
            .unwrap()
        {
            Some(report) => reports.push(report),
            None => break,
        }
    }
    reports
}

#[test]
fn an_infinite_switch_cost_is_next_token_prediction_bit_for_bit() {
    let mut policy = table(8);
    let config = em_config(f32::INFINITY);
    run_em(config.clone(), &mut policy, u64::MAX);
    let mut ntp = table(8);
    for round in 0..2 {
        let drawn: Vec<Trajectory> = (0..2)
            .flat_map(|i| batch(12, 4, round * 2 + i, Seed::root(3).child("annotate")))
            .map(|index| documents(index).trajectory)
            .collect();
        for update in 0..4 {
            let order = batch(8, 4, update, Seed::root(3).child("m_step").nth(round));
            let plain: Vec<Trajectory> = order.into_iter().map(|i| drawn[i].clone()).collect();
            ra3::ntp::update(&mut ntp, &plain, 0.0, 0.2).unwrap();
        }
    }
    assert_eq!(policy.logits, ntp.logits);
    assert_ne!(policy.logits, table(8).logits);
}

#[test]
fn a_large_switch_cost_ends_thinking() {
    let mut policy = table(9);
    let mut config = em_config(20.0);
    config.e_updates = 60;
    config.rounds = 1;
    let (_, reports) = run_em(config, &mut policy, 60);
    let rate = |report: &EmReport| match report {
        EmReport::EStep { report, .. } => report.latents.think_rate,
        other => panic!("{other:?}"),
    };
    assert!(rate(&reports[0]) > 0.2, "{}", rate(&reports[0]));
    assert!(rate(&reports[59]) < 0.01, "{}", rate(&reports[59]));
}

#[test]
fn a_loop_continues_from_its_position_and_its_data() {
    let mut whole = table(10);
    let (_, expected) = run_em(em_config(0.5), &mut whole, u64::MAX);
    for stop in 0..expected.len() as u64 {
        let mut policy = table(10);
        let (em, before) = run_em(em_config(0.5), &mut policy, stop);
        let mut continued = Em {
            config: em_config(0.5),
            markers: MARKERS,
            position: em.position,
            annotated: em.annotated.clone(),
        };
        let after = advance_to(&mut continued, &mut policy, u64::MAX);
        assert_eq!([before, after].concat(), expected);
        assert_eq!(policy.logits, whole.logits);
    }
}

#[test]
fn stripping_undoes_interleaving() {
    let weights = TokenWeights {
        prefix: 0.0,
        line: 1.0,
        decision: 1.0,
        rationale: 1.0,
    };
    for annotated in enumeration() {
        // A rationale may contain any token but the markers.
        let is_plain = |latent: &Option<Latent>| match latent {
            Some(Latent::Switch { rationale, .. }) => rationale.iter().all(|t| *t < MARKERS.act),
            Some(Latent::Keep) | None => true,
        };
        if annotated.latents.iter().all(is_plain) {
            let example = interleave(&annotated, &MARKERS, weights);
            let plain = [
                annotated.trajectory.prefix,
                annotated.trajectory.lines.concat(),
            ]
            .concat();
            assert_eq!(strip(&example.tokens, &MARKERS), plain);
            assert_eq!(example.tokens.len(), example.weights.len());
        }
    }
    assert_eq!(
        strip(&[1, MARKERS.think, 2, 2], &MARKERS),
        [1],
        "an unclosed rationale"
    );
    assert_eq!(
        strip(&[1, MARKERS.close, 2], &MARKERS),
        [1, 2],
        "a stray close"
    );
}
