//! The parsers that meet hostile text, on the corpus of `fuzz/` and on random changes of it: they
//! answer, whatever comes. Longer: `cargo +nightly fuzz run TARGET` in `fuzz/`.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::Path;

use ra3::seed::Seed;
use ra3_evals::contest::compare::accepts;
use ra3_evals::json;
use ra3_evals::livecodebench::payload;
use ra3_evals::sanitize::sanitize;
use ra3_sandbox::marshal::{self, Arguments, EncodedValue};
use ra3_sandbox::value::Value;
use rand_core::Rng;

/// Changes of each file.
const N_CHANGES: u64 = 2000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Every file, and files with bytes replaced, dropped, doubled, and cut off.
fn changed(target: &str, n_changes: u64, check: impl Fn(&[u8])) {
    for (index, original) in corpus(target).iter().enumerate() {
        check(original);
        let seed = Seed::root(index as u64).child(target);
        for change in 0..n_changes {
            let mut draws = seed.nth(change).rng();
            let mut bytes = original.clone();
            for _ in 0..=draws.next_u32() % 4 {
                let at = draws.next_u32() as usize % bytes.len().max(1);
                match draws.next_u32() % 4 {
                    0 if !bytes.is_empty() => bytes[at] = draws.next_u32() as u8,
                    1 if !bytes.is_empty() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at),
                    _ => bytes.extend_from_within(at.min(bytes.len())..),
                }
            }
            check(&bytes);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn values_of_a_candidate() {
    changed("value", N_CHANGES, |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        if value.is_well_formed() {
            let _ = (value.equals(&value), value.display(100), value.as_f64());
            let is_literal = !value.has_opaque();
            assert!(
                !is_literal || !value.to_python().contains('\n'),
                "{value:?}"
            );
            if is_literal {
                let _ = Arguments::of(&[value]);
            }
        }
    });
}

#[test]
fn plain_values_of_a_candidate() {
    changed("marshal", N_CHANGES, |bytes| {
        if let Some(value) = marshal::read(bytes) {
            assert!(value.is_well_formed(), "{value:?}");
            let _ = (EncodedValue::of(&value), Arguments::of(&[value]));
        }
    });
}

#[test]
fn data_files() {
    changed("json", N_CHANGES, |bytes| {
        if let Ok(value) = json::parse(&text(bytes)) {
            let again = json::parse(&json::write(&value)).unwrap();
            assert_eq!(json::write(&again), json::write(&value));
        }
    });
}

#[test]
fn wrapped_tests() {
    changed("pickle", N_CHANGES, |bytes| {
        let _ = payload::text_of_pickle(bytes);
        let _ = payload::text(&text(bytes));
    });
}

#[test]
fn answers_of_models() {
    changed("sanitize", N_CHANGES / 10, |bytes| {
        let _ = sanitize(&text(bytes), Some("f"));
    });
}

#[test]
fn outputs_of_programs() {
    changed("output", N_CHANGES, |bytes| {
        let text = text(bytes);
        let (first, second) = text.split_at(text.floor_char_boundary(text.len() / 2));
        assert!(accepts(first, first, false));
        assert!(!accepts(first, second, false) || accepts(first, second, true));
    });
}
