//! RLVR's estimators by hand: three programs of 1, 2 and 4 sampled tokens.

use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::group::Group;
use ra3::grpo::{self, group_advantages};
use ra3::policy::{Example, Surrogate, TokenId, Work};
use ra3::seed::Seed;
use ra3::settings::{Estimator, GrpoConfig};
use ra3::statistics::GroupStats;

use crate::scripted::Scripted;
use crate::settings::{CLIP, END, GrpoReport, grpo, grpo_update, writing};

/// Programs of 1, 2 and 4 tokens, and then of 2, 3 and 3.
const SCRIPTS: [&[TokenId]; 6] = [
    &[END],
    &[5, END],
    &[5, 6, 7, END],
    &[6, END],
    &[6, 6, END],
    &[6, 7, END],
];
/// The first group's rewards have mean 1 and deviation √2; the second has no signal.
const REWARDS: [f32; 6] = [3.0, 0.0, 0.0, 1.0, 1.0, 1.0];
const ESTIMATORS: [Estimator; 4] = [
    Estimator::Grpo,
    Estimator::DrGrpo,
    Estimator::Rloo,
    Estimator::Dapo,
];
const LEARNING_RATE: f32 = 0.125;

fn scripted(n_rows: usize) -> Scripted {
    // Each token has a log-probability of its own.
    Scripted::new(&SCRIPTS[..n_rows], |_, token| -(token as f32) / 4.0)
}

/// Prompts of different lengths, one a group.
fn prompts(n_groups: usize) -> Vec<Vec<TokenId>> {
    [vec![0, 5], vec![0, 6, 7]][..n_groups].to_vec()
}

fn update(n_groups: usize, config: &GrpoConfig) -> (Scripted, GrpoReport) {
    let mut policy = scripted(n_groups * 3);
    let prompts = prompts(n_groups);
    let report = grpo_update(&mut policy, &prompts, grade, config, LEARNING_RATE, 1);
    (policy, report)
}

fn grade(rows: &[Completion]) -> Vec<f32> {
    REWARDS[..rows.len()].to_vec()
}

/// Every example's weights: nothing on the prompt, the same on each sampled token.
fn check(examples: &[Example], expected: [f64; 3], what: &str) {
    assert_eq!(examples.len(), 3, "{what}");
    for ((example, script), expected) in examples.iter().zip(SCRIPTS).zip(expected) {
        assert_eq!(example.tokens, [&[0, 5], script].concat(), "{what}");
        assert_eq!(example.weights[..2], [0.0, 0.0], "{what}: the prompt");
        for weight in &example.weights[2..] {
            let error = (f64::from(*weight) - expected).abs();
            assert!(error < 1e-7, "{what}: {weight} against {expected}");
        }
        assert_eq!(example.weights.len(), example.tokens.len());
        assert!(example.restrictions.is_empty(), "a program is plain text");
    }
}

/// `(3, 0, 0)` less their mean, over √2 and the small number beside it.
const STANDARDISED: [f64; 3] = {
    let deviation = std::f64::consts::SQRT_2 + 1e-4;
    [2.0 / deviation, -1.0 / deviation, -1.0 / deviation]
};

#[test]
fn one_group_pins_every_length_normaliser() {
    let weights = |estimator| {
        let (policy, _) = update(1, &grpo(estimator));
        policy.trained().to_vec()
    };
    let [a, b, c] = STANDARDISED;
    // A program's mean over its own tokens, and then the mean of 3 programs.
    let by_program = [a / 3.0, b / 6.0, c / 12.0];
    check(&weights(Estimator::Grpo), by_program, "GRPO");
    // 3 programs, and the longest program that the rule allows: 10 tokens.
    let by_constant = [2.0 / 30.0, -1.0 / 30.0, -1.0 / 30.0];
    check(&weights(Estimator::DrGrpo), by_constant, "Dr. GRPO");
    // The others' means are 0, 1.5 and 1.5; sums over tokens, mean of 3 programs.
    let by_sum = [3.0 / 3.0, -1.5 / 3.0, -1.5 / 3.0];
    check(&weights(Estimator::Rloo), by_sum, "RLOO");
    // 1 + 2 + 4 tokens count alike.
    let by_token = [a / 7.0, b / 7.0, c / 7.0];
    check(&weights(Estimator::Dapo), by_token, "DAPO");
}

