//! Python Programming Puzzles (Schuster et al. 2021, arXiv 2106.05784): find what makes `sat` true.
//!
//! The answer is a value: `sat` is run on it in the checker's process, never in the program's.

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::json::{text_field, texts_field};
use crate::problem::Problem;
use crate::records::{Complaint, DataError, read_each};

const TYPES: &str = include_str!("types.py");

/// Reads puzzles, with the checksum of the file; a right solution is the first of the record.
///
/// # Errors
/// The file cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Problem>, String), DataError> {
    read_each(path, Some(Problem::name), &mut |_, record| problem(record))
}

fn problem(record: &Value) -> Result<Problem, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a text"));
    let (name, sat, kind) = (text("name")?, text("sat")?, text("ans_type")?);
    let bodies = texts_field(record, "sol_bodies");
    let bodies = bodies.ok_or(("sol_bodies", "a list of texts"))?;
    let solution = bodies.first().map(|body| format!("{body}\n"));
    let mut header = format!("{}\n", text("sol_header")?);
    let docstring = text("sol_docstring")?;
    if !docstring.is_empty() {
        header += &format!("{docstring}\n");
    }
    let wanted = format!("# Return a {kind} for which sat is True.");
    Ok(Problem {
        prompt: format!("from typing import List\n\n\n{sat}\n\n\n{wanted}\n{header}"),
        entry_point: "sol".to_owned(),
        canonical_solution: solution.unwrap_or_default(),
        test: format!(
            "def check(candidate):\n    answer = candidate()\n    \
             assert is_of_type(answer, {kind:?})\n    assert sat(answer) is True\n"
        ),
        prelude: format!("{TYPES}\nfrom typing import List\n\n\n{sat}\n"),
        // Instances of one puzzle belong together.
        family: name.split(':').next().unwrap_or_default().to_owned(),
        task_id: format!("puzzle/{name}"),
        ..Problem::default()
    })
}
