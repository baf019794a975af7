//! What each position of the loop trains on: its step size, its documents, its draws.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use ra3::annotate::Choose;
use ra3::e_step::Policies;
use ra3::em::{Ablation, Em, EmConfig, EmReport, Phase};
use ra3::m_step::WeightedAnnotated;
use ra3::policy::TokenId;
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3::trajectory::{Annotated, Document, Latent, Trajectory};

use crate::recording::Recording;
use crate::settings::{CLIP, END, MARKERS, NEWLINE, TEXT, VOCABULARY, alone, em, table};

const N_DOCUMENTS: usize = 12;
const SEED: u64 = 3;

/// A document that says its index, and has a comment before its second line.
fn document(index: usize) -> Document {
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

fn begin(config: EmConfig) -> Em {
    Em {
        config,
        markers: MARKERS,
        position: 0,
        annotated: Vec::new(),
    }
}

/// Runs the whole loop, and says which documents each position asked for.
fn run(config: EmConfig, policy: &mut Recording) -> (Vec<EmReport>, Vec<Vec<usize>>) {
    let mut em = begin(config);
    let (mut reports, mut asked) = (vec![], vec![]);
    loop {
        let here = RefCell::new(vec![]);
        let documents = |index| {
            here.borrow_mut().push(index);
            document(index)
        };
        let policies = &mut alone(policy);
        let report = em
            .advance(policies, &documents, N_DOCUMENTS, Seed::root(SEED))
            .expect("documents fit");
        let Some(report) = report else {
            return (reports, asked);
        };
        reports.push(report);
        asked.push(here.into_inner());
    }
}

fn phase_of(report: &EmReport) -> Phase {
    match report {
        EmReport::Supervised { phase, .. }
        | EmReport::EStep { phase, .. }
        | EmReport::Annotate { phase, .. } => *phase,
    }
}

/// One schedule runs over all supervised updates and one over all E-steps, not over a round's.
#[test]
fn step_sizes_go_on_over_the_rounds() {
    let cosine = |peak, n_updates| Schedule::Cosine {
        peak,
        warmup: 2,
        n_updates,
        floor_share: 0.1,
    };
    let config = EmConfig {
        rounds: 3,
        supervised_schedule: cosine(0.3, 8),
        e_schedule: cosine(0.2, 9),
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, _) = run(config, &mut policy);
    let (mut e, mut supervised) = (0..9, 0..8);
    let mut expected = vec![];
    for phase in reports.iter().map(phase_of) {
        expected.extend(match phase {
            Phase::ColdStart { .. } | Phase::MStep { .. } => {
                supervised.next().map(|index| cosine(0.3, 8).at(index))
            }
            Phase::EStep { .. } => e.next().map(|index| cosine(0.2, 9).at(index)),
            Phase::Annotate { .. } => None,
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
    let of = |name: &str| -> Vec<usize> {
        let is_of = |report: &&EmReport| match phase_of(report) {
            Phase::ColdStart { .. } => name == "cold start",
            Phase::EStep { .. } => name == "E-step",
            Phase::Annotate { .. } => name == "annotation",
            Phase::MStep { .. } => name == "M-step",
        };
        let rows = reports.iter().zip(&asked);
        rows.filter(|(report, _)| is_of(report))
            .flat_map(|(_, documents)| documents.clone())
            .collect()
    };
    let mut orders = BTreeSet::new();
    for (name, n_epochs) in [("cold start", 2), ("E-step", 4), ("annotation", 4)] {
        let all = of(name);
        assert_eq!(all.len(), n_epochs * N_DOCUMENTS, "{name}");
        for epoch in all.chunks(N_DOCUMENTS) {
            let seen: BTreeSet<usize> = epoch.iter().copied().collect();
            assert_eq!(seen.len(), N_DOCUMENTS, "{name}: every document once");
            assert!(orders.insert(epoch.to_vec()), "{name}: an order of its own");
        }
    }
    assert!(of("M-step").is_empty(), "the M-step learns what was kept");
}

/// The M-step's batches are epochs of the round's own data.
#[test]
fn the_m_step_sees_the_rounds_data_once_an_epoch() {
    let config = EmConfig {
        cold_start_updates: 0,
        e_updates: 0,
        rounds: 3,
        m_updates: 4,
        corpus_latents_share: 1.0,
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, asked) = run(config, &mut policy);
    let annotated = reports
        .iter()
        .zip(&asked)
        .filter(|(report, _)| matches!(phase_of(report), Phase::Annotate { .. }));
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
        let mut em = begin(em());
        while em
            .advance(
                &mut alone(&mut policy),
                &document,
                N_DOCUMENTS,
                Seed::root(seed),
            )
            .expect("documents fit")
            .is_some()
        {}
        policy.seeds
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
        choose: Choose::ImportanceWeights(2),
        ..em()
    };
    let mut policy = Recording::new(table(1));
    let (reports, asked) = run(config, &mut policy);
    let count = |documents: &[usize]| documents.iter().map(|index| 1 << index).sum::<u64>();
    let mut updates = policy.updates.iter();
    for (report, asked) in reports.iter().zip(&asked) {
        let (found, documents) = match report {
            EmReport::Supervised {
                n_corpus_tokens, ..
            } => {
                let (examples, _) = updates.next().expect("an update");
                let documents = examples.iter().map(|e| index_of(&e.tokens)).collect();
                (n_corpus_tokens, documents)
            }
            EmReport::EStep {
                n_corpus_tokens, ..
            } => {
                updates.next().expect("an update");
                (n_corpus_tokens, asked.clone())
            }
            EmReport::Annotate { .. } => continue,
        };
        assert_eq!(*found, count(&documents));
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
            corpus_latents_share: share,
            ..em()
        };
        // Thinking is impossible for this model: what is thought is the corpus' own.
        let mut table = table(1);
        let contexts = table.logits.chunks_mut(VOCABULARY);
        contexts.for_each(|logits| logits[MARKERS.think as usize] = -200.0);
        let mut policy = Recording::new(table);
        let mut em = begin(config);
        for (batch, n_own) in n_own.into_iter().enumerate() {
            let policies = &mut alone(&mut policy);
            let report = em
                .advance(policies, &document, N_DOCUMENTS, Seed::root(SEED))
                .expect("documents fit");
            let own = document(0).annotated.latents;
            let thinks = |row: &&WeightedAnnotated| row.annotated.latents == own;
            assert_eq!(em.annotated.len(), 4 * (batch + 1));
            let found = em.annotated[4 * batch..].iter().filter(thinks).count();
            assert_eq!(found, n_own, "{share}");
            assert!(em.annotated.iter().all(|row| row.weight == 1.0));
            let Some(EmReport::Annotate { latents, work, .. }) = report else {
                panic!("{report:?} is no annotation");
            };
            assert_eq!(latents.think_rate, 0.0, "figures are on what was drawn");
            assert_eq!(work.n_tokens_sampled, 3 * (4 - n_own as u64));
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
            corpus_latents_share: f32::from(tenths) / 10.0,
            ..em()
        };
        let mut policy = Recording::new(table(1));
        let (reports, _) = run(config, &mut policy);
        // Whoever keeps its own latents costs nothing.
        let is_own = |report: &&EmReport| match report {
            EmReport::Annotate { work, .. } => work.n_tokens == 0,
            EmReport::Supervised { .. } | EmReport::EStep { .. } => false,
        };
        assert_eq!(reports.len(), 20);
        let n_own = reports.iter().filter(is_own).count();
        assert_eq!(n_own, 2 * usize::from(tenths));
    }
}

#[test]
fn a_phase_begins_where_its_first_position_is() {
    let mut em = begin(em());
    let begins: String = (0..=em.config.n_positions())
        .map(|position| {
            em.position = position;
            match (em.begins_e_step(), em.begins_phase()) {
                (true, true) => 'E',
                (false, true) => 'b',
                (false, false) => '.',
                (true, false) => '!',
            }
        })
        .collect();
    // cc eeeaamm eeeaamm and the end.
    assert_eq!(begins, "b.E..b.b.E..b.b..");
}

/// The loop, its model and its scorer at one position.
#[derive(Clone)]
struct State {
    em: Em,
    policy: TablePolicy,
    scorer: TablePolicy,
}

impl State {
    fn advance(&mut self) -> Option<EmReport> {
        if self.em.begins_e_step() {
            self.scorer = self.policy.clone();
        }
        let mut policies = Policies {
            policy: &mut self.policy,
            scorer: Some(&mut self.scorer),
            reference: None,
        };
        self.em
            .advance(&mut policies, &document, N_DOCUMENTS, Seed::root(SEED))
            .expect("documents fit")
    }
}

prop_compose! {
    fn any_config()(
        cold_start_updates in 0u64..3,
        rounds in 0u64..3,
        e_updates in 0u64..3,
        m_updates in 0u64..3,
        annotate_documents in 1usize..6,
        e_batch_documents in 1usize..4,
        m_batch_documents in 1usize..4,
        corpus_latents_share in 0.0f32..=1.0,
        choose in prop::sample::select(vec![
            Choose::Sample,
            Choose::BestOf(2),
            Choose::ImportanceWeights(2),
        ]),
        ablation in prop::sample::select(vec![
            Ablation::None,
            Ablation::NoEm,
            Ablation::NoRl,
            Ablation::RandomRationales,
        ]),
        clips in any::<bool>(),
    ) -> EmConfig {
        let mut config = EmConfig {
            cold_start_updates,
            rounds,
            e_updates,
            m_updates,
            annotate_documents,
            e_batch_documents,
            m_batch_documents,
            corpus_latents_share,
            choose,
            ablation,
            ..em()
        };
        if clips {
            config.e_step.surrogate = CLIP;
            config.e_step.updates_per_batch = 2;
        }
        config
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A run that is stopped at any position and goes on from what was kept ends in the same bits.
    #[test]
    fn a_run_continues_from_any_position(
        config in any_config(),
        stop in any::<prop::sample::Index>(),
    ) {
        let mut whole = State {
            em: begin(config.clone()),
            policy: table(1),
            scorer: table(1),
        };
        let stop = stop.index(config.n_positions() as usize + 1);
        let mut kept = whole.clone();
        let mut reports = vec![];
        for position in 0.. {
            if position == stop {
                kept = whole.clone();
            }
            let Some(report) = whole.advance() else {
                break;
            };
            reports.push(report);
        }
        prop_assert_eq!(reports.len() as u64, config.n_positions());
        for expected in &reports[stop..] {
            let found = kept.advance();
            prop_assert_eq!(found.as_ref(), Some(expected));
        }
        prop_assert_eq!(kept.advance(), None);
        prop_assert!(whole.policy.logits.iter().all(|logit| logit.is_finite()));
        prop_assert_eq!(kept.policy, whole.policy);
    }
}
