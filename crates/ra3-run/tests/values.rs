//! Values that a user may write: every key of every run file with zero, one, negative, huge and
//! odd values is refused by its name, or is a plan within its bounds.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use ra3_run::estimate::estimate;
use ra3_run::plan::Plan;
use ra3_run::run_file::{self, KEYS, Leaf, RunFile};
use toml::{Table, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every run file of the project, and the variants that none of them uses.
fn files() -> Vec<Table> {
    let mut tables: Vec<Table> = std::fs::read_dir(root().join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "toml"))
        // What it is for is not here.
        .filter(|path| !path.ends_with("own-model.toml"))
        .map(|path| Table::try_from(run_file::load(&path, &[]).unwrap()).unwrap())
        .collect();
    assert!(tables.len() >= 4);
    let tiny = std::fs::read_to_string(root().join("runs/tiny.toml")).unwrap();
    for variants in VARIANTS {
        let overrides: Vec<String> = variants
            .iter()
            .map(|text| text.replace("/asserts.jsonl", problems()))
            .collect();
        let file = run_file::parse(&tiny, Path::new("tiny.toml"), &overrides).unwrap();
        tables.push(Table::try_from(&file).unwrap());
    }
    tables
}

/// A file of problems, as one of the published sets has them. It is written once: the tests run
/// beside each other, and one may not read what another has begun to write.
fn problems() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("values_asserts.jsonl");
        let lines = ["a", "b", "c", "d"].map(|id| {
            let question = format!("Find {id}.");
            let tests = ["assert f(1) == 1"];
            serde_json::json!({"id": id, "question": question, "test_cases": tests}).to_string()
        });
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.display().to_string()
    })
}

const VARIANTS: [&[&str]; 2] = [
    &[
        "store='/store'",
        "corpus.sources=[{kind='json_lines', path='/', text_key='a', prefix_key='b', name_key='c'},\
         {kind='parquet', path='/', column='text'}, {kind='folder', path='/'}]",
        "tokenizer={kind='file', path='/tokenizer.json'}",
        "base.schedule={kind='warmup_stable_decay', peak=1e-3, warmup=2, decay=2, floor_share=0.1}",
        "ra3.e_step.penalty={kind='exact_kl', alpha=0.5}",
        "ra3.m_step.choose={kind='best_of', group_size=2}",
        "arms=[{name='base'}, {name='a', method='ntp', budget={updates=3}},\
         {name='b', from='a', method='ntp', budget={corpus_tokens=1000}},\
         {name='c', method='ntp', budget={flops=1e9}, rlvr=false},\
         {name='d', method='ra3', set={ra3={rounds=2, e_step={horizon=1}}}}]",
        "evaluate=[{name='own', problems={set='humaneval'}},\
         {n_samples=2, pass_at=[1, 2], program_tokens_max=200}]",
        "rlvr.reward='share'",
        "rlvr.reward_command=['python3', 'reward.py']",
        "rlvr.problems={set='asserts', data='/asserts.jsonl'}",
        "rlvr.held_out_share=0.5",
        "study={seeds=[1, 2], against='a', vary={'ra3.e_step.horizon'=[1, 2]}}",
    ],
    &[
        "base.schedule={kind='constant', peak=1e-3, warmup=2}",
        "engine={kind='torch', python='python3', listen='localhost:29400'}",
        "ra3.e_step.penalty={kind='switch_cost_on_probability', cost=0.5}",
        "ra3.m_step.choose={kind='importance_weights', group_size=2}",
        "evaluate=[{problems={set='asserts', data='/asserts.jsonl'}, n_samples=1,\
         program_tokens_max=200}]",
    ],
];

/// The values of a table; those of a study's keys stand under names that are paths themselves.
fn leaves(table: &Table) -> Vec<Leaf> {
    let file: RunFile = table.clone().try_into().unwrap();
    let leaves = run_file::leaves(&file).into_iter();
    leaves
        .filter(|leaf| !leaf.path.starts_with("study.vary"))
        .collect()
}

/// Puts a value where a path such as `a.b[1].c` leads.
fn put(table: &mut Table, path: &str, value: Value) {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        steps.push(name.to_owned());
        steps.extend(
            places
                .split(['[', ']'])
                .filter(|p| !p.is_empty())
                .map(str::to_owned),
        );
    }
    let mut place = table.get_mut(&steps[0]).unwrap();
    for step in &steps[1..] {
        place = match step.parse::<usize>() {
            Ok(index) => place.get_mut(index).unwrap(),
            Err(_) => place.get_mut(step.as_str()).unwrap(),
        };
    }
    *place = value;
}

