//! Values that a user may write: every key of every run file with zero, one, negative, huge and
//! odd values is refused by its name, or is a plan within its bounds.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
        .map(|path| toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        .collect();
    assert!(tables.len() >= 4);
    let tiny = std::fs::read_to_string(root().join("runs/tiny.toml")).unwrap();
    for variants in VARIANTS {
        let overrides: Vec<String> = variants
            .iter()
            .map(|text| text.replace("/asserts.jsonl", &problems()))
            .collect();
        let file = run_file::parse(&tiny, Path::new("tiny.toml"), &overrides).unwrap();
        tables.push(Table::try_from(&file).unwrap());
    }
    for table in &mut tables {
        if let Some(path) = table["base"].get_mut("path") {
            let absolute = root().join(path.as_str().unwrap());
            *path = Value::String(absolute.display().to_string());
        }
    }
    tables
}

/// A file of problems, as one of the published sets has them.
fn problems() -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("values_asserts.jsonl");
    let lines = ["a", "b", "c", "d"].map(|id| {
        let question = format!("Find {id}.");
        let tests = ["assert f(1) == 1"];
        serde_json::json!({"id": id, "question": question, "test_cases": tests}).to_string()
    });
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

const VARIANTS: [&[&str]; 2] = [
    &[
        "corpus.sources=[{kind='json_lines', path='/', text_key='a', prefix_key='b', name_key='c'},\
         {kind='parquet', path='/', column='text'}, {kind='folder', path='/'}]",
        "tokenizer={kind='file', path='/tokenizer.json'}",
        "base.schedule={kind='warmup_stable_decay', peak=1e-3, warmup=2, decay=2, floor_share=0.1}",
        "midtrain.ra3.e_step.penalty={kind='exact_kl', alpha=0.5}",
        "midtrain.ra3.m_step.choose={kind='best_of', group_size=2}",
        "rlvr.reward='share'",
        "rlvr.problems={set='asserts', data='/asserts.jsonl', held_out_share=0.5}",
    ],
    &[
        "base.schedule={kind='constant', peak=1e-3, warmup=2}",
        "midtrain.ra3.e_step.penalty={kind='switch_cost_on_probability', cost=0.5}",
        "midtrain.ra3.m_step.choose={kind='importance_weights', group_size=2}",
    ],
];

