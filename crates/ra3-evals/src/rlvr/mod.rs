//! Problem sets for RLVR, each read into [`crate::problem::Problem`]s: published programming tasks
//! with tests, from their own record formats.
//!
//! Not done here: grading ([`crate::grade`]), and rewards of contests (`contest`).

pub mod assert_lists;
pub mod leetcode;
pub mod mbpp_train;
pub mod puzzles;
pub mod split;
pub mod usable;

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::evalplus::data::{DataError, checksum, json_records, read_text};
use crate::problem::Problem;

/// A key, and what should stand there.
type Complaint = (&'static str, &'static str);

/// Reads the records of a file, each with its index, and the checksum of the file.
fn read_records(
    path: &Path,
    problem: fn(usize, &Value) -> Result<Problem, Complaint>,
) -> Result<(Vec<Problem>, String), DataError> {
    let text = read_text(path)?;
    let problems = json_records(&text, path)?
        .iter()
        .enumerate()
        .map(|(index, (place, record))| {
            problem(index, record).map_err(|(key, expected)| DataError::Field {
                path: path.to_owned(),
                place: *place,
                key,
                expected,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((problems, checksum(&text)))
}
