//! Programs by hand, plain and guided: what is asked of the policy, and what is kept.

use std::ops::Range;

use proptest::prelude::*;
use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::guided::{Guide, complete_guided};
use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Move, Policy, SampleRule, TokenId};
use ra3::seed::Seed;
use ra3::trace::LineSpan;

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK, table, writing};

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
    Move::Feed(tokens.to_vec())
}

fn logprob(_: &[TokenId], token: TokenId) -> f32 {
    -(token as f32) / 4.0
}

#[test]
fn a_program_by_hand() {
    let script = [ACT, 5, NEWLINE, THINK, 7, CLOSE, 6, END];
    let policy = Scripted::new(&[&script], logprob);
    let prompts = [vec![END, 5]];
    let (rows, work) = complete(&policy, &prompts, &tempered(), 1, Seed::root(1)).expect("it fits");
    assert_eq!(
        policy.moves.borrow()[0],
        [fed(&[END, 5]), asked(&[END], 10), Move::Done]
    );
    assert_eq!(*policy.seeds.borrow(), [Seed::root(1)]);
    assert_eq!(work.n_tokens_sampled, 8);
    let row = &rows[0];
    assert!(row.ended);
    assert_eq!(row.n_written(), 8);
    assert_eq!(row.raw(), &script[..7]);
    assert_eq!(row.program(), [5, NEWLINE, 6]);
    assert_eq!(row.trace.tokens, [&[END, 5], &script[..]].concat());
    let example = row.trace.example(|_| 0.5);
    assert_eq!(example.tokens, row.trace.tokens);
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
    let policy = Scripted::new(&scripts, logprob);
    let prompts = [vec![5], vec![6, 6]];
    let (rows, _) = complete(&policy, &prompts, &writing(), 2, Seed::root(1)).expect("it fits");
    let tokens: Vec<&[TokenId]> = rows.iter().map(|row| &row.trace.tokens[..]).collect();
    let expected: [&[TokenId]; 4] = [&[5, 5, END], &[5, 6, END], &[6, 6, 7, END], &[6, 6, END]];
    assert_eq!(tokens, expected);
    let n_prompts: Vec<usize> = rows.iter().map(|row| row.n_prompt).collect();
    assert_eq!(n_prompts, [1, 1, 2, 2]);
}

/// Where a caller wants to look in between, sampling rests there, and goes on with what is left.
#[test]
fn a_program_rests_where_it_is_asked_to() {
    let rule = WritingRule {
        rests: Some([NEWLINE, END].into()),
        ..tempered()
    };
    let policy = Scripted::new(&[&[5, NEWLINE, NEWLINE, 6, END]], logprob);
    let (rows, _) = complete(&policy, &[vec![END]], &rule, 1, Seed::root(1)).expect("it fits");
    let rests = [NEWLINE, END];
    let expected = [
        fed(&[END]),
        asked(&rests, 10),
        asked(&rests, 8),
        asked(&rests, 7),
        Move::Done,
    ];
    assert_eq!(policy.moves.borrow()[0], expected);
    assert_eq!(rows[0].raw(), [5, NEWLINE, NEWLINE, 6]);
    // Each part is a line of its own, and all of it was drawn.
    let spans = [1..3, 3..4, 4..6].map(|action| line(action.start..action.start, action));
    assert_eq!(rows[0].trace.lines, spans);
    assert_eq!(rows[0].trace.mask, [false, true, true, true, true, true]);
    // At its limit it is cut off, whatever comes last.
    for (limit, ended) in [(2, false), (3, true)] {
        let rule = WritingRule {
            program_tokens_max: limit,
            ..rule.clone()
        };
        let script = &[5, NEWLINE, END][..limit];
        let policy = Scripted::new(&[script], logprob);
        let (rows, _) = complete(&policy, &[vec![END]], &rule, 1, Seed::root(1)).expect("it fits");
        assert_eq!((rows[0].n_written(), rows[0].ended), (limit, ended));
        assert_eq!(policy.moves.borrow()[0].last(), Some(&Move::Done));
    }
}

fn line(latent: Range<usize>, action: Range<usize>) -> LineSpan {
    LineSpan { latent, action }
}

/// Latents are drawn at the temperature of [`tempered`].
fn guide(decision: Decision) -> Guide {
    Guide {
        latents: LatentRule {
            markers: MARKERS,
            rationale_tokens_max: 2,
            temperature: 0.625,
            rationale_temperature: 0.625,
            decision,
        },
        newlines: [NEWLINE].into(),
    }
}

