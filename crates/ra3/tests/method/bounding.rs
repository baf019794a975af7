//! Bounds: what is measured is what the draws say, and more draws bound better.

use proptest::prelude::*;
use ra3::bounds::{Bound, Gain, all_act, exact, gain_everywhere, measure, without_think};
use ra3::enumeration::{Enumeration, annotations, latents};
use ra3::formulas::log_mean_exp;
use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Policy, TokenId};
use ra3::rollout::draw;
use ra3::scoring::{Frozen, lines_logprobs};
use ra3::seed::Seed;
use ra3::statistics::LatentStats;
use ra3::table::TablePolicy;
use ra3::trace::Trace;
use ra3::trajectory::{Annotated, Latent, Trajectory};

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK, VOCABULARY, table};

fn rule() -> LatentRule {
    LatentRule {
        markers: MARKERS,
        rationale_tokens_max: 1,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision: Decision::Free,
    }
}

fn document() -> Trajectory {
    Trajectory {
        prefix: vec![END, 5],
        lines: vec![vec![5, NEWLINE], vec![END]],
    }
}

/// A line's token has `−1`, and `−1/2` while `7` is in the history; markers have `−3/4`.
fn logprob(history: &[TokenId], token: TokenId) -> f32 {
    match token {
        ACT | THINK | CLOSE => -0.75,
        7 => -1.5,
        _ if history.contains(&7) => -0.5,
        _ => -1.0,
    }
}

fn with_reference(reference: impl Policy + 'static) -> Frozen {
    Frozen {
        scorer: None,
        reference: Some(Box::new(reference)),
    }
}

/// Two documents, two draws of each: (think `7`, act), (act, act) and (act, act), (act, think `7`).
#[test]
fn bounds_by_hand() {
    // M = 1, so the rationale's `</think>` is forced.
    let scripts: [&[TokenId]; 4] = [&[THINK, 7, ACT], &[ACT, ACT], &[ACT, ACT], &[ACT, THINK, 7]];
    let policy = Scripted::new(&scripts, logprob);
    let frozen = with_reference(Scripted::new(&[], |_, _| -2.0));
    let alpha = 0.75f32;
    let documents = [document(), document()];
    let (ks, seed) = ([2, 1], Seed::root(2));
    let found = measure(
        &policy,
        frozen.reference.as_deref(),
        &documents,
        &rule(),
        alpha,
        &ks,
        seed,
    )
    .expect("it fits");
    let (keep, switch) = (f64::from(alpha).ln(), f64::from(1.0 - alpha).ln());
    // log π − log q + log p. The first thinks: q has −3/4 −3/2, p_0 −2.
    let thinks = (-1.0 + 2.25 + switch - 2.0) + (-0.5 + 0.75 + keep);
    let acts = (-2.0 + 0.75 + keep) + (-1.0 + 0.75 + keep);
    let later = (-2.0 + 0.75 + keep) + (-0.5 + 2.25 + switch - 2.0);
    let close = |found: &[f64], expected: [f64; 2]| {
        assert_eq!(found.len(), 2);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    };
    close(&found.sticky.elbo, [thinks, acts]);
    let two = [log_mean_exp(&[thinks, acts]), log_mean_exp(&[acts, later])];
    let [(first, of_two), (second, of_one)] = &found.sticky.iwae[..] else {
        panic!("{:?}", found.sticky.iwae);
    };
    assert_eq!((*first, *second), (2, 1), "in the order that was asked for");
    close(of_two, two);
    close(of_one, [thinks, acts]);
    // As written, this policy gives its tokens what it gave them when they were drawn, and a
    // `</think>` that was forced has its −3/4: log P − log q is what the lines have, less that.
    let (thinks, acts, later) = (-1.5 - 0.75, -3.0, -2.5 - 0.75);
    close(&found.written.elbo, [thinks, acts]);
    let two = [log_mean_exp(&[thinks, acts]), log_mean_exp(&[acts, later])];
    close(&found.written.iwae[0].1, two);
    close(&found.written.iwae[1].1, [thinks, acts]);
    assert_eq!(found.marker_probability, 1.0);
    assert!((found.line_logprob - (-1.5 - 3.0)).abs() < 1e-6);
    assert_eq!(found.latents.think_rate, 0.25, "of the first draws");
    // The one think of the first draws: its line has −1 with it and −2 with an act in its place.
    assert!((found.gain.mean - 1.0).abs() < 1e-6 && found.gain.share == 1.0);
    // One run; as written, the rationales under the reference, and the gains.
    assert_eq!(*policy.seeds.borrow(), [seed]);
    assert_eq!(policy.scored.borrow().len(), 2);
    assert_eq!(found.work.flops, 1300.0);
}

