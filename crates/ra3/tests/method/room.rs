//! A context that is nearly full: rollouts always fit, and what was forced for want of room learns
//! nothing.

use proptest::prelude::*;
use ra3::policy::PolicyError;
use ra3::rollout::draw;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::statistics::RolloutStats;
use ra3::trajectory::{Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{ACT, END, MARKERS, TEXT, THINK, VOCABULARY, e_step, e_update, table};

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, 6], vec![END]],
    }
}

/// Rollouts with a floor, or whose every line has to think.
fn thinking(think_floor: f32, think_every_line: bool) -> EStepConfig {
    EStepConfig {
        think_floor,
        think_every_line,
        ..e_step()
    }
}

/// A model whose context holds so many tokens.
fn update(n_context: usize, config: &EStepConfig) -> (Recording, RolloutStats) {
    let mut policy = Recording::new(table(1).with_limit(n_context));
    let batch = vec![document(); 20];
    let report = e_update(&mut policy, &batch, config, 1.0, 4);
    (policy, report.rollouts)
}

/// Among what the decision of each line was drawn, all rows of one line together, without repeats.
fn choices(policy: &Recording, line: usize) -> Vec<Vec<u32>> {
    let rows = policy.choices().into_iter();
    let mut found: Vec<Vec<u32>> = rows.map(|mut row| row.swap_remove(line)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// M is 2, so a think may take 4 tokens. The first line and what follows it take 2 + 1 + 1 + 1 = 5
/// with an act before each, so the first think needs a context of 2 + 5 + 3 = 10; after an act it
/// has 10 − 5 = 5 tokens for the last line's 2 + 3.
#[test]
fn a_think_needs_room_for_the_rest_of_the_document() {
    let free = &e_step();
    for n_context in [7, 8, 9] {
        let (policy, report) = update(n_context, free);
        assert_eq!(
            (choices(&policy, 0), choices(&policy, 1)),
            (vec![vec![ACT]], vec![vec![ACT]])
        );
        assert_eq!(
            (report.out_of_room_share, report.latents.think_rate),
            (1.0, 0.0)
        );
        assert!(policy.updates.is_empty(), "nothing was decided");
        assert_eq!(policy.table, table(1).with_limit(n_context));
    }
    let (policy, report) = update(10, free);
    assert_eq!(choices(&policy, 0), [[ACT, THINK]]);
    // After a think of less than 4 tokens there is room for none, after an act for one.
    assert_eq!(choices(&policy, 1), [vec![ACT], vec![ACT, THINK]]);
    assert!(report.out_of_room_share > 0.0 && report.out_of_room_share < 0.5);
    for (example, decisions) in policy.updates[0].0.iter().zip(policy.choices()) {
        if decisions[1] == [ACT] {
            // Forced for want of room.
            let last = example.tokens.len() - 2;
            assert_eq!((example.tokens[last], example.weights[last]), (ACT, 0.0));
            assert_eq!(example.restrictions.len(), 1);
        } else {
            assert_eq!(example.restrictions.len(), 2);
        }
    }
    let (policy, report) = update(13, free);
    assert_eq!(choices(&policy, 0), [[ACT, THINK]]);
    assert_eq!(choices(&policy, 1), [[ACT, THINK]]);
    assert_eq!(report.out_of_room_share, 0.0);
}

/// Where every line has to think, or a floor asks for it, want of room comes first.
#[test]
fn want_of_room_comes_before_a_think_that_is_asked_for() {
    for config in [thinking(0.0, true), thinking(1.0, false)] {
        let (policy, report) = update(9, &config);
        assert_eq!(report.out_of_room_share, 1.0);
        assert_eq!(choices(&policy, 0), [[ACT]]);
        let (policy, report) = update(13, &config);
        assert_eq!(report.out_of_room_share, 0.0);
        assert_eq!(choices(&policy, 0), [[THINK]]);
        assert_eq!(report.latents.think_rate, 1.0);
    }
}

/// A document that does not fit with one marker a line is still the policy's error.
#[test]
fn a_document_that_does_not_fit_is_an_error() {
    let policy = table(1).with_limit(6);
    let rule = e_step().latent_rule(MARKERS);
    let found = draw(&policy, &[document()], &rule, 1, Seed::root(1));
    assert!(matches!(
        found,
        Err(PolicyError::SequenceTooLong {
            n_tokens_max: 6,
            ..
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any document that fits with one marker a line fits whatever is thought, whatever the room.
    #[test]
    fn rollouts_always_fit(
        lines in prop::collection::vec(prop::collection::vec(TEXT..VOCABULARY as u32, 1..4), 0..5),
        slack in 0usize..20,
        rationale_tokens_max in 1usize..6,
        config in prop::sample::select(vec![
            e_step(),
            thinking(0.0, true),
            thinking(0.5, false),
        ]),
        seed in any::<u64>(),
    ) {
        let document = Trajectory { prefix: vec![END, 5], lines };
        let n_lines = document.lines.len();
        let n_context = document.n_tokens() + n_lines + slack;
        let config = EStepConfig { rationale_tokens_max, ..config };
        let mut policy = table(seed).with_limit(n_context);
        let rule = config.latent_rule(MARKERS);
        let batch = [document];
        let (drawn, _) = draw(&policy, &batch, &rule, 4, Seed::root(seed))
            .expect("it always fits");
        prop_assert_eq!(drawn.len(), 4);
        for trace in &drawn {
            prop_assert!(trace.tokens.len() <= n_context);
            let is_free = !config.think_every_line;
            for (line, span) in trace.lines.iter().enumerate() {
                let decision = span.latent.start;
                let is_keep = trace.latent(line) == Some(Latent::Keep);
                let is_sampled = trace.restrictions.iter().any(|r| r.position == decision);
                prop_assert_eq!(trace.mask[decision], is_sampled);
                // What was not drawn was forced: to think, or for want of room to act.
                let is_out_of_room = !is_sampled && is_keep;
                prop_assert_eq!(is_sampled, is_free && !is_out_of_room);
                // Room enough for every think: none is forced.
                let is_roomy = slack >= n_lines * (rationale_tokens_max + 1);
                prop_assert!(!(is_roomy && is_out_of_room));
            }
        }
        let rollouts = e_update(&mut policy, &batch, &config, 0.1, seed).rollouts;
        prop_assert!((0.0..=1.0).contains(&rollouts.out_of_room_share));
    }
}
