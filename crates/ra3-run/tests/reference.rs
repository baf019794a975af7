//! The schema and the reference of the run file are those of the program.
//!
//! `RA3_WRITE_DOCS=1` writes them anew instead.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ra3_run::run_file::{self, Explanation, KEYS};
use serde_json::Value;

const BEGIN: &str = "--test reference` writes them. -->\n";
const END: &str = "<!-- /keys -->";

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// Compares a page with what it should be, or writes it.
fn same_or_written(path: &Path, old: &str, new: &str) {
    if std::env::var_os("RA3_WRITE_DOCS").is_some() {
        std::fs::write(path, new).unwrap();
    } else {
        let line = old.lines().zip(new.lines()).find(|(old, new)| old != new);
        assert!(
            old == new,
            "{} is not of this program: RA3_WRITE_DOCS=1 cargo test -p ra3-run --test reference \
             writes it. The first line that differs: {line:?}",
            path.display()
        );
    }
}

#[test]
fn the_schema_is_of_this_program() {
    let path = docs("run-file.schema.json");
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    same_or_written(&path, &old, &run_file::schema_text());
}

#[test]
fn the_reference_is_of_this_program() {
    let path = docs("run-file.md");
    let old = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = old.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let new = format!("{before}{BEGIN}\n{}\n{END}{after}", run_file::reference());
    same_or_written(&path, &old, &new);
}

/// The paths of a schema at which a value stands.
fn leaves(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    // The same keys again, as an arm's own.
    if path == "arms.set" || path == "study.vary" {
        return;
    }
    if let Some(items) = schema.get("items") {
        return leaves(items, path, into);
    }
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let tables: Vec<&Value> = variants
        .filter(|one| one.get("properties").is_some())
        .collect();
    for table in &tables {
        leaves(table, path, into);
    }
    match schema["properties"].as_object() {
        Some(fields) => {
            for (name, field) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(field, &format!("{path}{dot}{name}"), into);
            }
        }
        None if tables.is_empty() => {
            into.insert(path.to_owned());
        }
        None => {}
    }
}

#[test]
fn every_key_has_a_range_and_every_range_a_key() {
    let mut in_schema = BTreeSet::new();
    leaves(&run_file::schema(), "", &mut in_schema);
    let in_list: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(
        in_list.len(),
        KEYS.len(),
        "a key stands twice in run_file/keys.rs"
    );
    let unlisted: Vec<&String> = in_schema.difference(&in_list).collect();
    assert!(
        unlisted.is_empty(),
        "without a range in run_file/keys.rs: {unlisted:?}"
    );
    let unused: Vec<&String> = in_list.difference(&in_schema).collect();
    assert!(unused.is_empty(), "no section has {unused:?}");
}

#[test]
fn every_key_is_explained_in_words() {
    for key in KEYS {
        let Explanation::Keys(entries) = run_file::explain(key.path).unwrap() else {
            panic!("{} is a section", key.path)
        };
        let [entry] = entries.as_slice() else {
            panic!("{} is {entries:?}", key.path)
        };
        assert_eq!(entry.key, key.path);
        assert!(entry.meaning.len() > 3, "{entry:?}");
        // Neither Rust's names nor links to them.
        let text = run_file::explain(key.path).unwrap().to_text();
        assert!(!text.contains("::") && !text.contains("[`"), "{text}");
        assert!(text.contains(&key.allowed.to_string()), "{text}");
    }
}

#[test]
fn keys_are_found_by_symbol_name_and_value() {
    let keys = |name: &str| match run_file::explain(name).unwrap() {
        Explanation::Keys(entries) => entries.into_iter().map(|entry| entry.key).collect(),
        Explanation::Sections(sections) => sections
            .into_iter()
            .map(|section| section.section)
            .collect::<Vec<String>>(),
    };
    assert_eq!(keys("γ"), ["ra3.e_step.discount"]);
    assert_eq!(keys("gamma"), keys("γ"));
    assert_eq!(keys("c"), ["ra3.e_step.penalty.cost"]);
    assert_eq!(keys("K"), ["ra3.rounds", "held_out.iwae"]);
    assert_eq!(keys("horizon"), ["ra3.e_step.horizon"]);
    assert_eq!(keys("penalty.cost"), keys("c"));
    assert_eq!(keys("exact_kl"), ["ra3.e_step.penalty.kind"]);
    assert_eq!(keys("[ra3.e_step]"), ["ra3.e_step"]);
    assert_eq!(keys("evaluate[0].pass_at"), ["evaluate.pass_at"]);
    assert_eq!(keys("penalty"), ["ra3.e_step.penalty"]);
    assert_eq!(keys("vary"), ["study.vary"]);
    assert_eq!(keys("set.rlvr.kl"), ["rlvr.kl"]);
    assert_eq!(keys("arms.mine.set.ra3.rounds"), ["ra3.rounds"]);
    assert_eq!(keys("arms.mine.rlvr"), ["arms.rlvr"]);
    assert_eq!(keys("arms.qwen-1.5b.rlvr"), ["arms.rlvr"]);
    let error = run_file::explain("horizn").unwrap_err().to_string();
    assert!(error.contains("did you mean \"horizon\"?"), "{error}");
    let error = run_file::explain("fish").unwrap_err().to_string();
    assert!(!error.contains("did you mean"), "{error}");
}