#[test]
fn a_group_without_signal_counts_in_the_normalisers_unless_it_is_dropped() {
    let weights = |estimator, drop_groups_without_signal| {
        let config = GrpoConfig {
            drop_groups_without_signal,
            ..grpo(estimator)
        };
        let (policy, _) = update(2, &config);
        policy.trained().to_vec()
    };
    let [a, b, c] = STANDARDISED;
    // Kept: 6 programs, of 1 + 2 + 4 and 2 + 3 + 3 tokens.
    let by_program = [a / 6.0, b / 12.0, c / 24.0];
    check(&weights(Estimator::Grpo, false), by_program, "GRPO");
    let by_constant = [2.0 / 60.0, -1.0 / 60.0, -1.0 / 60.0];
    check(&weights(Estimator::DrGrpo, false), by_constant, "Dr. GRPO");
    let by_sum = [3.0 / 6.0, -1.5 / 6.0, -1.5 / 6.0];
    check(&weights(Estimator::Rloo, false), by_sum, "RLOO");
    let by_token = [a / 15.0, b / 15.0, c / 15.0];
    check(&weights(Estimator::Dapo, false), by_token, "DAPO");
    // Dropped: as if it had not been written.
    for estimator in ESTIMATORS {
        let (one, _) = update(1, &grpo(estimator));
        assert_eq!(weights(estimator, true), one.trained(), "{estimator:?}");
    }
}

/// A program pays for its length in its advantage; lengths alone are no signal.
#[test]
fn overlong_programs_pay_by_hand() {
    // The longest program has 3 tokens before its end: one of 8 over the free 2.
    let config = GrpoConfig {
        overlong_tokens: 8,
        ..grpo(Estimator::DrGrpo)
    };
    let (policy, report) = update(1, &config);
    let mean = (3.0 - 0.125) / 3.0;
    let by_constant = [3.0, 0.0, -0.125].map(|shaped: f64| (shaped - mean) / 30.0);
    check(policy.trained(), by_constant, "shaped");
    assert_eq!(report.groups.mean_reward, 1.0, "what the tests gave");
    // Equal rewards: the lengths are learnt from where such groups are kept, and nowhere else.
    let equal = |drop_groups_without_signal| {
        let config = GrpoConfig {
            drop_groups_without_signal,
            ..config.clone()
        };
        let mut policy = scripted(3);
        let failed = |rows: &[Completion]| vec![0.0; rows.len()];
        let report = grpo_update(&mut policy, &prompts(1), failed, &config, LEARNING_RATE, 1);
        assert_eq!(report.groups.groups_with_signal, 0.0);
        policy.updates
    };
    let mean = -0.125 / 3.0;
    let by_constant = [0.0, 0.0, -0.125].map(|shaped: f64| (shaped - mean) / 30.0);
    check(&equal(false)[0].0, by_constant, "kept");
    assert!(equal(true).is_empty(), "dropped");
}

#[test]
fn advantages_of_every_estimator_by_hand() {
    let rewards = [3.0, 0.0, 0.0];
    let found = |estimator| group_advantages(&rewards, estimator);
    assert_eq!(found(Estimator::DrGrpo), [2.0, -1.0, -1.0]);
    assert_eq!(found(Estimator::Rloo), [3.0, -1.5, -1.5]);
    let standardised = STANDARDISED.map(|advantage| advantage as f32);
    assert_eq!(found(Estimator::Grpo), standardised);
    assert_eq!(found(Estimator::Dapo), standardised);
}

