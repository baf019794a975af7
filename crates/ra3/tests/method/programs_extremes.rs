//! RLVR on programs, groups and rewards of any shape: weights that sum to nothing where they have
//! to, and no number that is none.

use proptest::prelude::*;
use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::group::Group;
use ra3::grpo;
use ra3::policy::{Example, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3::settings::{Estimator, GrpoConfig};
use ra3::table::TablePolicy;

use crate::recording::Recording;
use crate::settings::{
    CLIP, END, GrpoReport, NEWLINE, TEXT, VOCABULARY, grpo, grpo_update, table, writing,
};

pub(crate) const ESTIMATORS: [Estimator; 4] = [
    Estimator::Grpo,
    Estimator::DrGrpo,
    Estimator::Rloo,
    Estimator::Dapo,
];

prop_compose! {
    pub(crate) fn any_config()(
        estimator in prop::sample::select(ESTIMATORS.to_vec()),
        group_size in 1usize..5,
        drop_groups_without_signal in any::<bool>(),
        program_tokens_max in 0usize..8,
        overlong_tokens in 0usize..8,
        temperature in prop::sample::select(vec![0.0f32, 0.5, 1.0]),
        updates_per_batch in 1usize..3,
        clips in any::<bool>(),
    ) -> GrpoConfig {
        GrpoConfig {
            estimator,
            group_size,
            drop_groups_without_signal,
            overlong_tokens,
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

pub(crate) fn any_prompts() -> impl Strategy<Value = Vec<Vec<TokenId>>> {
    let prompt = prop::collection::vec(TEXT..VOCABULARY as u32, 1..4);
    prop::collection::vec(prompt, 0..4)
}

fn finite(example: &Example) -> bool {
    let numbers = example.weights.iter().chain(&example.old_logprobs);
    numbers.copied().all(f32::is_finite)
}

fn is_finite(report: &GrpoReport) -> bool {
    let figures = [
        report.groups.mean_reward,
        report.groups.groups_with_signal,
        report.groups.program_tokens,
        report.groups.ended_share,
        report.update.loss,
        report.update.mean_logprob,
        report.update.gradient_norm,
        report.work.flops,
    ];
    figures.iter().all(|figure| figure.is_finite())
}

/// A reward that depends on the program alone, of a few values so that groups without signal occur.
pub(crate) fn grade(rows: &[Completion]) -> Vec<f32> {
    let reward = |row: &Completion| {
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
        let report = grpo_update(&mut policy, &prompts, grade, &config, 0.1, seed);
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
        let given = |_: &[Completion]| rewards.clone();
        grpo_update(&mut policy, &[prompt], given, &config, 0.1, seed);
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

    /// Who keeps the groups with signal alone learns what is learnt where the others are dropped,
    /// and from no more programs than were kept.
    #[test]
    fn groups_that_were_kept_learn_as_if_the_others_were_dropped(
        prompts in any_prompts(),
        config in any_config(),
        n_groups in 0usize..5,
        seed in any::<u64>(),
    ) {
        let mut policy = Recording::new(table(seed));
        let (size, seed) = (config.group_size, Seed::root(seed));
        let (programs, _) = complete(&policy, &prompts, &config.writing, size, seed)
            .expect("it fits");
        let rewards = grade(&programs);
        let all = Group::split(programs, &rewards, size);
        let mut kept = all.clone();
        kept.retain(Group::has_signal);
        let dropping = GrpoConfig { drop_groups_without_signal: true, ..config.clone() };
        prop_assert_eq!(grpo::examples(&kept, &config), grpo::examples(&all, &dropping));
        kept.truncate(n_groups);
        let (update, work) = grpo::update(&mut policy, &kept, &config, 0.1).expect("no failure");
        prop_assert!(update.loss.is_finite() && work.flops.is_finite());
        // What a program earned its length may take again: such a group teaches nothing.
        let has_lesson = !grpo::examples(&kept, &config).is_empty();
        prop_assert!(config.overlong_tokens > 0 || has_lesson != kept.is_empty());
        let n_updates = if has_lesson { config.updates_per_batch } else { 0 };
        prop_assert_eq!(policy.updates.len(), n_updates);
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
        let grade = |_: &[Completion]| vec![1.0, 0.0, 0.0];
        let report = grpo_update(&mut policy, &[vec![TEXT]], grade, &config, 1.0, 1);
        assert!(is_finite(&report), "{estimator:?} {report:?}");
        assert_eq!(
            (report.groups.program_tokens, report.groups.ended_share),
            (0.0, 0.0)
        );
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
        let grade = |_: &[Completion]| vec![1.0, 0.0, 0.0];
        let config = grpo(estimator);
        let report = grpo_update(&mut policy, &[vec![TEXT]], grade, &config, 1.0, 1);
        assert_eq!(
            (report.groups.program_tokens, report.groups.ended_share),
            (10.0, 0.0)
        );
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
            let same = |rows: &[Completion]| vec![value; rows.len()];
            let prompts = [vec![TEXT], vec![TEXT, NEWLINE]];
            for update in 0..5 {
                grpo_update(&mut policy, &prompts, same, &grpo(estimator), 1.0, update);
            }
            assert_eq!(policy.table, table(1), "{estimator:?}");
            assert!(policy.updates.is_empty(), "momentum does not move either");
        }
    }
}