/// One guided program that says a script.
fn guided(script: &[TokenId], rule: &WritingRule, decision: Decision) -> (Completion, Vec<Move>) {
    planned(script, rule, decision, None)
}

/// The same after a first rationale that is given.
fn planned(
    script: &[TokenId],
    rule: &WritingRule,
    decision: Decision,
    plan: Option<&[TokenId]>,
) -> (Completion, Vec<Move>) {
    let policy = Scripted::new(&[script], logprob);
    let (prompts, guide) = ([vec![END, 5]], guide(decision));
    let plans = [plan.map(<[TokenId]>::to_vec)];
    let (mut rows, _) = complete_guided(&policy, &prompts, rule, &guide, &plans, 1, Seed::root(1))
        .expect("it fits");
    (rows.remove(0), policy.moves.take().remove(0))
}

const LINE_STOPS: [TokenId; 2] = [NEWLINE, END];

#[test]
fn acts_are_forced_before_every_line() {
    let script = [ACT, 5, NEWLINE, ACT, 6, END];
    let (row, moves) = guided(&script, &tempered(), Decision::Act);
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
    assert_eq!(row.trace.lines, [line(2..3, 3..5), line(5..6, 6..8)]);
    // The decisions were forced, so they are no targets.
    let drawn = [false, false, false, true, true, false, true, true];
    assert_eq!(row.trace.mask, drawn);
    assert!(row.trace.restrictions.is_empty());
}

/// A rationale ends by itself or is closed after `M` tokens, and one token is kept for that.
#[test]
fn thinks_are_forced_before_every_line() {
    let script = [THINK, CLOSE, 5, NEWLINE, THINK, 6, 7, 6, END];
    let (row, moves) = guided(&script, &tempered(), Decision::Think);
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
    assert_eq!(row.trace.logprobs[9], 0.0, "a forced end was not drawn");
    assert_eq!(row.trace.lines, [line(2..4, 4..6), line(6..10, 10..12)]);
    let is_forced = |at: &usize| !row.trace.mask[*at];
    let forced: Vec<usize> = (0..12).filter(is_forced).collect();
    assert_eq!(forced, [0, 1, 2, 6, 9]);
}

#[test]
fn decisions_may_be_free_between_the_markers() {
    let script = [ACT, NEWLINE, THINK, CLOSE, END];
    let (row, moves) = guided(&script, &tempered(), Decision::Free);
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
    assert!(row.trace.mask[2..].iter().all(|is_target| *is_target));
    let restrictions = row.trace.restrictions.iter();
    let restricted: Vec<(usize, &[TokenId])> =
        restrictions.map(|r| (r.position, &r.choices[..])).collect();
    assert_eq!(restricted, [(2, &[ACT, THINK][..]), (4, &[ACT, THINK])]);
}

/// Latents have temperatures of their own; what a program keeps of the likeliest is its rule's.
#[test]
fn latents_of_programs_have_temperatures_of_their_own() {
    let latents = LatentRule {
        temperature: 0.25,
        rationale_temperature: 2.0,
        ..guide(Decision::Free).latents
    };
    let guide = Guide {
        latents,
        ..guide(Decision::Free)
    };
    let policy = Scripted::new(&[&[THINK, CLOSE, END]], logprob);
    let prompts = [vec![END]];
    complete_guided(
        &policy,
        &prompts,
        &tempered(),
        &guide,
        &[],
        1,
        Seed::root(1),
    )
    .expect("it fits");
    let warm = |asked: Move, temperature| match asked {
        Move::Sample(rule) => Move::Sample(SampleRule {
            temperature,
            ..rule
        }),
        Move::Feed(_) | Move::Done => asked,
    };
    let expected = [
        fed(&[END]),
        warm(decision(&[ACT, THINK]), 0.25),
        warm(asked(&[CLOSE], 2), 2.0),
        asked(&LINE_STOPS, 8),
        Move::Done,
    ];
    assert_eq!(policy.moves.borrow()[0], expected);
}

