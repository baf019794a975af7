//! Which draws the M-step learns from, by hand: the rollouts of the E-step's table.

use ra3::annotate::{Choose, annotate};
use ra3::latent_rule::{Decision, LatentRule};
use ra3::m_step::{AnnotatedDocument, Draw};
use ra3::policy::{SampleRule, TokenId};
use ra3::rewards::Penalty;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::trajectory::{Annotated, Document, Latent, Trajectory};

use crate::recording::Recording;
use crate::scripted::Scripted;
use crate::settings::{ACT, CLOSE, END, MARKERS, NEWLINE, THINK, table};

fn document() -> Document {
    let think = think(&[5, 5, 5]);
    Document {
        annotated: Annotated {
            trajectory: Trajectory {
                prefix: vec![END, 5],
                lines: vec![vec![5, NEWLINE], vec![END]],
            },
            // Its own latents are not looked at.
            latents: vec![Some(think), Some(Latent::Keep)],
        },
        n_corpus_tokens: 11,
    }
}

fn rule() -> LatentRule {
    LatentRule {
        markers: MARKERS,
        rationale_tokens_max: 2,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision: Decision::Free,
    }
}

/// A line's token has `−1`, after a `7` or a `6` in the history `−1/4`; markers have `−1/2`.
fn logprob(history: &[TokenId], token: TokenId) -> f32 {
    match token {
        ACT | THINK | CLOSE => -0.5,
        6 | 7 => -2.0,
        _ if history.contains(&7) || history.contains(&6) => -0.25,
        _ => -1.0,
    }
}

fn think(rationale: &[TokenId]) -> Latent {
    Latent::Switch {
        rationale: rationale.to_vec(),
        forced_close: false,
    }
}

const KEEP: Option<Latent> = Some(Latent::Keep);

/// Two documents and three rollouts of each.
fn draw(scripts: &[&[TokenId]], choose: Choose, penalty: Penalty) -> Vec<Vec<Draw>> {
    let policy = Scripted::new(scripts, logprob);
    let other = Document {
        n_corpus_tokens: 12,
        ..document()
    };
    let batch = vec![document(), other];
    let seed = Seed::root(4);
    let alone = Frozen::default();
    let (documents, work) =
        annotate(&policy, &alone, &batch, &rule(), choose, penalty, seed).expect("nothing fails");
    assert_eq!(*policy.seeds.borrow(), [seed]);
    // One run and no update; where draws are compared, the policy scores the lines, too.
    let n_scorings = usize::from(choose != Choose::Sample {});
    assert_eq!(policy.scored.borrow().len(), n_scorings);
    assert_eq!(work.flops, 1000.0 + 100.0 * n_scorings as f64);
    assert!(policy.updates.is_empty());
    // Each stands for the tokens of its own document.
    let n_corpus_tokens = |document: &AnnotatedDocument| document.n_corpus_tokens;
    let found: Vec<u64> = documents.iter().map(n_corpus_tokens).collect();
    assert_eq!(found, [11, 12]);
    documents
        .into_iter()
        .map(|document| document.draws)
        .collect()
}

/// Sums of rewards at cost 1/4: −3 for two acts, −1 for a think and an act.
const GROUPS: [&[TokenId]; 6] = [
    &[ACT, ACT],
    &[THINK, 7, CLOSE, ACT],
    &[THINK, 6, CLOSE, ACT],
    &[THINK, 6, CLOSE, ACT],
    &[ACT, ACT],
    &[THINK, 7, CLOSE, ACT],
];

#[test]
fn the_first_of_equals_is_the_best() {
    let rows = draw(
        &GROUPS,
        Choose::BestOf { group_size: 3 },
        Penalty::SwitchCost { cost: 0.25 },
    );
    assert!(rows.iter().all(|draws| draws.len() == 1));
    let rows = rows.concat();
    let found: Vec<_> = rows.iter().map(|row| &row.annotated.latents[..]).collect();
    assert_eq!(
        found,
        [&[Some(think(&[7])), KEEP][..], &[Some(think(&[6])), KEEP]]
    );
    assert!(rows.iter().all(|row| row.share == 1.0));
    // At a cost of 5 thoughts are not worth it.
    let rows = draw(
        &GROUPS,
        Choose::BestOf { group_size: 3 },
        Penalty::SwitchCost { cost: 5.0 },
    );
    let rows = rows.concat();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.annotated.latents == [KEEP, KEEP]));
}

#[test]
fn a_draw_stands_for_itself() {
    let rows = draw(
        &GROUPS[1..3],
        Choose::Sample {},
        Penalty::SwitchCost { cost: 0.25 },
    );
    let rows = rows.concat();
    let found: Vec<_> = rows
        .iter()
        .map(|row| row.annotated.latents[0].clone())
        .collect();
    assert_eq!(found, [Some(think(&[7])), Some(think(&[6]))]);
    assert!(rows.iter().all(|row| row.share == 1.0));
    assert!(
        rows.iter()
            .all(|row| row.annotated.trajectory == document().trajectory())
    );
}

