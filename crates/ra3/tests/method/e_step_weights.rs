//! The E-step by hand: three rollouts of a document of three lines.
//!
//! A line's token has `log π = −1`, and `−1/2` while a rationale with `7` is in the history:
//!
//! | rollout | latents | Σ log π by line | r (c = 1/4) |
//! |---|---|---|---|
//! | 0 | act, act, act | −2, −2, −1 | −2, −2, −1 |
//! | 1 | think `7`, act, act | −1, −1, −1/2 | −5/4, −1, −1/2 |
//! | 2 | act, think `6 7` (closed by force), act | −2, −1, −1/2 | −2, −5/4, −1/2 |

use ra3::e_step::{self, EStepReport};
use ra3::formulas::Baseline;
use ra3::policy::{Example, Policy, Surrogate, TokenId};
use ra3::rewards::{LineScore, Penalty};
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::trajectory::Trajectory;

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK, e_step, e_update};

const SCRIPTS: [&[TokenId]; 3] = [
    &[ACT, ACT, ACT],
    &[THINK, 7, CLOSE, ACT, ACT],
    &[ACT, THINK, 6, 7, ACT],
];

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, NEWLINE], vec![6, NEWLINE], vec![END]],
    }
}

/// `−1` for a token, `−1/2` once `7` was thought; markers and rationales have others.
fn logprob(history: &[TokenId], token: TokenId) -> f32 {
    match token {
        ACT => -0.75,
        THINK => -1.25,
        CLOSE => -0.125,
        7 => -0.375,
        _ if history.contains(&7) => -0.5,
        _ => -1.0,
    }
}

fn update(config: &EStepConfig) -> (Scripted, EStepReport) {
    let mut policy = Scripted::new(&SCRIPTS, logprob);
    let report = e_update(&mut policy, &[document()], config, 0.5, 1);
    (policy, report)
}

/// The weights of three examples from the advantages of each rollout by line, over 3 rollouts.
fn check(examples: &[Example], advantages: [[f64; 3]; 3]) {
    // Where each line's latent stands, and how many of its tokens were sampled.
    let places: [[(usize, usize); 3]; 3] = [
        [(2, 1), (5, 1), (8, 1)],
        [(2, 3), (7, 1), (10, 1)],
        // `</think>` after `6 7` was forced: it stands at 8 and has no weight.
        [(2, 1), (5, 3), (11, 1)],
    ];
    assert_eq!(examples.len(), 3);
    for (row, example) in examples.iter().enumerate() {
        let mut expected = vec![0.0; example.tokens.len()];
        for ((from, n), advantage) in places[row].into_iter().zip(advantages[row]) {
            expected[from..from + n].fill(advantage / 3.0);
        }
        let found = example.weights.iter().zip(&expected);
        for (at, (weight, expected)) in found.enumerate() {
            let error = (f64::from(*weight) - expected).abs();
            assert!(error < 1e-7, "{row} {at}: {:?}", example.weights);
        }
    }
    let tokens = [
        END, 5, THINK, 7, CLOSE, 5, NEWLINE, ACT, 6, NEWLINE, ACT, END,
    ];
    assert_eq!(examples[1].tokens, tokens);
}

fn trained(config: &EStepConfig) -> Vec<Example> {
    update(config).0.trained().to_vec()
}

/// `R = r_t + r_{t+1}/2 + r_{t+2}/4`:
/// −13/4 −5/2 −1 · −15/8 −5/4 −1/2 · −11/4 −3/2 −1/2.
#[test]
fn discounted_returns_against_the_others_mean() {
    let config = EStepConfig {
        discount: 0.5,
        ..e_step()
    };
    let first = [-15.0 / 16.0, -9.0 / 8.0, -1.0 / 2.0];
    let second = [9.0 / 8.0, 3.0 / 4.0, 1.0 / 4.0];
    let third = [-3.0 / 16.0, 3.0 / 8.0, 1.0 / 4.0];
    check(&trained(&config), [first, second, third]);
}

