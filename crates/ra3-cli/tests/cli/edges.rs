//! Values at the edges of their ranges that the plan accepts run to the end, several in one run.

use std::fs::read_to_string;

use crate::support::{finish, start};

/// Of the stages that do not matter here, as little as there can be.
const QUICK: &[&str] = &[
    "corpus.testbed.n_held_out_problems=2",
    "evaluate.decision_table=false",
    "rlvr.n_updates=1",
    "rlvr.warmup=1",
];

fn run(overrides: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let (ok, text) = finish(start(&directory, &[QUICK, overrides].concat()));
    assert!(ok, "{overrides:?}\n{text}");
    let page = read_to_string(directory.join("report.html")).unwrap();
    assert!(page.contains("</html>"));
    read_to_string(directory.join("ledger.jsonl")).unwrap()
}

#[test]
fn nothing_is_trained_and_everything_is_measured() {
    let ledger = run(&[
        "name=a/b",
        "base.n_updates=0",
        "ra3.cold_start_updates=0",
        "ra3.rounds=0",
        "rlvr.learning_rate=0.0",
        "held_out.iwae=[]",
        "evaluate.temperature=0.0",
    ]);
    assert!(!ledger.contains("\"phase\":\"e_step\""));
    assert!(ledger.contains("\"arm\":\"rlvr-ra3\""), "{ledger}");
}

#[test]
fn the_smallest_of_everything_runs() {
    let ledger = run(&[
        "corpus.rationale_tokens_max=1",
        "tokenizer.n_vocabulary=260",
        "base.batch_documents=1",
        "base.model.hidden_size=8",
        "base.model.intermediate_size=1",
        "base.model.n_layers=1",
        "training.micro_batch_tokens=1",
        "supervised.batch_documents=1",
        "supervised.warmup=0",
        "ra3.annotate_documents=1",
        "ra3.e_step.batch_documents=1",
        "ra3.e_step.group_size=2",
        "ra3.e_step.rationale_tokens_max=1",
        "ra3.e_step.penalty={kind='switch_cost', cost=inf}",
        "held_out.n_documents=1",
        "evaluate.program_tokens_max=1",
        "rlvr.batch_problems=1",
        "rlvr.group_size=2",
    ]);
    assert!(ledger.contains("\"phase\":\"m_step\""));
}

#[test]
fn scores_are_called_by_the_k_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let few = ["evaluate.n_samples=10", "evaluate.pass_at=[10, 3]"];
    let (ok, text) = finish(start(&directory, &[QUICK, &few].concat()));
    assert!(ok, "{text}");
    assert!(text.contains("plain: pass@3 "), "{text}");
    assert!(!text.contains("pass@1 "), "{text}");
}

#[test]
fn any_number_of_threads_gives_the_same_ledger() {
    let [one, three] = ["n_threads=1", "n_threads=3"].map(|threads| {
        let ledger = run(&[threads, "arms=[{name='ra3', method='ra3'}]"]);
        // The first line has the number.
        let (_, rest) = ledger.split_once('\n').unwrap();
        rest.to_owned()
    });
    assert!(one.contains("\"record\":\"update\"") && one == three);
}
