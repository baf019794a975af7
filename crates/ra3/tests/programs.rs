//! Writing programs, and RLVR on a problem small enough to be a bandit.

use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::group::Group;
use ra3::grpo;
use ra3::guided::{Guide, complete_guided};
use ra3::interleave::strip;
use ra3::latent_rule::{Decision, LatentRule};
use ra3::policy::{Policy, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3::settings::{Estimator, GrpoConfig};
use ra3::statistics::GroupStats;
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
    Guide {
        latents: LatentRule {
            markers: MARKERS,
            rationale_tokens_max: 2,
            temperature: 1.0,
            rationale_temperature: 1.0,
            decision,
        },
        newlines: [NEWLINE as TokenId].into(),
    }
}

fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

fn programs(policy: &TablePolicy, rule: &WritingRule) -> Vec<Completion> {
    complete(policy, &[vec![0, 5], vec![0, 6]], rule, 100, Seed::root(1))
        .expect("prompts fit")
        .0
}

/// A hundred programs, with a first rationale where one is given.
fn guided(policy: &TablePolicy, guide: &Guide, plan: Option<&[TokenId]>) -> Vec<Completion> {
    let (prompts, plans) = ([vec![0, 5]], [plan.map(<[TokenId]>::to_vec)]);
    complete_guided(policy, &prompts, &rule(), guide, &plans, 100, Seed::root(1))
        .expect("prompts fit")
        .0
}

/// Decisions, rationales and lines are tokens like any others: a program is one draw of the whole
/// vocabulary after another, and ends at a limit or an end of text.
#[test]
fn a_program_is_sampled_plainly() {
    let found = programs(&table(1), &rule());
    for program in &found {
        assert!(program.raw().len() <= 12 && program.n_written() > 0);
        assert_eq!(
            program.ended,
            program.trace.tokens.last() == Some(&MARKERS.end)
        );
        assert!(!program.raw().contains(&MARKERS.end));
        assert_eq!(program.program(), strip(program.raw(), &MARKERS));
        let example = program.trace.example(|_| 0.5);
        assert!(example.restrictions.is_empty());
        let weighted = example.weights.iter().filter(|w| **w == 0.5).count();
        assert_eq!(weighted, program.n_written());
        assert_eq!(example.weights[..2], [0.0, 0.0]);
    }
    let cut = |p: &&Completion| !p.ended && p.raw().len() == 12;
    assert!(found.iter().any(|p| p.ended) && found.iter().any(|p| cut(&p)));
    // Resting after newlines changes no draw.
    let resting = WritingRule {
        rests: Some([MARKERS.end, NEWLINE as TokenId].into()),
        ..rule()
    };
    for (program, rested) in found.iter().zip(programs(&table(1), &resting)) {
        let (written, rested) = (
            (&program.trace, program.ended),
            (&rested.trace, rested.ended),
        );
        assert_eq!((&written.0.tokens, written.1), (&rested.0.tokens, rested.1));
        assert_eq!(written.0.logprobs, rested.0.logprobs);
        assert_eq!(written.0.mask, rested.0.mask);
    }
    // The same draws with nothing deleted.
    let bare = WritingRule {
        markers: None,
        ..rule()
    };
    for (program, bare) in found.iter().zip(programs(&table(1), &bare)) {
        assert_eq!(program.trace, bare.trace);
        assert_eq!(bare.program(), bare.raw());
    }
}

/// `(1 − 1/V)^n` of programs of a uniform table have no end among their first `n` tokens.
#[test]
fn lengths_are_those_of_plain_sampling() {
    let uniform = TablePolicy::random(VOCABULARY, 1, 0.0, Seed::root(0));
    let prompts = vec![vec![0]; 4000];
    let (rows, _) = complete(&uniform, &prompts, &rule(), 1, Seed::root(1)).expect("they fit");
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
        let found = guided(&table(1), &guide(decision), None);
        let mut n_thinks = 0;
        for program in &found {
            let raw = program.raw();
            assert!(raw.len() <= 12, "{raw:?}");
            let allowed = match decision {
                Decision::Act => vec![MARKERS.act],
                Decision::Think => vec![MARKERS.think],
                Decision::Free | Decision::Exploring { .. } | Decision::Absent => {
                    vec![MARKERS.act, MARKERS.think]
                }
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
            Decision::Free | Decision::Exploring { .. } | Decision::Absent => {
                assert!(n_thinks > 10 && n_thinks < 90);
            }
        }
        assert!(found.iter().any(|p| p.ended) && found.iter().any(|p| !p.ended));
    }
}

#[test]
fn a_given_plan_comes_first() {
    for decision in [Decision::Free, Decision::Absent] {
        let found = guided(&table(4), &guide(decision), Some(&[7, 7]));
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
        let small = table(1).with_limit(n_context);
        let fits = |program: &Completion| program.trace.tokens.len() <= n_context;
        assert!(programs(&small, &rule()).iter().all(fits));
        for decision in [Decision::Free, Decision::Act, Decision::Think] {
            for plan in [None, Some(&[7; 3][..])] {
                assert!(guided(&small, &guide(decision), plan).iter().all(fits));
            }
        }
    }
}

