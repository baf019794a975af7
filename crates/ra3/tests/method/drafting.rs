//! What a rollout says is likely to follow: the expert's lines, each behind an act.

use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Move, Policy, TokenId};
use ra3::rollout::Rollout;
use ra3::seed::Seed;
use ra3::trajectory::Trajectory;

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK};

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, NEWLINE], vec![6, 7, NEWLINE], vec![END]],
    }
}

/// Moves of a rollout that draws a script, and what it said after each is likely to follow.
fn drafts(decision: Decision, script: &[TokenId], think_at: &[bool]) -> Vec<(Move, Vec<TokenId>)> {
    let policy = Scripted::new(&[script], |_, _| -1.0);
    let trajectory = document();
    let rule = LatentRule {
        markers: MARKERS,
        rationale_tokens_max: 2,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision,
    };
    let mut row = Rollout::expert(&trajectory, rule);
    row.think_at(think_at.to_vec());
    policy.run(&mut [&mut row], Seed::root(0)).expect("it fits");
    let (mut moves, mut drafts) = (policy.moves.take(), policy.drafts.take());
    moves.remove(0).into_iter().zip(drafts.remove(0)).collect()
}

const REST: [TokenId; 9] = [ACT, 5, NEWLINE, ACT, 6, 7, NEWLINE, ACT, END];

fn is_sample(asked: &Move) -> bool {
    matches!(asked, Move::Sample(_))
}

/// Prefix, then decision and line in turn: before a decision it begins with it.
#[test]
fn where_nothing_switches_the_draft_is_what_follows() {
    let found = drafts(Decision::Free, &[ACT, ACT, ACT], &[]);
    let starts = [0, 0, 3, 3, 7, 7, 9, 9];
    assert_eq!(found.len(), starts.len());
    for ((asked, draft), start) in found.iter().zip(starts) {
        assert_eq!(draft, &REST[start..], "{asked:?}");
    }
}

/// Nothing is likely while a rationale is drawn; behind a `</think>` that is forced the line comes
/// without a marker.
#[test]
fn a_switch_is_likely_nowhere_and_what_follows_it_is_known() {
    let found = drafts(Decision::Free, &[ACT, THINK, 7, 7, ACT], &[]);
    let rationale = &found[4];
    assert!(is_sample(&rationale.0) && rationale.1.is_empty());
    assert_eq!(found[5], (Move::Feed(vec![CLOSE]), REST[4..].to_vec()));
    assert_eq!(
        found[6],
        (Move::Feed(vec![6, 7, NEWLINE]), REST[7..].to_vec())
    );
    // One that ends by itself is followed by the line at once.
    let found = drafts(Decision::Free, &[ACT, THINK, 7, CLOSE, ACT], &[]);
    assert_eq!(
        found[5],
        (Move::Feed(vec![6, 7, NEWLINE]), REST[7..].to_vec())
    );
}

#[test]
fn a_decision_that_cannot_be_an_act_has_no_draft() {
    let found = drafts(
        Decision::Free,
        &[ACT, THINK, CLOSE, ACT],
        &[false, true, false],
    );
    assert_eq!(found[1].1, REST);
    assert!(is_sample(&found[3].0) && found[3].1.is_empty());
    let thinks = drafts(
        Decision::Think,
        &[THINK, CLOSE, THINK, CLOSE, THINK, CLOSE],
        &[],
    );
    assert!(thinks.iter().all(|(_, draft)| draft.is_empty()));
    let absent = drafts(Decision::Absent, &[], &[]);
    assert!(absent.iter().all(|(_, draft)| draft.is_empty()));
}