fn planned(table: &Table) -> Result<Plan, String> {
    let text = toml::to_string(table).unwrap();
    run_file::parse(&text, Path::new("x.toml"), &[])
        .map_err(anyhow::Error::from)
        .and_then(Plan::new)
        .map_err(|error| format!("{error:#}"))
}

/// What an arm or a study has otherwise are keys of the file again.
fn is_of_the_file(leaf: &Leaf) -> bool {
    !leaf.path.contains(".set.") && !leaf.path.starts_with("study.vary")
}

#[test]
fn every_key_is_tried() {
    let mut seen = BTreeSet::new();
    for table in files() {
        for leaf in leaves(&table).into_iter().filter(is_of_the_file) {
            let Some(key) = run_file::key(&leaf.path) else {
                panic!("{} has no range: add it to run_file/keys.rs", leaf.path)
            };
            assert!(key.allowed.admits(&leaf.value), "{leaf:?}: {}", key.allowed);
            seen.insert(key.path);
        }
    }
    let unseen: Vec<&str> = KEYS
        .iter()
        .map(|key| key.path)
        .filter(|path| !seen.contains(path))
        .collect();
    assert!(unseen.is_empty(), "no run file has {unseen:?}");
}

/// Values of each kind that a slip of the finger or of a script writes.
fn odd_values() -> impl Strategy<Value = Value> {
    let whole = prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            3,
            -1,
            7,
            33,
            256,
            512,
            1024,
            1025,
            65_536,
            100_000,
            1 << 20,
            1 << 32,
            1_000_000_000,
            i64::MAX,
            i64::MIN,
        ]),
        any::<i64>(),
    ];
    let real = prop_oneof![
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            0.5,
            2.0,
            7.0,
            -1.0,
            -0.5,
            1e-30,
            1e30,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]),
        any::<f64>(),
        0.0..1.0,
    ];
    let text = prop::sample::select(vec![
        "",
        " ",
        "\n",
        ".",
        "..",
        "a/b",
        "/",
        "none",
        "\0",
        "\u{202e}x",
        "nan",
        "é",
    ]);
    prop_oneof![
        whole.prop_map(Value::Integer),
        real.prop_map(Value::Float),
        text.prop_map(|text| Value::String(text.to_owned())),
        "\\PC{0,300}".prop_map(Value::String),
        any::<bool>().prop_map(Value::Boolean),
        Just(Value::Array(Vec::new())),
        Just(Value::Table(Table::new())),
    ]
}

