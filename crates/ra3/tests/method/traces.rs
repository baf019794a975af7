//! Traces: where each line stands, what of it is learnt from and what is scored, and that what was
//! drawn is scored as it was drawn.

use std::ops::Range;

use proptest::prelude::*;
use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Policy, Restriction, TokenId};
use ra3::rollout::Rollout;
use ra3::rollout::draw;
use ra3::scoring::{Frozen, lines_logprobs, score};
use ra3::seed::Seed;
use ra3::trace::{LineSpan, Part, Trace};
use ra3::trajectory::{Annotated, Latent, Trajectory};

use crate::scripted::Scripted;
use crate::sequences::any_annotated;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, TEXT, THINK, VOCABULARY, table};

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, NEWLINE], vec![6, NEWLINE], vec![END]],
    }
}

fn rule(decision: Decision) -> LatentRule {
    LatentRule {
        markers: MARKERS,
        rationale_tokens_max: 2,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision,
    }
}

/// Each token has a log-probability of its own.
fn logprob(_: &[TokenId], token: TokenId) -> f32 {
    -(token as f32) / 4.0 - 0.125
}

/// A rollout that says a script, and has to think at these lines.
fn drawn(script: &[TokenId], decision: Decision, think_at: &[bool]) -> Trace {
    let policy = Scripted::new(&[script], logprob);
    let document = document();
    let mut rollout = Rollout::expert(&document, rule(decision));
    rollout.think_at(think_at.to_vec());
    policy
        .run(&mut [&mut rollout], Seed::root(1))
        .expect("it fits");
    rollout.trace
}

fn span(latent: Range<usize>, action: Range<usize>) -> LineSpan {
    LineSpan { latent, action }
}

fn switch(rationale: &[TokenId], forced_close: bool) -> Latent {
    Latent::Switch {
        rationale: rationale.to_vec(),
        forced_close,
    }
}

/// A number for each part and line, so that none can be taken for another.
fn number(part: Part) -> f32 {
    match part {
        Part::Outside => 1.0,
        Part::Decision(line) => 10.0 + line as f32,
        Part::Rationale(line) => 20.0 + line as f32,
        Part::Action(line) => 30.0 + line as f32,
    }
}

/// A think that closes itself, one that is closed by force, and an act.
const SCRIPT: [TokenId; 7] = [THINK, 7, CLOSE, THINK, 6, 7, ACT];

#[test]
fn a_rollout_by_hand() {
    let trace = drawn(&SCRIPT, Decision::Free, &[]);
    let tokens = [
        END, 5, THINK, 7, CLOSE, 5, NEWLINE, THINK, 6, 7, CLOSE, 6, NEWLINE, ACT, END,
    ];
    assert_eq!(trace.tokens, tokens);
    let spans = [span(2..5, 5..7), span(7..11, 11..13), span(13..14, 14..15)];
    assert_eq!(trace.lines, spans);
    let targets = [2, 3, 4, 7, 8, 9, 13];
    let expected: Vec<bool> = (0..15).map(|at| targets.contains(&at)).collect();
    assert_eq!(trace.mask, expected, "what was drawn, and nothing else");
    for (at, token) in tokens.into_iter().enumerate() {
        let is_target = targets.contains(&at);
        let expected = if is_target { logprob(&[], token) } else { 0.0 };
        assert_eq!(trace.logprobs[at], expected, "{at}");
    }
    let restricted = |position| Restriction {
        position,
        choices: [ACT, THINK].into(),
    };
    assert_eq!(trace.restrictions, [2, 7, 13].map(restricted));
    assert_eq!(trace.latent(0), Some(switch(&[7], false)));
    assert_eq!(trace.latent(1), Some(switch(&[6, 7], true)));
    assert_eq!(trace.latent(2), Some(Latent::Keep));
    assert_eq!(trace.latent_lengths(), [3, 4, 1]);
    let rationales = trace.lines.iter().map(LineSpan::rationale);
    assert_eq!(rationales.collect::<Vec<_>>(), [3..5, 8..11, 14..14]);
    let thinks: Vec<bool> = trace.lines.iter().map(LineSpan::is_think).collect();
    assert_eq!(thinks, [true, true, false]);
    let annotated = trace.annotated();
    assert_eq!(annotated.trajectory, document());
    assert_eq!(annotated.latents, [0, 1, 2].map(|line| trace.latent(line)));
}

