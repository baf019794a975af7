//! LiveCodeBench's records: JSON lines of `code_generation_lite`, and SandboxFusion's variant.
//!
//! Releases add up: the first N of the files `test.jsonl`, `test2.jsonl` and so on are release N,
//! and the number of problems says so ([`release`]).

use std::path::{Path, PathBuf};

use ra3_sandbox::value::Value;

use crate::contest::task::{Test, test_columns, test_pairs};
use crate::json::{self, field, text_field};
use crate::livecodebench::payload;
use crate::records::{Complaint, DataError, read_each, read_files};
use crate::task::is_day;

/// Problems of which the project's errata say that they have several right answers, want a
/// dialogue, or have wrong tests.
const ERRONEOUS: &[&str] = &[
    "abc311_c",
    "abc326_d",
    "abc327_b",
    "abc333_e",
    "abc337_e",
    "abc343_a",
    "abc343_e",
    "abc350_c",
    "abc355_e",
    "abc362_c",
    "arc185_c",
    "arc189_a",
    "apply-operations-to-make-string-empty",
    "find-the-peaks",
    "find-words-containing-character",
    "generate-binary-strings-without-adjacent-zeros",
    "most-frequent-ids",
];

/// A problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// `question_id`.
    pub task_id: String,
    /// What is asked.
    pub question: String,
    /// What a solution begins with; empty where it reads standard input.
    pub starter_code: String,
    /// When it was asked, as `2023-08-21T00:00:00`; empty where the record does not say.
    pub date: String,
    /// The method that tests call; `None` where programs read standard input.
    pub function: Option<String>,
    /// Public tests, then private ones.
    pub tests: Vec<Test>,
    /// The project's errata name it.
    pub is_erroneous: bool,
}

/// The release with so many problems, of those that were published.
pub fn release(n_tasks: usize) -> Option<&'static str> {
    [
        (400, "release_v1"),
        (511, "release_v2"),
        (612, "release_v3"),
        (713, "release_v4"),
        (880, "release_v5"),
        (1055, "release_v6"),
    ]
    .into_iter()
    .find_map(|(n, name)| (n == n_tasks).then_some(name))
}

/// Reads the problems of a file, or of a release's files in a folder, with the data's checksum.
///
/// # Errors
/// A file cannot be read, or a record is not one of these.
pub fn read(path: &Path) -> Result<(Vec<Task>, String), DataError> {
    let mut task = |_: usize, record: &Value| {
        if field(record, "public_test_cases").is_some() {
            official(record)
        } else {
            sandbox_fusion(record)
        }
    };
    let name = |task: &Task| task.task_id.clone();
    match files_of_release(path).as_slice() {
        [] => read_each(path, Some(name), &mut task),
        files => read_files(files, Some(name), &mut task),
    }
}

/// The files of a release in a folder, as far as they are there.
fn files_of_release(folder: &Path) -> Vec<PathBuf> {
    let path = |number: usize| match number {
        1 => folder.join("test.jsonl"),
        number => folder.join(format!("test{number}.jsonl")),
    };
    let mut paths = Vec::new();
    while path(paths.len() + 1).is_file() {
        paths.push(path(paths.len() + 1));
    }
    paths
}

fn official(record: &Value) -> Result<Task, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a text"));
    let mut tests = test_cases(&text("public_test_cases")?, "public_test_cases")?;
    let private = text("private_test_cases")?;
    // Plain in some records, wrapped in others.
    let private = if private.trim_start().starts_with('[') {
        private
    } else {
        let wrapped = "a JSON list, or base64 of zlib of a pickled text";
        payload::text(&private).map_err(|_| ("private_test_cases", wrapped))?
    };
    tests.extend(test_cases(&private, "private_test_cases")?);
    let metadata = text_field(record, "metadata").unwrap_or_else(|| "{}".to_owned());
    let metadata = json::parse(&metadata).map_err(|_| ("metadata", "the text of a JSON object"))?;
    let function = text_field(&metadata, "func_name");
    if function.is_none() && tests.iter().any(|(kind, _)| *kind == Kind::Functional) {
        let expected = "with `func_name`, since there are tests with `testtype` functional";
        return Err(("metadata", expected));
    }
    let title = text_field(record, "question_title").unwrap_or_default();
    // Read nowhere, but a record without it is none of these.
    text("platform")?;
    let task_id = text("question_id")?;
    let names = [task_id.as_str(), title.as_str()];
    Ok(Task {
        is_erroneous: is_erroneous(&names),
        question: text("question_content")?,
        starter_code: text_field(record, "starter_code").unwrap_or_default(),
        date: date(text("contest_date")?)?,
        function,
        tests: tests.into_iter().map(|(_, test)| test).collect(),
        task_id,
    })
}

/// By its number, or by its title written as in an address.
fn is_erroneous(names: &[&str]) -> bool {
    let slug = |name: &str| name.trim().to_lowercase().replace(' ', "-");
    names
        .iter()
        .any(|name| ERRONEOUS.contains(&slug(name).as_str()))
}

/// A date as it stands, if it begins with a day: windows of time are cut by it.
fn date(text: String) -> Result<String, Complaint> {
    if text.is_empty() || text.get(..10).is_some_and(is_day) {
        return Ok(text);
    }
    Err((
        "contest_date",
        "a day such as 2024-08-01, or one with a time",
    ))
}

/// How a test is run, as it says itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standard,
    Functional,
}

fn test_cases(text: &str, key: &'static str) -> Result<Vec<(Kind, Test)>, Complaint> {
    let complaint = (key, "the text of a JSON list of `input` and `output`");
    let cases = json::parse(text).map_err(|_| complaint)?;
    let tests = test_pairs(&cases, key).map_err(|_| complaint)?;
    let kind = |case: &Value| match field(case, "testtype") {
        None => Ok(Kind::Standard),
        Some(Value::Str(kind)) if kind == "stdin" => Ok(Kind::Standard),
        Some(Value::Str(kind)) if kind == "functional" => Ok(Kind::Functional),
        Some(_) => Err((key, "a list of tests with `testtype` stdin or functional")),
    };
    let kinds = cases.items().iter().map(kind);
    let kinds: Vec<Kind> = kinds.collect::<Result<_, _>>()?;
    Ok(kinds.into_iter().zip(tests).collect())
}

fn sandbox_fusion(record: &Value) -> Result<Task, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a text"));
    let labels = json::parse(&text("labels")?).map_err(|_| ("labels", "the text of JSON"))?;
    let label = |key| text_field(&labels, key).unwrap_or_default();
    let wrapped = "base64 of zlib of a pickled dictionary of one text";
    let tests = payload::text(&text("test")?).map_err(|_| ("test", wrapped))?;
    let tests = json::parse(&tests).map_err(|_| ("test", "JSON inside"))?;
    let columns = test_columns(&tests, ["inputs", "outputs"]);
    Ok(Task {
        task_id: label("task_id"),
        question: text("content")?,
        function: text_field(&tests, "fn_name"),
        tests: columns.ok_or(("test", "as many `inputs` as `outputs` inside"))?,
        is_erroneous: is_erroneous(&[label("task_id").as_str()]),
        ..Task::default()
    })
}
