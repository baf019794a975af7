//! Interleaved sequences against a slow reference, and back.

use proptest::prelude::*;
use ra3::interleave::{TokenWeights, interleave, normalise, plain, strip};
use ra3::m_step::{self, AnnotatedDocument, Draw};
use ra3::ntp;
use ra3::policy::{Example, Surrogate, TokenId};
use ra3::statistics::LatentStats;
use ra3::trajectory::{Annotated, Latent, Trajectory};

use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, TEXT, THINK, VOCABULARY};

fn text(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<TokenId>> {
    prop::collection::vec(TEXT..VOCABULARY as u32, n)
}

fn any_latent() -> impl Strategy<Value = Option<Latent>> {
    prop_oneof![
        1 => Just(None),
        2 => Just(Some(Latent::Keep)),
        3 => (text(0..4), any::<bool>()).prop_map(|(rationale, forced_close)| {
            Some(Latent::Switch { rationale, forced_close })
        }),
    ]
}

prop_compose! {
    pub(crate) fn any_annotated()(
        prefix in text(1..4),
        lines in prop::collection::vec((text(1..4), any_latent()), 0..6),
    ) -> Annotated {
        let (lines, latents) = lines.into_iter().unzip();
        Annotated { trajectory: Trajectory { prefix, lines }, latents }
    }
}

prop_compose! {
    fn any_weights()(
        prefix in 0.0f32..2.0,
        line in 0.0f32..2.0,
        decision in 0.0f32..2.0,
        rationale in 0.0f32..2.0,
    ) -> TokenWeights {
        TokenWeights { prefix, line, decision, rationale }
    }
}

/// Tokens and their weights, one by one.
fn slow(annotated: &Annotated, weights: TokenWeights) -> Vec<(TokenId, f32)> {
    let mut found: Vec<(TokenId, f32)> = annotated
        .trajectory
        .prefix
        .iter()
        .map(|token| (*token, weights.prefix))
        .collect();
    found[0].1 = 0.0;
    for (line, latent) in annotated.trajectory.lines.iter().zip(&annotated.latents) {
        match latent {
            None => {}
            Some(Latent::Keep) => found.push((ACT, weights.decision)),
            Some(Latent::Switch {
                rationale,
                forced_close,
            }) => {
                found.push((THINK, weights.decision));
                found.extend(rationale.iter().map(|token| (*token, weights.rationale)));
                found.push((
                    CLOSE,
                    if *forced_close {
                        0.0
                    } else {
                        weights.rationale
                    },
                ));
            }
        }
        found.extend(line.iter().map(|token| (*token, weights.line)));
    }
    found
}

/// The latents of an interleaved sequence whose lines have these lengths.
fn parsed(tokens: &[TokenId], trajectory: &Trajectory) -> Vec<Option<Latent>> {
    let mut at = trajectory.prefix.len();
    let mut latents = vec![];
    for line in &trajectory.lines {
        latents.push(match tokens[at] {
            ACT => {
                at += 1;
                Some(Latent::Keep)
            }
            THINK => {
                let length = tokens[at..]
                    .iter()
                    .position(|t| *t == CLOSE)
                    .expect("closed");
                let rationale = tokens[at + 1..at + length].to_vec();
                at += length + 1;
                // Whether it was forced is not in the tokens.
                Some(Latent::Switch {
                    rationale,
                    forced_close: false,
                })
            }
            _ => None,
        });
        at += line.len();
    }
    assert_eq!(at, tokens.len());
    latents
}

fn unforced(latents: &[Option<Latent>]) -> Vec<Option<Latent>> {
    let mut latents = latents.to_vec();
    for latent in latents.iter_mut().flatten() {
        if let Latent::Switch { forced_close, .. } = latent {
            *forced_close = false;
        }
    }
    latents
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sequences_are_the_slow_reference(annotated in any_annotated(), weights in any_weights()) {
        let example = interleave(&annotated, &MARKERS, weights);
        let pairs: Vec<(TokenId, f32)> =
            example.tokens.iter().copied().zip(example.weights.iter().copied()).collect();
        prop_assert_eq!(&pairs, &slow(&annotated, weights));
        prop_assert_eq!(example.weights.len(), example.tokens.len());
        prop_assert!(example.old_logprobs.is_empty());
        prop_assert!(example.restrictions.is_empty(), "decisions are targets like any others");
        // And back, to the document and to its latents.
        let document = plain(&annotated.trajectory, weights.prefix);
        prop_assert_eq!(&strip(&example.tokens, &MARKERS), &document.tokens);
        let latents = parsed(&example.tokens, &annotated.trajectory);
        prop_assert_eq!(latents, unforced(&annotated.latents));
    }

    #[test]
    fn plain_documents_weigh_their_lines(
        annotated in any_annotated(),
        prefix_weight in 0.0f32..2.0,
    ) {
        let trajectory = &annotated.trajectory;
        let found = plain(trajectory, prefix_weight);
        prop_assert_eq!(found.tokens.len(), trajectory.n_tokens());
        let n_prefix = trajectory.prefix.len();
        prop_assert_eq!(found.weights[0], 0.0);
        prop_assert!(found.weights[1..n_prefix].iter().all(|w| *w == prefix_weight));
        prop_assert!(found.weights[n_prefix..].iter().all(|w| *w == 1.0));
        prop_assert!(found.restrictions.is_empty() && found.old_logprobs.is_empty());
    }

    #[test]
    fn latents_know_their_length(latent in any_latent()) {
        let mut tokens = vec![];
        if let Some(latent) = &latent {
            latent.write(&MARKERS, &mut tokens);
            prop_assert_eq!(tokens.len(), latent.n_tokens());
            prop_assert_eq!(latent.is_think(), tokens[0] == THINK);
            let is_forced = matches!(latent, Latent::Switch { forced_close: true, .. });
            prop_assert_eq!(latent.is_cut(), is_forced);
        }
        prop_assert!(strip(&tokens, &MARKERS).is_empty());
    }

    /// After normalising, the positive weights of a batch sum to one and keep their ratios.
    #[test]
    fn normalised_weights_are_shares(
        batch in prop::collection::vec(any_annotated(), 0..4),
        weights in any_weights(),
        negative in any::<prop::sample::Index>(),
    ) {
        let mut examples: Vec<Example> =
            batch.iter().map(|annotated| interleave(annotated, &MARKERS, weights)).collect();
        // One weight is negative: it is scaled, and does not count in the sum.
        if let Some(example) = examples.first_mut() {
            let at = negative.index(example.weights.len());
            example.weights[at] *= -1.0;
        }
        let before = examples.clone();
        normalise(&mut examples);
        let of = |examples: &[Example]| -> Vec<f64> {
            examples.iter().flat_map(|e| &e.weights).map(|w| f64::from(*w)).collect()
        };
        let (before, after) = (of(&before), of(&examples));
        let sum: f64 = before.iter().filter(|w| **w > 0.0).sum();
        if sum == 0.0 {
            prop_assert_eq!(before, after);
        } else {
            for (before, after) in before.iter().zip(&after) {
                // Rounding is relative: a negative weight may be a thousand times the sum.
                let expected = before / sum;
                prop_assert!((expected - after).abs() < 1e-6 * expected.abs().max(1.0));
            }
        }
    }

    #[test]
    fn latents_are_counted_as_the_slow_reference_counts(
        documents in prop::collection::vec(any_annotated(), 0..5),
    ) {
        let stats = LatentStats::of(documents.iter());
        let lines: Vec<&Option<Latent>> = documents.iter().flat_map(|d| &d.latents).collect();
        let rationales: Vec<usize> = lines
            .iter()
            .filter_map(|latent| match latent {
                Some(Latent::Switch { rationale, .. }) => Some(rationale.len()),
                Some(Latent::Keep) | None => None,
            })
            .collect();
        // A document that does not begin with a think begins with the empty latent.
        let is_think = |latent: &Option<Latent>| matches!(latent, Some(Latent::Switch { .. }));
        let first = documents.iter().filter_map(|d| d.latents.first());
        let n_empty = first.filter(|latent| !is_think(latent)).count();
        let ratio = |a: usize, b: usize| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        prop_assert_eq!(stats.think_rate, ratio(rationales.len(), lines.len()));
        prop_assert_eq!(stats.persistence, ratio(lines.len(), rationales.len() + n_empty));
        let n_tokens = rationales.iter().sum();
        prop_assert_eq!(stats.rationale_tokens, ratio(n_tokens, rationales.len()));
    }
}

/// Where nothing has weight there is nothing to divide by.
#[test]
fn weights_of_nothing_stay_nothing() {
    let nothing = TokenWeights {
        prefix: 0.0,
        line: 0.0,
        decision: 0.0,
        rationale: 0.0,
    };
    let document = with_latents(&[None, Some(Latent::Keep)]);
    let mut examples = [interleave(&document, &MARKERS, nothing)];
    normalise(&mut examples);
    assert_eq!(examples[0].weights, [0.0; 6]);
    normalise(&mut []);
}

#[test]
fn stripping_by_hand() {
    let found = |tokens: &[TokenId]| strip(tokens, &MARKERS);
    assert_eq!(
        found(&[5, ACT, 6, THINK, 7, ACT, CLOSE, 6, END]),
        [5, 6, 6, END]
    );
    assert_eq!(found(&[5, CLOSE, 6]), [5, 6], "a stray end is deleted");
    assert_eq!(
        found(&[5, THINK, 6, END]),
        [5],
        "an open one reaches to the end"
    );
    assert_eq!(found(&[THINK, 5, THINK, 6, CLOSE, 7]), [7]);
    assert!(found(&[]).is_empty());
}

fn with_latents(latents: &[Option<Latent>; 2]) -> Annotated {
    Annotated {
        trajectory: Trajectory {
            prefix: vec![END, 5],
            lines: vec![vec![6, NEWLINE], vec![END]],
        },
        latents: latents.to_vec(),
    }
}

/// Another one for each kind of token.
const WEIGHTS: TokenWeights = TokenWeights {
    prefix: 0.5,
    line: 1.0,
    decision: 0.25,
    rationale: 2.0,
};

/// Shares multiply the weights of a draw's tokens, and the batch is a mean over documents' tokens:
/// draws that share a document do not count as two.
#[test]
fn an_m_step_by_hand() {
    let think = Latent::Switch {
        rationale: vec![7],
        forced_close: true,
    };
    let plain = with_latents(&[None, None]);
    let draws = [
        with_latents(&[Some(think), Some(Latent::Keep)]),
        plain.clone(),
    ];
    let batch = [
        AnnotatedDocument {
            draws: draws
                .map(|annotated| Draw {
                    annotated,
                    share: 0.5,
                })
                .into(),
            n_corpus_tokens: 0,
        },
        AnnotatedDocument::single(plain, 0),
    ];
    let mut policy = Scripted::new(&[], |_, _| -1.0);
    let stats =
        m_step::update(&mut policy, &batch, &[], &MARKERS, WEIGHTS, 0.125).expect("no failure");
    assert_eq!(stats.loss, 1.0, "the policy's own report");
    assert_eq!(policy.updates[0].1.learning_rate, 0.125);
    assert_eq!(policy.updates[0].1.surrogate, Surrogate::LogLikelihood);
    let examples = policy.trained();
    assert_eq!(
        examples[0].tokens,
        [END, 5, THINK, 7, CLOSE, 6, NEWLINE, ACT, END]
    );
    assert_eq!(examples[1].tokens, [END, 5, 6, NEWLINE, END]);
    assert_eq!(examples[2].tokens, examples[1].tokens);
    // 1/2 · (1/2 + 1/4 + 2 + 0 + 1 + 1 + 1/4 + 1) = 3, 1/2 · (1/2 + 3) = 1.75, and 3.5.
    let sum = 8.25;
    let close = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected / sum).abs() < 1e-7, "{found} {expected}");
        }
    };
    let first = [0.0, 0.25, 0.125, 1.0, 0.0, 0.5, 0.5, 0.125, 0.5];
    close(&examples[0].weights, &first);
    close(&examples[1].weights, &[0.0, 0.25, 0.5, 0.5, 0.5]);
    close(&examples[2].weights, &[0.0, 0.5, 1.0, 1.0, 1.0]);
}

