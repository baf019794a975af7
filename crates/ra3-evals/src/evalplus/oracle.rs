//! What the right programs give: expected outputs and the time that each took.
//!
//! The files hold no outputs, so the canonical solutions run here, in the sandbox, and what they
//! give stays in this process. A cache on disk keeps it, by checksum of the data and version of
//! Python.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, CallRule, End, Limits, Pool, Program, Response};
use serde::{Deserialize, Serialize};

use crate::evalplus::compare::Oracle;
use crate::evalplus::data::{Dataset, Task};
use crate::records::checksum;

/// Bytes of results of one program. They are not kept.
pub(crate) const RESULT_BYTES_MAX: usize = 1 << 28;
/// Counts the forms that outputs have been kept in: a checksum is before them.
const FORM: u32 = 3;
/// EvalPlus's.
pub(crate) const MEMORY_BYTES: u64 = 4 << 30;

/// The outputs for one part of a task's inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Converted as the task's oracle wants them.
    pub outputs: Vec<Value>,
    /// Wall seconds of each call.
    pub seconds: Vec<f64>,
}

/// The outputs for a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskExpected {
    /// Of the base tests.
    pub base: Expected,
    /// Of the further tests.
    pub plus: Expected,
}

/// Why there are no expected outputs.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// A canonical solution did not give an output.
    #[error(
        "{task_id}: the canonical solution fails on input {index}: {reason}; check that the data \
         file is whole"
    )]
    Canonical {
        /// The task.
        task_id: String,
        /// The input, from 0.
        index: usize,
        /// How.
        reason: String,
    },
}

/// The expected outputs of all tasks, in their order: from the cache where they are there, else
/// computed and, with a cache, kept.
///
/// # Errors
/// A canonical solution fails.
pub fn expected(
    dataset: &Dataset,
    pool: &Pool,
    cache: Option<&Path>,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<TaskExpected>, OracleError> {
    let path = cache.map(|folder| {
        let python = pool.python_version().replace(['.', ' '], "_");
        let rules = format!("{:?}", dataset.rules).to_lowercase();
        folder.join(format!(
            "{}-python{python}-{rules}-{FORM}.json",
            dataset.checksum
        ))
    });
    if let Some(kept) = path.as_deref().and_then(|path| read(path, dataset)) {
        return Ok(kept);
    }
    let computed = compute(dataset, pool, on_done)?;
    if let Some(path) = path {
        // Where it cannot be kept, as below a read-only HOME, it is computed again the next time.
        let _ = write(&path, &computed);
    }
    Ok(computed)
}

/// A cache that is not whole, or not as it was written, counts for nothing: right programs would
/// fail by it.
fn read(path: &Path, dataset: &Dataset) -> Option<Vec<TaskExpected>> {
    let text = std::fs::read_to_string(path).ok()?;
    let (sum, outputs) = text.strip_prefix("[\"")?.split_once("\",")?;
    let outputs = outputs.strip_suffix(']')?;
    if checksum(outputs) != sum {
        return None;
    }
    let kept: Vec<TaskExpected> = serde_json::from_str(outputs).ok()?;
    let fits = |(kept, task): (&TaskExpected, &Task)| {
        kept.base.outputs.len() == task.base.len() && kept.plus.outputs.len() == task.plus.len()
    };
    let is_whole = kept.len() == dataset.tasks.len() && kept.iter().zip(&dataset.tasks).all(fits);
    is_whole.then_some(kept)
}

fn write(path: &Path, computed: &[TaskExpected]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Another process may write the same file: each has its own until it is whole.
    let own = path.with_extension(format!("{}.part", std::process::id()));
    let outputs = serde_json::to_string(computed)?;
    let sum = checksum(&outputs);
    std::fs::write(&own, format!("[\"{sum}\",{outputs}]"))?;
    std::fs::rename(own, path)
}

fn compute(
    dataset: &Dataset,
    pool: &Pool,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<TaskExpected>, OracleError> {
    let task = |task: &Task| {
        let oracle = Oracle::of(dataset.benchmark, dataset.rules, task);
        Ok(TaskExpected {
            base: run(task, oracle, &task.base, 0, pool)?,
            plus: run(task, oracle, &task.plus, task.base.len(), pool)?,
        })
    };
    let results = pool.map(&dataset.tasks, task, on_done);
    results.into_iter().collect()
}

fn run(
    task: &Task,
    oracle: Oracle,
    inputs: &[Value],
    first: usize,
    pool: &Pool,
) -> Result<Expected, OracleError> {
    let program = Program {
        source: task.canonical(),
        entry_point: task.entry_point.clone(),
        inputs: inputs
            .iter()
            .map(|input| Arguments::of(input.items()))
            .collect(),
        check: None,
    };
    let rule = CallRule {
        call_s: Vec::new(),
        convert: oracle.conversion_of_expected().map(str::to_owned),
        items_max: None,
    };
    let limits = Limits {
        cpu_s: 300,
        wall_s: 900.0,
        memory_bytes: MEMORY_BYTES,
        result_bytes_max: RESULT_BYTES_MAX,
    };
    let mut expected = Expected::default();
    let mut failure = None;
    let mut since = Instant::now();
    let result = {
        let mut on_response = |response: Response<'_>| {
            let seconds = since.elapsed().as_secs_f64();
            since = Instant::now();
            match response.into_result() {
                CallResult::Value(value) => {
                    expected.outputs.push(value);
                    expected.seconds.push(seconds);
                    ControlFlow::Continue(())
                }
                CallResult::Raised { error, message, .. } => {
                    failure = Some(format!("{error}: {message}"));
                    ControlFlow::Break(())
                }
            }
        };
        pool.run_each(&program, &rule, limits, &mut on_response)
    };
    let n_outputs = expected.outputs.len();
    if failure.is_none() && result.end == End::Finished && n_outputs == inputs.len() {
        return Ok(expected);
    }
    Err(OracleError::Canonical {
        task_id: task.task_id.clone(),
        index: first + n_outputs,
        reason: failure.unwrap_or_else(|| format!("{:?}", result.end)),
    })
}
