//! The outer loop: its phases, what an infinite cost leaves of it, and continuing it anywhere.

use ra3::annotate::{Choose, annotate};
use ra3::em::Em;
use ra3::formulas::{Baseline, advantages};
use ra3::m_step::Draw;
use ra3::ntp;
use ra3::phases::{Done, EmConfig, EmReport, Phase, Place};
use ra3::policy::Policy;
use ra3::rewards::{LineScore, Penalty};
use ra3::schedule::{Schedule, batch};
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::{EStepConfig, MStepConfig, Scorer};
use ra3::table::TablePolicy;
use ra3::trajectory::{Annotated, Document, Latent, Markers, Trajectory};

const MARKERS: Markers = Markers {
    act: 3,
    think: 4,
    close: 5,
    end: 0,
};
const N_DOCUMENTS: usize = 10;
const PREFIX_WEIGHT: f32 = 0.25;

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(6, 2, 1.0, Seed::root(seed))
}

fn document(index: usize) -> Document {
    Document {
        annotated: Annotated {
            trajectory: Trajectory {
                prefix: vec![0, 1, 2],
                lines: vec![vec![1 + (index % 2) as u32, 2], vec![2], vec![0]],
            },
            latents: vec![
                Some(Latent::Switch {
                    rationale: vec![1],
                    forced_close: false,
                }),
                Some(Latent::Keep),
                Some(Latent::Keep),
            ],
        },
        // As if its comment had three tokens and a newline.
        n_corpus_tokens: 11 + index as u64,
    }
}

fn config(cost: f32) -> EmConfig {
    EmConfig {
        cold_start_updates: 3,
        cold_start_lines_share: 0.0,
        rounds: 2,
        selection_rounds: 0,
        e_updates: 2,
        annotate_documents: 8,
        m_updates: 3,
        m_batch_documents: 4,
        e_step: EStepConfig {
            batch_documents: 4,
            scorer: Scorer::Frozen,
            learning_rate: 0.5,
            warmup: 0,
            group_size: 4,
            rationale_tokens_max: 2,
            horizon: 0,
            penalty: Penalty::SwitchCost { cost },
            ..EStepConfig::default()
        },
        m_step: MStepConfig::default(),
        prefix_weight: PREFIX_WEIGHT,
        supervised_schedule: Schedule::Cosine {
            peak: 0.3,
            warmup: 2,
            floor_share: 0.1,
        },
    }
}

/// The loop with its frozen models, and its model: all that a run directory keeps.
struct State {
    em: Em,
    policy: TablePolicy,
}

impl Clone for State {
    fn clone(&self) -> Self {
        let copy = |kept: &Option<Box<dyn Policy>>| kept.as_ref().map(|it| it.snapshot());
        let frozen = Frozen {
            scorer: copy(&self.em.frozen.scorer),
            reference: copy(&self.em.frozen.reference),
        };
        Self {
            em: Em {
                position: self.em.position,
                annotated: self.em.annotated.clone(),
                frozen,
                ..Em::new(self.em.config.clone(), self.em.markers, N_DOCUMENTS)
            },
            policy: self.policy.clone(),
        }
    }
}

impl State {
    fn new(config: EmConfig) -> Self {
        Self {
            em: Em::new(config, MARKERS, N_DOCUMENTS),
            policy: table(1),
        }
    }

    fn advance(&mut self) -> Option<EmReport> {
        let position = self.em.position;
        let report = self
            .em
            .advance(&mut self.policy, &document, Seed::root(3))
            .expect("documents fit");
        // One at a time, and so to an end.
        let moved = u64::from(report.is_some());
        assert_eq!(self.em.position, position + moved);
        report
    }
}

