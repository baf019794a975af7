//! Programs by hand, plain and guided: what is asked of the policy, and what is kept.

use std::sync::Arc;

use proptest::prelude::*;
use ra3::generation::{Writing, WritingRule, write};
use ra3::guided::{Guide, Guided};
use ra3::policy::{Episode, Feed, Move, Policy, SampleRule, TokenId};
use ra3::rollout::Decision;
use ra3::seed::Seed;

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK, VOCABULARY, table, writing};

fn tempered() -> WritingRule {
    WritingRule {
        temperature: 0.625,
        top_k: std::num::NonZeroUsize::new(5),
        top_p: Some(0.875),
        ..writing()
    }
}

/// What [`tempered`] asks of the policy.
fn asked(stop: &[TokenId], n_tokens_max: usize) -> Move {
    Move::Sample(SampleRule {
        temperature: 0.625,
        top_k: std::num::NonZeroUsize::new(5),
        top_p: Some(0.875),
        choices: None,
        stop: stop.into(),
        n_tokens_max,
    })
}

/// A decision among these.
fn decision(choices: &[TokenId]) -> Move {
    Move::Sample(SampleRule {
        temperature: 0.625,
        top_k: None,
        top_p: None,
        choices: Some(choices.into()),
        stop: [].into(),
        n_tokens_max: 1,
    })
}

fn fed(tokens: &[TokenId]) -> Move {
    Move::Feed(Feed::unscored(tokens.to_vec()))
}

fn logprob(_: &[TokenId], token: TokenId) -> f32 {
    -(token as f32) / 4.0
}

