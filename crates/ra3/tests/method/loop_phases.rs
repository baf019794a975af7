//! The loop's phases, for counts of any size, zero included.

use proptest::prelude::*;
use ra3::em::{Ablation, EmConfig, Phase};

use crate::settings::em;

const ABLATIONS: [Ablation; 4] = [
    Ablation::None,
    Ablation::NoEm,
    Ablation::NoRl,
    Ablation::RandomRationales,
];

/// What the documentation says, written out: the phases in their order.
fn listed(config: &EmConfig) -> Vec<Phase> {
    let n_batches = config.annotate_documents.div_ceil(config.m_batch_documents) as u64;
    let (e_updates, n_batches, m_updates) = match config.ablation {
        Ablation::None => (config.e_updates, n_batches, config.m_updates),
        Ablation::NoEm => (config.e_updates, 0, 0),
        Ablation::NoRl | Ablation::RandomRationales => (0, n_batches, config.m_updates),
    };
    let mut phases: Vec<Phase> = (0..config.cold_start_updates)
        .map(|index| Phase::ColdStart { index })
        .collect();
    for round in 0..config.rounds {
        phases.extend((0..e_updates).map(|index| Phase::EStep { round, index }));
        phases.extend((0..n_batches).map(|index| Phase::Annotate { round, index }));
        phases.extend((0..m_updates).map(|index| Phase::MStep { round, index }));
    }
    phases
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
    let round = |round| {
        [
            Phase::EStep { round, index: 0 },
            Phase::EStep { round, index: 1 },
            Phase::Annotate { round, index: 0 },
            Phase::Annotate { round, index: 1 },
            Phase::MStep { round, index: 0 },
        ]
    };
    let expected = [&[Phase::ColdStart { index: 0 }][..], &round(0), &round(1)].concat();
    assert_eq!(config.n_positions(), 11);
    let found: Vec<Phase> = (0..11).filter_map(|at| config.phase(at)).collect();
    assert_eq!(found, expected);
    assert_eq!(config.phase(11), None);
}

prop_compose! {
    fn any_config()(
        cold_start_updates in 0u64..4,
        rounds in 0u64..4,
        e_updates in 0u64..4,
        m_updates in 0u64..4,
        annotate_documents in 0usize..12,
        m_batch_documents in 1usize..6,
        ablation in prop::sample::select(ABLATIONS.to_vec()),
    ) -> EmConfig {
        EmConfig {
            cold_start_updates,
            rounds,
            e_updates,
            m_updates,
            annotate_documents,
            m_batch_documents,
            ablation,
            ..em()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_position_has_its_phase(config in any_config(), beyond in 0u64..1000) {
        let expected = listed(&config);
        prop_assert_eq!(config.n_positions(), expected.len() as u64);
        let is_supervised =
            |phase: &&Phase| matches!(phase, Phase::ColdStart { .. } | Phase::MStep { .. });
        let n_supervised = expected.iter().filter(is_supervised).count() as u64;
        prop_assert_eq!(config.n_supervised_updates(), n_supervised);
        for (position, phase) in expected.iter().enumerate() {
            prop_assert_eq!(config.phase(position as u64), Some(*phase));
        }
        prop_assert_eq!(config.phase(config.n_positions() + beyond), None);
    }
}