/// A document that is there for its lines has its latents as context, and no weight on them; the
/// mean is over what is learnt of all.
#[test]
fn latents_of_documents_for_lines_are_not_learnt() {
    let think = Latent::Switch {
        rationale: vec![7],
        forced_close: false,
    };
    let document = AnnotatedDocument::single(with_latents(&[Some(think), Some(Latent::Keep)]), 0);
    let (batch, for_lines) = (std::slice::from_ref(&document), [document.clone()]);
    let mut policy = Scripted::new(&[], |_, _| -1.0);
    m_step::update(&mut policy, batch, &for_lines, &MARKERS, WEIGHTS, 0.125).expect("no failure");
    let examples = policy.trained();
    // END 5 THINK 7 CLOSE 6 NEWLINE ACT END: 8 with all of it, 3.5 with prefix and lines alone.
    let learnt = [0.0, 0.5, 0.25, 2.0, 2.0, 1.0, 1.0, 0.25, 1.0];
    let lines = [0.0, 0.5, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    for (example, expected) in examples.iter().zip([learnt, lines]) {
        assert_eq!(example.tokens.len(), expected.len());
        for (found, expected) in example.weights.iter().zip(expected) {
            assert!((found - expected / 11.5).abs() < 1e-7, "{found} {expected}");
        }
    }
    assert_eq!(examples.len(), 2);
}

/// The M-step weighs the draws of a document against each other, alone in its batch too: its
/// gradient is the mean of theirs under their shares.
#[test]
fn shares_do_not_cancel_in_a_batch_of_one() {
    let weights = TokenWeights {
        prefix: 0.0,
        line: 1.0,
        decision: 0.0,
        rationale: 0.0,
    };
    let think = |token| {
        let latent = Latent::Switch {
            rationale: vec![token],
            forced_close: true,
        };
        with_latents(&[Some(latent), None])
    };
    for share in [0.125, 0.5, 0.9375] {
        let draws = [(6, share), (7, 1.0 - share)];
        let draws = draws.map(|(token, share)| Draw {
            annotated: think(token),
            share,
        });
        let batch = [AnnotatedDocument {
            draws: draws.into(),
            n_corpus_tokens: 0,
        }];
        let mut policy = Scripted::new(&[], |_, _| -1.0);
        m_step::update(&mut policy, &batch, &[], &MARKERS, weights, 0.125).expect("no failure");
        // Three line tokens each.
        for (example, share) in policy.trained().iter().zip([share, 1.0 - share]) {
            let total: f32 = example.weights.iter().sum();
            assert!((total - share).abs() < 1e-6, "{total} {share}");
        }
    }
}

#[test]
fn next_token_prediction_by_hand() {
    let documents: Vec<Trajectory> = [vec![vec![6, NEWLINE], vec![END]], vec![vec![END]]]
        .map(|lines| Trajectory {
            prefix: vec![END, 5],
            lines,
        })
        .to_vec();
    let mut policy = Scripted::new(&[], |_, _| -1.0);
    ntp::update(&mut policy, &documents, 0.5, 0.125).expect("no failure");
    let (examples, objective) = &policy.updates[0];
    assert_eq!(
        (objective.learning_rate, objective.surrogate),
        (0.125, Surrogate::LogLikelihood)
    );
    // Three line tokens and one, and half a token of each prefix: 5 in all.
    let fifth = 0.2f32;
    assert_eq!(examples[0].weights, [0.0, fifth / 2.0, fifth, fifth, fifth]);
    assert_eq!(examples[1].weights, [0.0, fifth / 2.0, fifth]);
}

/// By hand: nothing follows the last target, and what belongs to a position goes with it.
#[test]
fn what_is_learnt_ends_with_the_last_target() {
    let restriction = |position| ra3::policy::Restriction {
        position,
        choices: [7, 8].into(),
    };
    let whole = Example {
        tokens: vec![5, 7, 8, 9],
        weights: vec![0.0, 0.0, -0.5, 0.0],
        restrictions: vec![restriction(1), restriction(3)],
        old_logprobs: vec![0.1, 0.2, 0.3, 0.4],
    };
    let expected = Example {
        tokens: vec![5, 7, 8],
        weights: vec![0.0, 0.0, -0.5],
        restrictions: vec![restriction(1)],
        old_logprobs: vec![0.1, 0.2, 0.3],
    };
    assert_eq!(whole.learnt(), expected);
    assert_eq!(expected.learnt(), expected);
    let nothing = Example::plain(vec![5, 7], vec![0.0; 2]);
    assert_eq!(nothing.learnt(), Example::plain(vec![5], vec![0.0]));
    let none = Example::plain(Vec::new(), Vec::new());
    assert_eq!(none.learnt(), none);
}