/// Two lines, each after a think, of which the first pays: its line has −1/2 for −1. The second's
/// has −1/2 with it and without it, since the first rationale is still in the history.
#[test]
fn the_gain_everywhere_by_hand() {
    let policy = Scripted::new(&[&[THINK, 7, THINK, 7]], |history, token| match token {
        5 if history.contains(&7) => -0.5,
        END => -0.5,
        _ => -1.0,
    });
    let (gain, work) =
        gain_everywhere(&policy, &[document()], &rule(), Seed::root(3)).expect("it fits");
    assert!(
        (gain.mean - 0.25).abs() < 1e-6 && gain.share == 0.5,
        "{gain:?}"
    );
    assert_eq!(work.flops, 1200.0, "a run, and two scores");
}

/// Markers that are drawn between the two have other probabilities where all tokens count.
#[test]
fn the_markers_probability_by_hand() {
    // After any token: `<act>` 1/8, `<think>` 1/8, the rest 1/8 each: the two have 1/4 together.
    let uniform = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    let documents = vec![document(); 30];
    let measured = |documents: &[Trajectory], ks: &[usize]| {
        let seed = Seed::root(1);
        measure(&uniform, None, documents, &rule(), 0.5, ks, seed).expect("it fits")
    };
    let found = measured(&documents, &[1]);
    assert!((found.marker_probability - 0.25).abs() < 1e-6);
    // Each line of a plain document has 1/8 a token; as written, its decision has 1/4 less.
    let lines = 3.0 * 8f64.ln();
    for (sticky, written) in found.sticky.elbo.iter().zip(&found.written.elbo) {
        // Decisions are even in q and in the prior; rationales are free, a forced end is not.
        assert!((sticky + lines).abs() < 1e-5, "{sticky}");
        let n_forced = (-written - lines - 2.0 * 4f64.ln()) / 8f64.ln();
        assert!(
            (n_forced - n_forced.round()).abs() < 1e-5 && n_forced > -0.5,
            "{n_forced}"
        );
    }
    let nothing = measured(&[], &[1, 4]);
    assert_eq!(
        (nothing.marker_probability, nothing.gain),
        (0.0, Gain::default())
    );
    assert!(nothing.sticky.elbo.is_empty() && nothing.written.iwae[1].1.is_empty());
}

/// `Σ log π` of each document's lines.
fn line_logprobs(table: &TablePolicy, documents: &[Annotated]) -> Vec<f64> {
    let of_row = |lines: Vec<f64>| lines.into_iter().sum();
    by_line(table, documents).into_iter().map(of_row).collect()
}

/// `log π` of each document's lines.
fn by_line(table: &TablePolicy, documents: &[Annotated]) -> Vec<Vec<f64>> {
    let trace = |document: &Annotated| Trace::of(document, &MARKERS);
    let traces: Vec<Trace> = documents.iter().map(trace).collect();
    let (found, _) = lines_logprobs(table, &traces).expect("it fits");
    let exact = |lines: Vec<f32>| lines.into_iter().map(f64::from).collect();
    found.into_iter().map(exact).collect()
}

/// `Σ log p` of what follows the prefix, each token over the whole vocabulary, and the probability
/// of both markers together wherever a decision stands.
fn plain_logprob(table: &TablePolicy, annotated: &Annotated, of_markers: &mut Vec<f64>) -> f64 {
    let mut history = annotated.trajectory.prefix.clone();
    let mut sum = 0.0;
    for (line, latent) in annotated.trajectory.lines.iter().zip(&annotated.latents) {
        let latent = latent.as_ref().expect("every line was decided");
        let after = table.logprobs(&history, None);
        of_markers.push(after[ACT as usize].exp() + after[THINK as usize].exp());
        let mut tokens = vec![];
        latent.write(&MARKERS, &mut tokens);
        tokens.extend(line);
        for token in tokens {
            sum += table.logprobs(&history, None)[token as usize];
            history.push(token);
        }
    }
    sum
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-4
}

