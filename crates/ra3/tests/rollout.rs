//! One rollout at a time: what is sampled, forced, recorded and trained.

use proptest::prelude::*;
use ra3::bounds::measure;
use ra3::e_step::{self, Credit, policy_gradient};
use ra3::enumeration::Enumeration;
use ra3::interleave::{TokenWeights, interleave, plain, strip};
use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Example, Objective, Policy, PolicyError, Surrogate};
use ra3::rewards::Penalty;
use ra3::rollout::draw;
use ra3::scoring::{Frozen, Scored, score};
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::table::TablePolicy;
use ra3::trace::{LineSpan, Trace};
use ra3::trajectory::{Annotated, Latent, Markers, Trajectory};

const MARKERS: Markers = Markers {
    act: 2,
    think: 3,
    close: 4,
    end: 0,
};
const VOCABULARY: usize = 6;

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![0, 1],
        lines: vec![vec![1, 5], vec![5], vec![0]],
    }
}

fn config(think_every_line: bool) -> EStepConfig {
    EStepConfig {
        group_size: 16,
        rationale_tokens_max: 2,
        horizon: 0,
        penalty: Penalty::SwitchCost { cost: 0.1 },
        think_every_line,
        ..EStepConfig::default()
    }
}

fn drawn(policy: &TablePolicy, rule: &LatentRule, n: usize) -> Vec<Trace> {
    draw(policy, &[document()], rule, n, Seed::root(1))
        .expect("the document fits")
        .0
}

fn scored(policy: &TablePolicy, frozen: &Frozen, traces: Vec<Trace>) -> Vec<Scored> {
    score(policy, frozen, traces).expect("the document fits").0
}

/// Rollouts of a policy that is its own scorer and reference.
fn rollouts(policy: &TablePolicy, rule: &LatentRule, n: usize) -> Vec<Scored> {
    scored(policy, &Frozen::default(), drawn(policy, rule, n))
}

/// `log q` of a trace is what the policy would train, and 0 where nothing was drawn.
#[test]
fn following_a_rollout_records_what_sampling_it_did() {
    let policy = table(1);
    let rule = config(false).latent_rule(MARKERS);
    let rollouts = rollouts(&policy, &rule, 200);
    let traces = || rollouts.iter().map(|rollout| &rollout.trace);
    let annotated: Vec<Annotated> = traces().map(Trace::annotated).collect();
    let followed = Enumeration::of(&policy, &Frozen::default(), &annotated, &MARKERS).unwrap();
    assert_eq!(followed.rollouts, rollouts);
    let targets: Vec<Example> = traces().map(|trace| trace.example(|_| 1.0)).collect();
    let (logprobs, work) = policy.score(&targets).unwrap();
    assert_eq!(work.n_tokens_sampled, 0);
    let recorded = traces().map(|trace| &trace.logprobs);
    assert!(logprobs.iter().eq(recorded));
    for (trace, annotated) in traces().zip(&annotated) {
        let document = Trace::of(annotated, &MARKERS);
        assert_eq!(
            (&document.tokens, &document.lines),
            (&trace.tokens, &trace.lines)
        );
        assert_eq!(document.annotated(), *annotated);
    }
    let latents = || {
        annotated
            .iter()
            .flat_map(|row| row.latents.iter().flatten())
    };
    let closed = |forced| {
        latents()
            .any(|z| matches!(z, Latent::Switch { forced_close, .. } if *forced_close == forced))
    };
    assert!(
        closed(true) && closed(false),
        "both ends of a rationale occur"
    );
    assert!(latents().any(|z| *z == Latent::Keep));
}