#[test]
fn a_program_by_hand() {
    let script = [ACT, 5, NEWLINE, THINK, 7, CLOSE, 6, END];
    let mut policy = Scripted::new(&[&script], logprob);
    let prompts = [vec![END, 5]];
    let (rows, work) =
        write(&mut policy, &prompts, &tempered(), 1, Seed::root(1)).expect("it fits");
    assert_eq!(
        policy.moves[0],
        [fed(&[END, 5]), asked(&[END], 10), Move::Done]
    );
    assert_eq!(policy.seeds, [Seed::root(1)]);
    assert_eq!(work.n_tokens_sampled, 8);
    let row = &rows[0];
    assert!(row.ended);
    assert_eq!(row.n_written(), 8);
    assert_eq!(row.raw(), &script[..7]);
    assert_eq!(row.program(), [5, NEWLINE, 6]);
    assert_eq!(row.tokens, [&[END, 5], &script[..]].concat());
    let example = row.example(0.5);
    assert_eq!(example.tokens, row.tokens);
    assert_eq!(
        example.weights,
        [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    );
    let logprobs = [0.0, 0.0, -0.25, -1.25, -1.0, -0.5, -1.75, -0.75, -1.5, 0.0];
    assert_eq!(example.old_logprobs, logprobs);
    assert!(example.restrictions.is_empty());
}

/// Rows are prompts, then members of their groups.
#[test]
fn groups_of_programs_stand_by_prompt() {
    let scripts: [&[TokenId]; 4] = [&[5, END], &[6, END], &[7, END], &[END]];
    let mut policy = Scripted::new(&scripts, logprob);
    let prompts = [vec![5], vec![6, 6]];
    let (rows, _) = write(&mut policy, &prompts, &writing(), 2, Seed::root(1)).expect("it fits");
    let tokens: Vec<&[TokenId]> = rows.iter().map(|row| &row.tokens[..]).collect();
    let expected: [&[TokenId]; 4] = [&[5, 5, END], &[5, 6, END], &[6, 6, 7, END], &[6, 6, END]];
    assert_eq!(tokens, expected);
}

/// Where a caller wants to look in between, sampling rests there, and goes on with what is left.
#[test]
fn a_program_rests_where_it_is_asked_to() {
    let rule = WritingRule {
        rests: Some([NEWLINE, END].into()),
        ..tempered()
    };
    let mut policy = Scripted::new(&[&[5, NEWLINE, NEWLINE, 6, END]], logprob);
    let (rows, _) = write(&mut policy, &[vec![END]], &rule, 1, Seed::root(1)).expect("it fits");
    let rests = [NEWLINE, END];
    let expected = [
        fed(&[END]),
        asked(&rests, 10),
        asked(&rests, 8),
        asked(&rests, 7),
        Move::Done,
    ];
    assert_eq!(policy.moves[0], expected);
    assert_eq!(rows[0].raw(), [5, NEWLINE, NEWLINE, 6]);
    // At its limit it is cut off, whatever comes last.
    for (limit, ended) in [(2, false), (3, true)] {
        let rule = WritingRule {
            program_tokens_max: limit,
            ..rule.clone()
        };
        let script = &[5, NEWLINE, END][..limit];
        let mut policy = Scripted::new(&[script], logprob);
        let (rows, _) = write(&mut policy, &[vec![END]], &rule, 1, Seed::root(1)).expect("it fits");
        assert_eq!((rows[0].n_written(), rows[0].ended), (limit, ended));
        assert_eq!(policy.moves[0].last(), Some(&Move::Done));
    }
}

fn guide(decision: Decision) -> Guide {
    let mut line_ends = vec![false; VOCABULARY];
    line_ends[NEWLINE as usize] = true;
    Guide {
        markers: MARKERS,
        decision,
        line_ends: line_ends.into(),
        rationale_tokens_max: 2,
        first_rationale: None,
    }
}

/// One guided program that says a script.
fn guided(script: &[TokenId], rule: WritingRule, guide: Guide) -> (Writing, Vec<Move>) {
    let mut policy = Scripted::new(&[script], logprob);
    let mut row = Guided::new(vec![END, 5], Arc::new(rule), guide);
    policy.run(&mut [&mut row], Seed::root(1)).expect("it fits");
    (row.writing, policy.moves.remove(0))
}

const LINE_STOPS: [TokenId; 2] = [NEWLINE, END];

#[test]
fn acts_are_forced_before_every_line() {
    let script = [ACT, 5, NEWLINE, ACT, 6, END];
    let (row, moves) = guided(&script, tempered(), guide(Decision::Act));
    let expected = [
        fed(&[END, 5]),
        decision(&[ACT]),
        asked(&LINE_STOPS, 9),
        decision(&[ACT]),
        asked(&LINE_STOPS, 6),
        Move::Done,
    ];
    assert_eq!(moves, expected);
    assert!(row.ended);
    assert_eq!(row.program(), [5, NEWLINE, 6]);
    assert_eq!(row.raw(), &script[..5]);
}

/// A rationale ends by itself or is closed after `M` tokens, and one token is kept for that.
#[test]
fn thinks_are_forced_before_every_line() {
    let script = [THINK, CLOSE, 5, NEWLINE, THINK, 6, 7, 6, END];
    let (row, moves) = guided(&script, tempered(), guide(Decision::Think));
    let expected = [
        fed(&[END, 5]),
        decision(&[THINK]),
        asked(&[CLOSE], 2),
        asked(&LINE_STOPS, 8),
        decision(&[THINK]),
        asked(&[CLOSE], 2),
        fed(&[CLOSE]),
        asked(&LINE_STOPS, 2),
        Move::Done,
    ];
    assert_eq!(moves, expected);
    assert_eq!(row.raw(), [THINK, CLOSE, 5, NEWLINE, THINK, 6, 7, CLOSE, 6]);
    assert_eq!(row.program(), [5, NEWLINE, 6]);
    assert_eq!(row.logprobs[9], 0.0, "a forced end was not drawn");
}

#[test]
fn decisions_may_be_free_between_the_markers() {
    let script = [ACT, NEWLINE, THINK, CLOSE, END];
    let (row, moves) = guided(&script, tempered(), guide(Decision::Free));
    let expected = [
        fed(&[END, 5]),
        decision(&[ACT, THINK]),
        asked(&LINE_STOPS, 9),
        decision(&[ACT, THINK]),
        asked(&[CLOSE], 2),
        asked(&LINE_STOPS, 6),
        Move::Done,
    ];
    assert_eq!(moves, expected);
    assert_eq!(row.program(), [NEWLINE]);
}

/// A plan that is given stands for the first decision; what follows is guided or plain.
#[test]
fn a_given_plan_stands_for_the_first_decision() {
    let given = |decision| Guide {
        first_rationale: Some(vec![7, 7]),
        ..guide(decision)
    };
    let plan = fed(&[THINK, 7, 7, CLOSE]);
    let (row, moves) = guided(&[5, NEWLINE, ACT, END], tempered(), given(Decision::Free));
    let expected = [
        fed(&[END, 5]),
        plan.clone(),
        asked(&LINE_STOPS, 6),
        decision(&[ACT, THINK]),
        asked(&LINE_STOPS, 3),
        Move::Done,
    ];
    assert_eq!(moves, expected);
    assert_eq!(row.program(), [5, NEWLINE]);
    let (row, moves) = guided(&[5, NEWLINE, ACT, END], tempered(), given(Decision::Absent));
    let expected = [fed(&[END, 5]), plan, asked(&[END], 6), Move::Done];
    assert_eq!(moves, expected);
    assert_eq!(row.raw(), [THINK, 7, 7, CLOSE, 5, NEWLINE, ACT]);
}

/// Every limit, from none to enough: the program is as long as it may be, and no longer.
#[test]
fn guided_programs_end_at_their_limit() {
    let endless = [THINK, 6, 7, 5, NEWLINE, THINK, 6, 7, 5, NEWLINE];
    // What is sampled of it where a program may have so many tokens. A rationale keeps a token for
    // its end: after `<think>` at the last or the last but one place nothing more is sampled.
    let sampled = [0, 1, 1, 2, 3, 4, 5, 6, 6, 7];
    for (limit, n_sampled) in sampled.into_iter().enumerate() {
        let rule = WritingRule {
            program_tokens_max: limit,
            ..tempered()
        };
        let (row, moves) = guided(&endless[..n_sampled], rule, guide(Decision::Think));
        assert!(
            row.n_written() <= limit && !row.ended,
            "{limit} {:?}",
            row.raw()
        );
        assert_eq!(moves.last(), Some(&Move::Done));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A context of any size ends programs, and nothing else.
    #[test]
    fn a_context_of_any_size_ends_programs(
        n_context in 2usize..24,
        program_tokens_max in 0usize..24,
        with_rests in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let rule = WritingRule {
            program_tokens_max,
            rests: with_rests.then(|| [NEWLINE, END, 6].into()),
            ..writing()
        };
        let mut policy = table(seed).with_limit(n_context);
        let seed = Seed::root(seed);
        let (rows, _) = write(&mut policy, &[vec![END, 5]], &rule, 8, seed).expect("it fits");
        for row in &rows {
            prop_assert!(row.tokens.len() <= n_context);
            prop_assert!(row.n_written() <= program_tokens_max);
            let is_full = row.tokens.len() == n_context || row.n_written() == program_tokens_max;
            prop_assert!(row.ended || is_full, "something else ended {:?}", row.tokens);
            prop_assert_eq!(row.ended, row.n_written() > 0 && row.tokens.ends_with(&[END]));
            prop_assert_eq!(row.logprobs.len(), row.tokens.len());
        }
    }

    #[test]
    fn a_context_of_any_size_ends_guided_programs(
        n_context in 2usize..24,
        program_tokens_max in 0usize..24,
        decision in prop::sample::select(vec![
            Decision::Free,
            Decision::Act,
            Decision::Think,
            Decision::Absent,
        ]),
        first_rationale in prop::option::of(prop::collection::vec(5u32..8, 0..4)),
        seed in any::<u64>(),
    ) {
        let rule = Arc::new(WritingRule { program_tokens_max, ..writing() });
        let guide = Guide { first_rationale, ..guide(decision) };
        let mut policy = table(seed).with_limit(n_context);
        let row = |_| Guided::new(vec![END, 5], Arc::clone(&rule), guide.clone());
        let mut rows: Vec<Guided> = (0..8).map(row).collect();
        let mut episodes: Vec<&mut dyn Episode> =
            rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
        policy.run(&mut episodes, Seed::root(seed)).expect("it fits");
        for row in &rows {
            let row = &row.writing;
            prop_assert!(row.tokens.len() <= n_context);
            let n_given = guide.first_rationale.as_ref().map_or(0, |r| r.len() + 2);
            prop_assert!(row.n_written() <= program_tokens_max.max(n_given));
            prop_assert_eq!(row.logprobs.len(), row.tokens.len());
            if row.ended {
                prop_assert_eq!(row.tokens.last(), Some(&END));
            }
        }
    }
}
