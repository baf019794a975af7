//! The E-step on documents, groups and settings of any shape: against a slow reference, and
//! without a number that is none.

use proptest::prelude::*;
use ra3::e_step::{
    self, EStepConfig, EStepReport, Penalty, Persistence, Policies, Rollouts, policy_gradient,
    roll_out,
};
use ra3::formulas::Baseline;
use ra3::policy::{Example, Surrogate, Work};
use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3::trajectory::{Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{
    ACT, CLIP, CLOSE, END, MARKERS, TEXT, THINK, VOCABULARY, alone, e_step, table,
};

fn any_trajectory() -> impl Strategy<Value = Trajectory> {
    let line = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    let prefix = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    (prefix, prop::collection::vec(line, 0..4))
        .prop_map(|(prefix, lines)| Trajectory { prefix, lines })
}

fn any_penalty() -> impl Strategy<Value = Penalty> {
    prop_oneof![
        (-1.0f32..3.0).prop_map(Penalty::SwitchCost),
        (0.01f32..0.99).prop_map(|alpha| Penalty::ExactKl { alpha }),
        (0.0f32..3.0).prop_map(Penalty::SwitchCostOnMean),
        (0.0f32..1.0).prop_map(Penalty::SwitchCostOnProbability),
        Just(Penalty::SwitchCost(f32::INFINITY)),
    ]
}

fn any_persistence() -> impl Strategy<Value = Persistence> {
    prop_oneof![
        Just(Persistence::Sticky),
        Just(Persistence::ThinkEveryLine),
        (0.0f32..=1.0).prop_map(Persistence::StickyWithThinkFloor),
    ]
}

prop_compose! {
    fn any_config()(
        group_size in 1usize..5,
        rationale_tokens_max in 1usize..4,
        horizon in prop::option::of(1usize..5),
        discount in 0.0f32..=1.0,
        penalty in any_penalty(),
        baseline in prop::sample::select(vec![
            Baseline::LeaveOneOut,
            Baseline::GroupMean,
            Baseline::Standardised,
            Baseline::None,
        ]),
        updates_per_batch in 1usize..3,
        clips in any::<bool>(),
        persistence in any_persistence(),
    ) -> EStepConfig {
        EStepConfig {
            group_size,
            rationale_tokens_max,
            horizon,
            discount,
            penalty,
            baseline,
            surrogate: if clips { CLIP } else { Surrogate::LogLikelihood },
            updates_per_batch,
            temperature: 1.0,
            persistence,
        }
    }
}

/// `r_t` of a line, by its definition.
fn reward(rollouts: &Rollouts, place: [usize; 3], penalty: Penalty) -> f64 {
    let [group, member, line] = place;
    let record = &rollouts.records[group][member][line];
    let reference = f64::from(rollouts.reference[group][member][line]);
    let logprob = f64::from(record.line_logprob);
    let n_tokens = rollouts.annotated[group][member].trajectory.lines[line].len() as f64;
    let price = |cost: f32| {
        if record.is_think() {
            f64::from(cost)
        } else {
            0.0
        }
    };
    match penalty {
        Penalty::SwitchCost(cost) => logprob - price(cost),
        Penalty::SwitchCostOnMean(cost) => logprob / n_tokens - price(cost),
        Penalty::SwitchCostOnProbability(cost) => logprob.exp() - price(cost),
        Penalty::ExactKl { alpha } => {
            let alpha = f64::from(alpha);
            let log_q: f64 = record
                .rationale_logprobs
                .iter()
                .map(|l| f64::from(*l))
                .sum();
            let prior = if record.is_think() {
                (1.0 - alpha).ln() + reference
            } else {
                alpha.ln()
            };
            logprob - f64::from(record.decision_logprob) - log_q + prior
        }
    }
}

/// `R_t` of a line, by its definition.
fn to_go(rollouts: &Rollouts, place: [usize; 3], config: &EStepConfig) -> f64 {
    let [group, member, line] = place;
    let n_lines = rollouts.records[group][member].len();
    let end = config.horizon.map_or(n_lines, |h| n_lines.min(line + h));
    (line..end)
        .map(|at| {
            let factor = f64::from(config.discount).powi((at - line) as i32);
            factor * reward(rollouts, [group, member, at], config.penalty)
        })
        .sum()
}

fn advantage(rollouts: &Rollouts, place: [usize; 3], config: &EStepConfig) -> f64 {
    let [group, member, line] = place;
    let column: Vec<f64> = (0..rollouts.records[group].len())
        .map(|member| to_go(rollouts, [group, member, line], config))
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
    rollouts: &Rollouts,
    group: usize,
    member: usize,
    config: &EStepConfig,
) -> Vec<f64> {
    let n_rollouts: usize = rollouts.records.iter().map(Vec::len).sum();
    let annotated = &rollouts.annotated[group][member];
    let mut weights = vec![0.0; annotated.trajectory.prefix.len()];
    for (line, tokens) in annotated.trajectory.lines.iter().enumerate() {
        let record = &rollouts.records[group][member][line];
        let weight = advantage(rollouts, [group, member, line], config) / n_rollouts as f64;
        let decision = if record.decision_sampled { weight } else { 0.0 };
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
    let figures = [
        report.mean_return,
        report.mean_line_logprob,
        report.mean_gain,
        report.out_of_room_share,
        report.latents.think_rate,
        report.latents.persistence,
        report.latents.rationale_tokens,
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
        let mut policy = table(seed);
        let (mut scorer, mut reference) = (table(seed ^ 1), table(seed ^ 2));
        let mut policies = Policies {
            policy: &mut policy,
            scorer: Some(&mut scorer),
            reference: Some(&mut reference),
        };
        let rule = config.latent_rule(MARKERS);
        let (seed, mut work) = (Seed::root(seed), Work::default());
        let n = config.group_size;
        let rollouts = roll_out(&mut policies, &batch, &rule, n, seed, &mut work).expect("it fits");
        prop_assert_eq!(rollouts.annotated.len(), batch.len());
        let examples = policy_gradient(&rollouts, &MARKERS, &config);
        prop_assert_eq!(examples.len(), batch.len() * n);
        for (index, example) in examples.iter().enumerate() {
            let (group, member) = (index / n, index % n);
            prop_assert_eq!(&rollouts.annotated[group][member].trajectory, &batch[group]);
            let expected = expected_weights(&rollouts, group, member, &config);
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
            persistence: Persistence::Sticky,
            ..config
        };
        let mut policy = Recording::new(table(seed));
        let policies = &mut alone(&mut policy);
        e_step::update(policies, &batch, &MARKERS, &config, 0.1, Seed::root(seed))
            .expect("nothing fails");
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
        let policies = &mut alone(&mut policy);
        let report = e_step::update(policies, &batch, &MARKERS, &config, 0.1, Seed::root(seed))
            .expect("nothing fails");
        prop_assert!(is_finite(&report), "{report:?}");
        for (examples, _) in &policy.updates {
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
            persistence: Persistence::ThinkEveryLine,
            penalty: Penalty::ExactKl { alpha: 0.5 },
            baseline: Baseline::None,
            surrogate: CLIP,
            ..e_step()
        };
        let mut policy = Recording::new(table);
        let batch = [document.clone()];
        let policies = &mut alone(&mut policy);
        let report = e_step::update(policies, &batch, &MARKERS, &config, 0.1, Seed::root(1))
            .expect("nothing fails");
        assert!(is_finite(&report), "{report:?}");
        assert_eq!(report.latents.think_rate, 1.0);
        assert_eq!(report.latents.rationale_tokens, n_tokens);
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
        let mut policy = table(3);
        let batch = [document.clone(), document.clone()];
        let policies = &mut alone(&mut policy);
        let report = e_step::update(policies, &batch, &MARKERS, &config, 1.0, Seed::root(1))
            .expect("nothing fails");
        assert!(is_finite(&report));
        assert_eq!(report.update.gradient_norm, 0.0);
        assert_eq!(policy, table(3));
    }
}
