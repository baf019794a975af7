//! RLVR on programs, groups and rewards of any shape: weights that sum to nothing where they have
//! to, and no number that is none.

use proptest::prelude::*;
use ra3::generation::{Writing, WritingRule};
use ra3::grpo::{self, Estimator, GrpoConfig, GrpoReport, Search};
use ra3::policy::{Example, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3::table::TablePolicy;

use crate::recording::Recording;
use crate::settings::{CLIP, END, NEWLINE, TEXT, VOCABULARY, grpo, table, writing};

const ESTIMATORS: [Estimator; 4] = [
    Estimator::Grpo,
    Estimator::DrGrpo,
    Estimator::Rloo,
    Estimator::Dapo,
];

prop_compose! {
    fn any_config()(
        estimator in prop::sample::select(ESTIMATORS.to_vec()),
        group_size in 1usize..5,
        drop_groups_without_signal in any::<bool>(),
        program_tokens_max in 0usize..8,
        temperature in prop::sample::select(vec![0.0f32, 0.5, 1.0]),
        updates_per_batch in 1usize..3,
        clips in any::<bool>(),
    ) -> GrpoConfig {
        GrpoConfig {
            estimator,
            group_size,
            drop_groups_without_signal,
            writing: WritingRule {
                program_tokens_max,
                temperature,
                ..writing()
            },
            surrogate: if clips { CLIP } else { Surrogate::LogLikelihood },
            updates_per_batch,
        }
    }
}

fn any_prompts() -> impl Strategy<Value = Vec<Vec<TokenId>>> {
    let prompt = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    prop::collection::vec(prompt, 0..4)
}

fn finite(example: &Example) -> bool {
    let numbers = example.weights.iter().chain(&example.old_logprobs);
    numbers.copied().all(f32::is_finite)
}

fn is_finite(report: &GrpoReport) -> bool {
    let figures = [
        report.mean_reward,
        report.groups_with_signal,
        report.program_tokens,
        report.ended_share,
        report.update.loss,
        report.update.mean_logprob,
        report.update.gradient_norm,
        report.work.flops,
    ];
    figures.iter().all(|figure| figure.is_finite())
}

/// A reward that depends on the program alone, of a few values so that groups without signal occur.
fn grade(rows: &[Writing]) -> Vec<f32> {
    let reward = |row: &Writing| {
        let sum: TokenId = row.raw().iter().sum();
        (sum % 3) as f32 - 0.5
    };
    rows.iter().map(reward).collect()
}

/// The weight of a program's tokens, and how many have it.
fn weight(example: &Example) -> (f64, usize) {
    let mut weights: Vec<f32> = example
        .weights
        .iter()
        .copied()
        .filter(|w| *w != 0.0)
        .collect();
    let n = weights.len();
    weights.dedup();
    assert!(weights.len() <= 1, "one weight a program: {weights:?}");
    (weights.first().map_or(0.0, |weight| f64::from(*weight)), n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_update_of_any_shape_is_finite(
        prompts in any_prompts(),
        config in any_config(),
        size in 0.0f64..20.0,
        seed in any::<u64>(),
    ) {
        let mut policy = Recording::new(TablePolicy::random(VOCABULARY, 2, size, Seed::root(seed)));
        let seed = Seed::root(seed);
        let report = grpo::update(&mut policy, &prompts, &mut grade, &config, 0.1, seed)
            .expect("nothing fails");
        prop_assert!(is_finite(&report), "{report:?}");
        for (examples, _) in &policy.updates {
            let is_weighted = |example: &Example| weight(example).1 > 0;
            prop_assert!(!examples.is_empty(), "an update of nothing moves an optimizer");
            prop_assert!(examples.iter().all(is_weighted));
            prop_assert!(examples.iter().all(finite));
        }
        prop_assert!(policy.table.logits.iter().all(|logit| logit.is_finite()));
    }

    /// Within a group, weights of programs sum to nothing: over programs for Dr. GRPO, RLOO and
    /// DAPO, over tokens for GRPO, whose tokens share their program's weight.
    #[test]
    fn weights_of_a_group_sum_to_nothing(
        prompt in prop::collection::vec(TEXT..VOCABULARY as u32, 1..4),
        config in any_config(),
        rewards in prop::collection::vec(-2.0f32..2.0, 2..6),
        seed in any::<u64>(),
    ) {
        let config = GrpoConfig {
            group_size: rewards.len(),
            writing: WritingRule {
                program_tokens_max: config.writing.program_tokens_max + 1,
                ..config.writing
            },
            ..config
        };
        let mut policy = Recording::new(table(seed));
        let mut given = |_: &[Writing]| rewards.clone();
        let prompts = [prompt];
        grpo::update(&mut policy, &prompts, &mut given, &config, 0.1, Seed::root(seed))
            .expect("nothing fails");
        let Some((examples, _)) = policy.updates.first() else {
            return Ok(());
        };
        let sum: f64 = examples
            .iter()
            .map(|example| {
                let (weight, n_tokens) = weight(example);
                let of_program = config.estimator == Estimator::Grpo;
                weight * if of_program { n_tokens as f64 } else { 1.0 }
            })
            .sum();
        prop_assert!(sum.abs() < 1e-5, "{sum}");
        // Better programs weigh more.
        let best = rewards.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let is_best = |weight: f64| weight > 0.0;
        let positive = examples.iter().filter(|e| is_best(weight(e).0)).count();
        prop_assert!(positive > 0, "the reward {best} is above the mean");
    }

    #[test]
    fn dynamic_sampling_of_any_shape_ends(
        prompts in any_prompts(),
        config in any_config(),
        n_groups in 0usize..5,
        n_tries_max in 0usize..5,
        seed in any::<u64>(),
    ) {
        let mut policy = Recording::new(table(seed));
        let mut n_tries = 0;
        let mut draw = |index| {
            assert_eq!(index, n_tries, "tries are counted");
            n_tries += 1;
            prompts.clone()
        };
        let search = Search { n_groups, n_tries_max };
        let seed = Seed::root(seed);
        let report = grpo::update_dynamically(
            &mut policy, &mut draw, &mut grade, search, &config, 0.1, seed,
        ).expect("nothing fails");
        prop_assert!(n_tries <= n_tries_max);
        prop_assert!(n_groups > 0 || n_tries == 0, "what is enough is not looked for");
        prop_assert!(is_finite(&report), "{report:?}");
        for (examples, _) in &policy.updates {
            prop_assert!(!examples.is_empty() && examples.iter().all(finite));
            prop_assert!(examples.len() <= n_groups * config.group_size);
        }
    }
}

/// Programs of no tokens: nothing was sampled, so nothing is weighted.
#[test]
fn programs_of_no_tokens_learn_nothing() {
    for estimator in ESTIMATORS {
        let config = GrpoConfig {
            writing: WritingRule {
                program_tokens_max: 0,
                ..writing()
            },
            ..grpo(estimator)
        };
        let mut policy = Recording::new(table(1));
        let mut grade = |_: &[Writing]| vec![1.0, 0.0, 0.0];
        let prompts = [vec![TEXT]];
        let report = grpo::update(
            &mut policy,
            &prompts,
            &mut grade,
            &config,
            1.0,
            Seed::root(1),
        )
        .expect("nothing fails");
        assert!(is_finite(&report), "{estimator:?} {report:?}");
        assert_eq!((report.program_tokens, report.ended_share), (0.0, 0.0));
        assert!(policy.updates.is_empty(), "momentum does not move either");
        assert_eq!(policy.table, table(1));
    }
}

/// Every program cut off at its limit: they learn like others.
#[test]
fn programs_that_are_all_cut_off_learn() {
    for estimator in ESTIMATORS {
        let mut endless = table(1);
        let rows = endless.logits.chunks_mut(VOCABULARY);
        rows.for_each(|logits| logits[END as usize] = -200.0);
        let mut policy = Recording::new(endless.clone());
        let mut grade = |_: &[Writing]| vec![1.0, 0.0, 0.0];
        let prompts = [vec![TEXT]];
        let config = grpo(estimator);
        let report = grpo::update(
            &mut policy,
            &prompts,
            &mut grade,
            &config,
            1.0,
            Seed::root(1),
        )
        .expect("nothing fails");
        assert_eq!((report.program_tokens, report.ended_share), (10.0, 0.0));
        let (examples, _) = &policy.updates[0];
        assert!(examples.iter().all(|example| weight(example).1 == 10));
        assert_ne!(policy.table, endless);
    }
}

/// Many updates in a row without any signal: the model is what it was.
#[test]
fn a_stage_without_signal_moves_nothing() {
    for estimator in ESTIMATORS {
        for value in [0.0, 1.0, -1.0] {
            let mut policy = Recording::new(table(1));
            let mut same = |rows: &[Writing]| vec![value; rows.len()];
            let prompts = [vec![TEXT], vec![TEXT, NEWLINE]];
            for update in 0..5 {
                let seed = Seed::root(update);
                let config = grpo(estimator);
                grpo::update(&mut policy, &prompts, &mut same, &config, 1.0, seed)
                    .expect("nothing fails");
            }
            assert_eq!(policy.table, table(1), "{estimator:?}");
            assert!(policy.updates.is_empty(), "momentum does not move either");
        }
    }
}
