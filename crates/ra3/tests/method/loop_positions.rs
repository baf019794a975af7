//! What each position of the loop trains on: its step size, its documents, its draws.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ra3::annotate::Choose;
use ra3::em::Em;
use ra3::m_step::AnnotatedDocument;
use ra3::phases::{Done, EmConfig, EmReport, Phase};
use ra3::policy::{Policy, TokenId};
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3::settings::{EStepConfig, MStepConfig};
use ra3::trajectory::{Annotated, Document, Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{END, MARKERS, NEWLINE, TEXT, VOCABULARY, e_step, em, table};

pub(crate) const N_DOCUMENTS: usize = 12;
const SEED: u64 = 3;

/// So many documents keep the corpus' own latents.
fn with_share(corpus_latents_share: f32) -> MStepConfig {
    MStepConfig {
        corpus_latents_share,
        ..MStepConfig::default()
    }
}

/// A document that says its index, and has a comment before its second line.
pub(crate) fn document(index: usize) -> Document {
    let digit = |value: usize| TEXT + value as TokenId;
    let annotated = Annotated {
        trajectory: Trajectory {
            prefix: vec![
                END,
                digit(index / 9),
                digit(index / 3 % 3),
                digit(index % 3),
            ],
            lines: vec![vec![6, NEWLINE], vec![7, NEWLINE], vec![END]],
        },
        latents: vec![
            Some(Latent::Keep),
            Some(Latent::Switch {
                rationale: vec![7],
                forced_close: true,
            }),
            Some(Latent::Keep),
        ],
    };
    Document {
        annotated,
        n_corpus_tokens: 1 << index,
    }
}

fn index_of(tokens: &[TokenId]) -> usize {
    let digit = |at: usize| (tokens[at] - TEXT) as usize;
    9 * digit(1) + 3 * digit(2) + digit(3)
}

/// Does the next position.
pub(crate) fn advance(em: &mut Em, policy: &mut dyn Policy) -> Option<EmReport> {
    advance_on(em, policy, &document, SEED)
}

/// Does the next position: one at a time, and so to an end.
fn advance_on(
    em: &mut Em,
    policy: &mut dyn Policy,
    documents: &dyn Fn(usize) -> Document,
    seed: u64,
) -> Option<EmReport> {
    let position = em.position;
    let report = em
        .advance(policy, documents, Seed::root(seed))
        .expect("documents fit");
    assert_eq!(em.position, position + u64::from(report.is_some()));
    report
}

/// Runs the whole loop, and says which documents each position asked for.
pub(crate) fn run(config: EmConfig, policy: &mut Recording) -> (Vec<EmReport>, Vec<Vec<usize>>) {
    let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
    let (mut reports, mut asked) = (vec![], vec![]);
    loop {
        let here = RefCell::new(vec![]);
        let documents = |index| {
            here.borrow_mut().push(index);
            document(index)
        };
        let Some(report) = advance_on(&mut em, policy, &documents, SEED) else {
            return (reports, asked);
        };
        reports.push(report);
        asked.push(here.into_inner());
    }
}

/// One schedule runs over all supervised updates and one over all E-steps, not over a round's.
#[test]
fn step_sizes_go_on_over_the_rounds() {
    let cosine = |peak| Schedule::Cosine {
        peak,
        warmup: 2,
        floor_share: 0.1,
    };
    let config = EmConfig {
        rounds: 3,
        supervised_schedule: cosine(0.3),
        e_step: EStepConfig {
            learning_rate: 0.2,
            warmup: 7,
            ..e_step()
        },
        ..em()
    };
    let rising = Schedule::Constant {
        peak: 0.2,
        warmup: 7,
    };
    let mut policy = Recording::new(table(1));
    let (reports, _) = run(config, &mut policy);
    let (mut e, mut supervised) = (0..9, 0..8);
    let mut expected = vec![];
    for report in &reports {
        expected.extend(match report.place.phase {
            Phase::ColdStart | Phase::MStep => {
                supervised.next().map(|index| cosine(0.3).at(index, 8))
            }
            Phase::EStep => e.next().map(|index| rising.at(index, 9)),
            Phase::Annotate => None,
        });
    }
    assert_eq!(policy.learning_rates(), expected);
    assert_eq!((e.next(), supervised.next()), (None, None), "all were used");
    assert_eq!(expected.len(), 2 + 9 + 6);
    let distinct: BTreeSet<u32> = expected.iter().map(|rate| rate.to_bits()).collect();
    assert!(distinct.len() > 10, "the schedules move");
}

/// Documents come in epochs that go on over the rounds; no phase repeats the order of another.
#[test]
fn documents_come_in_epochs_that_go_on_over_the_rounds() {
    let config = EmConfig {
        cold_start_updates: 6,
        rounds: 4,
        e_updates: 3,
        annotate_documents: 12,
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, asked) = run(config, &mut policy);
    let of = |phase: Phase| -> Vec<usize> {
        let rows = reports.iter().zip(&asked);
        rows.filter(|(report, _)| report.place.phase == phase)
            .flat_map(|(_, documents)| documents.clone())
            .collect()
    };
    let mut orders = BTreeSet::new();
    for (phase, n_epochs) in [
        (Phase::ColdStart, 2),
        (Phase::EStep, 4),
        (Phase::Annotate, 4),
    ] {
        let all = of(phase);
        assert_eq!(all.len(), n_epochs * N_DOCUMENTS, "{phase:?}");
        for epoch in all.chunks(N_DOCUMENTS) {
            let seen: BTreeSet<usize> = epoch.iter().copied().collect();
            assert_eq!(seen.len(), N_DOCUMENTS, "{phase:?}: every document once");
            assert!(
                orders.insert(epoch.to_vec()),
                "{phase:?}: an order of its own"
            );
        }
    }
    assert!(
        of(Phase::MStep).is_empty(),
        "the M-step learns what was kept"
    );
}

/// The M-step's batches are epochs of the round's own data.
#[test]
fn the_m_step_sees_the_rounds_data_once_an_epoch() {
    let config = EmConfig {
        cold_start_updates: 0,
        e_updates: 0,
        rounds: 3,
        m_updates: 4,
        m_step: with_share(1.0),
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, asked) = run(config, &mut policy);
    let annotated = reports
        .iter()
        .zip(&asked)
        .filter(|(report, _)| report.place.phase == Phase::Annotate);
    let drawn: Vec<usize> = annotated
        .flat_map(|(_, documents)| documents.clone())
        .collect();
    let trained: Vec<Vec<usize>> = policy
        .updates
        .iter()
        .map(|(examples, _)| examples.iter().map(|e| index_of(&e.tokens)).collect())
        .collect();
    assert_eq!(trained.len(), 12);
    let mut orders = BTreeSet::new();
    let sorted = |documents: &[usize]| {
        let mut documents = documents.to_vec();
        documents.sort_unstable();
        documents
    };
    for (round, updates) in trained.chunks(4).enumerate() {
        let data = sorted(&drawn[8 * round..8 * (round + 1)]);
        // Two epochs of eight documents in four updates of four.
        for epoch in updates.chunks(2) {
            assert_eq!(sorted(&epoch.concat()), data, "round {round}");
            assert!(orders.insert(epoch.concat()), "an order of its own");
        }
    }
}

/// No two positions draw the same; the same run draws the same again.
#[test]
fn every_position_has_draws_of_its_own() {
    let seeds = |seed| {
        let mut policy = Recording::new(table(1));
        let mut em = Em::new(em(), MARKERS, N_DOCUMENTS);
        while advance_on(&mut em, &mut policy, &document, seed).is_some() {}
        policy.seeds.into_inner()
    };
    let found = seeds(SEED);
    // Two rounds of three E-steps and two batches of annotation.
    assert_eq!(found.len(), 10);
    for (index, seed) in found.iter().enumerate() {
        assert!(!found[..index].contains(seed), "position {index}");
    }
    assert_eq!(seeds(SEED), found);
    assert!(seeds(SEED + 1).iter().all(|seed| !found.contains(seed)));
}

/// Each position says the corpus tokens of the documents that it used: a document counts as it
/// stands in the corpus, whatever was made of it.
#[test]
fn corpus_tokens_are_those_of_the_documents() {
    let config = EmConfig {
        m_step: MStepConfig {
            choose: Choose::ImportanceWeights { group_size: 2 },
            ..with_share(0.0)
        },
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, asked) = run(config, &mut policy);
    let count = |documents: &[usize]| documents.iter().map(|index| 1 << index).sum::<u64>();
    let mut updates = policy.updates.iter();
    for (report, asked) in reports.iter().zip(&asked) {
        let documents = match report.done {
            Done::Supervised(_) => {
                let (examples, _) = updates.next().expect("an update");
                let mut found: Vec<usize> = examples.iter().map(|e| index_of(&e.tokens)).collect();
                if report.place.phase == Phase::MStep {
                    // Both draws of a document are learnt from together, and it counts once.
                    let pairs = found.chunks(2);
                    assert!(pairs.clone().all(|pair| pair[0] == pair[1]));
                    found = pairs.map(|pair| pair[0]).collect();
                }
                found
            }
            Done::EStep(_) => {
                updates.next().expect("an update");
                asked.clone()
            }
            // Nothing is learnt from them yet.
            Done::Annotated(_) => vec![],
        };
        assert_eq!(report.n_corpus_tokens, count(&documents));
    }
}

/// The corpus' own latents and the searched ones, in the shares that were asked for.
#[test]
fn annotation_keeps_the_share_of_the_corpus_own_latents() {
    for (share, n_own) in [(0.0, [0, 0]), (0.375, [1, 2]), (0.5, [2, 2]), (1.0, [4, 4])] {
        let config = EmConfig {
            cold_start_updates: 0,
            rounds: 1,
            e_updates: 0,
            m_updates: 0,
            m_step: with_share(share),
            ..em()
        };
        // Thinking is impossible for this model: what is thought is the corpus' own.
        let mut table = table(1);
        let contexts = table.logits.chunks_mut(VOCABULARY);
        contexts.for_each(|logits| logits[MARKERS.think as usize] = -200.0);
        let mut policy = Recording::new(table);
        let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
        for (batch, n_own) in n_own.into_iter().enumerate() {
            let report = advance(&mut em, &mut policy).expect("a batch");
            let own = document(0).annotated.latents;
            let thinks = |row: &&AnnotatedDocument| row.draws[0].annotated.latents == own;
            assert_eq!(em.annotated.len(), 4 * (batch + 1));
            let found = em.annotated[4 * batch..].iter().filter(thinks).count();
            assert_eq!(found, n_own, "{share}");
            let is_alone =
                |row: &AnnotatedDocument| row.draws.len() == 1 && row.draws[0].share == 1.0;
            assert!(em.annotated.iter().all(is_alone));
            let Done::Annotated(latents) = report.done else {
                panic!("{report:?} is no annotation");
            };
            assert_eq!(latents.think_rate, 0.0, "figures are on what was drawn");
            assert_eq!(report.work.n_tokens_sampled, 3 * (4 - n_own as u64));
        }
    }
}

/// Every tenth of twenty documents, one by one: no share is lost in rounding.
#[test]
fn shares_of_the_corpus_own_latents_are_exact() {
    for tenths in 0..=10u16 {
        let config = EmConfig {
            cold_start_updates: 0,
            rounds: 1,
            e_updates: 0,
            m_updates: 0,
            annotate_documents: 20,
            m_batch_documents: 1,
            m_step: with_share(f32::from(tenths) / 10.0),
            ..em()
        };
        let mut policy = Recording::new(table(1));
        let (reports, _) = run(config, &mut policy);
        // Whoever keeps its own latents costs nothing.
        let is_own = |report: &&EmReport| {
            matches!(report.done, Done::Annotated(_)) && report.work.n_tokens == 0
        };
        assert_eq!(reports.len(), 20);
        let n_own = reports.iter().filter(is_own).count();
        assert_eq!(n_own, 2 * usize::from(tenths));
    }
}

/// Without its rationale.
fn bare(index: usize) -> Document {
    let mut document = document(index);
    document.annotated.latents[1] = Some(Latent::Keep);
    document
}

/// A cold start that is given documents asks for no other, in epochs of their own.
#[test]
fn the_cold_start_keeps_to_the_documents_that_it_is_given() {
    let given = [3, 4, 9, 15, 20];
    let config = EmConfig {
        cold_start_updates: 5,
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
    em.cold_start_documents = given.to_vec();
    let asked = RefCell::new(vec![]);
    let documents = |index| {
        asked.borrow_mut().push(index);
        document(index)
    };
    for _ in 0..5 {
        advance_on(&mut em, &mut policy, &documents, SEED).expect("an update");
    }
    // Five updates of four are four epochs of five.
    for epoch in asked.take().chunks(given.len()) {
        let epoch: BTreeSet<usize> = epoch.iter().copied().collect();
        assert_eq!(epoch, BTreeSet::from(given));
    }
    advance_on(&mut em, &mut policy, &documents, SEED).expect("an E-step");
    assert!(asked.take().iter().any(|index| !given.contains(index)));
}

/// Part of a cold start batch is drawn among all documents, in epochs of its own, and of these the
/// lines alone are learnt; never the whole batch.
#[test]
fn a_share_of_the_cold_start_is_there_for_its_lines() {
    let given = [1, 2, 5];
    for (share, n_for_lines) in [(0.0, 0), (0.25, 1), (0.74, 3), (0.99, 3)] {
        let config = EmConfig {
            cold_start_updates: 6,
            cold_start_lines_share: share,
            ..em()
        };
        let mut policy = Recording::new(table(1));
        let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
        em.cold_start_documents = given.to_vec();
        let mut for_lines = vec![];
        for _ in 0..6 {
            let report = advance_on(&mut em, &mut policy, &document, SEED).expect("an update");
            let (examples, _) = policy.updates.last().expect("an update");
            assert_eq!(examples.len(), 4);
            let documents: Vec<usize> = examples.iter().map(|it| index_of(&it.tokens)).collect();
            let n_tokens: u64 = documents.iter().map(|index| 1 << index).sum();
            assert_eq!(report.n_corpus_tokens, n_tokens);
            let (learnt, lines) = documents.split_at(4 - n_for_lines);
            assert!(learnt.iter().all(|index| given.contains(index)));
            for_lines.extend_from_slice(lines);
            for (place, example) in examples.iter().enumerate() {
                let markers = [MARKERS.act, MARKERS.think, MARKERS.close];
                let tokens = example.tokens.iter().zip(&example.weights);
                let marked = tokens.filter(|(token, _)| markers.contains(token));
                let has_weight = marked.clone().any(|(_, weight)| *weight > 0.0);
                assert!(marked.count() > 0);
                assert_eq!(has_weight, place < 4 - n_for_lines, "{share} {place}");
            }
        }
        for epoch in for_lines.chunks_exact(N_DOCUMENTS) {
            let epoch: BTreeSet<usize> = epoch.iter().copied().collect();
            assert_eq!(epoch.len(), N_DOCUMENTS);
        }
    }
}

/// What has no latents of its own is searched, whatever share keeps its own.
#[test]
fn documents_without_latents_are_always_searched() {
    let config = EmConfig {
        cold_start_updates: 0,
        rounds: 1,
        e_updates: 0,
        m_updates: 0,
        m_step: with_share(1.0),
        ..em()
    };
    for (documents, n_drawn) in [(document as fn(usize) -> Document, 0), (bare, 4 * 3)] {
        let mut policy = Recording::new(table(1));
        let mut em = Em::new(config.clone(), MARKERS, N_DOCUMENTS);
        let report = advance_on(&mut em, &mut policy, &documents, SEED).expect("a batch");
        assert!(matches!(report.done, Done::Annotated(_)));
        assert!(report.work.n_tokens_sampled >= n_drawn);
        assert_eq!(report.work.n_tokens_sampled == 0, n_drawn == 0);
        assert_eq!(em.annotated.len(), 4);
    }
}
