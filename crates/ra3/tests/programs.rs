//! Writing programs, and RLVR on a problem small enough to be a bandit.

use std::sync::Arc;

use ra3::generation::{Writing, WritingRule, write};
use ra3::grpo::{self, Estimator, GrpoConfig, Search, update_dynamically};
use ra3::guided::{Guide, Guided};
use ra3::interleave::strip;
use ra3::policy::{Episode, Feed, Move, Observation, Policy, Surrogate, TokenId};
use ra3::rollout::Decision;
use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3::trajectory::Markers;

const MARKERS: Markers = Markers {
    act: 1,
    think: 2,
    close: 3,
    end: 0,
};
const NEWLINE: usize = 4;
const VOCABULARY: usize = 8;

fn rule() -> WritingRule {
    WritingRule {
        markers: Some(MARKERS),
        stops: [MARKERS.end].into(),
        rests: None,
        program_tokens_max: 12,
        temperature: 1.0,
        top_k: None,
        top_p: None,
    }
}

fn guide(decision: Decision) -> Guide {
    let mut line_ends = vec![false; VOCABULARY];
    line_ends[NEWLINE] = true;
    Guide {
        markers: MARKERS,
        decision,
        line_ends: line_ends.into(),
        rationale_tokens_max: 2,
        first_rationale: None,
    }
}

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

fn programs(policy: &mut TablePolicy, rule: &WritingRule) -> Vec<Writing> {
    write(policy, &[vec![0, 5], vec![0, 6]], rule, 100, Seed::root(1))
        .expect("prompts fit")
        .0
}

fn guided(policy: &mut TablePolicy, rule: &WritingRule, guide: &Guide) -> Vec<Writing> {
    let rule = Arc::new(rule.clone());
    let row = |_| Guided::new(vec![0, 5], Arc::clone(&rule), guide.clone());
    let mut rows: Vec<Guided> = (0..100).map(row).collect();
    let mut episodes: Vec<&mut dyn Episode> =
        rows.iter_mut().map(|row| row as &mut dyn Episode).collect();
    policy
        .run(&mut episodes, Seed::root(1))
        .expect("prompts fit");
    rows.into_iter().map(|row| row.writing).collect()
}

/// Decisions, rationales and lines are tokens like any others: a program is one draw of the whole
/// vocabulary after another, and ends at a limit or an end of text.
#[test]
fn a_program_is_sampled_plainly() {
    let found = programs(&mut table(1), &rule());
    for program in &found {
        assert!(program.raw().len() <= 12 && program.n_written() > 0);
        assert_eq!(program.ended, program.tokens.last() == Some(&MARKERS.end));
        assert!(!program.raw().contains(&MARKERS.end));
        assert_eq!(program.program(), strip(program.raw(), &MARKERS));
        let example = program.example(0.5);
        assert!(example.restrictions.is_empty());
        let weighted = example.weights.iter().filter(|w| **w == 0.5).count();
        assert_eq!(weighted, program.n_written());
        assert_eq!(example.weights[..2], [0.0, 0.0]);
    }
    let cut = |p: &&Writing| !p.ended && p.raw().len() == 12;
    assert!(found.iter().any(|p| p.ended) && found.iter().any(|p| cut(&p)));
    // Resting after newlines changes no draw.
    let resting = WritingRule {
        rests: Some([MARKERS.end, NEWLINE as TokenId].into()),
        ..rule()
    };
    for (program, rested) in found.iter().zip(programs(&mut table(1), &resting)) {
        assert_eq!(
            (&program.tokens, program.ended),
            (&rested.tokens, rested.ended)
        );
        assert_eq!(program.logprobs, rested.logprobs);
    }
    // The same draws with nothing deleted.
    let bare = WritingRule {
        markers: None,
        ..rule()
    };
    for (program, bare) in found.iter().zip(programs(&mut table(1), &bare)) {
        assert_eq!(program.tokens, bare.tokens);
        assert_eq!(bare.program(), bare.raw());
    }
}

/// `(1 − 1/V)^n` of programs of a uniform table have no end among their first `n` tokens.
#[test]
fn lengths_are_those_of_plain_sampling() {
    let mut uniform = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    let prompts = vec![vec![0]; 4000];
    let (rows, _) = write(&mut uniform, &prompts, &rule(), 1, Seed::root(1)).expect("they fit");
    for n in [1usize, 4, 11] {
        let expected = (1.0 - 1.0 / VOCABULARY as f64).powi(n as i32);
        let longer = rows.iter().filter(|row| row.raw().len() >= n).count() as f64 / 4000.0;
        let error = (expected * (1.0 - expected) / 4000.0).sqrt();
        assert!(
            (longer - expected).abs() < 4.0 * error,
            "{n}: {longer} {expected}"
        );
    }
}