/// Cold start, E-steps, annotation and M-steps together are NTP on the same batches, bit for bit.
#[test]
fn an_infinite_cost_makes_the_whole_loop_next_token_prediction() {
    let mut state = State::new(config(f32::INFINITY));
    while state.advance().is_some() {}

    let mut expected = table(1);
    let seed = Seed::root(3);
    let plain = |order: Vec<usize>| -> Vec<Trajectory> {
        order
            .into_iter()
            .map(|i| document(i).trajectory())
            .collect()
    };
    // One schedule runs over all supervised updates, as it does in next-token prediction.
    let schedule = config(0.0).supervised_schedule;
    for index in 0..3 {
        let documents = plain(batch(N_DOCUMENTS, 4, index, seed.child("cold")));
        let lr = schedule.at(index, 9);
        ntp::update(&mut expected, &documents, PREFIX_WEIGHT, lr).unwrap();
    }
    for round in 0..2 {
        // Each batch of annotation puts the documents that keep their own latents last.
        let drawn: Vec<usize> = (0..2)
            .flat_map(|i| {
                let order = batch(N_DOCUMENTS, 4, 2 * round + i, seed.child("annotate"));
                // Every second document keeps its own latents: the second and the fourth.
                [order[0], order[2], order[1], order[3]]
            })
            .collect();
        for update in 0..3 {
            let order = batch(8, 4, update, seed.child("m_step").nth(round));
            let documents = plain(order.into_iter().map(|i| drawn[i]).collect());
            let lr = schedule.at(3 + 3 * round + update, 9);
            ntp::update(&mut expected, &documents, PREFIX_WEIGHT, lr).unwrap();
        }
    }
    assert_eq!(state.policy.logits, expected.logits);
    assert_ne!(state.policy.logits, table(1).logits);
    let mut finite = State::new(config(1e6));
    while finite.advance().is_some() {}
    assert_ne!(
        finite.policy.logits, expected.logits,
        "a finite cost still writes markers"
    );
}

#[test]
fn a_large_cost_ends_thinking_in_the_whole_loop() {
    let mut settings = config(30.0);
    settings.cold_start_updates = 0;
    settings.m_step.corpus_latents_share = 0.0;
    settings.e_updates = 40;
    let mut state = State::new(settings);
    let mut rates = vec![];
    while let Some(report) = state.advance() {
        match report.done {
            Done::EStep(report) => rates.push(report.rollouts.latents.think_rate),
            Done::Annotated(latents) if report.place.round == 1 => {
                assert_eq!(latents.think_rate, 0.0);
            }
            Done::Annotated(_) | Done::Supervised(_) => {}
        }
    }
    assert!(rates[0] > 0.2 && rates[rates.len() - 1] == 0.0, "{rates:?}");
}

#[test]
fn phases_follow_from_the_position_alone() {
    let names = |settings: EmConfig| -> String {
        let letter = |position| match settings.place(position).unwrap().phase {
            Phase::ColdStart => 'c',
            Phase::EStep => 'e',
            Phase::Annotate => 'a',
            Phase::MStep => 'm',
        };
        assert_eq!(settings.place(settings.n_positions()), None);
        (0..settings.n_positions()).map(letter).collect()
    };
    let no_em = EmConfig {
        annotate_documents: 0,
        m_updates: 0,
        ..config(1.0)
    };
    let no_rl = EmConfig {
        e_updates: 0,
        ..config(1.0)
    };
    assert_eq!(names(config(1.0)), "ccceeaammmeeaammm");
    assert_eq!(names(no_em), "ccceeee");
    assert_eq!(names(no_rl.clone()), "cccaammmaammm");
    let random = EmConfig {
        m_step: MStepConfig {
            random_rationales: true,
            ..MStepConfig::default()
        },
        ..no_rl
    };
    assert_eq!(names(random), "cccaammmaammm");
    let last = Place {
        phase: Phase::MStep,
        round: 1,
        index: 2,
        nth: 5,
    };
    assert_eq!(config(1.0).place(16), Some(last));
}