/// A known program is scored as the trainer will see it.
#[test]
fn recorded_logprobs_are_those_of_the_trainer() {
    let policy = table(3);
    let tempered = WritingRule {
        temperature: 0.6,
        top_p: Some(0.95),
        ..rule()
    };
    for rule in [rule(), tempered] {
        for program in programs(&policy, &rule) {
            let example = program.trace.example(|_| 0.5);
            let (scores, _) = policy
                .score(std::slice::from_ref(&example))
                .expect("it fits");
            assert_eq!(program.trace.logprobs[2..], scores[0][2..]);
            // With its own old log-probabilities every ratio is 1, so the objective is Σ w.
            let clip = Surrogate::Clipped {
                low: 0.2,
                high: 0.2,
            };
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
    let found = programs(&table(1), &talking);
    let by_other = |p: &&Completion| p.ended && p.trace.tokens.last() == Some(&7);
    assert!(found.iter().any(|p| by_other(&p)));
    assert!(found.iter().all(|program| !program.raw().contains(&7)));
}

fn config(estimator: Estimator) -> GrpoConfig {
    GrpoConfig {
        group_size: 8,
        estimator,
        drop_groups_without_signal: false,
        overlong_tokens: 0,
        writing: WritingRule {
            program_tokens_max: 6,
            ..rule()
        },
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
    }
}

/// Right is a program of one line: the prompt's token and a newline, nothing else.
fn grade(rows: &[Completion]) -> Vec<f32> {
    let is_right = |row: &Completion| row.program() == [row.trace.tokens[1], NEWLINE as TokenId];
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

fn mean_reward(policy: &TablePolicy) -> f32 {
    let writing = config(Estimator::Grpo).writing;
    let rows = complete(policy, &prompts(), &writing, 200, Seed::root(6))
        .expect("prompts fit")
        .0;
    grade(&rows).iter().sum::<f32>() / rows.len() as f32
}

/// Programs for all prompts, and what they earned.
fn written(
    policy: &TablePolicy,
    grade: impl Fn(&[Completion]) -> Vec<f32>,
    config: &GrpoConfig,
    seed: Seed,
) -> Vec<Group> {
    let (rule, size) = (&config.writing, config.group_size);
    let (programs, _) = complete(policy, &prompts(), rule, size, seed).expect("prompts fit");
    let rewards = grade(&programs);
    Group::split(programs, &rewards, size)
}

fn check_learns(config: &GrpoConfig, learning_rate: f32) {
    let mut policy = learner();
    let before = mean_reward(&policy);
    for step in 0..400 {
        let seed = Seed::root(7).nth(step);
        let groups = written(&policy, grade, config, seed);
        grpo::update(&mut policy, &groups, config, learning_rate).expect("a finite update");
    }
    let after = mean_reward(&policy);
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
    let same = |rows: &[Completion]| vec![1.0; rows.len()];
    for estimator in [
        Estimator::Grpo,
        Estimator::DrGrpo,
        Estimator::Rloo,
        Estimator::Dapo,
    ] {
        let settings = config(estimator);
        let groups = written(&policy, same, &settings, Seed::root(8));
        grpo::update(&mut policy, &groups, &settings, 1.0).unwrap();
        let stats = GroupStats::of(&groups);
        assert_eq!((stats.mean_reward, stats.groups_with_signal), (1.0, 0.0));
        assert_eq!(policy, learner());
    }
}

/// DAPO's dynamic sampling keeps groups with signal until there are enough.
#[test]
fn groups_with_signal_are_kept_and_others_teach_nothing() {
    let settings = config(Estimator::Dapo);
    // The first two batches have no signal.
    let batch = |nth: u64| {
        let fake = |rows: &[Completion]| -> Vec<f32> {
            let is_paid = |index: usize| nth >= 2 && index.is_multiple_of(2);
            let rewards = (0..rows.len()).map(|index| f32::from(u8::from(is_paid(index))));
            rewards.collect()
        };
        written(&learner(), fake, &settings, Seed::root(9).nth(nth))
    };
    let all: Vec<Group> = (0..3).flat_map(batch).collect();
    let is_kept: Vec<bool> = all.iter().map(Group::has_signal).collect();
    assert_eq!(is_kept, [[false; 8].as_slice(), &[true; 4]].concat());
    let share = GroupStats::of(&all).groups_with_signal;
    assert!((share - 1.0 / 3.0).abs() < 1e-12);

    let moved = |groups: &[Group], settings: &GrpoConfig| {
        let mut policy = learner();
        grpo::update(&mut policy, groups, settings, 1.0).unwrap();
        policy
    };
    let kept = moved(&all[8..], &settings);
    assert_ne!(kept, learner());
    // That groups without signal are not counted is a setting, too.
    let dropping = GrpoConfig {
        drop_groups_without_signal: true,
        ..settings.clone()
    };
    assert_eq!(moved(&all, &dropping), kept);
    assert_ne!(moved(&all, &settings), kept);
    assert_eq!(moved(&all[..8], &settings), learner());
    assert_eq!(moved(&[], &settings), learner());
}
