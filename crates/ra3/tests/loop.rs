//! The outer loop: its phases, what an infinite cost leaves of it, and continuing it anywhere.

use ra3::annotate::{Choose, annotate};
use ra3::e_step::{EStepConfig, Penalty, Persistence, Policies, reward};
use ra3::em::{Ablation, Em, EmConfig, EmReport, Phase};
use ra3::formulas::{Baseline, advantages};
use ra3::interleave::TokenWeights;
use ra3::ntp;
use ra3::policy::Surrogate;
use ra3::rollout::LineRecord;
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
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
    let constant = |peak| Schedule::Constant { peak, warmup: 0 };
    EmConfig {
        cold_start_updates: 3,
        rounds: 2,
        e_updates: 2,
        e_batch_documents: 4,
        annotate_documents: 8,
        m_updates: 3,
        m_batch_documents: 4,
        corpus_latents_share: 0.5,
        e_step: EStepConfig {
            group_size: 4,
            rationale_tokens_max: 2,
            horizon: None,
            discount: 1.0,
            penalty: Penalty::SwitchCost(cost),
            baseline: Baseline::LeaveOneOut,
            surrogate: Surrogate::LogLikelihood,
            updates_per_batch: 1,
            temperature: 1.0,
            persistence: Persistence::Sticky,
        },
        choose: Choose::Sample,
        weights: TokenWeights {
            prefix: PREFIX_WEIGHT,
            line: 1.0,
            decision: 1.0,
            rationale: 1.0,
        },
        supervised_schedule: Schedule::Cosine {
            peak: 0.3,
            warmup: 2,
            n_updates: 9,
            floor_share: 0.1,
        },
        e_schedule: constant(0.5),
        ablation: Ablation::None,
    }
}

fn em(config: EmConfig) -> Em {
    Em {
        config,
        markers: MARKERS,
        position: 0,
        annotated: Vec::new(),
    }
}

/// The loop, its model and its frozen scorer: all that a run directory keeps.
#[derive(Clone)]
struct State {
    em: Em,
    policy: TablePolicy,
    scorer: TablePolicy,
}

impl State {
    fn new(config: EmConfig) -> Self {
        Self {
            em: em(config),
            policy: table(1),
            scorer: table(1),
        }
    }