#[test]
fn importance_weights_by_hand() {
    let close = |rows: &[Vec<Draw>], expected: [f64; 6]| {
        assert_eq!([rows[0].len(), rows[1].len()], [3, 3]);
        for (row, expected) in rows.concat().iter().zip(expected) {
            let share = f64::from(row.share);
            assert!((share - expected).abs() < 1e-6, "{share}");
        }
    };
    // Under the switch cost they are those of the rewards: e^−3 to e^−1 and e^−1.
    let rows = draw(
        &GROUPS,
        Choose::ImportanceWeights { group_size: 3 },
        Penalty::SwitchCost { cost: 0.25 },
    );
    let (act, other) = ((-3f64).exp(), (-1f64).exp());
    let sum = act + 2.0 * other;
    let (act, other) = (act / sum, other / sum);
    close(&rows, [act, other, other, other, act, other]);
    // Under the exact penalty Σ (log π + log p − log q), rationales their own p_0: for two acts
    // α² / (e^−3 · e^−1 …), in logarithms −3 + 2 log α + 1; for a think and an act
    // −3/4 + log (1 − α) + log α + 1 (both decisions have −1/2, the rationale cancels).
    let alpha = 0.75f32;
    let rows = draw(
        &GROUPS,
        Choose::ImportanceWeights { group_size: 3 },
        Penalty::ExactKl { alpha },
    );
    let (act, other) = ((-3f64).exp() * 0.75 * 0.75, (-0.75f64).exp() * 0.25 * 0.75);
    let sum = act + 2.0 * other;
    let (act, other) = (act / sum, other / sum);
    close(&rows, [act, other, other, other, act, other]);
}

/// A draw that counts next to nothing is not learnt from: its pass is not worth it.
#[test]
fn a_share_below_a_millionth_is_dropped() {
    let choose = Choose::ImportanceWeights { group_size: 3 };
    // Two acts beside twice a think: e^−12.75 / 2 is above a millionth, e^−13.75 / 2 is not.
    for (cost, n_kept) in [(-10.5, [3, 3]), (-11.5, [2, 2])] {
        let documents = draw(&GROUPS, choose, Penalty::SwitchCost { cost });
        assert_eq!([documents[0].len(), documents[1].len()], n_kept);
        let total: f32 = documents[0].iter().map(|draw| draw.share).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }
}

/// What a reference does not believe in weighs less.
#[test]
fn importance_weights_ask_the_reference() {
    let policy = Scripted::new(&GROUPS[..3], logprob);
    let reference = Scripted::new(&[], |_, token| if token == 7 { -5.0 } else { -2.0 });
    let frozen = Frozen {
        scorer: None,
        reference: Some(Box::new(reference)),
    };
    let choose = Choose::ImportanceWeights { group_size: 3 };
    let penalty = Penalty::ExactKl { alpha: 0.5 };
    let batch = [document()];
    let seed = Seed::root(4);
    let (rows, work) =
        annotate(&policy, &frozen, &batch, &rule(), choose, penalty, seed).expect("nothing fails");
    assert_eq!(work.flops, 1200.0, "a run, the lines and the rationales");
    // The two thoughts differ by e³ in p_0 alone.
    let draws = &rows[0].draws;
    let ratio = f64::from(draws[2].share / draws[1].share);
    assert!((ratio.ln() - 3.0).abs() < 1e-5, "{ratio}");
}

/// Decisions are drawn at the rule's temperature, rationales too, and these end at `</think>` or
/// after `M` tokens.
#[test]
fn latents_are_drawn_as_their_rule_says() {
    let rule = LatentRule {
        temperature: 0.625,
        rationale_temperature: 0.375,
        rationale_tokens_max: 7,
        ..rule()
    };
    let policy = Recording::new(table(1));
    let batch = vec![document(); 40];
    let penalty = Penalty::SwitchCost { cost: 0.0 };
    let (alone, seed) = (Frozen::default(), Seed::root(4));
    annotate(
        &policy,
        &alone,
        &batch,
        &rule,
        Choose::Sample {},
        penalty,
        seed,
    )
    .expect("it fits");
    let rules = policy.rules.borrow();
    let rules: Vec<&SampleRule> = rules.iter().flatten().collect();
    let (decisions, rationales): (Vec<&SampleRule>, Vec<&SampleRule>) =
        rules.iter().partition(|rule| rule.choices.is_some());
    assert_eq!(decisions.len(), 80, "one a line");
    assert!(!rationales.is_empty());
    for rule in decisions {
        assert_eq!((rule.temperature, rule.n_tokens_max), (0.625, 1));
        assert_eq!(rule.choices.as_deref(), Some(&[ACT, THINK][..]));
    }
    for rule in rationales {
        assert_eq!((rule.temperature, rule.n_tokens_max), (0.375, 7));
        assert_eq!((&*rule.stop, rule.choices.as_deref()), (&[CLOSE][..], None));
        assert_eq!((rule.top_k, rule.top_p), (None, None));
    }
}
