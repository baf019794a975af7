//! A context that is nearly full: rollouts always fit, and what was forced for want of room learns
//! nothing.

use proptest::prelude::*;
use ra3::e_step::{self, EStepConfig, EStepReport, Persistence, roll_out};
use ra3::policy::{PolicyError, Work};
use ra3::seed::Seed;
use ra3::trajectory::{Annotated, Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{ACT, END, MARKERS, TEXT, THINK, VOCABULARY, alone, e_step, table};

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, 6], vec![END]],
    }
}

/// A model whose context holds so many tokens.
fn update(n_context: usize, persistence: Persistence) -> (Recording, EStepReport) {
    let config = EStepConfig {
        persistence,
        ..e_step()
    };
    let mut policy = Recording::new(table(1).with_limit(n_context));
    let batch = vec![document(); 20];
    let policies = &mut alone(&mut policy);
    let report = e_step::update(policies, &batch, &MARKERS, &config, 1.0, Seed::root(4));
    (policy, report.expect("it fits"))
}

/// Among what the decision of each line was drawn, all rows of one line together, without repeats.
fn choices(policy: &Recording, line: usize) -> Vec<Vec<u32>> {
    let decisions = policy.rules.iter().map(|rules| {
        let mut decisions = rules.iter().filter_map(|rule| rule.choices.as_deref());
        decisions.nth(line).expect("a decision a line").to_vec()
    });
    let mut found: Vec<Vec<u32>> = decisions.collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// M is 2, so a think may take 4 tokens. The first line and what follows it take 2 + 1 + 1 + 1 = 5
/// with an act before each, so the first think needs a context of 2 + 5 + 3 = 10; after an act it
/// has 10 − 5 = 5 tokens for the last line's 2 + 3.
#[test]
fn a_think_needs_room_for_the_rest_of_the_document() {
    let free = Persistence::Sticky;
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
        assert_eq!(report.update.gradient_norm, 0.0, "nothing was decided");
        assert_eq!(policy.table, table(1).with_limit(n_context));
    }
    let (policy, report) = update(10, free);
    assert_eq!(choices(&policy, 0), [[ACT, THINK]]);
    // After a think of less than 4 tokens there is room for none, after an act for one.
    assert_eq!(choices(&policy, 1), [vec![ACT], vec![ACT, THINK]]);
    assert!(report.out_of_room_share > 0.0 && report.out_of_room_share < 0.5);
    for (example, rules) in policy.updates[0].0.iter().zip(&policy.rules) {
        let decisions: Vec<&[u32]> = rules
            .iter()
            .filter_map(|rule| rule.choices.as_deref())
            .collect();
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
    for persistence in [
        Persistence::ThinkEveryLine,
        Persistence::StickyWithThinkFloor(1.0),
    ] {
        let (policy, report) = update(9, persistence);
        assert_eq!(report.out_of_room_share, 1.0);
        assert_eq!(choices(&policy, 0), [[ACT]]);
        let (policy, report) = update(13, persistence);
        assert_eq!(report.out_of_room_share, 0.0);
        assert_eq!(choices(&policy, 0), [[THINK]]);
        assert_eq!(report.latents.think_rate, 1.0);
    }
}

/// A document that does not fit with one marker a line is still the policy's error.
#[test]
fn a_document_that_does_not_fit_is_an_error() {
    let mut policy = table(1).with_limit(6);
    let (rule, mut work) = (e_step().latent_rule(MARKERS), Work::default());
    let found = roll_out(
        &mut alone(&mut policy),
        &[document()],
        &rule,
        1,
        Seed::root(1),
        &mut work,
    );
    assert!(matches!(
        found,
        Err(PolicyError::SequenceTooLong {
            n_tokens_max: 6,
            ..
        })
    ));
}

fn n_tokens(annotated: &Annotated) -> usize {
    let latents = annotated.latents.iter().flatten();
    annotated.trajectory.n_tokens() + latents.map(Latent::n_tokens).sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any document that fits with one marker a line fits whatever is thought, whatever the room.
    #[test]
    fn rollouts_always_fit(
        lines in prop::collection::vec(prop::collection::vec(TEXT..VOCABULARY as u32, 1..4), 0..5),
        slack in 0usize..20,
        rationale_tokens_max in 1usize..6,
        persistence in prop::sample::select(vec![
            Persistence::Sticky,
            Persistence::ThinkEveryLine,
            Persistence::StickyWithThinkFloor(0.5),
        ]),
        seed in any::<u64>(),
    ) {
        let document = Trajectory { prefix: vec![END, 5], lines };
        let n_lines = document.lines.len();
        let n_context = document.n_tokens() + n_lines + slack;
        let config = EStepConfig { rationale_tokens_max, persistence, ..e_step() };
        let mut policy = table(seed).with_limit(n_context);
        let rule = config.latent_rule(MARKERS);
        let (seed, mut work) = (Seed::root(seed), Work::default());
        let batch = [document];
        let drawn = roll_out(&mut alone(&mut policy), &batch, &rule, 4, seed, &mut work);
        let drawn = drawn.expect("it always fits");
        for (annotated, records) in drawn.annotated[0].iter().zip(&drawn.records[0]) {
            prop_assert!(n_tokens(annotated) <= n_context);
            for record in records {
                let is_free = persistence != Persistence::ThinkEveryLine;
                prop_assert_eq!(record.decision_sampled, is_free && !record.is_out_of_room);
                prop_assert!(!record.is_out_of_room || !record.is_think());
            }
            // Room enough for every think: none is forced.
            if slack >= n_lines * (rationale_tokens_max + 1) {
                prop_assert!(records.iter().all(|record| !record.is_out_of_room));
            }
        }
        let policies = &mut alone(&mut policy);
        let report = e_step::update(policies, &batch, &MARKERS, &config, 0.1, seed).expect("fits");
        prop_assert!((0.0..=1.0).contains(&report.out_of_room_share));
    }
}
