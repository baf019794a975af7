//! The E-step on documents, groups and settings of any shape: against a slow reference, and
//! without a number that is none.

use proptest::prelude::*;
use ra3::e_step::{Credit, EStepReport, policy_gradient};
use ra3::formulas::Baseline;
use ra3::policy::Example;
use ra3::rewards::Penalty;
use ra3::rollout::draw;
use ra3::scoring::{Frozen, Scored, score};
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::table::TablePolicy;
use ra3::trajectory::{Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{ACT, CLOSE, END, MARKERS, TEXT, THINK, VOCABULARY, e_step, e_update, table};

fn any_trajectory() -> impl Strategy<Value = Trajectory> {
    let line = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    let prefix = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    (prefix, prop::collection::vec(line, 0..4))
        .prop_map(|(prefix, lines)| Trajectory { prefix, lines })
}

fn any_penalty() -> impl Strategy<Value = Penalty> {
    prop_oneof![
        (-1.0f32..3.0).prop_map(|cost| Penalty::SwitchCost { cost }),
        (0.01f32..0.99).prop_map(|alpha| Penalty::ExactKl { alpha }),
        (0.0f32..3.0).prop_map(|cost| Penalty::SwitchCostOnMean { cost }),
        (0.0f32..1.0).prop_map(|cost| Penalty::SwitchCostOnProbability { cost }),
        Just(Penalty::SwitchCost {
            cost: f32::INFINITY
        }),
    ]
}

/// How large a floor, and whether every line has to think.
fn any_thinking() -> impl Strategy<Value = (f32, bool)> {
    prop_oneof![
        Just((0.0, false)),
        Just((0.0, true)),
        (0.0f32..=1.0, Just(false)),
    ]
}

prop_compose! {
    fn any_config()(
        group_size in 1usize..5,
        rationale_tokens_max in 1usize..4,
        horizon in 0usize..5,
        discount in 0.0f32..=1.0,
        penalty in any_penalty(),
        baseline in prop::sample::select(vec![
            Baseline::LeaveOneOut,
            Baseline::GroupMean,
            Baseline::Standardised,
            Baseline::None,
        ]),
        updates_per_batch in 1usize..3,
        (think_floor, think_every_line) in any_thinking(),
    ) -> EStepConfig {
        EStepConfig {
            group_size,
            rationale_tokens_max,
            horizon,
            discount,
            penalty,
            baseline,
            updates_per_batch,
            think_floor,
            think_every_line,
            ..e_step()
        }
    }
}

/// `r_t` of a line, by its definition.
fn reward(rollout: &Scored, line: usize, penalty: Penalty) -> f64 {
    let (score, latent) = (&rollout.lines[line], rollout.trace.latent(line));
    let reference = f64::from(score.rationale_logprob);
    let logprob = f64::from(score.line_logprob);
    let n_tokens = rollout.trace.annotated().trajectory.lines[line].len() as f64;
    let is_think = latent.as_ref().is_some_and(Latent::is_think);
    let price = |cost: f32| if is_think { f64::from(cost) } else { 0.0 };
    match penalty {
        Penalty::SwitchCost { cost } => logprob - price(cost),
        Penalty::SwitchCostOnMean { cost } => logprob / n_tokens - price(cost),
        Penalty::SwitchCostOnProbability { cost } => logprob.exp() - price(cost),
        Penalty::ExactKl { alpha } => {
            let alpha = f64::from(alpha);
            let span = rollout.trace.lines[line].latent.clone();
            let drawn = &rollout.trace.logprobs[span];
            let log_q: f64 = drawn.iter().map(|logprob| f64::from(*logprob)).sum();
            let prior = if is_think {
                (1.0 - alpha).ln() + reference
            } else {
                alpha.ln()
            };
            logprob - log_q + prior
        }
    }
}

/// `R_t` of a line, by its definition.
fn to_go(rollout: &Scored, line: usize, config: &EStepConfig) -> f64 {
    let n_lines = rollout.lines.len();
    let end = match config.horizon {
        0 => n_lines,
        horizon => n_lines.min(line + horizon),
    };
    (line..end)
        .map(|at| {
            let factor = f64::from(config.discount).powi((at - line) as i32);
            factor * reward(rollout, at, config.penalty)
        })
        .sum()
}

fn advantage(group: &[Scored], member: usize, line: usize, config: &EStepConfig) -> f64 {
    let column: Vec<f64> = group
        .iter()
        .map(|rollout| to_go(rollout, line, config))
        .collect();
    let n = column.len() as f64;
    let mean = column.iter().sum::<f64>() / n;
    match config.baseline {
        Baseline::None => column[member],
        Baseline::LeaveOneOut if column.len() == 1 => column[member],
        Baseline::LeaveOneOut => column[member] - (n * mean - column[member]) / (n - 1.0),
        Baseline::GroupMean => column[member] - mean,
        Baseline::Standardised => {
            let squares: f64 = column.iter().map(|value| (value - mean).powi(2)).sum();
            (column[member] - mean) / ((squares / n).sqrt() + 1e-4)
        }
    }
}

/// Weights of one example, token by token.
fn expected_weights(
    group: &[Scored],
    member: usize,
    n_rollouts: usize,
    config: &EStepConfig,
) -> Vec<f64> {
    let trace = &group[member].trace;
    let annotated = trace.annotated();
    let mut weights = vec![0.0; annotated.trajectory.prefix.len()];
    for (line, tokens) in annotated.trajectory.lines.iter().enumerate() {
        let weight = advantage(group, member, line, config) / n_rollouts as f64;
        let is_sampled = trace
            .restrictions
            .iter()
            .any(|r| r.position == weights.len());
        let decision = if is_sampled { weight } else { 0.0 };
        match &annotated.latents[line] {
            None => {}
            Some(Latent::Keep) => weights.push(decision),
            Some(Latent::Switch {
                rationale,
                forced_close,
            }) => {
                weights.push(decision);
                weights.extend(vec![weight; rationale.len()]);
                weights.push(if *forced_close { 0.0 } else { weight });
            }
        }
        weights.extend(vec![0.0; tokens.len()]);
    }
    weights
}

fn finite(example: &Example) -> bool {
    let numbers = example.weights.iter().chain(&example.old_logprobs);
    numbers.copied().all(f32::is_finite)
}

fn is_finite(report: &EStepReport) -> bool {
    let rollouts = &report.rollouts;
    let figures = [
        rollouts.mean_return,
        rollouts.mean_line_logprob,
        rollouts.mean_gain,
        rollouts.rationale_nats,
        rollouts.out_of_room_share,
        rollouts.latents.think_rate,
        rollouts.latents.persistence,
        rollouts.latents.rationale_tokens,
        report.update.loss,
        report.update.mean_logprob,
        report.update.gradient_norm,
        report.update.clipped_share,
        report.work.flops,
    ];
    figures.iter().all(|figure| figure.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn weights_are_those_of_the_slow_reference(
        batch in prop::collection::vec(any_trajectory(), 0..4),
        config in any_config(),
        seed in any::<u64>(),
    ) {
        let policy = table(seed);
        let frozen = Frozen {
            scorer: Some(Box::new(table(seed ^ 1))),
            reference: Some(Box::new(table(seed ^ 2))),
        };
        let (rule, n) = (config.exploring_rule(MARKERS), config.group_size);
        let (traces, _) = draw(&policy, &batch, &rule, n, Seed::root(seed))
            .expect("it fits");
        let (rollouts, _) = score(&policy, &frozen, traces).expect("it fits");
        prop_assert_eq!(rollouts.len(), batch.len() * n);
        let examples = policy_gradient(&rollouts, &Credit::of(&rollouts, &config).advantages);
        prop_assert_eq!(examples.len(), batch.len() * n);
        for (index, example) in examples.iter().enumerate() {
            let document = rollouts[index].trace.annotated().trajectory;
            prop_assert_eq!(&document, &batch[index / n]);
            let group = &rollouts[index / n * n..][..n];
            let expected = expected_weights(group, index % n, rollouts.len(), &config);
            prop_assert_eq!(example.weights.len(), expected.len());
            prop_assert_eq!(example.tokens.len(), expected.len());
            for (found, expected) in example.weights.iter().zip(&expected) {
                // Where a deviation is near zero, standardising enlarges the rounding of f32.
                let slack = if config.baseline == Baseline::Standardised { 2e-2 } else { 1e-4 };
                let error = (f64::from(*found) - expected).abs();
                prop_assert!(error < slack * (1.0 + expected.abs()), "{found} {expected}");
            }
            prop_assert!(finite(example));
        }
    }

    /// What the group shares, the leave-one-out baseline takes: a line's decisions together have
    /// no weight.
    #[test]
    fn weights_of_a_lines_decisions_sum_to_nothing(
        batch in prop::collection::vec(any_trajectory(), 1..4),
        config in any_config(),
        seed in any::<u64>(),
    ) {
        let config = EStepConfig {
            group_size: config.group_size + 1,
            baseline: Baseline::LeaveOneOut,
            think_floor: 0.0,
            think_every_line: false,
            ..config
        };
        let mut policy = Recording::new(table(seed));
        e_update(&mut policy, &batch, &config, 0.1, seed);
        let Some((examples, _)) = policy.updates.first() else {
            return Ok(());
        };
        let groups = examples.chunks(config.group_size);
        for (document, group) in batch.iter().zip(groups) {
            let mut sums = vec![0.0; document.lines.len()];
            for example in group {
                let is_decision = |at: &usize| [ACT, THINK].contains(&example.tokens[*at]);
                let mut at = document.prefix.len();
                for (sum, line) in sums.iter_mut().zip(&document.lines) {
                    prop_assert!(is_decision(&at));
                    *sum += f64::from(example.weights[at]);
                    if example.tokens[at] == THINK {
                        let rest = &example.tokens[at..];
                        at += rest.iter().position(|token| *token == CLOSE).expect("closed");
                    }
                    at += 1 + line.len();
                }
            }
            prop_assert!(sums.iter().all(|sum: &f64| sum.abs() < 1e-5), "{sums:?}");
        }
    }

    #[test]
    fn an_update_of_any_shape_is_finite(
        batch in prop::collection::vec(any_trajectory(), 0..4),
        config in any_config(),
        size in 0.0f64..20.0,
        seed in any::<u64>(),
    ) {
        let table = TablePolicy::random(VOCABULARY, 2, size, Seed::root(seed));
        let mut policy = Recording::new(table);
        let report = e_update(&mut policy, &batch, &config, 0.1, seed);
        prop_assert!(is_finite(&report), "{report:?}");
        for (examples, _) in &policy.updates {
            let is_weighted = |example: &Example| example.weights.iter().any(|w| *w != 0.0);
            prop_assert!(examples.iter().any(is_weighted), "an update of nothing");
            prop_assert!(examples.iter().all(finite));
        }
        prop_assert!(policy.table.logits.iter().all(|logit| logit.is_finite()));
    }
}

/// A model that closes each rationale at once, and one that never closes any.
#[test]
fn rationales_of_no_tokens_and_of_too_many() {
    let document = Trajectory {
        prefix: vec![END],
        lines: vec![vec![TEXT], vec![END]],
    };
    for (logit, n_tokens) in [(60.0, 0.0), (-60.0, 2.0)] {
        let mut table = table(1);
        for last in 0..VOCABULARY as u32 {
            for token in 0..VOCABULARY as u32 {
                table.logits_after(&[last, token])[CLOSE as usize] = logit;
            }
        }
        let config = EStepConfig {
            think_every_line: true,
            penalty: Penalty::ExactKl { alpha: 0.5 },
            baseline: Baseline::None,
            updates_per_batch: 2,
            ..e_step()
        };
        let mut policy = Recording::new(table);
        let batch = [document.clone()];
        let report = e_update(&mut policy, &batch, &config, 0.1, 1);
        assert!(is_finite(&report), "{report:?}");
        assert_eq!(report.rollouts.latents.think_rate, 1.0);
        assert_eq!(report.rollouts.latents.rationale_tokens, n_tokens);
        let (examples, _) = &policy.updates[0];
        for example in examples {
            let closes = (0..example.tokens.len()).filter(|at| example.tokens[*at] == CLOSE);
            let weighted = closes.filter(|at| example.weights[*at] != 0.0).count();
            // A sampled `</think>` learns, a forced one does not.
            assert_eq!(weighted, if n_tokens == 0.0 { 2 } else { 0 });
        }
    }
}

/// Where all members of a group do the same there is nothing to learn, and nothing breaks.
#[test]
fn a_group_without_any_difference_moves_nothing() {
    let document = Trajectory {
        prefix: vec![END],
        lines: vec![vec![TEXT], vec![END]],
    };
    for baseline in [
        Baseline::LeaveOneOut,
        Baseline::GroupMean,
        Baseline::Standardised,
    ] {
        let config = EStepConfig {
            baseline,
            temperature: 0.0,
            ..e_step()
        };
        let mut policy = Recording::new(table(3));
        let batch = [document.clone(), document.clone()];
        let report = e_update(&mut policy, &batch, &config, 1.0, 1);
        assert!(is_finite(&report));
        assert!(report.rollouts.mean_line_logprob < 0.0);
        assert!(policy.updates.is_empty(), "momentum does not move either");
        assert_eq!(policy.table, table(3));
    }
}
