//! A problem, as HumanEval's records have it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// `HumanEval/0`.
    pub task_id: String,
    /// Signature and docstring.
    pub prompt: String,
    /// The function's name, or what it is called by, such as `Solution().twoSum`.
    pub entry_point: String,
    /// A right body.
    #[serde(default)]
    pub canonical_solution: String,
    /// Python source that defines `check(candidate)`.
    pub test: String,
    /// Python source that runs between the program and its tests.
    #[serde(default)]
    pub setup: String,
    /// Trusted Python source that tests may use; the prompt where it is empty.
    #[serde(default)]
    pub prelude: String,
    /// What a published completion follows, and an answer in a block is run after, where that is
    /// not the prompt.
    #[serde(default)]
    pub preamble: Option<String>,
    /// A name for tables by family; empty where there are none.
    #[serde(default)]
    pub family: String,
}

/// Why problems cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProblemError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a problem.
    #[error("{path}, line {line}: not a problem in HumanEval's format")]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads JSON lines, plain or `.gz`.
///
/// # Errors
/// The file cannot be read, or a line is not a problem.
pub fn read(path: &Path) -> Result<Vec<Problem>, ProblemError> {
    let fail = |source| ProblemError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|suffix| suffix == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut problems = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(fail)?;
        if line.trim().is_empty() {
            continue;
        }
        let problem = serde_json::from_str(&line).map_err(|source| ProblemError::Record {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        problems.push(problem);
    }
    Ok(problems)
}