#[test]
fn an_update_is_repeated_and_paid_for_as_often_as_asked() {
    let config = GrpoConfig {
        surrogate: CLIP,
        updates_per_batch: 3,
        ..grpo(Estimator::Grpo)
    };
    let (policy, report) = update(1, &config);
    assert_eq!(*policy.seeds.borrow(), [Seed::root(1)]);
    assert_eq!(policy.updates.len(), 3);
    for (examples, objective) in &policy.updates {
        assert_eq!(examples, &policy.updates[0].0, "the same batch each time");
        assert_eq!(objective.learning_rate, LEARNING_RATE);
        assert_eq!(objective.surrogate, CLIP);
    }
    // The ratios' denominators: nothing for the prompt, each token's own for the program.
    let longest = &policy.updates[0].0[2];
    let expected = [0.0, 0.0, -1.25, -1.5, -1.75, -0.0];
    assert_eq!(longest.old_logprobs, expected);
    // The last of the three updates, the work of all of them and of the one run.
    assert_eq!(report.update.loss, 3.0);
    assert_eq!(report.work.flops, 1003.0);
    assert_eq!(report.work.n_tokens_run, 30);
    assert_eq!(report.work.n_tokens_sampled, 7);
    assert_eq!(report.work.n_tokens, 7 + 3 * 2);
    let plain = update(1, &grpo(Estimator::Grpo)).0;
    assert_eq!(plain.updates[0].1.surrogate, Surrogate::LogLikelihood);
}

#[test]
fn a_report_is_on_all_programs() {
    let config = GrpoConfig {
        writing: WritingRule {
            program_tokens_max: 3,
            ..writing()
        },
        ..grpo(Estimator::Grpo)
    };
    // The last program of the first group is cut off after three tokens.
    let scripts: [&[TokenId]; 6] = [
        SCRIPTS[0],
        SCRIPTS[1],
        &[5, 6, 7],
        SCRIPTS[3],
        SCRIPTS[4],
        SCRIPTS[5],
    ];
    let mut policy = Scripted::new(&scripts, |_, _| -1.0);
    let report = grpo_update(&mut policy, &prompts(2), grade, &config, 1.0, 1);
    let groups = &report.groups;
    assert_eq!(groups.mean_reward, 1.0);
    assert_eq!(groups.groups_with_signal, 0.5);
    // Without their ends: 0, 1, 3, 1, 2 and 2 tokens.
    assert_eq!(groups.program_tokens, 9.0 / 6.0);
    assert_eq!(groups.ended_share, 5.0 / 6.0);
    assert_eq!(report.update.loss, 1.0);
    assert_eq!(report.work.flops, 1001.0);
}

/// Groups of several batches of programs, one batch after the other, and the work of them.
fn written(policy: &Scripted, rewards: &[[f32; 6]]) -> (Vec<Group>, Work) {
    let (mut groups, mut work) = (vec![], Work::default());
    for (index, rewards) in rewards.iter().enumerate() {
        // The second prompt tells the batches apart.
        let prompts = [vec![0, 5], vec![0, 6, index as TokenId]];
        let seed = Seed::root(1).nth(index as u64);
        let (programs, cost) = complete(policy, &prompts, &writing(), 3, seed).expect("it fits");
        groups.extend(Group::split(programs, rewards, 3));
        work += cost;
    }
    (groups, work)
}