/// A bound against the log-weights of every document's draws.
fn check_bound(found: &Bound, weights: &[Vec<f64>], ks: &[usize]) {
    assert_eq!(found.elbo.len(), weights.len());
    for (elbo, row) in found.elbo.iter().zip(weights) {
        assert!(close(*elbo, row[0]), "{elbo} {row:?}");
    }
    assert_eq!(found.iwae.len(), ks.len());
    for ((k, iwae), asked) in found.iwae.iter().zip(ks) {
        assert_eq!((k, iwae.len()), (asked, weights.len()));
        for (iwae, row) in iwae.iter().zip(weights) {
            assert!(close(*iwae, log_mean_exp(&row[..*k])), "{iwae} {row:?}");
        }
    }
}

/// Each think's line beside the same line with an act in its place.
fn gains(table: &TablePolicy, documents: &[Annotated]) -> Vec<f64> {
    let of_line =
        |document: &Annotated, line: usize| by_line(table, std::slice::from_ref(document))[0][line];
    let mut gains = vec![];
    for document in documents {
        let is_think =
            |line: &usize| matches!(document.latents[*line], Some(Latent::Switch { .. }));
        for line in (0..document.latents.len()).filter(is_think) {
            let mut kept = document.clone();
            kept.latents[line] = Some(Latent::Keep);
            gains.push(of_line(document, line) - of_line(&kept, line));
        }
    }
    gains
}

