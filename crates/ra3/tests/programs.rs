//! Writing programs, and RLVR on a problem small enough to be a bandit.

use ra3::generation::{Writing, WritingRule};
use ra3::grpo::{self, Estimator, GrpoConfig, Search, update_dynamically, write};
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

fn rule(decision: Decision) -> WritingRule {
    let mut line_ends = vec![false; VOCABULARY];
    line_ends[NEWLINE] = true;
    WritingRule {
        markers: MARKERS,
        line_ends: line_ends.into(),
        other_ends: [].into(),
        decision,
        first_rationale: None,
        rationale_tokens_max: 2,
        program_tokens_max: 12,
        temperature: 1.0,
        top_k: None,
        top_p: None,
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

/// The tokens before which a line begins: after the prompt and after newlines that end one.
fn check_form(program: &Writing, decision: Decision) {
    let raw = program.raw();
    assert!(raw.len() <= 12, "{raw:?}");
    assert!(raw.is_empty() || raw[0] == MARKERS.act || raw[0] == MARKERS.think);
    let choices = program.example(1.0).restrictions;
    match decision {
        Decision::Free => assert!(!choices.is_empty()),
        Decision::Act | Decision::Think | Decision::Absent => assert!(choices.is_empty()),
    }
    for restriction in choices {
        assert_eq!(*restriction.choices, [MARKERS.act, MARKERS.think]);
        let token = program.tokens[restriction.position];
        assert!(token == MARKERS.act || token == MARKERS.think);
        assert!(program.sampled[restriction.position]);
    }
}

#[test]
fn programs_have_the_form_of_their_rule() {
    for decision in [Decision::Free, Decision::Act, Decision::Think] {
        let found = programs(&mut table(1), &rule(decision));
        found
            .iter()
            .for_each(|program| check_form(program, decision));
        assert!(found.iter().any(|program| program.ended));
        assert!(
            found
                .iter()
                .any(|program| !program.ended && program.raw().len() == 12)
        );
        let thinks = found
            .iter()
            .filter(|p| p.raw().contains(&MARKERS.think))
            .count();
        if decision == Decision::Think {
            assert_eq!(thinks, found.len());
        }
    }
    let plain = programs(&mut table(1), &rule(Decision::Absent));
    assert!(plain.iter().all(|p| p.example(1.0).restrictions.is_empty()));
    // All but the prompt is sampled: nothing is decided for the model.
    assert!(plain.iter().all(|p| p.n_sampled() == p.tokens.len() - 2));
}

#[test]
fn a_program_is_what_remains_without_its_thoughts() {
    for program in programs(&mut table(2), &rule(Decision::Free)) {
        assert_eq!(program.program(), strip(program.raw(), &MARKERS));
        let markers = [MARKERS.act, MARKERS.think, MARKERS.close, MARKERS.end];
        assert!(
            program
                .program()
                .iter()
                .all(|token| !markers.contains(token))
        );
        assert_eq!(program.ended, program.tokens.last() == Some(&MARKERS.end));
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
            Observation::Started => Move::Feed(Feed::scored(self.tokens.clone())),
            Observation::Fed { logprobs } => {
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
    let mut n_forced = 0;
    for program in programs(&mut policy, &rule(Decision::Free)) {
        let mut score = Score {
            tokens: program.tokens.clone(),
            logprobs: vec![],
        };
        policy.run(&mut [&mut score], Seed::root(0)).unwrap();
        let example = program.example(0.5);
        let restricted: Vec<usize> = example.restrictions.iter().map(|r| r.position).collect();
        for position in 2..program.tokens.len() {
            if program.sampled[position] {
                assert_eq!(example.weights[position], 0.5);
                if !restricted.contains(&position) {
                    assert_eq!(program.logprobs[position], score.logprobs[position]);
                }
            } else {
                n_forced += 1;
                assert_eq!(program.tokens[position], MARKERS.close);
                assert_eq!(example.weights[position], 0.0);
            }
        }
        // With its own old log-probabilities every ratio is 1, so the objective is Σ w.
        let clip = Surrogate::Clipped {
            low: 0.2,
            high: 0.2,
        };
        let (_, stats) = policy.gradient(&[example], clip).unwrap();
        let expected = 0.5 * program.n_sampled() as f64;
        assert!((-stats.loss - expected).abs() < 1e-5);
    }
    assert!(n_forced > 0);
}

#[test]
fn any_end_of_text_ends_a_program() {
    let talking = WritingRule {
        other_ends: [7].into(),
        ..rule(Decision::Absent)
    };
    let found = programs(&mut table(1), &talking);
    let by_other = |p: &&Writing| p.ended && p.tokens.last() == Some(&7);
    assert!(found.iter().any(|p| by_other(&p)));
    assert!(found.iter().all(|program| !program.raw().contains(&7)));
}

#[test]
fn a_given_plan_comes_first_and_is_not_trained() {
    let given = WritingRule {
        first_rationale: Some(vec![7, 7]),
        ..rule(Decision::Free)
    };
    for program in programs(&mut table(4), &given) {
        assert_eq!(program.raw()[..4], [MARKERS.think, 7, 7, MARKERS.close]);
        assert_eq!(program.sampled[2..6], [false; 4]);
    }
}

fn config(estimator: Estimator) -> GrpoConfig {
    GrpoConfig {
        group_size: 8,
        estimator,
        drop_groups_without_signal: false,
        writing: WritingRule {
            program_tokens_max: 6,
            ..rule(Decision::Free)
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