/// `M` tokens are drawn at most, and a `</think>` that was not drawn has no weight.
#[test]
fn forced_tokens_carry_no_gradient() {
    let settings = EStepConfig {
        group_size: 100,
        ..config(false)
    };
    let rollouts = rollouts(&table(2), &settings.latent_rule(MARKERS), 100);
    let examples = policy_gradient(&rollouts, &Credit::of(&rollouts, &settings).advantages);
    let mut n_forced = 0;
    for (Scored { trace, .. }, example) in rollouts.iter().zip(&examples) {
        for (line, span) in trace.lines.iter().enumerate() {
            let weights = &example.weights[span.latent.clone()];
            let n_drawn = span.rationale().filter(|at| trace.mask[*at]).count();
            match trace.latent(line).unwrap() {
                Latent::Keep => assert!(weights[0] != 0.0),
                Latent::Switch {
                    rationale,
                    forced_close: false,
                } => {
                    assert!(rationale.len() < 2);
                    assert!(weights.iter().all(|w| *w == weights[0] && *w != 0.0));
                    assert_eq!(n_drawn, rationale.len() + 1);
                }
                Latent::Switch {
                    rationale,
                    forced_close: true,
                } => {
                    n_forced += 1;
                    assert_eq!(rationale.len(), 2);
                    assert_eq!(weights.last(), Some(&0.0));
                    assert!(weights[..3].iter().all(|w| *w == weights[0] && *w != 0.0));
                    assert_eq!(n_drawn, 2);
                }
            }
        }
        let n_latent: usize = trace.latent_lengths().iter().sum();
        let n_weighted = example.weights.iter().filter(|w| **w != 0.0).count();
        assert!(n_weighted <= n_latent, "lines and prefix have no weight");
        assert_eq!(
            example.restrictions.len(),
            3,
            "every decision is between two markers"
        );
    }
    assert!(n_forced > 10);
}

#[test]
fn decisions_follow_the_rule() {
    let policy = table(3);
    let think_rate = |decision| {
        let rule = LatentRule {
            decision,
            ..config(false).latent_rule(MARKERS)
        };
        let drawn = drawn(&policy, &rule, 50);
        let spans: Vec<(&Trace, &LineSpan)> = drawn
            .iter()
            .flat_map(|trace| trace.lines.iter().map(move |span| (trace, span)))
            .collect();
        let is_sampled = |(trace, span): &(&Trace, &LineSpan)| {
            let decision = span.latent.clone().next();
            decision.is_some_and(|at| trace.mask[at])
        };
        let is_written = spans.iter().any(|(_, span)| !span.latent.is_empty());
        let thinks = spans.iter().filter(|(_, span)| span.is_think()).count();
        (thinks, spans.iter().any(is_sampled), is_written)
    };
    let n_lines = 50 * 3;
    assert_eq!(think_rate(Decision::Act), (0, false, true));
    assert_eq!(think_rate(Decision::Think), (n_lines, false, true));
    assert_eq!(think_rate(Decision::Absent), (0, false, false));
    let (thinks, sampled, _) = think_rate(Decision::Free);
    assert!(sampled && thinks > 0 && thinks < n_lines);
}

/// A model that never thinks finds nothing by itself, and something under a floor.
#[test]
fn a_floor_under_the_think_rate_explores() {
    let mut never = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    for last in 0..VOCABULARY as u32 {
        never.logits_after(&[last])[MARKERS.think as usize] = -40.0;
    }
    let rate = |think_floor| {
        let mut policy = never.clone();
        let settings = EStepConfig {
            think_floor,
            ..config(false)
        };
        let batch = vec![document(); 50];
        let (alone, seed) = (Frozen::default(), Seed::root(4));
        let report =
            e_step::update(&mut policy, &alone, &batch, &MARKERS, &settings, 1.0, seed).unwrap();
        (report.rollouts.latents.think_rate, policy)
    };
    assert_eq!(rate(0.0).0, 0.0);
    let (found, moved) = rate(0.25);
    // 2400 forced decisions at 0.25: five standard errors are 0.044.
    assert!((found - 0.25).abs() < 0.044, "{found}");
    let (mut moved, mut before) = (moved, never.clone());
    // Its rationales learn.
    assert_ne!(
        moved.logits_after(&[MARKERS.think]),
        before.logits_after(&[MARKERS.think])
    );
    // That it was forced teaches the decision nothing: after any token, a rationale's included,
    // `<think>` is as unlikely as it was.
    for last in 0..VOCABULARY as u32 {
        let logit = moved.logits_after(&[last])[MARKERS.think as usize];
        assert!((logit + 40.0).abs() < 1e-9, "after {last}: {logit}");
    }
}

