//! Every setting of the method that a run file names runs from corpus to table.

use std::fs::read_to_string;
use std::path::Path;

use crate::support::{finish, start};

/// Runs beside each other make what they have in common once.
fn run(directory: &Path, overrides: &[&str]) -> (bool, String) {
    let store = format!("store={}", directory.with_file_name("store").display());
    finish(start(directory, &[QUICK, &[&store], overrides].concat()))
}

fn ledger_of(directory: &Path, overrides: &[&str]) -> String {
    let (ok, text) = run(directory, overrides);
    assert!(ok, "{overrides:?}\n{text}");
    read_to_string(directory.join("ledger.jsonl")).unwrap()
}

/// Of the stages that do not differ, as little as there can be.
const QUICK: &[&str] = &[
    "corpus.testbed.n_held_out_problems=2",
    "evaluate.decision_table=false",
    "arms=[{name='base'}, {name='ntp', method='ntp', budget={corpus_tokens_of='ra3'}}, \
     {name='ra3', method='ra3'}]",
    "rlvr.evaluate_every=2",
    "rlvr.warmup=1",
];
const RA3_ALONE: &str = "arms=[{name='ra3', method='ra3', rlvr=false}]";
const RLVR_ALONE: &str = "arms=[{name='base', evaluate=false}]";

#[test]
fn the_settings_of_the_e_step_and_of_rlvr_run() {
    let exact = [
        RA3_ALONE,
        "ra3.e_step.penalty={kind='exact_kl', alpha=0.8}",
        "ra3.e_step.scorer=frozen",
        "training.frozen_precision=bfloat16",
        "ra3.e_step.baseline=standardised",
        "ra3.e_step.updates_per_batch=2",
        "ra3.e_step.think_floor=0.2",
        "ra3.e_step.horizon=0",
        "ra3.m_step.choose={kind='importance_weights', group_size=2}",
    ];
    let mean = [
        RA3_ALONE,
        "ra3.e_step.penalty={kind='switch_cost_on_mean', cost=0.1}",
        "ra3.e_step.baseline=group_mean",
        "ra3.m_step.choose={kind='best_of', group_size=2}",
    ];
    let probability = [
        RA3_ALONE,
        "ra3.e_step.penalty={kind='switch_cost_on_probability', cost=0.01}",
        "ra3.e_step.baseline=none",
    ];
    let folder = tempfile::tempdir().unwrap();
    for (index, settings) in [&exact[..], &mean, &probability].iter().enumerate() {
        let ledger = ledger_of(&folder.path().join(index.to_string()), settings);
        assert!(ledger.contains("\"phase\":\"m_step\""));
    }
    for advantage in ["dr_grpo", "rloo"] {
        let setting = format!("rlvr.advantage={advantage}");
        let ledger = ledger_of(&folder.path().join(advantage), &[RLVR_ALONE, &setting]);
        assert_eq!(ledger.matches("\"phase\":\"grpo\"").count(), 2);
    }
}

#[test]
fn the_ablations_run_and_differ() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledgers = Vec::new();
    let ablations = [
        ("none", "ra3.rounds=1"),
        ("with_comments", "ra3.cold_start_documents=with_comments"),
        ("think_every_line", "ra3.e_step.think_every_line=true"),
        ("no_em", "ra3.m_updates=0"),
        ("no_rl", "ra3.e_updates=0"),
        ("random_latents", "ra3.m_step.random_rationales=true"),
    ];
    for (name, ablation) in ablations {
        let changes = match name {
            "random_latents" => vec![RA3_ALONE, ablation, "ra3.e_updates=0"],
            _ => vec![RA3_ALONE, ablation],
        };
        let ledger = ledger_of(&folder.path().join(name), &changes);
        // The first line has the plan's hash, which differs anyway.
        let (_, ledger) = ledger.split_once('\n').unwrap();
        let ledger = ledger.to_owned();
        let has_rl = !["no_rl", "random_latents"].contains(&name);
        assert_eq!(ledger.contains("\"phase\":\"e_step\""), has_rl);
        assert_eq!(ledger.contains("\"phase\":\"m_step\""), name != "no_em");
        assert!(!ledgers.contains(&ledger), "{name}");
        ledgers.push(ledger);
    }
}

/// The two forms of the testbed's problems are two suites, each and both together a measure.
#[test]
fn the_forms_of_the_testbed_are_suites() {
    let measure = |set: &str| format!("{{problems={{set='{set}'}}, n_samples=1}}");
    let sets = ["testbed", "testbed-humaneval", "testbed-mbpp"];
    let measures = format!("evaluate=[{}]", sets.map(measure).join(","));
    let changes = [
        "arms=[{name='base', rlvr=false}]",
        "corpus.testbed.mbpp_share=0.25",
        "corpus.testbed.n_held_out_problems=8",
        &measures,
    ];
    let folder = tempfile::tempdir().unwrap();
    let (ok, text) = run(&folder.path().join("suites"), &changes);
    assert!(ok, "{text}");
    let ledger = read_to_string(folder.path().join("suites/ledger.jsonl")).unwrap();
    for (set, n_problems) in sets.iter().zip([8, 6, 2]) {
        let name = format!("\"benchmark\":\"{set}, held-out problems, 0-shot\"");
        let score = ledger.lines().find(|line| line.contains(&name)).unwrap();
        assert!(
            score.contains(&format!("\"n_problems\":{n_problems},")),
            "{score}"
        );
    }
    // A form of which there is none is no measure.
    let none = [&changes[..1], &["corpus.testbed.mbpp_share=0", changes[3]]].concat();
    let (ok, text) = run(&folder.path().join("none"), &none);
    assert!(
        !ok && text.contains("generates none of this form"),
        "{text}"
    );
}