/// Mean and positive share of some gains; one that is 0 to rounding may count either way.
fn check_gain(found: Gain, gains: &[f64]) {
    let n = gains.len().max(1) as f64;
    assert!(
        close(found.mean, gains.iter().sum::<f64>() / n),
        "{found:?}"
    );
    let share = |least: f64| gains.iter().filter(|gain| **gain > least).count() as f64 / n;
    assert!(
        (share(1e-5)..=share(-1e-5)).contains(&found.share),
        "{found:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every figure again from the draws of the same seed.
    #[test]
    fn what_is_measured_is_what_was_drawn(
        seed in any::<u64>(),
        alpha in 0.05f32..0.95,
        ks in prop::collection::vec(1usize..6, 0..4),
        n_documents in 1usize..4,
    ) {
        let policy = table(seed);
        let frozen = with_reference(table(seed ^ 1));
        let documents = vec![document(); n_documents];
        let draws = Seed::root(seed).child("draws");
        let p_0 = frozen.reference.as_deref();
        let found = measure(&policy, p_0, &documents, &rule(), alpha, &ks, draws)
            .expect("it fits");
        let k_max = ks.iter().copied().max().unwrap_or(1);
        let (traces, work) = draw(&policy, &documents, &rule(), k_max, draws)
            .expect("it fits");
        let drawn: Vec<Annotated> = traces.iter().map(Trace::annotated).collect();
        let mut sticky = vec![vec![]; n_documents];
        let mut written = vec![vec![]; n_documents];
        let mut of_markers = vec![];
        for (index, group) in drawn.chunks(k_max).enumerate() {
            let all = Enumeration::of(&policy, &frozen, group, &MARKERS).expect("it fits");
            let (lines, prior, q) = (all.log_lines(), all.log_prior(alpha), all.log_q());
            for member in 0..k_max {
                sticky[index].push(lines[member] + prior[member] - q[member]);
                let plain = plain_logprob(&policy, &group[member], &mut of_markers);
                written[index].push(plain - q[member]);
            }
        }
        check_bound(&found.sticky, &sticky, &ks);
        check_bound(&found.written, &written, &ks);
        let mean = of_markers.iter().sum::<f64>() / of_markers.len() as f64;
        prop_assert!(close(found.marker_probability, mean));
        let first: Vec<Annotated> = drawn.into_iter().step_by(k_max).collect();
        let line_logprob: f64 = line_logprobs(&policy, &first).iter().sum();
        prop_assert!(close(found.line_logprob, line_logprob));
        prop_assert_eq!(found.latents, LatentStats::of(first.iter()));
        check_gain(found.gain, &gains(&policy, &first));
        prop_assert!(found.work.n_tokens > work.n_tokens, "the gains cost, too");
        prop_assert_eq!(found.work.n_tokens_sampled, work.n_tokens_sampled);
    }

    /// Exact means over every tuple of draws: `ELBO = IWAE_1 ≤ IWAE_2 ≤ IWAE_3 ≤ log p`.
    #[test]
    fn more_draws_bound_better_for_any_table(
        seed in any::<u64>(),
        size in 0.1f64..3.0,
        alpha in 0.05f32..0.95,
    ) {
        let random = |name| TablePolicy::random(5, 1, size, Seed::root(seed).child(name));
        let frozen = Frozen {
            scorer: Some(Box::new(random("pi"))),
            reference: Some(Box::new(random("p_0"))),
        };
        let line = Trajectory {
            prefix: vec![END],
            lines: vec![vec![4, END]],
        };
        let all = annotations(&line, &latents(&MARKERS, 5, 1));
        let all = Enumeration::of(&random("q"), &frozen, &all, &MARKERS).expect("it fits");
        let (q, lines, prior) = (all.log_q(), all.log_lines(), all.log_prior(alpha));
        let n = q.len();
        let weight = |i: usize| lines[i] + prior[i] - q[i];
        let mut means = [0.0; 3];
        for code in 0..n * n * n {
            let draws = [code % n, code / n % n, code / n / n];
            let probability = draws.map(|i| q[i]).iter().sum::<f64>().exp();
            let weights = draws.map(weight);
            for (k, mean) in means.iter_mut().enumerate() {
                *mean += probability * log_mean_exp(&weights[..=k]);
            }
        }
        let [one, two, three] = means;
        prop_assert!((one - all.bound(alpha)).abs() < 1e-4, "{one}");
        let whole = all.log_likelihood(alpha);
        prop_assert!(one <= two + 1e-6 && two <= three + 1e-6, "{means:?}");
        prop_assert!(three <= whole + 1e-5, "{three} above {whole}");
    }
}

/// Without latents nothing is bounded: log-likelihoods of the plain and of the all-act text.
#[test]
fn exact_likelihoods_by_hand() {
    let by_hand = |history: &[TokenId], token: TokenId| match (token, history.contains(&ACT)) {
        (ACT | THINK, _) => -100.0,
        (_, true) => -0.5,
        (_, false) => -2.0,
    };
    let policy = Scripted::new(&[], by_hand);
    let documents = [document(), document()];
    let n_tokens = || {
        let scored = policy.scored.take().concat();
        scored
            .iter()
            .map(|example| example.tokens.len())
            .sum::<usize>()
    };
    let (plain, work) = exact(&policy, &documents).expect("it fits");
    assert_eq!(plain, [3.0 * -2.0; 2]);
    assert_eq!((n_tokens(), work.flops), (2 * 5, 100.0));
    let (kept, work) = all_act(&policy, &documents, &MARKERS).expect("it fits");
    assert_eq!(kept, [3.0 * -0.5; 2]);
    assert_eq!((n_tokens(), work.flops), (2 * 7, 100.0));
    let nothing = exact(&policy, &[]).expect("it fits");
    assert!(nothing.0.is_empty());
    assert!(policy.seeds.borrow().is_empty(), "nothing was drawn");
}

#[test]
fn a_think_is_replaced_and_nothing_follows_it() {
    let think = Some(Latent::Switch {
        rationale: vec![7],
        forced_close: false,
    });
    let annotated = Annotated {
        trajectory: document(),
        latents: vec![think.clone(), think.clone()],
    };
    let trace = Trace::of(&annotated, &MARKERS);
    let first = without_think(&trace, 0, &MARKERS).annotated();
    assert_eq!(first.trajectory.lines, [[5, NEWLINE]]);
    assert_eq!(first.latents, [Some(Latent::Keep)]);
    let second = without_think(&trace, 1, &MARKERS).annotated();
    assert_eq!(second.trajectory, document());
    assert_eq!(second.latents, [think, Some(Latent::Keep)]);
}