#[test]
fn a_forced_decision_has_no_weight() {
    let settings = EStepConfig {
        group_size: 8,
        ..config(true)
    };
    let rollouts = rollouts(&table(5), &settings.latent_rule(MARKERS), 8);
    for example in policy_gradient(&rollouts, &Credit::of(&rollouts, &settings).advantages) {
        assert!(example.restrictions.is_empty());
        let thinks = (0..example.tokens.len()).filter(|i| example.tokens[*i] == MARKERS.think);
        let first = thinks.min().unwrap();
        assert_eq!((first, example.weights[first]), (2, 0.0));
    }
}

/// The clipped surrogate starts at ratio 1: its first update is the policy gradient's.
#[test]
fn the_first_clipped_update_is_the_policy_gradient() {
    let clip = Surrogate::Clipped {
        low: 0.2,
        high: 0.2,
    };
    let settings = config(false);
    let rollouts = rollouts(&table(6), &settings.latent_rule(MARKERS), 3 * 16);
    let examples = policy_gradient(&rollouts, &Credit::of(&rollouts, &settings).advantages);
    let moved = |surrogate| {
        let mut policy = table(6);
        let objective = Objective {
            surrogate,
            learning_rate: 1.0,
        };
        policy.update(&examples, objective).unwrap();
        policy.logits
    };
    let (plain, clipped) = (moved(Surrogate::LogLikelihood), moved(clip));
    let far = plain
        .iter()
        .zip(&clipped)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    let size = plain
        .iter()
        .zip(table(6).logits)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    // Old log-probabilities passed through f32.
    assert!(far < 1e-5 && size > 1e-2, "{far} {size}");
}

/// A document that does not fit with one marker a line is an error; one that just fits never is.
#[test]
fn a_rollout_fits_wherever_its_document_does() {
    let n_least = 2 + document()
        .lines
        .iter()
        .map(|line| line.len() + 1)
        .sum::<usize>();
    for think_every_line in [false, true] {
        let rule = config(think_every_line).latent_rule(MARKERS);
        for n_context in n_least - 1..n_least + 14 {
            let small = table(7).with_limit(n_context);
            let found = draw(&small, &[document()], &rule, 40, Seed::root(0));
            if n_context < n_least {
                let Err(PolicyError::SequenceTooLong { n_tokens_max, .. }) = found else {
                    panic!("{found:?}");
                };
                assert_eq!(n_tokens_max, n_context);
                continue;
            }
            let (drawn, _) = found.expect("what is left is kept for the document");
            let rollouts = scored(&small, &Frozen::default(), drawn);
            check_room(&rollouts, n_context, think_every_line);
        }
    }
}

/// By hand: a think needs `M + 2` tokens, and the rest of the document one marker a line.
fn check_room(rollouts: &[Scored], n_context: usize, think_every_line: bool) {
    let settings = EStepConfig {
        group_size: rollouts.len(),
        ..config(think_every_line)
    };
    let examples = policy_gradient(rollouts, &Credit::of(rollouts, &settings).advantages);
    for (Scored { trace, .. }, example) in rollouts.iter().zip(&examples) {
        for (index, span) in trace.lines.iter().enumerate() {
            let position = span.latent.start;
            let lines = &document().lines[index..];
            let n_rest: usize = lines.iter().map(|line| line.len() + 1).sum();
            let fits = position + n_rest - 1 + settings.rationale_tokens_max + 2 <= n_context;
            let is_forced_act = !span.is_think() && !trace.mask[position];
            assert_eq!(is_forced_act, !fits, "{n_context} {index}");
            if !fits {
                assert_eq!(trace.latent(index), Some(Latent::Keep));
                assert_eq!(trace.logprobs[position], 0.0);
                assert_eq!(example.weights[position], 0.0);
            }
        }
        assert_eq!(trace.lines.len(), document().lines.len());
        assert!(trace.tokens.len() <= n_context);
    }
}

