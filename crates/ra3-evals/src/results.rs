//! Result files: EvalPlus's `eval_results.json`, with a few keys more, which it passes over.
//!
//! `hash` is the checksum of the data. Ours are `benchmark`, `version`, `sandbox`, `python`,
//! `sampling` and, with each sample, its origin and the first failing test of each part. A file of
//! EvalPlus's own is read as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ra3_sandbox::value::Value;

use crate::json::{self, field, object, text, text_field};
use crate::outcome::{Failure, Part, Status, Verdict};
use crate::records::{DataError, checksum, read_text};
use crate::sampling::Sampling;

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
    /// Of a sample that another file brought: that file's name, and the sample's place in it. Two
    /// entries of one origin are one sample. Empty where it was graded for this file.
    pub origin: String,
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
            origin: String::new(),
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The benchmark's name and the rules that it was graded by; empty in a file of EvalPlus's.
    pub benchmark: String,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Under what they hold.
    pub conditions: Conditions,
    /// How the samples were written, as far as that is known.
    pub sampling: Vec<Sampling>,
    /// By task.
    pub tasks: BTreeMap<String, Vec<Entry>>,
}

fn name_of_path(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    checksum(&path.display().to_string())[..12].to_owned()
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
    /// The results are of the same data by other rules.
    #[error(
        "{path} holds results of {found}, these are of {wanted}; name another file, or grade as \
         that was graded"
    )]
    OtherRules {
        /// The file.
        path: PathBuf,
        /// Its benchmark and rules.
        found: String,
        /// The benchmark and rules now.
        wanted: String,
    },
    /// The file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] std::io::Error),
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
    let file = json::parse(&read_text(path)?).map_err(|source| DataError::Json {
        path: path.to_owned(),
        line: 1,
        source,
    })?;
    let name = |key| text_field(&file, key).unwrap_or_default();
    let conditions = Conditions {
        benchmark: name("benchmark"),
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
    let sampling = match field(&file, "sampling") {
        Some(Value::List(records)) => records.iter().filter_map(Sampling::of_record).collect(),
        _ => Vec::new(),
    };
    Ok(Results {
        conditions,
        sampling,
        tasks,
    })
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
        origin: text_field(record, "origin").unwrap_or_default(),
    })
}

/// Writes a result file; what was there stays until the new one is whole.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, results: &Results) -> Result<(), ResultsError> {
    let of_task = |(task_id, entries): (&String, &Vec<Entry>)| {
        let entries = entries.iter().map(|entry| record(task_id, entry));
        (text(task_id), Value::List(entries.collect()))
    };
    let sampling = results.sampling.iter().map(Sampling::record).collect();
    let file = object([
        ("hash", text(&results.conditions.checksum)),
        ("benchmark", text(&results.conditions.benchmark)),
        ("version", text(&results.conditions.version)),
        ("sandbox", text(&results.conditions.sandbox)),
        ("python", text(&results.conditions.python)),
        ("sampling", Value::List(sampling)),
        (
            "eval",
            Value::Dict(results.tasks.iter().map(of_task).collect()),
        ),
    ]);
    let part = path.with_extension("part");
    std::fs::write(&part, json::write(&file))
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|source| ResultsError::Write(path.to_owned(), source))
}

fn record(task_id: &str, entry: &Entry) -> Value {
    let failure = |failure: &Option<Failure>| {
        failure.as_ref().map_or(Value::None, |failure| {
            object([
                ("index", Value::Int(failure.index.to_string())),
                ("input", text(&failure.input)),
                ("expected", text(&failure.expected)),
                ("got", text(&failure.got)),
            ])
        })
    };
    // EvalPlus lists the failing input itself; a reader of the file finds it as text here.
    let inputs = |failure: &Option<Failure>| {
        let inputs = failure.iter().filter(|failure| !failure.input.is_empty());
        Value::List(inputs.map(|failure| text(&failure.input)).collect())
    };
    let plus = entry.plus.map_or(Value::None, |status| text(status.name()));
    object([
        ("task_id", text(task_id)),
        ("solution", text(&entry.solution)),
        ("base_status", text(entry.base.name())),
        ("plus_status", plus),
        ("base_fail_tests", inputs(&entry.failures[0])),
        ("plus_fail_tests", inputs(&entry.failures[1])),
        ("base_failure", failure(&entry.failures[0])),
        ("plus_failure", failure(&entry.failures[1])),
        ("origin", text(&entry.origin)),
    ])
}