/// Groups that a caller kept of what was written are what an update normalises over.
#[test]
fn an_update_is_on_the_groups_that_were_kept() {
    let rewards = [
        [1.0, 1.0, 1.0, 3.0, 0.0, 0.0],
        [0.0; 6],
        [0.0, 3.0, 0.0, 0.0, 0.0, 3.0],
    ];
    let mut policy = scripted(6);
    let (groups, work) = written(&policy, &rewards);
    let signals: Vec<bool> = groups.iter().map(Group::has_signal).collect();
    assert_eq!(signals, [false, true, false, false, true, true]);
    // The figures are on all 18 programs and 6 groups.
    let stats = GroupStats::of(&groups);
    assert_eq!(stats.mean_reward, (6.0 + 6.0) / 18.0);
    assert_eq!(stats.groups_with_signal, 0.5);
    assert_eq!((work.flops, work.n_tokens_sampled), (3000.0, 3 * 15));
    // The second group of the first batch and the first of the third; its other group is one too
    // many. RLOO: (3, −1.5, −1.5) and (−1.5, 3, −1.5), over 6 programs.
    let mut kept = groups;
    kept.retain(Group::has_signal);
    kept.truncate(2);
    let config = grpo(Estimator::Rloo);
    let (_, training) =
        grpo::update(&mut policy, &kept, &config, LEARNING_RATE).expect("nothing fails");
    assert_eq!(training.flops, 1.0);
    let examples = policy.trained();
    let weights: Vec<f32> = examples
        .iter()
        .map(|e| e.weights[e.weights.len() - 1])
        .collect();
    assert_eq!(weights, [0.5, -0.25, -0.25, -0.25, 0.5, -0.25]);
    let prompts: Vec<&[TokenId]> = examples.iter().map(|e| &e.tokens[..3]).collect();
    assert!(prompts[..3].iter().all(|prompt| *prompt == [0, 6, 0]));
    assert!(prompts[3..].iter().all(|prompt| prompt[..2] == [0, 5]));
    assert_eq!(policy.updates[0].1.learning_rate, LEARNING_RATE);
}

/// Nothing found, and nothing looked for: no update, and no number that is none.
#[test]
fn no_groups_are_no_update() {
    for rewards in [&[[0.0; 6]; 2][..], &[]] {
        let mut policy = scripted(6);
        let (groups, _) = written(&policy, rewards);
        let config = grpo(Estimator::Rloo);
        let (update, work) =
            grpo::update(&mut policy, &groups, &config, LEARNING_RATE).expect("nothing fails");
        assert!(policy.updates.is_empty());
        assert_eq!((update.loss, work), (0.0, Work::default()));
        let none = GroupStats::of(&groups);
        let figures = [
            none.mean_reward,
            none.groups_with_signal,
            none.program_tokens,
            none.ended_share,
        ];
        assert!(figures.iter().all(|figure| figure.is_finite()), "{none:?}");
    }
}

/// A program of no tokens counts among the programs, and is no example.
#[test]
fn a_program_of_no_tokens_is_not_trained_on() {
    let rule = WritingRule {
        program_tokens_max: 0,
        ..writing()
    };
    let seed = Seed::root(1);
    let (mut programs, _) = complete(&scripted(0), &prompts(1), &rule, 1, seed).expect("it fits");
    let (others, _) = complete(&scripted(2), &prompts(1), &writing(), 2, seed).expect("it fits");
    programs.extend(others);
    let n_written: Vec<usize> = programs.iter().map(Completion::n_written).collect();
    assert_eq!(n_written, [0, 1, 2]);
    let groups = Group::split(programs, &[3.0, 0.0, 0.0], 3);
    let examples = grpo::examples(&groups, &grpo(Estimator::Rloo));
    let found: Vec<(&[TokenId], &[f32])> = examples
        .iter()
        .map(|example| (&example.tokens[..], &example.weights[..]))
        .collect();
    // RLOO: (3, −1.5, −1.5), over 3 programs.
    let expected: [(&[TokenId], &[f32]); 2] = [
        (&[0, 5, END], &[0.0, 0.0, -0.5]),
        (&[0, 5, 5, END], &[0.0, 0.0, -0.5, -0.5]),
    ];
    assert_eq!(found, expected);
}

/// Programs stay in their order, group by group, with their own rewards.
#[test]
fn groups_are_split_in_order() {
    let (programs, _) =
        complete(&scripted(6), &prompts(2), &writing(), 3, Seed::root(1)).expect("it fits");
    let groups = Group::split(programs.clone(), &REWARDS, 3);
    assert_eq!(groups.len(), 2);
    for (index, group) in groups.iter().enumerate() {
        let own = 3 * index..3 * (index + 1);
        assert_eq!(group.programs, programs[own.clone()]);
        assert_eq!(group.rewards, REWARDS[own]);
    }
    assert!(groups[0].has_signal() && !groups[1].has_signal());
    assert!(Group::split(vec![], &[], 3).is_empty());
}
