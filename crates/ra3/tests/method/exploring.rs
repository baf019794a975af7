//! A floor under the think rate: where it forces a decision, that decision learns nothing.

use ra3::latent_rule::Decision;
use ra3::rewards::Penalty;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::statistics::LatentStats;
use ra3::table::TablePolicy;
use ra3::trajectory::Trajectory;

use crate::recording::Recording;
use crate::scripted::Scripted;
use crate::settings::{
    ACT, CLOSE, END, MARKERS, NEWLINE, TEXT, THINK, VOCABULARY, e_step, e_update, table,
};

const N_DOCUMENTS: usize = 40;

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, NEWLINE], vec![6, NEWLINE], vec![END]],
    }
}

fn with_floor(floor: f32) -> EStepConfig {
    EStepConfig {
        think_floor: floor,
        ..e_step()
    }
}

fn at_every_line() -> EStepConfig {
    EStepConfig {
        think_every_line: true,
        ..e_step()
    }
}

fn update(table: TablePolicy, config: &EStepConfig) -> (Recording, LatentStats) {
    let mut policy = Recording::new(table);
    let batch = vec![document(); N_DOCUMENTS];
    let latents = e_update(&mut policy, &batch, config, 1.0, 4)
        .rollouts
        .latents;
    (policy, latents)
}

/// A decision has weight where it was free, none where it was forced; rationales always have.
#[test]
fn forced_decisions_have_no_weight_and_their_rationales_do() {
    let (policy, _) = update(table(1), &with_floor(0.3));
    let (mut n_forced, mut n_free) = (0, 0);
    let (examples, _) = &policy.updates[0];
    for (example, choices) in examples.iter().zip(policy.choices()) {
        assert_eq!(choices.len(), 3, "one decision a line");
        let mut position = 2;
        for (choices, line) in choices.iter().zip(document().lines) {
            let decision = position;
            position += 1;
            if example.tokens[decision] == THINK {
                let rest = &example.tokens[position..];
                position += rest
                    .iter()
                    .position(|token| *token == CLOSE)
                    .expect("closed")
                    + 1;
                let first = example.weights[decision + 1];
                // The first token of a rationale was sampled unless M was 0.
                assert!(first != 0.0 && first.is_finite());
                if choices.len() == 2 {
                    assert_eq!(example.weights[decision], first, "one advantage a line");
                }
            }
            match &choices[..] {
                [THINK] => {
                    n_forced += 1;
                    assert_eq!(example.tokens[decision], THINK);
                    assert_eq!(example.weights[decision], 0.0);
                }
                [ACT, THINK] => {
                    n_free += 1;
                    assert_ne!(example.weights[decision], 0.0);
                }
                other => panic!("a decision among {other:?}"),
            }
            position += line.len();
        }
        assert_eq!(position, example.tokens.len());
    }
    // 360 decisions at 0.3: five standard errors are 43.
    assert!(n_forced > 65 && n_forced < 151, "{n_forced}");
    assert_eq!(n_forced + n_free, 360);
}

/// A model that would never think: all that it learns is how a rationale goes on.
#[test]
fn forcing_teaches_the_decision_nothing() {
    let mut never = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    for last in 0..VOCABULARY as u32 {
        never.logits_after(&[last])[THINK as usize] = -40.0;
    }
    // A rationale's one token is drawn after `<think>`, and decisions after other tokens.
    let config = EStepConfig {
        rationale_tokens_max: 1,
        penalty: Penalty::SwitchCost { cost: 3.0 },
        ..with_floor(0.25)
    };
    let (policy, latents) = update(never.clone(), &config);
    assert!(latents.think_rate > 0.1);
    let (mut moved, mut before) = (policy.table, never);
    for last in 0..VOCABULARY as u32 {
        let (found, kept) = (moved.logits_after(&[last]), before.logits_after(&[last]));
        let far = found.iter().zip(kept).map(|(a, b)| (*a - *b).abs());
        let far = far.fold(0.0, f64::max);
        if last == THINK {
            assert!(far > 1e-3, "rationales learn: {far}");
        } else {
            assert!(far < 1e-12, "after {last} a decision learnt: {far}");
        }
    }
}