impl Results {
    /// None yet.
    pub fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            sampling: Vec::new(),
            tasks: BTreeMap::new(),
        }
    }

    /// Takes up what an earlier run wrote.
    ///
    /// # Errors
    /// It is of other data, or by other rules.
    pub fn resume(&mut self, earlier: Self, path: &Path) -> Result<(), ResultsError> {
        self.check(&earlier.conditions, path)?;
        self.sampling = earlier.sampling;
        self.tasks = earlier.tasks;
        Ok(())
    }

    /// Adds the samples of another file, each once, however often that is merged: it is known by
    /// how its samples were written, or where it does not say that by its path.
    ///
    /// # Errors
    /// The other results are of other data, or by other rules.
    pub fn merge(&mut self, other: Self, path: &Path) -> Result<(), ResultsError> {
        self.check(&other.conditions, path)?;
        let own = other.sampling.iter().find(|own| own.origin.is_empty());
        let name = own.map_or_else(|| name_of_path(path), Sampling::name);
        for mut sampling in other.sampling {
            if sampling.origin.is_empty() {
                sampling.origin.clone_from(&name);
            }
            self.add_sampling(sampling);
        }
        for (task_id, entries) in other.tasks {
            let own = self.tasks.entry(task_id).or_default();
            for (index, mut entry) in entries.into_iter().enumerate() {
                if entry.origin.is_empty() {
                    entry.origin = format!("{name}#{index}");
                }
                match own.iter_mut().find(|twin| twin.origin == entry.origin) {
                    Some(twin) => *twin = entry,
                    None => own.push(entry),
                }
            }
        }
        Ok(())
    }

    fn check(&self, found: &Conditions, path: &Path) -> Result<(), ResultsError> {
        let wanted = &self.conditions;
        if found.checksum != wanted.checksum {
            return Err(ResultsError::OtherData {
                path: path.to_owned(),
                found: found.checksum.clone(),
                wanted: wanted.checksum.clone(),
            });
        }
        if !found.benchmark.is_empty() && found.benchmark != wanted.benchmark {
            return Err(ResultsError::OtherRules {
                path: path.to_owned(),
                found: found.benchmark.clone(),
                wanted: wanted.benchmark.clone(),
            });
        }
        Ok(())
    }

    /// Says how samples were written, once.
    pub fn add_sampling(&mut self, sampling: Sampling) {
        if !self.sampling.contains(&sampling) {
            self.sampling.push(sampling);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Part;

    fn results(seed: Option<u64>, programs: &[&str]) -> Results {
        let mut results = Results::new(Conditions {
            benchmark: "humaneval+".to_owned(),
            checksum: "sum".to_owned(),
            ..Conditions::default()
        });
        results.sampling.extend(seed.map(|seed| Sampling {
            origin: String::new(),
            model: "m".to_owned(),
            variant: "base".to_owned(),
            temperature: 0.8,
            n_samples: programs.len(),
            tokens_max: 768,
            seed,
        }));
        let entry = |program: &&str| Entry::new((*program).to_owned(), Part::passed(1).into());
        let entries = programs.iter().map(entry).collect();
        results.tasks.insert("HumanEval/0".to_owned(), entries);
        results
    }

    #[test]
    fn shards_add_up_however_often_they_are_merged() {
        let mut all = results(Some(1), &["a", "b"]);
        let n = |results: &Results| results.tasks["HumanEval/0"].len();
        let path = Path::new("results.json");
        for _ in 0..2 {
            // A twin of another seed is a sample of its own.
            all.merge(results(Some(2), &["a", "c"]), path).unwrap();
            assert_eq!(n(&all), 4);
        }
        assert_eq!(all.sampling.len(), 2);
        // Of a file that does not say how it was written, the path counts.
        all.merge(results(None, &["a"]), path).unwrap();
        all.merge(results(None, &["a", "d"]), path).unwrap();
        assert_eq!(n(&all), 6);
        // What was written and read again is the same.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.json");
        write(&file, &all).unwrap();
        let mut again = read(&file).unwrap();
        assert_eq!(again, all);
        again.merge(results(Some(2), &["a", "c"]), path).unwrap();
        assert_eq!(n(&again), 6);
    }

    #[test]
    fn results_of_other_rules_do_not_mix() {
        let mut all = results(None, &["a"]);
        let mut other = results(None, &["a"]);
        "humaneval+, rules of 2024".clone_into(&mut other.conditions.benchmark);
        let error = all.resume(other.clone(), Path::new("x")).unwrap_err();
        assert!(error.to_string().contains("rules of 2024"), "{error}");
        assert!(all.merge(other.clone(), Path::new("x")).is_err());
        // EvalPlus's own files do not say.
        other.conditions.benchmark.clear();
        assert!(all.merge(other, Path::new("x")).is_ok());
    }
}