#[test]
fn only_what_was_drawn_is_learnt_from_and_all_that_is_wanted_is_scored() {
    let trace = drawn(&SCRIPT, Decision::Free, &[]);
    let example = trace.example(number);
    let weights = [
        0.0, 0.0, 10.0, 20.0, 20.0, 0.0, 0.0, 11.0, 21.0, 21.0, 0.0, 0.0, 0.0, 12.0, 0.0,
    ];
    assert_eq!(example.weights, weights);
    assert_eq!(example.tokens, trace.tokens);
    assert_eq!(example.restrictions, trace.restrictions);
    assert_eq!(example.old_logprobs, trace.logprobs);
    let wanted = |is_wanted: fn(Part) -> bool| -> Vec<usize> {
        let sequence = trace.sequence(is_wanted);
        assert_eq!(sequence.tokens, trace.tokens);
        assert_eq!(sequence.restrictions, trace.restrictions);
        let weights = sequence.weights.iter();
        assert!(weights.clone().all(|weight| [0.0, 1.0].contains(weight)));
        let positions = weights.enumerate().filter(|(_, weight)| **weight == 1.0);
        positions.map(|(at, _)| at).collect()
    };
    let actions = [5, 6, 11, 12, 14];
    assert_eq!(wanted(|part| matches!(part, Part::Action(_))), actions);
    assert_eq!(wanted(|part| part == Part::Action(1)), [11, 12]);
    // The end that was forced is a part of its rationale.
    assert_eq!(wanted(|part| part == Part::Rationale(1)), [8, 9, 10]);
    let decisions = [2, 7, 13];
    assert_eq!(wanted(|part| matches!(part, Part::Decision(_))), decisions);
    // The first token comes after nothing.
    assert_eq!(wanted(|part| part == Part::Outside), [1]);
    assert_eq!(wanted(|_| true), (1..15).collect::<Vec<_>>());
}

/// A decision that could only be one is no target, and no restriction; its rationale was drawn.
#[test]
fn forced_decisions_are_no_targets() {
    let targets = |trace: &Trace| -> Vec<usize> {
        let positions = 0..trace.tokens.len();
        positions.filter(|at| trace.mask[*at]).collect()
    };
    let restricted = |trace: &Trace| -> Vec<usize> {
        let restrictions = trace.restrictions.iter();
        restrictions
            .map(|restriction| restriction.position)
            .collect()
    };
    let floor = drawn(&SCRIPT, Decision::Free, &[false, true, false]);
    assert_eq!(targets(&floor), [2, 3, 4, 8, 9, 13]);
    assert_eq!(restricted(&floor), [2, 13]);
    let free = drawn(&SCRIPT, Decision::Free, &[]);
    assert_eq!(floor.annotated(), free.annotated());
    let all = [THINK, 7, CLOSE, THINK, 6, 7, THINK, CLOSE];
    let thinks = drawn(&all, Decision::Think, &[]);
    assert_eq!(targets(&thinks), [3, 4, 8, 9, 14]);
    assert!(thinks.restrictions.is_empty());
    let acts = drawn(&[ACT; 3], Decision::Act, &[true; 3]);
    assert!(targets(&acts).is_empty() && acts.restrictions.is_empty());
    assert_eq!(acts.annotated().latents, vec![Some(Latent::Keep); 3]);
    // Where nothing is decided there is nothing but the document.
    let absent = drawn(&[], Decision::Absent, &[true; 3]);
    assert_eq!(absent.tokens, Trace::plain(&document()).tokens);
    assert_eq!(absent.lines, Trace::plain(&document()).lines);
    assert!(targets(&absent).is_empty());
    assert_eq!(absent.annotated().latents, [None, None, None]);
}