/// A plan within its bounds: every key in its range, every figure of the estimate a number.
fn check_bounds(plan: &Plan) {
    for leaf in run_file::leaves(&plan.file)
        .into_iter()
        .filter(is_of_the_file)
    {
        let key = run_file::key(&leaf.path).unwrap();
        assert!(key.allowed.admits(&leaf.value), "{leaf:?}: {}", key.allowed);
    }
    // The folder of a model may not be there; nothing else may fail.
    if let Ok(estimate) = estimate(plan) {
        let figures = estimate.stages.iter().map(|stage| stage.flops);
        assert!(
            figures
                .chain([estimate.document_tokens])
                .all(f64::is_finite)
        );
    }
    let again: RunFile = toml::from_str(&plan.to_toml()).unwrap();
    assert_eq!(again, plan.file);
    assert!(!plan.hash().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_value_of_any_key_is_refused_by_name_or_planned(
        (file, place) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        value in odd_values(),
    ) {
        thread_local!(static FILES: Vec<(Table, Vec<Leaf>)> =
            files().into_iter().map(|table| (table.clone(), leaves(&table))).collect());
        let (mut table, path) = FILES.with(|files| {
            let (table, leaves) = &files[file.index(files.len())];
            (table.clone(), leaves[place.index(leaves.len())].path.clone())
        });
        put(&mut table, &path, value.clone());
        match planned(&table) {
            Ok(plan) => check_bounds(&plan),
            Err(message) => {
                let name = path.rsplit('.').next().unwrap();
                let name = name.split('[').next().unwrap();
                // Rules among arms name the arm.
                let is_of_arm = path.starts_with("arms") && message.contains("arm");
                prop_assert!(
                    message.contains(name) || is_of_arm,
                    "{path} = {value:?}: {message}"
                );
                // What reads the file says what is wrong in words of its own.
                for jargon in ["invalid type", "unknown variant", "expected", "usize", "struct"] {
                    prop_assert!(!message.contains(jargon), "{path} = {value:?}: {message}");
                }
            }
        }
    }
}

fn error_of(change: &str) -> Option<String> {
    let tiny = std::fs::read_to_string(root().join("runs/tiny.toml")).unwrap();
    run_file::parse(&tiny, Path::new("x.toml"), &[change.to_owned()])
        .map_err(anyhow::Error::from)
        .and_then(Plan::new)
        .err()
        .map(|error| format!("{error:#}"))
}

/// Values that cannot be meant, with what the message has to say.
const REFUSED: &[(&str, &str)] = &[
    ("name=''", "name = \"\": allowed is one line"),
    ("directory=''", "directory = \"\": allowed is a path"),
    (
        "n_threads=100000",
        "n_threads = 100000: allowed is a whole number from 1 to 256",
    ),
    ("n_threads=0", "n_threads"),
    (
        "corpus.near_duplicate_similarity=nan",
        "corpus.near_duplicate_similarity = nan",
    ),
    (
        "corpus.near_duplicate_similarity=2.0",
        "allowed is [0.5, 1]",
    ),
    (
        "corpus.near_duplicate_similarity=0.3",
        "allowed is [0.5, 1]",
    ),
    (
        "corpus.decontaminate_n_words=0",
        "corpus.decontaminate_n_words = 0",
    ),
    ("corpus.n_bytes_max=0", "corpus.n_bytes_max = 0"),
    (
        "corpus.rationale_tokens_max=0",
        "corpus.rationale_tokens_max = 0",
    ),
    ("corpus.testbed.comment_share=nan", "allowed is [0, 1]"),
    (
        "corpus.testbed.comment_share=7",
        "corpus.testbed.comment_share = 7",
    ),
    (
        "corpus.testbed.n_train_problems=0",
        "rlvr: there are no problems: corpus.testbed generates none",
    ),
    (
        "corpus.testbed.n_held_out_problems=0",
        "evaluate, testbed: there are no problems: corpus.testbed generates none",
    ),
    ("tokenizer.n_vocabulary=256", "tokenizer.n_vocabulary = 256"),
    (
        "tokenizer.n_vocabulary=4294967296",
        "tokenizer.n_vocabulary = 4294967296",
    ),
    ("base.batch_documents=0", "base.batch_documents = 0"),
    (
        "base.schedule={ kind = 'cosine', peak = nan, warmup = 2, floor_share = 0.1 }",
        "schedule.peak = nan",
    ),
    (
        "base.schedule={ kind = 'cosine', peak = 1e-3, warmup = 2, floor_share = nan }",
        "floor_share = nan",
    ),
    ("base.model.hidden_size=0", "base.model.hidden_size = 0"),
    ("base.model.hidden_size=33", "base.model.hidden_size = 33"),
    ("base.model.n_layers=0", "base.model.n_layers = 0"),
    (
        "base.model.n_key_value_heads=0",
        "base.model.n_key_value_heads = 0",
    ),
    (
        "base.model.intermediate_size=0",
        "base.model.intermediate_size = 0",
    ),
    ("base.model.rope_theta=0.0", "base.model.rope_theta = 0"),
    ("base.model.rope_theta=-1.0", "base.model.rope_theta = -1.0"),
    (
        "base.model.initializer_range=inf",
        "base.model.initializer_range = inf",
    ),
    (
        "base.model.hidden_size=1000000000",
        "base.model.hidden_size = 1000000000",
    ),
    ("training.weight_decay=-1", "training.weight_decay = -1"),
    ("training.clip_norm=0.0", "training.clip_norm = 0.0"),
    ("training.prefix_weight=nan", "training.prefix_weight = nan"),
    (
        "training.micro_batch_tokens=0",
        "training.micro_batch_tokens = 0",
    ),
    ("training.cache_mib=0", "training.cache_mib = 0"),
    ("supervised.peak=inf", "supervised.peak = inf"),
    ("supervised.peak=-1.0", "supervised.peak = -1.0"),
    ("ra3.annotate_documents=0", "ra3.annotate_documents = 0"),
    (
        "ra3.e_step.group_size=100000",
        "ra3.e_step.group_size = 100000",
    ),
    (
        "ra3.e_step.batch_documents=0",
        "ra3.e_step.batch_documents = 0",
    ),
    ("ra3.e_step.temperature=0.0", "ra3.e_step.temperature = 0.0"),
    (
        "ra3.e_step.learning_rate=inf",
        "ra3.e_step.learning_rate = inf",
    ),
    ("ra3.e_step.clip=-0.5", "ra3.e_step.clip = -0.5"),
    ("ra3.e_step.think_floor=2.0", "ra3.e_step.think_floor = 2.0"),
    (
        "ra3.e_step.penalty={ kind = 'switch_cost', cost = nan }",
        "penalty.cost = nan",
    ),
    (
        "ra3.e_step.penalty={ kind = 'exact_kl', alpha = 1.0 }",
        "penalty.alpha = 1.0",
    ),
    (
        "ra3.e_step.rationale_tokens_max=0",
        "ra3.e_step.rationale_tokens_max = 0",
    ),
    (
        "ra3.e_step.rationale_tokens_max=100000",
        "does not fit the model's context",
    ),
    (
        "ra3.e_step.updates_per_batch=0",
        "ra3.e_step.updates_per_batch = 0",
    ),
    (
        "ra3.m_step.line_weight=-1.0",
        "ra3.m_step.line_weight = -1.0",
    ),
    (
        "ra3.m_step.corpus_latents_share=2.0",
        "corpus_latents_share = 2.0",
    ),
    (
        "ra3.m_step.choose={ kind = 'best_of', group_size = 0 }",
        "choose.group_size = 0",
    ),
    ("evaluate=[{pass_at=[]}]", "pass_at is empty"),
    ("evaluate=[{pass_at=[0]}]", "evaluate[0].pass_at[0] = 0"),
    ("held_out.iwae=[1, 0]", "held_out.iwae[1] = 0"),
    ("held_out.alpha=1.0", "held_out.alpha = 1.0"),
    (
        "evaluate=[{program_tokens_max=1024}]",
        "does not fit the model's context",
    ),
    ("grading.n_workers=0", "grading.n_workers = 0"),
    (
        "arms.ra3.budget={updates=3}",
        "a budget is for method = \"ntp\"",
    ),
    ("arms.ntp.set.ra3.rounds=-1", "arms[1].set.ra3.rounds = -1"),
    (
        "study.vary={'ra3.rounds'=[1, -1]}",
        "study.vary.\"ra3.rounds\"[1] = -1",
    ),
    ("rlvr.overlong_tokens=200", "rlvr.overlong_tokens = 200"),
    ("rlvr.batch_problems=0", "rlvr.batch_problems = 0"),
    ("rlvr.evaluate_samples=0", "rlvr.evaluate_samples = 0"),
];

/// Odd values that mean something: each is named in `docs/run-file.md`.
const ACCEPTED: &[&str] = &[
    "name='a/b'",
    "corpus.testbed.n_documents=0",
    "base.n_updates=0",
    "training.weight_decay=0.0",
    "training.clip_norm=inf",
    "training.prefix_weight=0.0",
    "training.micro_batch_tokens=8",
    "supervised.peak=0.0",
    "supervised.warmup=0",
    "rlvr.warmup=100",
    "ra3.rounds=0",
    "ra3.cold_start_updates=0",
    "ra3.e_updates=0",
    "ra3.m_updates=0",
    "ra3.annotate_documents=100000",
    "ra3.e_step.horizon=0",
    "ra3.e_step.think_floor=1.0",
    "ra3.e_step.penalty={ kind = 'switch_cost', cost = inf }",
    "corpus.held_out_share=0.0",
    "evaluate=[{temperature=0.0}]",
    "held_out.iwae=[]",
    "rlvr.learning_rate=0.0",
];

#[test]
fn what_cannot_be_meant_is_refused_with_key_and_range() {
    for (change, expected) in REFUSED {
        let message = error_of(change).unwrap_or_else(|| panic!("{change} was planned"));
        assert!(message.contains(expected), "{change}: {message}");
    }
}

#[test]
fn odd_values_with_a_meaning_are_planned() {
    for change in ACCEPTED {
        assert_eq!(error_of(change), None, "{change}");
    }
}
