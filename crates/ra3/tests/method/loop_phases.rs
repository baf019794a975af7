//! The loop's phases, for counts of any size, zero included.

use proptest::prelude::*;
use ra3::phases::{EmConfig, Phase, Place};

use crate::settings::{ABLATIONS, em};

/// What the documentation says, written out: the phases in their order.
fn listed(config: &EmConfig) -> Vec<Place> {
    let n_batches = config.annotate_documents.div_ceil(config.m_batch_documents) as u64;
    let mut phases = vec![Phase::ColdStart; config.cold_start_updates as usize];
    let mut rounds = vec![0; phases.len()];
    for round in 0..config.rounds {
        if round >= config.selection_rounds {
            phases.extend((0..config.e_updates).map(|_| Phase::EStep));
        }
        phases.extend((0..n_batches).map(|_| Phase::Annotate));
        phases.extend((0..config.m_updates).map(|_| Phase::MStep));
        rounds.resize(phases.len(), round);
    }
    // What came before is counted one by one.
    let place = |at: usize| {
        let same = |before: &usize| phases[*before] == phases[at];
        let here = |before: &usize| same(before) && rounds[*before] == rounds[at];
        Place {
            phase: phases[at],
            round: rounds[at],
            index: (0..at).filter(here).count() as u64,
            nth: (0..at).filter(same).count() as u64,
        }
    };
    (0..phases.len()).map(place).collect()
}

#[test]
fn phases_by_hand() {
    let config = EmConfig {
        cold_start_updates: 1,
        rounds: 2,
        e_updates: 2,
        annotate_documents: 5,
        m_batch_documents: 4,
        m_updates: 1,
        ..em()
    };
    let place = |phase, round, index, nth| Place {
        phase,
        round,
        index,
        nth,
    };
    let expected = [
        place(Phase::ColdStart, 0, 0, 0),
        place(Phase::EStep, 0, 0, 0),
        place(Phase::EStep, 0, 1, 1),
        place(Phase::Annotate, 0, 0, 0),
        place(Phase::Annotate, 0, 1, 1),
        place(Phase::MStep, 0, 0, 0),
        place(Phase::EStep, 1, 0, 2),
        place(Phase::EStep, 1, 1, 3),
        place(Phase::Annotate, 1, 0, 2),
        place(Phase::Annotate, 1, 1, 3),
        place(Phase::MStep, 1, 0, 1),
    ];
    assert_eq!(config.n_positions(), 11);
    let found: Vec<Place> = (0..11).filter_map(|at| config.place(at)).collect();
    assert_eq!(found, expected);
    assert_eq!(config.place(11), None);
    let counts = config.phases();
    let phase = |phase, round, n| (phase, round, n);
    assert_eq!(
        counts,
        [
            phase(Phase::ColdStart, 0, 1),
            phase(Phase::EStep, 0, 2),
            phase(Phase::Annotate, 0, 2),
            phase(Phase::MStep, 0, 1),
            phase(Phase::EStep, 1, 2),
            phase(Phase::Annotate, 1, 2),
            phase(Phase::MStep, 1, 1),
        ]
    );
}

/// The search begins in the second round, and counts from there.
#[test]
fn rounds_of_selection_by_hand() {
    let config = EmConfig {
        cold_start_updates: 0,
        rounds: 3,
        selection_rounds: 1,
        e_updates: 1,
        annotate_documents: 4,
        m_batch_documents: 4,
        m_updates: 1,
        ..em()
    };
    let places = (0..config.n_positions()).filter_map(|at| config.place(at));
    let found: Vec<_> = places.map(|it| (it.phase, it.round, it.nth)).collect();
    let expected = [
        (Phase::Annotate, 0, 0),
        (Phase::MStep, 0, 0),
        (Phase::EStep, 1, 0),
        (Phase::Annotate, 1, 1),
        (Phase::MStep, 1, 1),
        (Phase::EStep, 2, 1),
        (Phase::Annotate, 2, 2),
        (Phase::MStep, 2, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(config.n_e_updates(), 2);
    let none = EmConfig {
        selection_rounds: 5,
        ..config
    };
    assert_eq!(none.n_e_updates(), 0);
}

/// What a comparison leaves out has no positions.
#[test]
fn what_is_left_out_has_no_place() {
    let phases = |leave_out: fn(EmConfig) -> EmConfig| -> String {
        let config = leave_out(em());
        let letter = |place: Place| match place.phase {
            Phase::ColdStart => 'c',
            Phase::EStep => 'e',
            Phase::Annotate => 'a',
            Phase::MStep => 'm',
        };
        let places = (0..config.n_positions()).filter_map(|at| config.place(at));
        places.map(letter).collect()
    };
    let whole = "cceeeaammeeeaamm";
    assert_eq!(
        ABLATIONS.map(phases),
        [whole, "cceeeeee", "ccaammaamm", "ccaammaamm"]
    );
}

#[test]
fn a_phase_begins_where_its_first_position_is() {
    let config = em();
    let begins: String = (0..=config.n_positions())
        .map(|position| match config.place(position) {
            Some(Place {
                phase: Phase::EStep,
                index: 0,
                ..
            }) => 'E',
            Some(Place { index: 0, .. }) => 'b',
            Some(_) | None => '.',
        })
        .collect();
    // cc eeeaamm eeeaamm and the end.
    assert_eq!(begins, "b.E..b.b.E..b.b..");
}

prop_compose! {
    fn any_config()(
        cold_start_updates in 0u64..4,
        rounds in 0u64..4,
        selection_rounds in 0u64..4,
        e_updates in 0u64..4,
        m_updates in 0u64..4,
        annotate_documents in 0usize..12,
        m_batch_documents in 1usize..6,
        leave_out in prop::sample::select(ABLATIONS.to_vec()),
    ) -> EmConfig {
        leave_out(EmConfig {
            cold_start_updates,
            rounds,
            selection_rounds,
            e_updates,
            m_updates,
            annotate_documents,
            m_batch_documents,
            ..em()
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_position_has_its_phase(config in any_config(), beyond in 0u64..1000) {
        let expected = listed(&config);
        prop_assert_eq!(config.n_positions(), expected.len() as u64);
        let is_supervised =
            |place: &&Place| matches!(place.phase, Phase::ColdStart | Phase::MStep);
        let n_supervised = expected.iter().filter(is_supervised).count() as u64;
        prop_assert_eq!(config.n_supervised_updates(), n_supervised);
        let n_searching = expected.iter().filter(|place| place.phase == Phase::EStep).count();
        prop_assert_eq!(config.n_e_updates(), n_searching as u64);
        for (position, place) in expected.iter().enumerate() {
            prop_assert_eq!(config.place(position as u64), Some(*place));
        }
        prop_assert_eq!(config.place(config.n_positions() + beyond), None);
    }
}