/// What a document's author wrote is a target, but for its first token and a forced end.
#[test]
fn a_document_by_hand() {
    let annotated = Annotated {
        trajectory: document(),
        latents: vec![Some(switch(&[7], true)), None, Some(Latent::Keep)],
    };
    let trace = Trace::of(&annotated, &MARKERS);
    let tokens = [END, 5, THINK, 7, CLOSE, 5, NEWLINE, 6, NEWLINE, ACT, END];
    assert_eq!(trace.tokens, tokens);
    let spans = [span(2..5, 5..7), span(7..7, 7..9), span(9..10, 10..11)];
    assert_eq!(trace.lines, spans);
    let not_a_target = |at: &usize| !trace.mask[*at];
    assert_eq!((0..11).filter(not_a_target).collect::<Vec<_>>(), [0, 4]);
    assert!(trace.logprobs.is_empty() && trace.restrictions.is_empty());
    let weights = [
        0.0, 1.0, 10.0, 20.0, 0.0, 30.0, 30.0, 31.0, 31.0, 12.0, 32.0,
    ];
    assert_eq!(trace.example(number).weights, weights);
    assert_eq!(trace.annotated(), annotated);
    assert_eq!(trace.latent_lengths(), [3, 0, 1]);
    assert!(!trace.lines[1].is_think() && trace.lines[1].rationale().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// A document is in its trace, latents and all; its parts cover it without a gap.
    #[test]
    fn documents_are_in_their_traces(annotated in any_annotated()) {
        let trace = Trace::of(&annotated, &MARKERS);
        prop_assert_eq!(&trace.annotated(), &annotated);
        prop_assert_eq!(trace.mask.len(), trace.tokens.len());
        let mut at = annotated.trajectory.prefix.len();
        for (index, line) in trace.lines.iter().enumerate() {
            prop_assert_eq!((line.latent.start, line.action.start), (at, line.latent.end));
            let n_tokens = annotated.latents[index].as_ref().map_or(0, Latent::n_tokens);
            prop_assert_eq!(line.latent.len(), n_tokens);
            at = line.action.end;
        }
        prop_assert_eq!(at, trace.tokens.len());
        let n_cut = annotated.latents.iter().flatten().filter(|latent| latent.is_cut()).count();
        let n_forced = trace.mask.iter().filter(|is_target| !**is_target).count();
        prop_assert_eq!(n_forced, 1 + n_cut);
        // Without latents it is the plain document.
        let plain = Trace::plain(&annotated.trajectory);
        let bare = Annotated {
            latents: vec![None; annotated.latents.len()],
            ..annotated
        };
        prop_assert_eq!(&Trace::of(&bare, &MARKERS), &plain);
        prop_assert_eq!(plain.annotated(), bare);
    }

    /// The same policy gives what was drawn the log-probabilities that it was drawn with, bit for
    /// bit, and nothing else has any.
    #[test]
    fn what_was_drawn_is_scored_as_it_was_drawn(
        lines in prop::collection::vec(prop::collection::vec(TEXT..VOCABULARY as u32, 1..4), 0..5),
        decision in prop_oneof![
            Just(Decision::Free),
            (0.0f32..=1.0).prop_map(|think_floor| Decision::Exploring { think_floor }),
            Just(Decision::Act),
            Just(Decision::Think),
            Just(Decision::Absent),
        ],
        temperature in 0.25f32..2.0,
        slack in 0usize..20,
        seed in any::<u64>(),
    ) {
        let document = Trajectory { prefix: vec![END, 5], lines };
        let n_context = document.n_tokens() + document.lines.len() + slack;
        let policy = table(seed).with_limit(n_context);
        let rule = LatentRule { temperature, ..rule(decision) };
        let batch = [document.clone(), document];
        let (traces, work) =
            draw(&policy, &batch, &rule, 3, Seed::root(seed)).expect("it fits");
        prop_assert_eq!(traces.len(), 6);
        let n_tokens: usize = traces.iter().map(|trace| trace.tokens.len()).sum();
        prop_assert_eq!(work.n_tokens, n_tokens as u64);
        let examples: Vec<_> = traces.iter().map(|trace| trace.example(|_| 1.0)).collect();
        let (scored, _) = policy.score(&examples).expect("it fits");
        for (trace, scored) in traces.iter().zip(&scored) {
            prop_assert_eq!(&trace.logprobs, scored);
            prop_assert_eq!(&trace.annotated().trajectory, &batch[0]);
        }
        // The scores of the lines are sums over their parts.
        let (by_line, _) = lines_logprobs(&policy, &traces).expect("it fits");
        let (rescored, _) = score(&policy, &Frozen::default(), traces.clone()).expect("it fits");
        for ((found, trace), by_line) in rescored.iter().zip(&traces).zip(&by_line) {
            prop_assert_eq!(&found.trace, trace);
            prop_assert_eq!(found.lines.len(), trace.lines.len());
            for (index, line) in found.lines.iter().enumerate() {
                let span = &trace.lines[index];
                let is_think = trace.latent(index).map(|latent| latent.is_think());
                prop_assert_eq!(line.is_think, is_think);
                prop_assert_eq!(line.n_line_tokens, span.action.len());
                prop_assert_eq!(line.line_logprob, by_line[index]);
                let sum = |range: Range<usize>| trace.logprobs[range].iter().sum::<f32>();
                prop_assert!((line.latent_logprob - sum(span.latent.clone())).abs() < 1e-5);
                prop_assert!((line.rationale_logprob - sum(span.rationale())).abs() < 1e-5);
            }
        }
    }
}

/// A `</think>` that was forced is certain under every model: under the reference, too.
#[test]
fn a_forced_end_costs_nothing() {
    let trace = drawn(&SCRIPT, Decision::Free, &[]);
    let policy = Scripted::new(&[], logprob);
    let frozen = Frozen {
        scorer: Some(Box::new(Scripted::new(&[], |_, _| -3.0))),
        reference: Some(Box::new(Scripted::new(&[], |_, _| -2.0))),
    };
    let (scored, work) = score(&policy, &frozen, vec![trace]).expect("it fits");
    assert!(policy.scored.borrow().is_empty(), "the others score");
    assert_eq!(work.flops, 200.0);
    let lines = &scored[0].lines;
    let rationales: Vec<f32> = lines.iter().map(|line| line.rationale_logprob).collect();
    assert_eq!(rationales, [-4.0, -4.0, 0.0]);
    let actions: Vec<f32> = lines.iter().map(|line| line.line_logprob).collect();
    assert_eq!(actions, [-6.0, -6.0, -3.0]);
    // `log q`: think 7 </think>, think 6 7, act.
    let latents: Vec<f32> = lines.iter().map(|line| line.latent_logprob).collect();
    assert_eq!(latents, [-3.375, -4.125, -0.375]);
}