fn leaves(table: &Table) -> Vec<Leaf> {
    let file: RunFile = table.clone().try_into().unwrap();
    run_file::leaves(&file)
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

#[test]
fn every_key_has_a_range_and_every_range_a_key() {
    let mut seen = BTreeSet::new();
    for table in files() {
        for leaf in leaves(&table) {
            let Some(key) = run_file::key(&leaf.path) else {
                panic!(
                    "{} has no range: add it to run_file/keys.rs and docs/run-files.md",
                    leaf.path
                )
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
    for leaf in run_file::leaves(&plan.file) {
        let key = run_file::key(&leaf.path).unwrap();
        assert!(key.allowed.admits(&leaf.value), "{leaf:?}: {}", key.allowed);
    }
    // The folder of a model may not be there; nothing else may fail.
    if let Ok(estimate) = estimate(plan) {
        let figures = estimate.training.iter().map(|stage| stage.flops);
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
                prop_assert!(
                    message.contains(name)
                        // A value of the wrong type: TOML's own message shows the line.
                        || message.contains("TOML parse error at line"),
                    "{path} = {value:?}: {message}"
                );
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
    ("corpus.held_out_share=0.0", "corpus.held_out_share is 0"),
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
        "corpus.testbed.n_train_problems is 0",
    ),
    (
        "corpus.testbed.n_held_out_problems=0",
        "corpus.testbed.n_held_out_problems is 0",
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
    (
        "midtrain.supervised_peak=inf",
        "midtrain.supervised_peak = inf",
    ),
    (
        "midtrain.supervised_peak=-1.0",
        "midtrain.supervised_peak = -1.0",
    ),
    (
        "midtrain.ra3.annotate_documents=0",
        "midtrain.ra3.annotate_documents = 0",
    ),
    (
        "midtrain.ra3.e_step.group_size=100000",
        "midtrain.ra3.e_step.group_size = 100000",
    ),
    (
        "midtrain.ra3.e_step.batch_documents=0",
        "midtrain.ra3.e_step.batch_documents = 0",
    ),
    (
        "midtrain.ra3.e_step.temperature=0.0",
        "midtrain.ra3.e_step.temperature = 0.0",
    ),
    (
        "midtrain.ra3.e_step.learning_rate=inf",
        "midtrain.ra3.e_step.learning_rate = inf",
    ),
    (
        "midtrain.ra3.e_step.clip=-0.5",
        "midtrain.ra3.e_step.clip = -0.5",
    ),
    (
        "midtrain.ra3.e_step.think_floor=2.0",
        "midtrain.ra3.e_step.think_floor = 2.0",
    ),
    (
        "midtrain.ra3.e_step.penalty={ kind = 'switch_cost', cost = nan }",
        "penalty.cost = nan",
    ),
    (
        "midtrain.ra3.e_step.penalty={ kind = 'exact_kl', alpha = 1.0 }",
        "penalty.alpha = 1.0",
    ),
    (
        "midtrain.ra3.e_step.rationale_tokens_max=0",
        "midtrain.ra3.e_step.rationale_tokens_max = 0",
    ),
    (
        "midtrain.ra3.e_step.rationale_tokens_max=100000",
        "does not fit the model's context",
    ),
    (
        "midtrain.ra3.e_step.updates_per_batch=0",
        "midtrain.ra3.e_step.updates_per_batch = 0",
    ),
    (
        "midtrain.ra3.m_step.line_weight=-1.0",
        "midtrain.ra3.m_step.line_weight = -1.0",
    ),
    (
        "midtrain.ra3.m_step.corpus_latents_share=2.0",
        "corpus_latents_share = 2.0",
    ),
    (
        "midtrain.ra3.m_step.choose={ kind = 'best_of', group_size = 0 }",
        "choose.group_size = 0",
    ),
    ("evaluate.pass_at=[]", "evaluate.pass_at is empty"),
    ("evaluate.pass_at=[0]", "evaluate.pass_at[0] = 0"),
    ("evaluate.iwae=[1, 0]", "evaluate.iwae[1] = 0"),
    ("evaluate.alpha=1.0", "evaluate.alpha = 1.0"),
    (
        "evaluate.program_tokens_max=1024",
        "does not fit the model's context",
    ),
    ("evaluate.n_workers=0", "evaluate.n_workers = 0"),
    ("rlvr.overlong_tokens=200", "rlvr.overlong_tokens = 200"),
    ("rlvr.batch_problems=0", "rlvr.batch_problems = 0"),
    ("rlvr.evaluate_samples=0", "rlvr.evaluate_samples = 0"),
];

/// Odd values that mean something: each is named in `docs/run-files.md`.
const ACCEPTED: &[&str] = &[
    "name='a/b'",
    "corpus.testbed.n_documents=0",
    "base.n_updates=0",
    "training.weight_decay=0.0",
    "training.clip_norm=inf",
    "training.prefix_weight=0.0",
    "training.micro_batch_tokens=8",
    "midtrain.supervised_peak=0.0",
    "midtrain.warmup=0",
    "rlvr.warmup=100",
    "midtrain.ra3.rounds=0",
    "midtrain.ra3.cold_start_updates=0",
    "midtrain.ra3.e_updates=0",
    "midtrain.ra3.m_updates=0",
    "midtrain.ra3.annotate_documents=100000",
    "midtrain.ra3.e_step.horizon=0",
    "midtrain.ra3.e_step.think_floor=1.0",
    "midtrain.ra3.e_step.penalty={ kind = 'switch_cost', cost = inf }",
    "evaluate.temperature=0.0",
    "evaluate.iwae=[]",
    "rlvr.learning_rate=0.0",
];

#[test]
fn what_cannot_be_meant_is_refused_with_key_and_range() {
    for (change, expected) in REFUSED {
        let message = error_of(change).unwrap_or_else(|| panic!("{change} was planned"));
        assert!(message.contains(expected), "{change}: {message}");
    }
}

/// The pages of the documentation say the same.
#[test]
fn every_key_stands_in_the_docs_with_its_range() {
    let page = std::fs::read_to_string(root().join("docs/run-files.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<String> = KEYS
        .iter()
        .map(|key| format!("| `{}` | {} | ", key.path, key.allowed))
        .collect();
    for (row, expected) in rows.iter().zip(&expected) {
        assert!(
            row.starts_with(expected),
            "docs/run-files.md has {row:?}, not {expected:?}"
        );
        assert!(row.len() > expected.len() + 10, "no meaning: {row}");
    }
    assert_eq!(rows.len(), expected.len());
}

#[test]
fn odd_values_with_a_meaning_are_planned() {
    for change in ACCEPTED {
        assert_eq!(error_of(change), None, "{change}");
    }
}
