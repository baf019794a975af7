//! The data of HumanEval+ and MBPP+: JSON lines with inputs and a right program, no outputs.
//!
//! A version is known by the MD5 sum of the uncompressed lines, as in EvalPlus's result files.

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::evalplus::arguments;
use crate::json::{field, text_field};
use crate::problem::called_by;
use crate::records::{Complaint, DataError, read_each};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Benchmark {
    /// HumanEval+.
    HumanEval,
    /// MBPP+.
    Mbpp,
}

impl Benchmark {
    /// How its task names begin.
    const fn prefix(self) -> &'static str {
        match self {
            Self::HumanEval => "HumanEval/",
            Self::Mbpp => "Mbpp/",
        }
    }
}

/// Which of EvalPlus's rules hold: they have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// A call has at least 4 s; eight tasks of MBPP+ are compared as sets.
    #[default]
    Current,
    /// Of the releases of 2024: a call has at least 1 s; no task is compared as sets.
    Of2024,
}

impl Rules {
    /// What a name says of them.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Current => "",
            Self::Of2024 => ", rules of 2024",
        }
    }

    /// Least seconds of a call.
    pub(crate) const fn call_s_min(self) -> f64 {
        match self {
            Self::Current => 4.0,
            Self::Of2024 => 1.0,
        }
    }
}

/// Versions by their checksums.
const VERSIONS: &[(&str, &str)] = &[
    ("84f4b93a1270b492e4c54d5212da7a5b", "HumanEval+ v0.1.9"),
    ("fe585eb4df8c88d844eeb463ea4d0302", "HumanEval+ v0.1.10"),
    ("ebe95df0d5220f00cedd6f4bddea35e4", "MBPP+ v0.1.0"),
    ("ee43ecabebf20deef4bb776a405ac5b1", "MBPP+ v0.2.0"),
];

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// `HumanEval/0`, `Mbpp/2`.
    pub task_id: String,
    /// Signature and docstring; for MBPP the docstring alone.
    pub prompt: String,
    /// The function's name.
    pub entry_point: String,
    /// A right program; for HumanEval its function's body alone.
    pub canonical_solution: String,
    /// Asserts that right inputs keep.
    pub contract: String,
    /// Argument tuples of the base tests.
    pub base: Vec<Value>,
    /// Argument tuples of the further tests.
    pub plus: Vec<Value>,
    /// Absolute tolerance; 0 is exact.
    pub tolerance: f64,
}

impl Task {
    /// The right program.
    pub fn canonical(&self) -> String {
        format!("{}{}", self.prompt, self.canonical_solution)
    }
}

/// A file of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Which benchmark.
    pub benchmark: Benchmark,
    /// By which rules it is graded.
    pub rules: Rules,
    /// MD5 sum of the uncompressed file.
    pub checksum: String,
    /// Name and version, `unknown version` where the checksum is not a released one's.
    pub version: String,
    /// In the file's order.
    pub tasks: Vec<Task>,
}

/// Reads a benchmark's file.
///
/// # Errors
/// It cannot be read, or a line is not a task of this benchmark.
pub fn read(path: &Path, benchmark: Benchmark, rules: Rules) -> Result<Dataset, DataError> {
    let name = |task: &Task| task.task_id.clone();
    let (tasks, checksum) = read_each(path, Some(name), &mut |_, record| task(record, benchmark))?;
    let version = VERSIONS
        .iter()
        .find(|(sum, _)| *sum == checksum)
        .map_or("unknown version", |(_, name)| name);
    Ok(Dataset {
        benchmark,
        rules,
        checksum,
        version: version.to_owned(),
        tasks,
    })
}

fn task(record: &Value, benchmark: Benchmark) -> Result<Task, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a string"));
    let task_id = text("task_id")?;
    let number = task_id.strip_prefix(benchmark.prefix());
    let number: u32 = number
        .and_then(|number| number.parse().ok())
        .ok_or(("task_id", "a task of the benchmark that was named"))?;
    let inputs = |key: &'static str| match field(record, key) {
        Some(Value::List(inputs)) => {
            arguments::of_inputs(benchmark, number, inputs).ok_or((key, "a list of argument lists"))
        }
        // One task of MBPP+ has an empty dictionary in place of a list.
        Some(Value::Dict(pairs)) if pairs.is_empty() => Ok(Vec::new()),
        _ => Err((key, "a list of argument lists")),
    };
    Ok(Task {
        prompt: text("prompt")?,
        entry_point: called_by(text("entry_point")?)?,
        canonical_solution: text("canonical_solution")?,
        contract: text("contract")?,
        base: inputs("base_input")?,
        plus: inputs("plus_input")?,
        tolerance: field(record, "atol")
            .and_then(Value::as_f64)
            .ok_or(("atol", "a number"))?,
        task_id,
    })
}