/// Sums: −5 −3 −1 · −11/4 −3/2 −1/2 · −15/4 −7/4 −1/2.
#[test]
fn undiscounted_returns_and_each_baseline() {
    let with = |baseline| EStepConfig {
        baseline,
        ..e_step()
    };
    let returns = [
        [-5.0, -3.0, -1.0],
        [-2.75, -1.5, -0.5],
        [-3.75, -1.75, -0.5],
    ];
    check(&trained(&with(Baseline::None)), returns);
    let others = [
        [-1.75, -1.375, -0.5],
        [1.625, 0.875, 0.25],
        [0.125, 0.5, 0.25],
    ];
    check(&trained(&with(Baseline::LeaveOneOut)), others);
    // The group's own mean: two thirds of it.
    let group = others.map(|row| row.map(|advantage: f64| advantage * 2.0 / 3.0));
    check(&trained(&with(Baseline::GroupMean)), group);
    let deviation = |column: [f64; 3]| {
        let mean = column.iter().sum::<f64>() / 3.0;
        let squares = column.map(|value| (value - mean).powi(2));
        (squares.iter().sum::<f64>() / 3.0).sqrt() + 1e-4
    };
    let deviations =
        [0, 1, 2].map(|line| deviation([0, 1, 2].map(|row: usize| returns[row][line])));
    let standardised = group.map(|row| [0, 1, 2].map(|line: usize| row[line] / deviations[line]));
    check(&trained(&with(Baseline::Standardised)), standardised);
}

#[test]
fn a_horizon_looks_no_further() {
    let with = |lines, discount| EStepConfig {
        horizon: lines,
        discount,
        baseline: Baseline::None,
        ..e_step()
    };
    let rewards = [[-2.0, -2.0, -1.0], [-1.25, -1.0, -0.5], [-2.0, -1.25, -0.5]];
    check(&trained(&with(1, 0.5)), rewards);
    let two = [
        [-3.0, -2.5, -1.0],
        [-1.75, -1.25, -0.5],
        [-2.625, -1.5, -0.5],
    ];
    check(&trained(&with(2, 0.5)), two);
    // Beyond the document there is nothing.
    assert_eq!(trained(&with(3, 0.5)), trained(&with(100, 0.5)));
}

#[test]
fn the_report_by_hand() {
    let config = EStepConfig {
        discount: 0.5,
        ..e_step()
    };
    let (_, report) = update(&config);
    // Whole rollouts, without the discount: −5, −11/4, −15/4.
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-7, "{report:?}");
    let rollouts = &report.rollouts;
    close(rollouts.mean_return, -11.5 / 3.0);
    // Nine lines: −5 − 5/2 − 7/2.
    close(rollouts.mean_line_logprob, -11.0 / 9.0);
    // Line 0: −15/8 against the mean of −13/4 and −11/4. Line 1: −3/2 against that of −5/2 and
    // −5/4: 9/8 and 3/8. At the last line nobody thinks.
    close(rollouts.mean_gain, 3.0 / 4.0);
    // Mean of `7` and `</think>`, 3/8 + 1/8, and `6 7`, whose end was forced, 1 + 3/8.
    close(rollouts.rationale_nats, 15.0 / 16.0);
    close(rollouts.latents.think_rate, 2.0 / 9.0);
    close(rollouts.latents.rationale_tokens, 1.5);
    // Latents: the second rollout's one; two each of which one is empty in the third; one empty.
    close(rollouts.latents.persistence, 9.0 / 4.0);
    // A run, scoring and an update.
    assert_eq!(report.work.flops, 1101.0);
    assert_eq!(report.work.n_tokens_sampled, 3 + 5 + 5);
    assert_eq!(rollouts.out_of_room_share, 0.0);
}

#[test]
fn a_batch_is_used_and_paid_for_as_often_as_asked() {
    let config = EStepConfig {
        updates_per_batch: 3,
        clip: 0.25,
        ..e_step()
    };
    let (policy, report) = update(&config);
    assert_eq!(policy.updates.len(), 3);
    for (examples, objective) in &policy.updates {
        assert_eq!(examples, &policy.updates[0].0, "the same batch each time");
        let (low, high) = (0.25, 0.25);
        assert_eq!(objective.surrogate, Surrogate::Clipped { low, high });
        assert_eq!(objective.learning_rate, 0.5);
    }
    assert_eq!(report.update.loss, 3.0);
    // The rollouts are drawn and scored once.
    assert_eq!(report.work.flops, 1103.0);
    assert_eq!(report.work.n_tokens_run, 30);
    // Each sampled token's own log-probability, and 0 for what was forced.
    let old = &policy.updates[0].0[1].old_logprobs;
    let expected = [
        0.0, 0.0, -1.25, -0.375, -0.125, 0.0, 0.0, -0.75, 0.0, 0.0, -0.75, 0.0,
    ];
    assert_eq!(old[..], expected);
    let forced = &policy.updates[0].0[2].old_logprobs;
    assert_eq!(forced[5..9], [-1.25, -1.0, -0.375, 0.0]);
    // On-policy examples are the same, though nobody reads what they carry.
    assert_eq!(trained(&e_step()), policy.updates[0].0);
}