    fn advance(&mut self) -> Option<EmReport> {
        if self.em.begins_e_step() {
            self.scorer = self.policy.clone();
        }
        let mut policies = Policies {
            policy: &mut self.policy,
            scorer: Some(&mut self.scorer),
            reference: None,
        };
        let seed = Seed::root(3);
        self.em
            .advance(&mut policies, &document, N_DOCUMENTS, seed)
            .expect("documents fit")
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
        let lr = schedule.at(index);
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
            let lr = schedule.at(3 + 3 * round + update);
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
    settings.corpus_latents_share = 0.0;
    settings.e_updates = 40;
    let mut state = State::new(settings);
    let mut rates = vec![];
    while let Some(report) = state.advance() {
        match report {
            EmReport::EStep { report, .. } => rates.push(report.latents.think_rate),
            EmReport::Annotate {
                latents,
                phase: Phase::Annotate { round: 1, .. },
                ..
            } => {
                assert_eq!(latents.think_rate, 0.0);
            }
            EmReport::Annotate { .. } | EmReport::Supervised { .. } => {}
        }
    }
    assert!(rates[0] > 0.2 && rates[rates.len() - 1] == 0.0, "{rates:?}");
}

#[test]
fn phases_follow_from_the_position_alone() {
    let names = |ablation| -> String {
        let settings = EmConfig {
            ablation,
            ..config(1.0)
        };
        let letter = |position| match settings.phase(position).unwrap() {
            Phase::ColdStart { .. } => 'c',
            Phase::EStep { .. } => 'e',
            Phase::Annotate { .. } => 'a',
            Phase::MStep { .. } => 'm',
        };
        assert_eq!(settings.phase(settings.n_positions()), None);
        (0..settings.n_positions()).map(letter).collect()
    };
    assert_eq!(names(Ablation::None), "ccceeaammmeeaammm");
    assert_eq!(names(Ablation::NoEm), "ccceeee");
    assert_eq!(names(Ablation::NoRl), "cccaammmaammm");
    assert_eq!(names(Ablation::RandomRationales), "cccaammmaammm");
    let last = config(1.0).phase(16);
    assert_eq!(last, Some(Phase::MStep { round: 1, index: 2 }));
}

#[test]
fn the_loop_continues_from_any_position_with_the_same_bits() {
    for choose in [
        Choose::Sample,
        Choose::BestOf(3),
        Choose::ImportanceWeights(3),
    ] {
        let settings = EmConfig {
            choose,
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
        for (position, kept) in states.into_iter().enumerate() {
            let mut continued = State {
                em: Em {
                    position: position as u64,
                    annotated: kept.em.annotated.clone(),
                    ..em(settings.clone())
                },
                ..kept
            };
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
        let (mut policy, batch) = (table(2), vec![document(0); 5]);
        let mut policies = Policies {
            policy: &mut policy,
            scorer: None,
            reference: None,
        };
        let rule = config(0.4).e_step.latent_rule(MARKERS);
        let penalty = Penalty::ExactKl { alpha: 0.7 };
        let seed = Seed::root(5);
        annotate(&mut policies, &batch, &rule, choose, penalty, seed)
            .unwrap()
            .0
    };
    let total =
        |rows: &[ra3::m_step::WeightedAnnotated]| rows.iter().map(|r| r.weight).sum::<f32>();
    let (one, best, all) = (
        draw(Choose::Sample),
        draw(Choose::BestOf(6)),
        draw(Choose::ImportanceWeights(6)),
    );
    assert_eq!((one.len(), best.len(), all.len()), (5, 5, 30));
    for rows in [&one, &best, &all] {
        assert!((total(rows) - 5.0).abs() < 1e-5);
    }
    // The best of a group is the one of the largest importance weight: same draws, same returns.
    for (best, group) in best.iter().zip(all.chunks(6)) {
        let heaviest = group
            .iter()
            .max_by(|a, b| a.weight.total_cmp(&b.weight))
            .unwrap();
        assert_eq!(best.annotated, heaviest.annotated);
    }
}

/// RLP subtracts a moving average's log-probability from each reward: at one place it is the same
/// number for the whole group and cancels. RA3's cost is paid by thinks only, and does not.
#[test]
fn a_term_of_the_whole_group_cancels_and_the_switch_cost_does_not() {
    let record = |line_logprob: f32, is_think: bool| LineRecord {
        latent: Some(if is_think {
            Latent::Switch {
                rationale: vec![],
                forced_close: false,
            }
        } else {
            Latent::Keep
        }),
        line_logprob,
        n_line_tokens: 1,
        ..LineRecord::default()
    };
    let group = [record(-1.0, true), record(-3.0, false), record(-2.0, false)];
    let found = |moving_average: f32, cost: f32| {
        let reward = |r: &LineRecord| reward(r, 0.0, Penalty::SwitchCost(cost)) - moving_average;
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
        match report {
            EmReport::Supervised {
                phase: Phase::ColdStart { index },
                n_corpus_tokens,
                ..
            } => {
                let order = batch(N_DOCUMENTS, 4, index, seed.child("cold"));
                assert_eq!(n_corpus_tokens, tokens(order));
            }
            EmReport::EStep {
                phase: Phase::EStep { round, index },
                n_corpus_tokens,
                ..
            } => {
                let order = batch(N_DOCUMENTS, 4, 2 * round + index, seed.child("e_step"));
                assert_eq!(n_corpus_tokens, tokens(order));
            }
            EmReport::Annotate { .. } => annotated = state.em.annotated.clone(),
            EmReport::Supervised {
                phase: Phase::MStep { round, index },
                n_corpus_tokens,
                ..
            } => {
                let order = batch(8, 4, index, seed.child("m_step").nth(round));
                let counted = order.iter().map(|i| annotated[*i].n_corpus_tokens);
                assert_eq!(n_corpus_tokens, counted.sum::<u64>());
            }
            other => panic!("{other:?}"),
        }
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
            corpus_latents_share: share,
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
            if matches!(report, EmReport::Supervised { .. }) {
                break;
            }
        }
        let is_own = |latent: &Option<Latent>| match latent {
            Some(Latent::Switch { rationale, .. }) => *rationale == [1],
            Some(Latent::Keep) | None => false,
        };
        let own = state.em.annotated.iter();
        let own = own.filter(|document| is_own(&document.annotated.latents[0]));
        assert_eq!(own.count(), expected, "{share}");
        assert_eq!(state.em.annotated.len(), 20);
    }
}

/// Rationales of random tokens are uniform, and nothing pushes the policy along them.
#[test]
fn random_rationales_are_uniform_and_carry_no_gradient() {
    let settings = EmConfig {
        ablation: Ablation::RandomRationales,
        cold_start_updates: 0,
        corpus_latents_share: 0.0,
        annotate_documents: 600,
        m_batch_documents: 100,
        ..config(0.4)
    };
    let mut state = State::new(settings);
    let mut counts = [0.0f64; 6];
    loop {
        let before = state.policy.clone();
        match state.advance() {
            Some(EmReport::Annotate { .. }) => assert_eq!(before, state.policy),
            Some(EmReport::EStep { .. }) => panic!("there is no policy gradient"),
            Some(EmReport::Supervised { .. }) | None => break,
        }
    }
    for latent in state.em.annotated.iter().flat_map(|d| &d.annotated.latents) {
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