#[test]
fn guided_programs_have_the_form_of_their_guide() {
    for decision in [Decision::Free, Decision::Act, Decision::Think] {
        let found = guided(&mut table(1), &rule(), &guide(decision));
        let mut n_thinks = 0;
        for program in &found {
            let raw = program.raw();
            assert!(raw.len() <= 12, "{raw:?}");
            let allowed = match decision {
                Decision::Act => vec![MARKERS.act],
                Decision::Think => vec![MARKERS.think],
                Decision::Free | Decision::Absent => vec![MARKERS.act, MARKERS.think],
            };
            assert!(raw.is_empty() || allowed.contains(&raw[0]));
            n_thinks += usize::from(raw[0] == MARKERS.think);
            if raw[0] == MARKERS.think && raw.len() > 4 {
                assert!(raw[1..4].contains(&MARKERS.close), "{raw:?}");
            }
        }
        match decision {
            Decision::Act => assert_eq!(n_thinks, 0),
            Decision::Think => assert_eq!(n_thinks, found.len()),
            Decision::Free | Decision::Absent => assert!(n_thinks > 10 && n_thinks < 90),
        }
        assert!(found.iter().any(|p| p.ended) && found.iter().any(|p| !p.ended));
    }
}

#[test]
fn a_given_plan_comes_first() {
    for decision in [Decision::Free, Decision::Absent] {
        let given = Guide {
            first_rationale: Some(vec![7, 7]),
            ..guide(decision)
        };
        let found = guided(&mut table(4), &rule(), &given);
        for program in &found {
            assert_eq!(program.raw()[..4], [MARKERS.think, 7, 7, MARKERS.close]);
        }
        assert!(found.iter().any(|program| program.raw().len() > 4));
    }
}

/// A program ends where the context does, whatever it was about to write.
#[test]
fn the_end_of_the_context_ends_a_program_and_nothing_else() {
    for n_context in 2..12 {
        let mut small = table(1).with_limit(n_context);
        let fits = |program: &Writing| program.tokens.len() <= n_context;
        assert!(programs(&mut small, &rule()).iter().all(fits));
        for decision in [Decision::Free, Decision::Act, Decision::Think] {
            for first_rationale in [None, Some(vec![7; 3])] {
                let guide = Guide {
                    first_rationale,
                    ..guide(decision)
                };
                assert!(guided(&mut small, &rule(), &guide).iter().all(fits));
            }
        }
    }
}

/// Feeds a program back and scores it: what the trainer will see.
struct Score {
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
}

impl Episode for Score {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(Feed::scored(self.tokens.clone())),
            Observation::Fed { logprobs, .. } => {
                self.logprobs = logprobs.to_vec();
                Move::Done
            }
            Observation::Sampled { .. } => unreachable!("nothing is sampled"),
        }
    }
}

