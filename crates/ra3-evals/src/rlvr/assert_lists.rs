//! Questions with lists of asserts, as AceCode-87K and its kind have them.
//!
//! A base model continues the question as a docstring with the first assert, in the form of MBPP+.

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::json::{text_field, texts_field};
use crate::mbpp::check;
use crate::problem::{Problem, docstring};
use crate::records::{Complaint, DataError, read_each};

/// Reads problems, with the checksum of the file.
///
/// # Errors
/// The file cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Problem>, String), DataError> {
    read_each(path, Some(Problem::name), &mut problem)
}

fn problem(index: usize, record: &Value) -> Result<Problem, Complaint> {
    let question = text_field(record, "question").ok_or(("question", "a text"))?;
    let complaint = ("test_cases", "a list of `assert function(...) == value`");
    let asserts = texts_field(record, "test_cases").or_else(|| texts_field(record, "tests"));
    let asserts = asserts.ok_or(complaint)?;
    let name = asserts
        .iter()
        .find_map(|assert| function(assert))
        .ok_or(complaint)?;
    Ok(Problem {
        task_id: text_field(record, "id").unwrap_or_else(|| format!("asserts/{index}")),
        prompt: docstring(&format!("{}\n{}", question.trim(), asserts[0])),
        test: check(&name, &asserts),
        entry_point: name,
        canonical_solution: text_field(record, "solution").unwrap_or_default(),
        // Its tests use nothing that they do not bring.
        prelude: "\n".to_owned(),
        family: text_field(record, "source").unwrap_or_default(),
        ..Problem::default()
    })
}

/// Functions that asserts put around the one that they test.
const AROUND: &[&str] = &[
    "abs",
    "all",
    "any",
    "bool",
    "dict",
    "float",
    "frozenset",
    "int",
    "isclose",
    "isinstance",
    "len",
    "list",
    "max",
    "min",
    "not",
    "repr",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
    "type",
    "Counter",
    "and",
    "or",
    "in",
];

/// The function that an assert tests: the first that it calls and that is not Python's own.
fn function(assert: &str) -> Option<String> {
    let rest = assert.trim().strip_prefix("assert")?;
    let is_of_name = |character: char| character == '_' || character.is_alphanumeric();
    rest.match_indices('(').find_map(|(at, _)| {
        let before = rest[..at].trim_end();
        let start = before
            .rfind(|c| !is_of_name(c))
            .map_or(0, |found| found + 1);
        let name = &before[start..];
        let is_own = before[..start].ends_with('.') || AROUND.contains(&name);
        (!name.is_empty() && !is_own).then(|| name.to_owned())
    })
}