#[test]
fn the_loop_continues_from_any_position_with_the_same_bits() {
    for choose in [
        Choose::Sample {},
        Choose::BestOf { group_size: 3 },
        Choose::ImportanceWeights { group_size: 3 },
    ] {
        let settings = EmConfig {
            m_step: MStepConfig {
                choose,
                ..MStepConfig::default()
            },
            ..config(0.4)
        };
        let mut whole = State::new(settings.clone());
        let (mut reports, mut states) = (vec![], vec![]);
        loop {
            states.push(whole.clone());
            match whole.advance() {
                Some(report) => reports.push(report),
                None => break,
            }
        }
        assert_eq!(reports.len() as u64, settings.n_positions());
        for (position, mut continued) in states.into_iter().enumerate() {
            assert_eq!(continued.em.position, position as u64);
            for expected in &reports[position..] {
                assert_eq!(continued.advance().as_ref(), Some(expected));
            }
            assert_eq!(continued.policy, whole.policy);
        }
    }
}

#[test]
fn chosen_annotations_have_the_weights_of_their_rule() {
    let draw = |choose| {
        let (policy, alone, batch) = (table(2), Frozen::default(), vec![document(0); 5]);
        let rule = config(0.4).e_step.latent_rule(MARKERS);
        let penalty = Penalty::ExactKl { alpha: 0.7 };
        let seed = Seed::root(5);
        annotate(&policy, &alone, &batch, &rule, choose, penalty, seed)
            .unwrap()
            .0
    };
    let (one, best, all) = (
        draw(Choose::Sample {}),
        draw(Choose::BestOf { group_size: 6 }),
        draw(Choose::ImportanceWeights { group_size: 6 }),
    );
    for (documents, n_draws) in [(&one, 1), (&best, 1), (&all, 6)] {
        assert_eq!(documents.len(), 5);
        for document in documents {
            assert_eq!(document.draws.len(), n_draws);
            let total: f32 = document.draws.iter().map(|draw| draw.share).sum();
            assert!((total - 1.0).abs() < 1e-6);
        }
    }
    // The best of a group is the one of the largest importance weight: same draws, same returns.
    for (best, group) in best.iter().zip(&all) {
        let by_share = |a: &&Draw, b: &&Draw| a.share.total_cmp(&b.share);
        let heaviest = group.draws.iter().max_by(by_share).unwrap();
        assert_eq!(best.draws[0].annotated, heaviest.annotated);
    }
}

/// RLP subtracts a moving average's log-probability from each reward: at one place it is the same
/// number for the whole group and cancels. RA3's cost is paid by thinks only, and does not.
#[test]
fn a_term_of_the_whole_group_cancels_and_the_switch_cost_does_not() {
    let score = |line_logprob: f32, is_think: bool| LineScore {
        is_think: Some(is_think),
        line_logprob,
        n_line_tokens: 1,
        ..LineScore::default()
    };
    let group = [score(-1.0, true), score(-3.0, false), score(-2.0, false)];
    let found = |moving_average: f32, cost: f32| {
        let reward = |line: &LineScore| line.reward(Penalty::SwitchCost { cost }) - moving_average;
        advantages(&group.each_ref().map(reward), Baseline::LeaveOneOut)
    };
    assert_eq!(found(0.0, 0.0), [1.5, -1.5, 0.0]);
    assert_eq!(found(-7.0, 0.0), found(0.0, 0.0));
    assert_eq!(found(0.0, 2.0), [-0.5, -0.5, 1.0]);
    // RLP's own form of the same: G / (G − 1) · (r − mean).
    let mean = -2.0;
    let rlp = [-1.0f32, -3.0, -2.0].map(|r| 1.5 * (r - mean));
    assert_eq!(found(-7.0, 0.0), rlp);
}

