//! What programs pay for their distance from a reference: by hand, as a penalty in the reward, and
//! against the exact derivative of what it stands for.

use proptest::prelude::*;
use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::group::{self, Group};
use ra3::grpo;
use ra3::policy::{Example, Policy, PolicyError, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3::settings::{Estimator, GrpoConfig};
use ra3::table::TablePolicy;
use ra3::trace::Trace;

use crate::programs_extremes::{any_config, any_prompts, grade};
use crate::scripted::Scripted;
use crate::settings::{END, TEXT, grpo, table, writing};

/// Programs of 1, 2 and 4 tokens.
const SCRIPTS: [&[TokenId]; 3] = [&[END], &[5, END], &[5, 6, 7, END]];
const REWARDS: [f32; 3] = [3.0, 0.0, 0.0];

/// One group of the three, and what a reference of half the log-probability charges.
fn charged(coefficient: f32) -> (Vec<Group>, Scripted, f64) {
    let policy = Scripted::new(&SCRIPTS, |_, token| -(token as f32) / 4.0);
    let reference = Scripted::new(&[], |_, token| -(token as f32) / 2.0);
    let (programs, _) =
        complete(&policy, &[vec![0, 5]], &writing(), 3, Seed::root(1)).expect("it fits");
    let mut groups = Group::split(programs, &REWARDS, 3);
    let (mean, work) = group::charge(&mut groups, &reference, coefficient).expect("it fits");
    assert_eq!((work.flops, work.n_tokens_sampled), (100.0, 0));
    (groups, reference, mean)
}

#[test]
fn divergence_by_hand() {
    let (groups, reference, mean) = charged(0.5);
    // A quarter of the sum of the ids; the end's is 0, and prompts are not asked for.
    assert_eq!(groups[0].penalties, [0.0, 0.5 * 1.25, 0.5 * 4.5]);
    assert_eq!(mean, (1.25 + 4.5) / 3.0);
    let scored = &reference.scored.borrow()[0];
    let weights: Vec<&[f32]> = scored.iter().map(|e| &e.weights[..]).collect();
    let expected: [&[f32]; 3] = [&[0., 0., 1.], &[0., 0., 1., 1.], &[0., 0., 1., 1., 1., 1.]];
    assert_eq!(weights, expected);
    // Charging again replaces; what is free is measured all the same.
    assert_eq!(charged(0.0).2, mean);
    assert_eq!(charged(0.0).0[0].penalties, [0.0; 3]);
}

#[test]
fn every_estimator_charges_by_hand() {
    let deviation = 2.0f64.sqrt() + 1e-4;
    let standardised = [2.0 / deviation, -1.0 / deviation, -1.0 / deviation];
    // The divergences are 0, 1.25 and 4.5, less their mean or that of the two others.
    let mean = 5.75 / 3.0;
    let of_mean = [0.0 - mean, 1.25 - mean, 4.5 - mean];
    let of_others = [0.0 - 2.875, 1.25 - 2.25, 4.5 - 0.625];
    // Programs, and tokens of each or of all or the longest allowed.
    let of_own = [3.0, 6.0, 12.0];
    for (estimator, earned, divergence, normaliser) in [
        (Estimator::Grpo, standardised, of_mean, of_own),
        (Estimator::DrGrpo, [2.0, -1.0, -1.0], of_mean, [30.0; 3]),
        (Estimator::Rloo, [3.0, -1.5, -1.5], of_others, [3.0; 3]),
        (Estimator::Dapo, standardised, of_mean, [7.0; 3]),
    ] {
        let (groups, ..) = charged(0.5);
        let examples = grpo::examples(&groups, &grpo(estimator));
        for (index, example) in examples.iter().enumerate() {
            let expected = (earned[index] - 0.5 * divergence[index]) / normaliser[index];
            assert_eq!(
                example.weights[..2],
                [0.0, 0.0],
                "{estimator:?}: the prompt"
            );
            for weight in &example.weights[2..] {
                let error = (f64::from(*weight) - expected).abs();
                assert!(error < 1e-6, "{estimator:?}: {weight} against {expected}");
            }
        }
        assert_eq!(examples.len(), 3);
    }
}

/// Where all earn the same, a small coefficient pulls a little, however rewards are scaled.
#[test]
fn divergence_is_no_signal_and_is_not_standardised() {
    for estimator in [Estimator::Grpo, Estimator::Dapo] {
        let pull = |coefficient| {
            let (mut groups, ..) = charged(coefficient);
            groups[0].rewards = vec![1.0; 3];
            assert!(!groups[0].has_signal());
            let examples = grpo::examples(&groups, &grpo(estimator));
            let largest = examples.iter().flat_map(|e| &e.weights).copied();
            largest.fold(0.0f32, |a, b| a.max(b.abs()))
        };
        let (small, large) = (pull(0.001), pull(0.1));
        assert!(
            small > 0.0 && (large / small - 100.0).abs() < 0.01,
            "{small} {large}"
        );
        let dropping = GrpoConfig {
            drop_groups_without_signal: true,
            ..grpo(estimator)
        };
        let (mut groups, ..) = charged(1.0);
        groups[0].rewards = vec![1.0; 3];
        assert!(grpo::examples(&groups, &dropping).is_empty());
    }
}

#[test]
fn what_a_reference_rules_out_is_refused_where_it_costs() {
    let impossible = Scripted::new(&[], |_, _| f32::NEG_INFINITY);
    for coefficient in [0.0, 0.1] {
        let mut policy = table(1);
        let (config, prompts) = (grpo(Estimator::Rloo), [vec![TEXT]]);
        let (programs, _) =
            complete(&policy, &prompts, &config.writing, 3, Seed::root(1)).expect("it fits");
        let mut groups = Group::split(programs, &REWARDS, 3);
        let (mean, _) = group::charge(&mut groups, &impossible, coefficient).expect("it fits");
        assert_eq!(mean, f64::INFINITY);
        let update = grpo::update(&mut policy, &groups, &config, 0.1);
        if coefficient == 0.0 {
            assert!(update.is_ok());
            assert_ne!(policy, table(1));
        } else {
            let reason = "a weight is not a finite number";
            assert_eq!(update, Err(PolicyError::BadExample { index: 0, reason }));
            assert_eq!(policy, table(1));
        }
    }
}

fn bits(examples: &[Example]) -> Vec<Vec<u32>> {
    let of = |example: &Example| example.weights.iter().map(|w| w.to_bits()).collect();
    examples.iter().map(of).collect()
}

fn written(
    policy: &TablePolicy,
    prompts: &[Vec<TokenId>],
    config: &GrpoConfig,
    seed: u64,
) -> Vec<Group> {
    let (rule, size) = (&config.writing, config.group_size);
    let (programs, _) = complete(policy, prompts, rule, size, Seed::root(seed)).expect("it fits");
    let rewards = grade(&programs);
    Group::split(programs, &rewards, size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A coefficient of 0 and a reference that is the policy itself change no bit.
    #[test]
    fn what_costs_nothing_changes_nothing(
        prompts in any_prompts(),
        config in any_config(),
        coefficient in 0.0f32..2.0,
        seed in any::<u64>(),
    ) {
        let (policy, other) = (table(seed), table(seed ^ 1));
        let groups = written(&policy, &prompts, &config, seed);
        let plain = grpo::examples(&groups, &config);
        for (reference, coefficient) in [(&other, 0.0), (&policy, coefficient)] {
            let mut groups = groups.clone();
            let (mean, _) = group::charge(&mut groups, reference, coefficient).expect("it fits");
            prop_assert!(mean.is_finite());
            prop_assert!(reference != &policy || mean == 0.0, "{mean}");
            let charged = grpo::examples(&groups, &config);
            prop_assert_eq!(bits(&plain), bits(&charged));
            prop_assert_eq!(&plain, &charged);
        }
    }

    /// For estimators that divide by no deviation it is a penalty in the reward.
    #[test]
    fn divergence_is_a_penalty_in_the_reward(
        prompts in any_prompts(),
        config in any_config(),
        coefficient in 0.0f32..0.5,
        seed in any::<u64>(),
    ) {
        for estimator in [Estimator::DrGrpo, Estimator::Rloo] {
            let config = GrpoConfig {
                estimator,
                drop_groups_without_signal: false,
                ..config.clone()
            };
            let mut charged = written(&table(seed), &prompts, &config, seed);
            group::charge(&mut charged, &table(seed ^ 1), coefficient).expect("it fits");
            let mut paid = charged.clone();
            for group in &mut paid {
                let pairs = group.rewards.iter_mut().zip(&mut group.penalties);
                pairs.for_each(|(reward, penalty)| *reward -= std::mem::take(penalty));
            }
            let gradient = |groups: &[Group]| {
                let examples = grpo::examples(groups, &config);
                table(seed).gradient(&examples, Surrogate::LogLikelihood).expect("good").0
            };
            for (a, b) in gradient(&charged).into_iter().zip(gradient(&paid)) {
                prop_assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}

const SMALL: usize = 3;
const COEFFICIENT: f32 = 0.7;

fn small(seed: u64) -> TablePolicy {
    TablePolicy::random(SMALL, 1, 1.0, Seed::root(seed))
}

/// Every program of at most two tokens after the prompt, as `policy` draws it.
fn all_programs(policy: &TablePolicy) -> Vec<Completion> {
    let ids = 0..SMALL as TokenId;
    let longer = |first: TokenId| ids.clone().map(move |second| vec![first, second]);
    let scripts = ids.clone().flat_map(|first| match first {
        END => vec![vec![END]],
        first => longer(first).collect(),
    });
    let program = |script: Vec<TokenId>| {
        let tokens = [&[1], &script[..]].concat();
        let mask: Vec<bool> = (0..tokens.len()).map(|at| at > 0).collect();
        let logprob = |at: usize| policy.logprobs(&tokens[..at], None)[tokens[at] as usize] as f32;
        let logprobs = (0..tokens.len()).map(|at| if at > 0 { logprob(at) } else { 0.0 });
        let mut trace = Trace {
            logprobs: logprobs.collect(),
            mask,
            ..Trace::default()
        };
        trace.lines.push(ra3::trace::LineSpan {
            latent: 1..1,
            action: 1..tokens.len(),
        });
        Completion {
            n_prompt: 1,
            ended: tokens.last() == Some(&END),
            markers: None,
            trace: Trace { tokens, ..trace },
        }
    };
    scripts.map(program).collect()
}

/// Any number that depends on the program.
fn earned(program: &Completion) -> f32 {
    let digits = program.raw().iter().fold(1, |all, token| 4 * all + token);
    (digits % 7) as f32 / 3.0
}

fn log_q(program: &Completion) -> f64 {
    program.trace.logprobs.iter().map(|l| f64::from(*l)).sum()
}

/// `E R − β KL(π ‖ π_ref)`, program by program.
fn regularised(policy: &TablePolicy, reference: &TablePolicy) -> f64 {
    let pairs = all_programs(policy)
        .into_iter()
        .zip(all_programs(reference));
    let term = |(own, other): (Completion, Completion)| {
        let ratio = log_q(&own) - log_q(&other);
        log_q(&own).exp() * (f64::from(earned(&own)) - f64::from(COEFFICIENT) * ratio)
    };
    pairs.map(term).sum()
}

/// The mean of RLOO's gradient over every pair of programs is the derivative of the reward less
/// `β` times the divergence.
#[test]
fn the_mean_gradient_is_that_of_reward_less_divergence() {
    for seed in 0..3 {
        let (policy, reference) = (small(seed), small(seed + 10));
        let config = GrpoConfig {
            group_size: 2,
            writing: WritingRule {
                program_tokens_max: 2,
                ..writing()
            },
            ..grpo(Estimator::Rloo)
        };
        let programs = all_programs(&policy);
        assert_eq!(programs.len(), 1 + 2 * 3);
        let mut mean = vec![0.0; policy.logits.len()];
        for (a, b) in programs
            .iter()
            .flat_map(|a| programs.iter().map(move |b| (a, b)))
        {
            let mut groups = Group::split(vec![a.clone(), b.clone()], &[earned(a), earned(b)], 2);
            group::charge(&mut groups, &reference, COEFFICIENT).expect("it fits");
            let examples = grpo::examples(&groups, &config);
            let (ascent, _) = policy
                .gradient(&examples, Surrogate::LogLikelihood)
                .expect("good examples");
            let probability = (log_q(a) + log_q(b)).exp();
            let slopes = mean.iter_mut().zip(ascent);
            slopes.for_each(|(mean, slope)| *mean += probability * slope);
        }
        let mut is_moved = false;
        for (index, found) in mean.iter().enumerate() {
            let shifted = |by: f64| {
                let mut policy = policy.clone();
                policy.logits[index] += by;
                regularised(&policy, &reference)
            };
            let expected = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!(
                (found - expected).abs() < 1e-4,
                "{index}: {found} against {expected}"
            );
            is_moved |= expected.abs() > 0.02;
        }
        assert!(is_moved);
    }
}

/// Nothing was written, so nothing is charged.
#[test]
fn no_groups_and_no_tokens_cost_nothing() {
    let reference: Box<dyn Policy> = table(2).snapshot();
    let (mean, _) = group::charge(&mut [], &*reference, 1.0).expect("it fits");
    assert_eq!(mean, 0.0);
    let rule = WritingRule {
        program_tokens_max: 0,
        ..writing()
    };
    let (programs, _) =
        complete(&table(1), &[vec![TEXT]], &rule, 2, Seed::root(1)).expect("it fits");
    let mut groups = Group::split(programs, &[1.0, 0.0], 2);
    assert_eq!(
        group::charge(&mut groups, &*reference, 1.0)
            .expect("it fits")
            .0,
        0.0
    );
    assert_eq!(groups[0].penalties, [0.0, 0.0]);
}
