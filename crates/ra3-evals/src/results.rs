//! Result files: EvalPlus's `eval_results.json`, with a few keys more, which it passes over.
//!
//! `hash` is the checksum of the data. Ours are `version`, `sandbox`, `python` and, with each
//! sample, the first failing test of each part. A file of EvalPlus's own is read as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ra3_sandbox::value::Value;

use crate::evalplus::data::{DataError, read_text};
use crate::json::{self, field, text_field};
use crate::outcome::{Failure, Part, Status, Verdict};

/// The results of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole program.
    pub solution: String,
    /// On the base tests.
    pub base: Status,
    /// On the further tests, whatever the base tests said; `None` where there are none.
    pub plus: Option<Status>,
    /// The first failing test of each.
    pub failures: [Option<Failure>; 2],
}

impl Entry {
    /// The results of a sample with a verdict.
    pub fn new(solution: String, verdict: Verdict) -> Self {
        let Verdict { base, plus } = verdict;
        let plus_status = plus.as_ref().map(|plus: &Part| plus.status);
        Self {
            solution,
            base: base.status,
            plus: plus_status,
            failures: [base.failure, plus.and_then(|plus| plus.failure)],
        }
    }

    /// True if it passes the base tests, and the further ones where there are some and they are
    /// asked for.
    pub fn passes(&self, with_plus: bool) -> bool {
        let plus = self.plus.unwrap_or(Status::Pass);
        self.base == Status::Pass && (!with_plus || plus == Status::Pass)
    }
}

/// Under what the results hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// MD5 sum of the uncompressed data.
    pub checksum: String,
    /// Name and version of the data.
    pub version: String,
    /// What confined the programs.
    pub sandbox: String,
    /// The interpreter's version.
    pub python: String,
}

/// The results of many samples, by task, in the samples' order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Under what they hold.
    pub conditions: Conditions,
    /// By task.
    pub tasks: BTreeMap<String, Vec<Entry>>,
}

/// Why results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The file has another form.
    #[error("{path}: {place}: expected {expected}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where.
        place: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// The results are of other data.
    #[error(
        "{path} holds results for the data {found}, these are for {wanted}; name another file or \
         grade with that data"
    )]
    OtherData {
        /// The file.
        path: PathBuf,
        /// Its checksum.
        found: String,
        /// The checksum of the data.
        wanted: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Reads a result file.
///
/// # Errors
/// It cannot be read, or has another form.
pub fn read(path: &Path) -> Result<Results, ResultsError> {
    let fail = |place: &str, expected| ResultsError::Form {
        path: path.to_owned(),
        place: place.to_owned(),
        expected,
    };
    let text = read_text(path)?;
    let file = json::parse(&text).map_err(|source| DataError::Json {
        path: path.to_owned(),
        line: 1,
        source,
    })?;
    let name = |key| text_field(&file, key).unwrap_or_default();
    let conditions = Conditions {
        checksum: text_field(&file, "hash").ok_or_else(|| fail("`hash`", "a string"))?,
        version: name("version"),
        sandbox: name("sandbox"),
        python: name("python"),
    };
    let Some(Value::Dict(by_task)) = field(&file, "eval") else {
        return Err(fail("`eval`", "an object by task"));
    };
    let mut tasks = BTreeMap::new();
    for (task_id, entries) in by_task {
        let (Value::Str(task_id), Value::List(entries)) = (task_id, entries) else {
            return Err(fail("`eval`", "a list for each task"));
        };
        let entries: Option<Vec<Entry>> = entries.iter().map(entry).collect();
        let entries = entries.ok_or_else(|| {
            fail(
                task_id,
                "`solution`, `base_status` and `plus_status` of each",
            )
        })?;
        tasks.insert(task_id.clone(), entries);
    }
    Ok(Results { conditions, tasks })
}

fn entry(record: &Value) -> Option<Entry> {
    let plus = match field(record, "plus_status") {
        None | Some(Value::None) => None,
        Some(Value::Str(name)) => Some(Status::from_name(name)?),
        Some(_) => return None,
    };
    let failure = |key| {
        let record = field(record, key)?;
        Some(Failure {
            index: field(record, "index")?.as_f64()? as usize,
            input: text_field(record, "input")?,
            expected: text_field(record, "expected")?,
            got: text_field(record, "got")?,
        })
    };
    Some(Entry {
        solution: text_field(record, "solution")?,
        base: Status::from_name(&text_field(record, "base_status")?)?,
        plus,
        failures: [failure("base_failure"), failure("plus_failure")],
    })
}

/// Writes a result file; what was there stays until the new one is whole.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, results: &Results) -> Result<(), ResultsError> {
    let string = |text: &str| Value::Str(text.to_owned());
    let pair = |key: &str, value: Value| (string(key), value);
    let of_task = |(task_id, entries): (&String, &Vec<Entry>)| {
        let entries = entries.iter().map(|entry| record(task_id, entry));
        pair(task_id, Value::List(entries.collect()))
    };
    let file = Value::Dict(vec![
        pair("hash", string(&results.conditions.checksum)),
        pair("version", string(&results.conditions.version)),
        pair("sandbox", string(&results.conditions.sandbox)),
        pair("python", string(&results.conditions.python)),
        pair(
            "eval",
            Value::Dict(results.tasks.iter().map(of_task).collect()),
        ),
    ]);
    let part = path.with_extension("part");
    std::fs::write(&part, json::write(&file))
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|source| ResultsError::Write {
            path: path.to_owned(),
            source,
        })
}

