//! The models that the loop keeps: copies of the policy where they are needed, and a run that goes
//! on from what was kept.

use proptest::prelude::*;
use ra3::annotate::Choose;
use ra3::em::Em;
use ra3::phases::{EmConfig, EmReport, Phase};
use ra3::policy::Policy;
use ra3::rewards::Penalty;
use ra3::scoring::{Frozen, lines_logprobs};
use ra3::settings::{EStepConfig, MStepConfig, Scorer};
use ra3::table::TablePolicy;
use ra3::trace::Trace;

use crate::loop_positions::{N_DOCUMENTS, advance, document, run};
use crate::recording::Recording;
use crate::settings::{ABLATIONS, MARKERS, e_step, em, table};

/// A copy of the frozen models.
fn copied(frozen: &Frozen) -> Frozen {
    let copy = |policy: &Option<Box<dyn Policy>>| policy.as_ref().map(|policy| policy.snapshot());
    Frozen {
        scorer: copy(&frozen.scorer),
        reference: copy(&frozen.reference),
    }
}

/// What a model says of a document tells it from others.
fn says(policy: &dyn Policy) -> Vec<Vec<f32>> {
    let trace = Trace::of(&document(0).annotated, &MARKERS);
    lines_logprobs(policy, &[trace]).expect("it fits").0
}

/// The scorer is the policy as it was where the latest E-step began, the reference as it was after
/// the cold start; neither is there before.
#[test]
fn frozen_models_are_the_policy_as_it_was() {
    let mut config = em();
    config.e_step.scorer = Scorer::Frozen;
    config.e_step.penalty = Penalty::ExactKl { alpha: 0.5 };
    let mut policy = Recording::new(table(1));
    let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
    let mut scorer = None;
    let mut reference = None;
    let mut marks = String::new();
    while let Some(place) = em.config.place(em.position) {
        let before = says(&policy.table);
        let n_before = policy.n_snapshots.get();
        if place.phase == Phase::EStep && place.index == 0 {
            scorer = Some(before.clone());
        }
        if place.phase != Phase::ColdStart && reference.is_none() {
            reference = Some(before);
        }
        advance(&mut em, &mut policy).expect("not the end");
        let n_taken = policy.n_snapshots.get() - n_before;
        marks.extend(char::from_digit(n_taken as u32, 10));
        assert_eq!(em.frozen.scorer.as_deref().map(says), scorer, "{place:?}");
        assert_eq!(
            em.frozen.reference.as_deref().map(says),
            reference,
            "{place:?}"
        );
    }
    // cc eeeaamm eeeaamm: each copy is taken where it is needed first.
    assert_eq!(marks, "0020000001000000");
    assert_ne!(scorer, reference, "the policy moves");
}

/// Nothing is copied where nothing asks for it.
#[test]
fn models_are_frozen_where_they_are_asked_for() {
    let n_snapshots = |config: EmConfig| {
        let mut policy = Recording::new(table(1));
        run(config, &mut policy);
        policy.n_snapshots.get()
    };
    assert_eq!(n_snapshots(em()), 0);
    let mut with_scorer = em();
    with_scorer.e_step.scorer = Scorer::Frozen;
    assert_eq!(n_snapshots(with_scorer), 2, "one a round");
    let mut exact = em();
    exact.e_step.penalty = Penalty::ExactKl { alpha: 0.5 };
    assert_eq!(n_snapshots(exact.clone()), 1);
    // Annotation needs a reference, too.
    let no_rl = ABLATIONS[2](exact.clone());
    assert_eq!(n_snapshots(no_rl), 1);
    let cold = EmConfig { rounds: 0, ..exact };
    assert_eq!(n_snapshots(cold), 0);
}

/// Random rationales are drawn evenly, whatever the temperature of the decisions.
#[test]
fn rationales_are_random_where_they_are_asked_to_be() {
    let temperatures = |is_random| {
        let config = EmConfig {
            cold_start_updates: 0,
            e_updates: 0,
            m_step: MStepConfig {
                corpus_latents_share: 0.0,
                random_rationales: is_random,
                ..MStepConfig::default()
            },
            ..em()
        };
        let mut policy = Recording::new(table(1));
        let mut em = Em::new(config, MARKERS, N_DOCUMENTS);
        advance(&mut em, &mut policy).expect("a batch of annotation");
        let rules = policy.rules.take().concat();
        let (decisions, rationales): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|rule| rule.choices.is_some());
        assert!(decisions.iter().all(|rule| rule.temperature == 1.0));
        assert!(!rationales.is_empty());
        let temperatures: Vec<f32> = rationales.iter().map(|rule| rule.temperature).collect();
        assert!(temperatures.iter().all(|one| *one == temperatures[0]));
        temperatures[0]
    };
    assert_eq!(temperatures(false), 1.0);
    assert_eq!(temperatures(true), f32::INFINITY);
}

/// The loop and its model at one position.
struct State {
    em: Em,
    policy: TablePolicy,
}

impl State {
    fn advance(&mut self) -> Option<EmReport> {
        advance(&mut self.em, &mut self.policy)
    }

    /// What a caller keeps to go on from here.
    fn kept(&self) -> Self {
        Self {
            em: Em {
                position: self.em.position,
                annotated: self.em.annotated.clone(),
                frozen: copied(&self.em.frozen),
                ..Em::new(self.em.config.clone(), MARKERS, N_DOCUMENTS)
            },
            policy: self.policy.clone(),
        }
    }
}

prop_compose! {
    fn any_config()(
        cold_start_updates in 0u64..3,
        rounds in 0u64..3,
        e_updates in 0u64..3,
        m_updates in 0u64..3,
        annotate_documents in 1usize..6,
        batch_documents in 1usize..4,
        m_batch_documents in 1usize..4,
        corpus_latents_share in 0.0f32..=1.0,
        choose in prop::sample::select(vec![
            Choose::Sample {},
            Choose::BestOf { group_size: 2 },
            Choose::ImportanceWeights { group_size: 2 },
        ]),
        leave_out in prop::sample::select(ABLATIONS.to_vec()),
        scorer in prop::sample::select(vec![Scorer::Live, Scorer::Frozen]),
        is_exact in any::<bool>(),
        clips in any::<bool>(),
    ) -> EmConfig {
        let mut config = leave_out(EmConfig {
            cold_start_updates,
            rounds,
            e_updates,
            m_updates,
            annotate_documents,
            m_batch_documents,
            e_step: EStepConfig {
                batch_documents,
                scorer,
                ..e_step()
            },
            m_step: MStepConfig {
                corpus_latents_share,
                choose,
                ..MStepConfig::default()
            },
            ..em()
        });
        if is_exact {
            config.e_step.penalty = Penalty::ExactKl { alpha: 0.75 };
        }
        if clips {
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
            em: Em::new(config.clone(), MARKERS, N_DOCUMENTS),
            policy: table(1),
        };
        let stop = stop.index(config.n_positions() as usize + 1);
        let mut kept = whole.kept();
        let mut reports = vec![];
        for position in 0.. {
            if position == stop {
                kept = whole.kept();
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
