//! Every run file plans, and a wrong one says what is wrong.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::Path;

use ra3_report::compare::Comparison;
use ra3_run::plan::Plan;
use ra3_run::{finished_runs, run_file, study};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tiny() -> String {
    std::fs::read_to_string(root().join("runs/tiny.toml")).unwrap()
}

fn error_of(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let plan = run_file::parse(text, Path::new("x.toml"), &overrides)
        .map_err(anyhow::Error::from)
        .and_then(Plan::new);
    format!("{:#}", plan.unwrap_err())
}

#[test]
fn every_run_file_plans() {
    let mut n = 0;
    for entry in std::fs::read_dir(root().join("runs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "toml") {
            if path.ends_with("own-model.toml") {
                // What it is for is not here.
                let error = Plan::load(&path, &[]).unwrap_err();
                assert!(format!("{error:#}").contains("code.jsonl does not exist"));
                continue;
            }
            let file = run_file::load(&path, &[]).unwrap();
            let plan = Plan::new(file).unwrap();
            let again: run_file::RunFile = toml::from_str(&plan.to_toml()).unwrap();
            assert_eq!(again, plan.file, "the resolved plan is a run file too");
            n += 1;
        }
    }
    assert!(n >= 4);
}

/// Results that are committed are of the study's seeds, and this program compares them.
#[test]
fn kept_results_are_read() {
    let files = std::fs::read_dir(root().join("runs")).unwrap();
    let files = files.filter_map(|entry| run_file::load(&entry.unwrap().path(), &[]).ok());
    for file in files {
        let Some(study) = &file.study else { continue };
        let Some(results) = study.results.as_ref().filter(|it| it.is_dir()) else {
            continue;
        };
        let kept = finished_runs::directories(std::slice::from_ref(results)).unwrap();
        let runs = finished_runs::read(&kept).unwrap();
        assert!(runs.iter().all(|run| study.seeds.contains(&run.seed)));
        Comparison::new(&runs, study::against(&file).as_deref()).unwrap();
    }
}

#[test]
fn unknown_keys_and_values_name_the_nearest() {
    let wrong = tiny().replace("rounds = 1", "round = 1");
    let message = error_of(&wrong, &[]);
    assert!(
        message.contains("x.toml") && message.contains("did you mean `rounds`"),
        "{message}"
    );
    let message = error_of(&tiny(), &["rlvr.n_update=3"]);
    assert!(
        message.contains("--set") && message.contains("did you mean `n_updates`"),
        "{message}"
    );
    let message = error_of(&tiny(), &["ra3.moments=share"]);
    assert!(message.contains("did you mean \"shared\""), "{message}");
    assert!(error_of(&tiny(), &["seed"]).contains("expected key.path=value"));
    assert!(error_of(&tiny(), &["seed=x"]).contains("allowed is a whole number"));
}

#[test]
fn rules_between_keys_are_checked() {
    let rules = [
        ("corpus.held_out_share=1.5", "held_out_share"),
        ("tokenizer={kind='base'}", "tokenizer.kind"),
        ("arms.ntp.budget={flops_of='ntp'}", "wait for each other"),
        ("arms.ntp.from=ntp", "wait for each other"),
        ("arms.ntp.budget={flops_of='nobody'}", "no arm \"nobody\""),
        ("arms.ra3.budget={updates=3}", "a budget is for method"),
        ("arms.ntp.name=rlvr-x", "how a stage is called"),
        ("arms.ntp.name=ra3-reference", "prior"),
        ("rlvr.reward_command=['no-such-program']", "on PATH"),
        ("arms.ntp.name=ra3", "two arms are called"),
        ("arms.ntp.from=nowhere", "nor a checkpoint"),
        ("arms.ra3.set={ra3={rounds=-1}}", "ra3.rounds"),
        ("arms.ra3.set={corpus={seed=1}}", "keys of training"),
        ("rlvr.problems={set='mbpp+'}", "measured on"),
        ("ra3.e_step.group_size=1", "leave-one-out"),
        ("ra3.e_step.discount=2.0", "discount"),
        ("rlvr.group_size=1", "rlvr.group_size"),
        ("evaluate.pass_at=[9]", "pass_at"),
        ("base.model.context=20", "context"),
        ("base.model.n_key_value_heads=3", "heads"),
        ("checkpoint_every=0", "checkpoint_every"),
        (
            "engine={kind='torch', python='python3', listen='29400'}",
            "engine.listen = \"29400\": it is HOST:PORT",
        ),
        (
            "engine={kind='torch', python='no-such-python'}",
            "engine.python: there is no program \"no-such-python\"",
        ),
        (
            "engine={kind='torch', python='python3', sharding='full'}",
            "set engine.processes",
        ),
        (
            "engine={kind='torch', device='cpu', cuda_graphs=true}",
            "set engine.cuda_graphs = false",
        ),
        (
            "engine={kind='torch', python='python3', lora={}}",
            "engine.lora is for base.kind = \"checkpoint\"",
        ),
    ];
    for (change, expected) in rules {
        let message = error_of(&tiny(), &[change]);
        assert!(message.contains(expected), "{change}: {message}");
    }
    let recompute = "arms.ra3.set={training={recompute=true}}";
    let message = error_of(&tiny(), &["engine={kind='torch', compile=true}", recompute]);
    assert!(message.contains("engine.compile"), "{message}");
    for (targets, expected) in [
        ("[]", "target_modules is empty"),
        ("['all-linear', 'q_proj']", "stands alone"),
        ("['q_proj', 'q_proj']", "has \"q_proj\" twice"),
    ] {
        let base = "base={kind='checkpoint', path='../../assets/base'}";
        let engine = format!("engine={{kind='torch', lora={{target_modules={targets}}}}}");
        let message = error_of(&tiny(), &[base, "tokenizer={kind='base'}", &engine]);
        assert!(message.contains(expected), "{targets}: {message}");
    }
    let frozen = "arms.ra3.set={training={frozen_precision='bfloat16'}}";
    let message = error_of(&tiny(), &["engine={kind='torch'}", frozen]);
    assert!(message.contains("engine.kind"), "{message}");
}

#[test]
fn overrides_change_what_they_name() {
    let overrides = ["rlvr.n_updates=7".to_owned(), "name=other".to_owned()];
    let file = run_file::parse(&tiny(), Path::new("x.toml"), &overrides).unwrap();
    assert_eq!(
        (file.rlvr.unwrap().n_updates, file.name.as_str()),
        (7, "other")
    );
}