fn record(task_id: &str, entry: &Entry) -> Value {
    let string = |text: &str| Value::Str(text.to_owned());
    let pair = |key: &str, value: Value| (string(key), value);
    let failure = |failure: &Option<Failure>| {
        failure.as_ref().map_or(Value::None, |failure| {
            Value::Dict(vec![
                pair("index", Value::Int(failure.index.to_string())),
                pair("input", string(&failure.input)),
                pair("expected", string(&failure.expected)),
                pair("got", string(&failure.got)),
            ])
        })
    };
    // EvalPlus lists the failing input itself; a reader of the file finds it as text here.
    let inputs = |failure: &Option<Failure>| {
        let inputs = failure.iter().filter(|failure| !failure.input.is_empty());
        Value::List(inputs.map(|failure| string(&failure.input)).collect())
    };
    let plus = entry
        .plus
        .map_or(Value::None, |status| string(status.name()));
    Value::Dict(vec![
        pair("task_id", string(task_id)),
        pair("solution", string(&entry.solution)),
        pair("base_status", string(entry.base.name())),
        pair("plus_status", plus),
        pair("base_fail_tests", inputs(&entry.failures[0])),
        pair("plus_fail_tests", inputs(&entry.failures[1])),
        pair("base_failure", failure(&entry.failures[0])),
        pair("plus_failure", failure(&entry.failures[1])),
    ])
}

impl Results {
    /// None yet.
    pub fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            tasks: BTreeMap::new(),
        }
    }

    /// Adds what another file holds; of the same program for the same task the first result stays,
    /// as often as the program was sampled in the file that has it more often.
    ///
    /// # Errors
    /// The other results are of other data.
    pub fn merge(&mut self, other: Self, path: &Path) -> Result<(), ResultsError> {
        if other.conditions.checksum != self.conditions.checksum {
            return Err(ResultsError::OtherData {
                path: path.to_owned(),
                found: other.conditions.checksum,
                wanted: self.conditions.checksum.clone(),
            });
        }
        for (task_id, entries) in other.tasks {
            let own = self.tasks.entry(task_id).or_default();
            let mut matched = vec![false; own.len()];
            for entry in entries {
                let twin = own
                    .iter()
                    .zip(&matched)
                    .position(|(own, taken)| !taken && own.solution == entry.solution);
                if let Some(index) = twin {
                    matched[index] = true;
                } else {
                    own.push(entry);
                    matched.push(true);
                }
            }
        }
        Ok(())
    }

    /// Tasks with no sample are no tasks of these results; `(n, c)` for each task.
    pub fn counts(&self, with_plus: bool) -> Vec<(usize, usize)> {
        let count = |entries: &Vec<Entry>| {
            let n_right = entries
                .iter()
                .filter(|entry| entry.passes(with_plus))
                .count();
            (entries.len(), n_right)
        };
        self.tasks.values().map(count).collect()
    }
}