#[test]
fn models_are_shown_by_name_only() {
    let with = |scorer: bool, reference: bool| {
        let copy = || Scripted::new(&[], logprob).snapshot();
        let frozen = Frozen {
            scorer: scorer.then(copy),
            reference: reference.then(copy),
        };
        format!("{frozen:?}")
    };
    assert_eq!(
        with(false, false),
        "Frozen { scorer: false, reference: false }"
    );
    assert_eq!(
        with(true, false),
        "Frozen { scorer: true, reference: false }"
    );
    assert_eq!(
        with(false, true),
        "Frozen { scorer: false, reference: true }"
    );
}

#[test]
fn trajectories_have_groups_of_their_own() {
    let single = Trajectory {
        prefix: vec![END],
        lines: vec![vec![END]],
    };
    // One line, two rollouts of each document: −1 by an act, −1/2 − 1/4 by a think of `7`.
    let (mut scripts, mut expected) = (vec![], vec![]);
    for _ in 0..2 {
        scripts.extend([&[ACT][..], &[THINK, 7, CLOSE]]);
        expected.extend([-0.25, 0.25]);
    }
    let mut policy = Scripted::new(&scripts, logprob);
    let config = EStepConfig {
        group_size: 2,
        ..e_step()
    };
    let batch = [single.clone(), single];
    e_update(&mut policy, &batch, &config, 1.0, 1);
    let decisions: Vec<f32> = policy.trained().iter().map(|e| e.weights[1]).collect();
    // Four rollouts share the batch.
    let expected: Vec<f32> = expected.iter().map(|advantage| advantage / 4.0).collect();
    assert_eq!(decisions, expected);
}

/// The scorer says `log π`, the reference `log p_0`, the policy `log q`.
#[test]
fn the_exact_penalty_asks_three_models() {
    let alpha = 0.75f32;
    let config = EStepConfig {
        penalty: Penalty::ExactKl { alpha },
        baseline: Baseline::None,
        ..e_step()
    };
    let mut policy = Scripted::new(&SCRIPTS, logprob);
    let scorer = Scripted::new(
        &[],
        |history, _| {
            if history.contains(&7) { -0.25 } else { -2.0 }
        },
    );
    let reference = Scripted::new(&[], |_, token| -(token as f32));
    let frozen = Frozen {
        scorer: Some(Box::new(scorer)),
        reference: Some(Box::new(reference)),
    };
    let (batch, seed) = ([document()], Seed::root(1));
    let report = e_step::update(&mut policy, &frozen, &batch, &MARKERS, &config, 1.0, seed)
        .expect("nothing fails");
    let found = &report.rollouts;
    // act: log π + 3/4 + log α. think `7`: q has −5/4 −3/8 −1/8, p_0 has −7 −3 for `7 </think>`.
    // think `6 7` without its forced end: q has −5/4 −1 −3/8, p_0 has −6 −7.
    let keep = 0.75 + f64::from(alpha).ln();
    let switch = (1.0 - f64::from(alpha)).ln();
    let rewards = [
        [-4.0 + keep, -4.0 + keep, -2.0 + keep],
        [-0.5 + 1.75 + switch - 10.0, -0.5 + keep, -0.25 + keep],
        [-4.0 + keep, -0.5 + 2.625 + switch - 13.0, -0.25 + keep],
    ];
    let to_go = rewards.map(|[a, b, c]| [a + b + c, b + c, c]);
    let total: f64 = to_go.iter().map(|row| row[0]).sum();
    assert!((found.mean_return - total / 3.0).abs() < 1e-5);
    assert!((found.mean_line_logprob - (-10.0 - 1.25 - 4.75) / 9.0).abs() < 1e-6);
    let examples = policy.trained();
    for (example, row) in examples.iter().zip(to_go) {
        assert!((f64::from(example.weights[2]) - row[0] / 3.0).abs() < 1e-5);
    }
    // A run, a scoring by each of the others, and an update: nobody else is trained.
    assert_eq!(report.work.flops, 1201.0);
    assert!(policy.scored.borrow().is_empty(), "the others score");
}