/// The share of forced decisions is the floor's, at its ends exactly.
#[test]
fn the_floor_is_the_share_of_forced_decisions() {
    let forced = |config: EStepConfig| {
        let all = update(table(1), &config).0.choices().concat();
        let n_forced = all.iter().filter(|choices| choices.len() == 1).count();
        n_forced as f64 / all.len() as f64
    };
    assert_eq!(forced(e_step()), 0.0);
    assert_eq!(forced(at_every_line()), 1.0);
    let mut before = -1.0;
    for floor in [0.0, 0.2, 0.5, 0.8, 1.0] {
        let found = forced(with_floor(floor));
        let floor = f64::from(floor);
        let error = (floor * (1.0 - floor) / 360.0).sqrt();
        assert!((found - floor).abs() <= 5.0 * error, "{floor}: {found}");
        assert!(found > before, "the same lines and more of them");
        before = found;
    }
}

/// Rows of a group are explored at lines of their own, anew with every seed.
#[test]
fn every_row_explores_at_lines_of_its_own() {
    let lines = |seed: u64| {
        let mut policy = Recording::new(table(1));
        let batch = vec![document(); N_DOCUMENTS];
        e_update(&mut policy, &batch, &with_floor(0.5), 1.0, seed);
        policy.choices()
    };
    let first = lines(1);
    let distinct = |rows: &[Vec<Vec<u32>>]| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows.dedup();
        rows.len()
    };
    assert_eq!(distinct(&first), 8, "every pattern over three lines occurs");
    assert!(first.chunks(3).any(|group| distinct(group) == 3));
    assert_ne!(first, lines(2));
    assert_eq!(first, lines(1));
}

/// An infinite cost leaves nothing to force, and a floor changes nothing where all lines think.
#[test]
fn what_rollouts_may_decide_follows_from_the_settings() {
    let decision = |penalty, config: &EStepConfig| {
        let config = EStepConfig {
            penalty,
            ..config.clone()
        };
        let rule = config.latent_rule(MARKERS);
        assert_eq!((rule.markers, rule.rationale_tokens_max), (MARKERS, 2));
        rule.decision
    };
    let infinite = f32::INFINITY;
    for config in [e_step(), at_every_line(), with_floor(0.5)] {
        for penalty in [
            Penalty::SwitchCost { cost: infinite },
            Penalty::SwitchCostOnMean { cost: infinite },
            Penalty::SwitchCostOnProbability { cost: infinite },
        ] {
            assert!(penalty.forbids_thinking());
            assert_eq!(decision(penalty, &config), Decision::Absent);
        }
        for penalty in [
            Penalty::SwitchCost { cost: 0.0 },
            Penalty::SwitchCost { cost: -infinite },
            Penalty::ExactKl { alpha: 0.5 },
        ] {
            let expected = if config.think_every_line {
                Decision::Think
            } else {
                Decision::Free
            };
            assert!(!penalty.forbids_thinking());
            assert_eq!(decision(penalty, &config), expected);
        }
    }
    // Forced by a floor of 1 or by the setting: the same rationales, the same weights.
    let scripts: [&[u32]; 3] = [&[THINK, CLOSE], &[THINK, TEXT, CLOSE], &[THINK, TEXT, TEXT]];
    let single = Trajectory {
        prefix: vec![END],
        lines: vec![vec![END]],
    };
    let trained = |config: EStepConfig| {
        let mut policy = Scripted::new(&scripts, |history, _| -(history.len() as f32));
        let batch = [single.clone()];
        e_update(&mut policy, &batch, &config, 1.0, 1);
        let weights = policy.trained().iter().map(|e| e.weights.clone());
        weights.collect::<Vec<_>>()
    };
    let floor = trained(with_floor(1.0));
    assert_eq!(floor, trained(at_every_line()));
}