#[test]
fn dapo_runs_and_pays_for_length() {
    let folder = tempfile::tempdir().unwrap();
    let dapo = [
        RLVR_ALONE,
        "rlvr.advantage=dapo",
        "rlvr.n_tries_max=2",
        "rlvr.overlong_tokens=50",
        "rlvr.updates_per_batch=2",
    ];
    let ledger = ledger_of(&folder.path().join("dapo"), &dapo);
    // An untrained model writes to the end and earns nothing: its length is no reward, so no group
    // has signal and all tries are made.
    assert!(ledger.contains("\"reward\":0.0"), "{ledger}");
    assert!(ledger.contains("\"groups_with_signal\":0.0"), "{ledger}");
    assert!(!ledger.contains("\"reward\":-"), "{ledger}");
}

#[test]
fn a_command_says_what_programs_earn_and_distance_costs() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("reward.py");
    std::fs::write(
        &script,
        "import json, sys\n\
         for line in sys.stdin:\n    \
             program = json.loads(line)\n    \
             length = len(program['program']) % 7\n    \
             solved = float(program['verdict']['passed'])\n    \
             print(json.dumps({'solved': solved, 'length': length / 10}), flush=True)\n",
    )
    .unwrap();
    let command = format!("rlvr.reward_command=['python3', '{}']", script.display());
    let settings = [
        RLVR_ALONE,
        command.as_str(),
        "rlvr.kl=0.1",
        "rlvr.solved_min=0.1",
        "rlvr.solved_after=8",
        "rlvr.n_updates=3",
        "checkpoint_every=1",
    ];
    let directory = folder.path().join("run");
    let ledger = ledger_of(&directory, &settings);
    for figure in ["reward_solved", "reward_length", "kl"] {
        assert!(ledger.contains(&format!("\"{figure}\":")), "{ledger}");
    }
    // An untrained model solves nothing, and its length is what it learns from.
    assert!(ledger.contains("\"groups_with_signal\":1.0"), "{ledger}");
    // Another command is another stage; what it said is a part of why.
    std::fs::write(&script, "print('no number', flush=True)\n").unwrap();
    let (ok, text) = run(&directory, &settings);
    assert!(
        !ok && text.contains("rlvr.reward_command[1] is another"),
        "{text}"
    );
    assert!(
        text.contains("rlvr.reward_command") && text.contains("no number"),
        "{text}"
    );
}

#[test]
fn rlvr_takes_a_published_set() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("asserts.jsonl");
    let names = [
        "total",
        "rising slope",
        "gap between neighbours",
        "word that rhymes",
        "day after tomorrow",
        "colour nobody wears",
    ];
    let records: Vec<String> = names
        .iter()
        .map(|name| {
            let asserts = ["assert f([1, 2]) == 1"];
            let question = format!("Find the {name}.");
            serde_json::json!({"id": name, "question": question, "test_cases": asserts}).to_string()
        })
        .collect();
    std::fs::write(&data, records.join("\n")).unwrap();
    let set = |data: &Path| {
        let data = data.display();
        format!("rlvr.problems={{set='asserts', data='{data}'}}")
    };
    let ledger = ledger_of(
        &folder.path().join("run"),
        &[
            RLVR_ALONE,
            &set(&data),
            "rlvr.held_out_share=0.4",
            "rlvr.reward=share",
        ],
    );
    assert!(
        ledger.contains("asserts, held-out problems, 0-shot"),
        "{ledger}"
    );
    let absent = set(&folder.path().join("absent.jsonl"));
    let (ok, text) = run(&folder.path().join("other"), &[&absent]);
    assert!(
        !ok && text.contains("rlvr") && text.contains("absent.jsonl does not exist"),
        "{text}"
    );
}

#[test]
fn rlvr_takes_contest_problems() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("contest.jsonl");
    let statements = [
        "Print the larger number.",
        "How many letters differ between two words?",
        "Turn the grid around.",
        "Which days have rain?",
        "Count coins.",
        "Say whether a knight gets there.",
    ];
    let records = statements.map(|statement| {
        let tests = [serde_json::json!({"input": "1 2\n", "output": "2\n"})];
        serde_json::json!({"problem": statement, "tests": tests}).to_string()
    });
    std::fs::write(&data, records.join("\n")).unwrap();
    let data = data.display();
    let set = format!("rlvr.problems={{set='codeforces', data='{data}'}}");
    let settings = [
        RLVR_ALONE,
        &set,
        "rlvr.held_out_share=0.4",
        "rlvr.reward=weighted",
    ];
    let ledger = ledger_of(&folder.path().join("run"), &settings);
    assert!(
        ledger.contains("codeforces, held-out problems, 0-shot"),
        "{ledger}"
    );
    // An untrained model's programs do not compile.
    assert!(ledger.contains("\"syntax_error\":"), "{ledger}");
    assert!(ledger.contains("\"reward\":-0."), "{ledger}");
}