#[test]
fn rewards_of_a_line_by_hand() {
    let score = |is_think, latent_logprob, rationale_logprob| LineScore {
        is_think,
        latent_logprob,
        rationale_logprob,
        line_logprob: -3.0,
        n_line_tokens: 4,
    };
    let (act, think) = (score(Some(false), -0.5, 0.0), score(Some(true), -1.0, -2.0));
    let found = |penalty| [act.reward(penalty), think.reward(penalty)];
    let p = (-3.0f32).exp();
    assert_eq!(found(Penalty::SwitchCost { cost: 0.25 }), [-3.0, -3.25]);
    assert_eq!(
        found(Penalty::SwitchCostOnMean { cost: 0.25 }),
        [-0.75, -1.0]
    );
    assert_eq!(
        found(Penalty::SwitchCostOnProbability { cost: 0.25 }),
        [p, p - 0.25]
    );
    let [kept, switched] = found(Penalty::ExactKl { alpha: 0.75 });
    assert_eq!(kept, -3.0 - (-0.5 - 0.75f32.ln()));
    assert_eq!(switched, -3.0 - (-1.0 - (0.25f32.ln() - 2.0)));
    // A line before which nothing was decided is worth its likelihood, whatever the penalty.
    let plain = score(None, -0.5, -2.0);
    for penalty in [
        Penalty::SwitchCost { cost: 0.25 },
        Penalty::SwitchCostOnMean { cost: 0.25 },
        Penalty::SwitchCostOnProbability { cost: 0.25 },
        Penalty::ExactKl { alpha: 0.75 },
    ] {
        assert_eq!(plain.reward(penalty), -3.0);
    }
    // No tokens, no division by nothing.
    let empty = LineScore {
        is_think: Some(false),
        ..LineScore::default()
    };
    assert_eq!(empty.reward(Penalty::SwitchCostOnMean { cost: 1.0 }), 0.0);
}

/// The prior of each latent, and one step of the bound.
#[test]
fn the_prior_of_a_line_by_hand() {
    let score = |is_think, latent_logprob, rationale_logprob| LineScore {
        is_think,
        latent_logprob,
        rationale_logprob,
        line_logprob: -3.0,
        n_line_tokens: 4,
    };
    let alpha = 0.75f32;
    let (act, think) = (score(Some(false), -0.5, 0.0), score(Some(true), -1.0, -2.0));
    assert_eq!(act.log_prior(alpha), alpha.ln());
    assert_eq!(think.log_prior(alpha), 0.25f32.ln() - 2.0);
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
    close(act.log_weight(alpha), -3.0 + 0.5 + 0.75f64.ln());
    close(think.log_weight(alpha), -3.0 + 1.0 + 0.25f64.ln() - 2.0);
    // Nothing decided: the prior has nothing to say.
    let plain = score(None, 0.0, 0.0);
    assert_eq!(
        (plain.log_prior(alpha), plain.log_weight(alpha)),
        (0.0, -3.0)
    );
}

/// Nothing to decide: no marker, no example, no update.
#[test]
fn an_infinite_cost_updates_nothing() {
    let infinite = f32::INFINITY;
    for penalty in [
        Penalty::SwitchCost { cost: infinite },
        Penalty::SwitchCostOnMean { cost: infinite },
        Penalty::SwitchCostOnProbability { cost: infinite },
    ] {
        let config = EStepConfig {
            penalty,
            ..e_step()
        };
        let mut policy = Scripted::new(&[&[][..]; 3], logprob);
        let report = e_update(&mut policy, &[document()], &config, 1.0, 1);
        assert!(policy.updates.is_empty());
        assert_eq!(report.rollouts.latents.think_rate, 0.0);
        assert_eq!(report.rollouts.mean_line_logprob, -5.0 / 3.0);
    }
}