#[test]
fn recorded_logprobs_are_those_of_the_trainer() {
    let mut policy = table(3);
    let tempered = WritingRule {
        temperature: 0.6,
        top_p: Some(0.95),
        ..rule()
    };
    for rule in [rule(), tempered] {
        for program in programs(&mut policy, &rule) {
            let mut score = Score {
                tokens: program.tokens.clone(),
                logprobs: vec![],
            };
            let seed = Seed::root(0);
            policy.run(&mut [&mut score], seed).expect("it fits");
            assert_eq!(program.logprobs[2..], score.logprobs[2..]);
            // With its own old log-probabilities every ratio is 1, so the objective is Σ w.
            let clip = Surrogate::Clipped {
                low: 0.2,
                high: 0.2,
            };
            let example = program.example(0.5);
            let (_, stats) = policy.gradient(&[example], clip).expect("a good example");
            let expected = 0.5 * program.n_written() as f64;
            assert!((-stats.loss - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn any_end_of_text_ends_a_program() {
    let talking = WritingRule {
        stops: [MARKERS.end, 7].into(),
        ..rule()
    };
    let found = programs(&mut table(1), &talking);
    let by_other = |p: &&Writing| p.ended && p.tokens.last() == Some(&7);
    assert!(found.iter().any(|p| by_other(&p)));
    assert!(found.iter().all(|program| !program.raw().contains(&7)));
}

fn config(estimator: Estimator) -> GrpoConfig {
    GrpoConfig {
        group_size: 8,
        estimator,
        drop_groups_without_signal: false,
        writing: WritingRule {
            program_tokens_max: 6,
            ..rule()
        },
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
    }
}

/// Right is a program of one line: the prompt's token and a newline, nothing else.
fn grade(rows: &[Writing]) -> Vec<f32> {
    let is_right = |row: &Writing| row.program() == [row.tokens[1], NEWLINE as TokenId];
    rows.iter()
        .map(|row| f32::from(u8::from(is_right(row))))
        .collect()
}

fn prompts() -> Vec<Vec<TokenId>> {
    vec![vec![0, 5], vec![0, 6], vec![0, 7], vec![0, 5]]
}

/// Sees two tokens back: after an `<act>` the prompt's token is still there to be copied.
fn learner() -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 0.5, Seed::root(5))
}

fn mean_reward(policy: &mut TablePolicy) -> f32 {
    let writing = config(Estimator::Grpo).writing;
    let rows = write(policy, &prompts(), &writing, 200, Seed::root(6))
        .expect("prompts fit")
        .0;
    grade(&rows).iter().sum::<f32>() / rows.len() as f32
}

fn check_learns(config: &GrpoConfig, learning_rate: f32) {
    let mut policy = learner();
    let before = mean_reward(&mut policy);
    for step in 0..400 {
        let seed = Seed::root(7).nth(step);
        grpo::update(
            &mut policy,
            &prompts(),
            &mut grade,
            config,
            learning_rate,
            seed,
        )
        .expect("a finite update");
    }
    let after = mean_reward(&mut policy);
    assert!(
        before < 0.05 && after > 0.9,
        "{:?}: {before} to {after}",
        config.estimator
    );
}

#[test]
fn every_estimator_raises_the_reward() {
    check_learns(&config(Estimator::Grpo), 8.0);
    check_learns(&config(Estimator::DrGrpo), 20.0);
    check_learns(&config(Estimator::Rloo), 3.0);
    check_learns(&config(Estimator::Dapo), 8.0);
    let clipped = GrpoConfig {
        surrogate: Surrogate::Clipped {
            low: 0.2,
            high: 0.28,
        },
        updates_per_batch: 4,
        drop_groups_without_signal: true,
        ..config(Estimator::Dapo)
    };
    check_learns(&clipped, 3.0);
}

#[test]
fn without_signal_nothing_moves() {
    let mut policy = learner();
    let same = &mut |rows: &[Writing]| vec![1.0; rows.len()];
    for estimator in [
        Estimator::Grpo,
        Estimator::DrGrpo,
        Estimator::Rloo,
        Estimator::Dapo,
    ] {
        let settings = config(estimator);
        let report =
            grpo::update(&mut policy, &prompts(), same, &settings, 1.0, Seed::root(8)).unwrap();
        assert_eq!((report.mean_reward, report.groups_with_signal), (1.0, 0.0));
        assert_eq!(policy, learner());
    }
}

#[test]
fn dynamic_sampling_draws_until_there_is_signal_or_no_more_tries() {
    let mut n_batches = 0;
    // The first two batches have no signal.
    let mut fake = |rows: &[Writing]| -> Vec<f32> {
        n_batches += 1;
        let reward = |index: usize| {
            if n_batches > 2 && index.is_multiple_of(2) {
                1.0
            } else {
                0.0
            }
        };
        (0..rows.len()).map(reward).collect()
    };
    let mut tries = vec![];
    let mut draw = |index: usize| {
        tries.push(index);
        prompts()
    };
    let search = Search {
        n_groups: 4,
        n_tries_max: 10,
    };
    let settings = config(Estimator::Dapo);
    let mut policy = learner();
    let report = update_dynamically(
        &mut policy,
        &mut draw,
        &mut fake,
        search,
        &settings,
        1.0,
        Seed::root(9),
    )
    .unwrap();
    assert_eq!(tries, [0, 1, 2]);
    assert!((report.groups_with_signal - 1.0 / 3.0).abs() < 1e-12);
    assert_ne!(policy, learner());

    let mut unmoved = learner();
    let mut n_tries = 0;
    let mut count = |_: usize| {
        n_tries += 1;
        prompts()
    };
    let mut silent = |rows: &[Writing]| vec![0.0; rows.len()];
    let search = Search {
        n_groups: 4,
        n_tries_max: 3,
    };
    let seed = Seed::root(9);
    update_dynamically(
        &mut unmoved,
        &mut count,
        &mut silent,
        search,
        &settings,
        1.0,
        seed,
    )
    .unwrap();
    assert_eq!(n_tries, 3);
    assert_eq!(unmoved, learner());
}