/// A plan that is given stands for the first decision; what follows is guided or plain.
#[test]
fn a_given_plan_stands_for_the_first_decision() {
    let given = Some(&[7, 7][..]);
    let plan = fed(&[THINK, 7, 7, CLOSE]);
    let (row, moves) = planned(&[5, NEWLINE, ACT, END], &tempered(), Decision::Free, given);
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
    assert_eq!(row.trace.lines, [line(2..6, 6..8), line(8..9, 9..10)]);
    let drawn = [&[false; 6][..], &[true; 4]].concat();
    assert_eq!(row.trace.mask, drawn, "a plan is no target");
    let (row, moves) = planned(
        &[5, NEWLINE, ACT, END],
        &tempered(),
        Decision::Absent,
        given,
    );
    let expected = [fed(&[END, 5]), plan, asked(&[END], 6), Move::Done];
    assert_eq!(moves, expected);
    assert_eq!(row.raw(), [THINK, 7, 7, CLOSE, 5, NEWLINE, ACT]);
}

/// A plan that fills the context to its last token is written, and one that is longer is not.
#[test]
fn a_plan_may_fill_the_context() {
    let guide = guide(Decision::Act);
    for (n_context, expected) in [(4, &[][..]), (5, &[THINK, 7, CLOSE])] {
        let (policy, prompts) = (table(1).with_limit(n_context), [vec![END, 5]]);
        let (plans, seed) = ([Some(vec![7])], Seed::root(1));
        let (rows, _) = complete_guided(&policy, &prompts, &tempered(), &guide, &plans, 1, seed)
            .expect("it fits");
        assert_eq!((rows[0].raw(), rows[0].ended), (expected, false));
    }
}

/// Each prompt has its own plan, or none, for all of its group.
#[test]
fn plans_belong_to_prompts() {
    let script: &[TokenId] = &[END];
    let acts: &[TokenId] = &[ACT, END];
    let policy = Scripted::new(&[script, script, acts, acts], logprob);
    let (prompts, plans) = ([vec![5], vec![6]], [Some(vec![7]), None]);
    let guide = guide(Decision::Act);
    let (rows, _) = complete_guided(
        &policy,
        &prompts,
        &tempered(),
        &guide,
        &plans,
        2,
        Seed::root(1),
    )
    .expect("it fits");
    let raw: Vec<&[TokenId]> = rows.iter().map(Completion::raw).collect();
    let plan: &[TokenId] = &[THINK, 7, CLOSE];
    assert_eq!(raw, [plan, plan, &[ACT], &[ACT]]);
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
        let (row, moves) = guided(&endless[..n_sampled], &rule, Decision::Think);
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
        let policy = table(seed).with_limit(n_context);
        let seed = Seed::root(seed);
        let (rows, _) = complete(&policy, &[vec![END, 5]], &rule, 8, seed).expect("it fits");
        for row in &rows {
            let tokens = &row.trace.tokens;
            prop_assert!(tokens.len() <= n_context);
            prop_assert!(row.n_written() <= program_tokens_max);
            let is_full = tokens.len() == n_context || row.n_written() == program_tokens_max;
            prop_assert!(row.ended || is_full, "something else ended {tokens:?}");
            prop_assert_eq!(row.ended, row.n_written() > 0 && tokens.ends_with(&[END]));
            prop_assert_eq!(row.trace.logprobs.len(), tokens.len());
            let n_targets = row.trace.mask.iter().filter(|is_target| **is_target).count();
            prop_assert_eq!(n_targets, row.n_written());
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
        let rule = WritingRule { program_tokens_max, ..writing() };
        let policy = table(seed).with_limit(n_context);
        let (prompts, plans) = ([vec![END, 5]], [first_rationale]);
        let (guide, seed) = (guide(decision), Seed::root(seed));
        let (rows, _) = complete_guided(&policy, &prompts, &rule, &guide, &plans, 8, seed)
            .expect("it fits");
        for row in &rows {
            let trace = &row.trace;
            prop_assert!(trace.tokens.len() <= n_context);
            let n_given = plans[0].as_ref().map_or(0, |r| r.len() + 2);
            prop_assert!(row.n_written() <= program_tokens_max.max(n_given));
            prop_assert_eq!(trace.logprobs.len(), trace.tokens.len());
            if row.ended {
                prop_assert_eq!(trace.tokens.last(), Some(&END));
            }
            // What was drawn is scored as it was drawn; all else was forced, and is certain.
            let (scored, _) = policy.score(&[trace.example(|_| 1.0)]).expect("it fits");
            prop_assert_eq!(&scored[0], &trace.logprobs);
        }
    }
}