/// Both methods count a document as it stands in the corpus, whatever they make of it.
#[test]
fn corpus_tokens_are_those_of_the_documents() {
    let seed = Seed::root(3);
    let tokens = |order: Vec<usize>| -> u64 { order.iter().map(|i| 11 + *i as u64).sum() };
    let mut state = State::new(config(0.4));
    let mut annotated = Vec::new();
    while let Some(report) = state.advance() {
        let Place {
            phase,
            round,
            index,
            ..
        } = report.place;
        let expected = match phase {
            Phase::ColdStart => tokens(batch(N_DOCUMENTS, 4, index, seed.child("cold"))),
            Phase::EStep => {
                let nth = 2 * round + index;
                tokens(batch(N_DOCUMENTS, 4, nth, seed.child("e_step")))
            }
            Phase::Annotate => {
                annotated = state.em.annotated.clone();
                0
            }
            Phase::MStep => {
                let order = batch(8, 4, index, seed.child("m_step").nth(round));
                let counted = order.iter().map(|i| annotated[*i].n_corpus_tokens);
                counted.sum::<u64>()
            }
        };
        assert_eq!(report.n_corpus_tokens, expected);
        let fits = match report.done {
            Done::Supervised(_) => matches!(phase, Phase::ColdStart | Phase::MStep),
            Done::EStep(_) => phase == Phase::EStep,
            Done::Annotated(_) => phase == Phase::Annotate,
        };
        assert!(fits, "{report:?}");
    }
}

/// A share that is no multiple of a batch is met over the run, not rounded batch by batch.
#[test]
fn the_corpus_own_latents_have_their_share() {
    for (share, expected) in [
        (0.0, 0),
        (0.2, 4),
        (0.3, 6),
        (0.5, 10),
        (0.99, 19),
        (1.0, 20),
    ] {
        let settings = EmConfig {
            cold_start_updates: 0,
            rounds: 1,
            e_updates: 0,
            m_updates: 1,
            annotate_documents: 20,
            m_batch_documents: 2,
            m_step: MStepConfig {
                corpus_latents_share: share,
                ..MStepConfig::default()
            },
            ..config(0.4)
        };
        // Its own rationale is never drawn: the table's rationales do not hold a 1.
        let mut state = State::new(settings);
        for last in 0..6 {
            for before in 0..7u32 {
                let history = if before == 6 {
                    vec![last]
                } else {
                    vec![before, last]
                };
                state.policy.logits_after(&history)[1] = -60.0;
            }
        }
        while let Some(report) = state.advance() {
            if matches!(report.done, Done::Supervised(_)) {
                break;
            }
        }
        let is_own = |latent: &Option<Latent>| match latent {
            Some(Latent::Switch { rationale, .. }) => *rationale == [1],
            Some(Latent::Keep) | None => false,
        };
        let own = state.em.annotated.iter();
        let own = own.filter(|document| is_own(&document.draws[0].annotated.latents[0]));
        assert_eq!(own.count(), expected, "{share}");
        assert_eq!(state.em.annotated.len(), 20);
    }
}

/// Rationales of random tokens are uniform, and nothing pushes the policy along them.
#[test]
fn random_rationales_are_uniform_and_carry_no_gradient() {
    let settings = EmConfig {
        m_step: MStepConfig {
            random_rationales: true,
            corpus_latents_share: 0.0,
            ..MStepConfig::default()
        },
        e_updates: 0,
        cold_start_updates: 0,
        annotate_documents: 600,
        m_batch_documents: 100,
        ..config(0.4)
    };
    let mut state = State::new(settings);
    let mut counts = [0.0f64; 6];
    loop {
        let before = state.policy.clone();
        match state.advance().map(|report| report.done) {
            Some(Done::Annotated(_)) => assert_eq!(before, state.policy),
            Some(Done::EStep(_)) => panic!("there is no policy gradient"),
            Some(Done::Supervised(_)) | None => break,
        }
    }
    let draws = state
        .em
        .annotated
        .iter()
        .flat_map(|document| &document.draws);
    for latent in draws.flat_map(|draw| &draw.annotated.latents) {
        if let Some(Latent::Switch {
            rationale,
            forced_close,
        }) = latent
        {
            let first = rationale.first().copied().unwrap_or(MARKERS.close);
            assert!(*forced_close || rationale.len() < 2);
            counts[first as usize] += 1.0;
        }
    }
    let n: f64 = counts.iter().sum();
    let chi_square: f64 = counts
        .iter()
        .map(|count| (count - n / 6.0).powi(2) / (n / 6.0))
        .sum();
    // Five degrees of freedom: 20.5 is passed once in a thousand.
    assert!(n > 300.0 && chi_square < 20.5, "{counts:?}");
}