/// Without a reference the policy is its own `p_0`: the same as giving it itself.
#[test]
fn without_a_reference_rationales_are_free() {
    let rule = config(false).latent_rule(MARKERS);
    let policy = table(8);
    let alone = rollouts(&policy, &rule, 50);
    let itself = Frozen {
        scorer: None,
        reference: Some(policy.snapshot()),
    };
    let given = scored(&policy, &itself, drawn(&policy, &rule, 50));
    assert_eq!(alone, given);
    let lines = || alone.iter().flat_map(|rollout| &rollout.lines);
    assert!(lines().any(|line| line.rationale_logprob < -0.1));
}

/// A uniform table but for the line: likelihood 7/12 after a rationale, 1/6 after an act.
#[test]
fn the_gain_of_a_think_by_hand() {
    let mut policy = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    policy.logits_after(&[MARKERS.close])[5] = 7f64.ln();
    let line = Trajectory {
        prefix: vec![0],
        lines: vec![vec![5]],
    };
    let rule = config(false).latent_rule(MARKERS);
    let documents = vec![line; 20];
    let seed = Seed::root(2);
    let found = measure(&policy, None, &documents, &rule, 0.5, &[1], seed).unwrap();
    assert!(found.latents.think_rate > 0.0 && found.latents.think_rate < 1.0);
    assert!(
        (found.gain.mean - 3.5f64.ln()).abs() < 1e-5,
        "{:?}",
        found.gain
    );
}

fn weights(prefix: f32) -> TokenWeights {
    TokenWeights {
        prefix,
        line: 1.0,
        decision: 0.5,
        rationale: 0.25,
    }
}

#[test]
fn weights_by_hand() {
    let annotated = Annotated {
        trajectory: document(),
        latents: vec![
            Some(Latent::Switch {
                rationale: vec![5],
                forced_close: false,
            }),
            Some(Latent::Keep),
            Some(Latent::Switch {
                rationale: vec![],
                forced_close: true,
            }),
        ],
    };
    let example = interleave(&annotated, &MARKERS, weights(0.1));
    assert_eq!(example.tokens, [0, 1, 3, 5, 4, 1, 5, 2, 5, 3, 4, 0]);
    let expected = [0.0, 0.1, 0.5, 0.25, 0.25, 1.0, 1.0, 0.5, 1.0, 0.5, 0.0, 1.0];
    assert_eq!(example.weights, expected);
    // Markers are learnt over the whole vocabulary.
    assert!(example.restrictions.is_empty());
}

prop_compose! {
    fn any_latent()(
        rationale in prop::option::of(prop::collection::vec(10u32..20, 0..4)),
        forced_close in any::<bool>(),
        is_written in prop::bool::weighted(0.8),
    ) -> Option<Latent> {
        is_written.then_some(match rationale {
            None => Latent::Keep,
            Some(rationale) => Latent::Switch { rationale, forced_close },
        })
    }
}

fn any_line() -> impl Strategy<Value = (Vec<u32>, Option<Latent>)> {
    (prop::collection::vec(10u32..20, 1..4), any_latent())
}

prop_compose! {
    fn any_annotated()(
        prefix in prop::collection::vec(10u32..20, 1..4),
        lines in prop::collection::vec(any_line(), 0..6),
    ) -> Annotated {
        let (lines, latents) = lines.into_iter().unzip();
        Annotated { trajectory: Trajectory { prefix, lines }, latents }
    }
}

proptest! {
    #[test]
    fn stripping_undoes_interleaving(annotated in any_annotated()) {
        let example = interleave(&annotated, &MARKERS, weights(1.0));
        let document = plain(&annotated.trajectory, 1.0);
        prop_assert_eq!(strip(&example.tokens, &MARKERS), document.tokens);
        prop_assert_eq!(example.weights.len(), example.tokens.len());
        prop_assert_eq!(example.weights[0], 0.0);
    }

    #[test]
    fn stripping_is_total(tokens in prop::collection::vec(0u32..8, 0..30)) {
        let stripped = strip(&tokens, &MARKERS);
        let markers = [MARKERS.act, MARKERS.think, MARKERS.close];
        prop_assert!(stripped.iter().all(|token| !markers.contains(token)));
        prop_assert_eq!(strip(&stripped, &MARKERS), stripped);
    }
}
