//! Reading contest problems from the forms that they are published in, told apart by their keys.
//!
//! | form | keys |
//! |---|---|
//! | open-r1/codeforces | `official_tests`, `time_limit` in s, `memory_limit` in MB, `input_mode` |
//! | `CodeContests` as JSON | `public_tests`, `private_tests`, `generated_tests`, `time_limit` |
//! | rLLM and `DeepCoder` | `problem`, `tests`, of which each may have `testtype`, `metadata` |
//! | `SandboxFusion` | `content`, `test`, `labels` |
//!
//! What is null, and a limit of 0, is as what is not there: 2 s and 256 MiB are taken then.
//!
//! Not done here: grading, and the Riegeli files themselves.

use std::collections::BTreeSet;
use std::path::Path;

use ra3_sandbox::value::Value;

use crate::contest::task::{Streams, Task, Test, test_columns, test_pairs};
use crate::json::{self, field, text_field};
use crate::records::{Complaint, DataError, read_each};

/// Reads problems, with the checksum of the data; of two with the same statement the first stays.
///
/// # Errors
/// The file cannot be read, or a record is of none of the forms.
pub fn read(path: &Path) -> Result<(Vec<Task>, String), DataError> {
    let (mut tasks, checksum) = read_each(path, None, &mut |_, record| task(record))?;
    let mut seen = BTreeSet::new();
    tasks.retain(|task| seen.insert(task.task_id.clone()));
    Ok((tasks, checksum))
}

fn task(record: &Value) -> Result<Task, Complaint> {
    let has = |key| field(record, key).is_some();
    if has("official_tests") || has("input_mode") {
        open_r1(record)
    } else if has("public_tests") {
        code_contests(record)
    } else if has("problem") {
        rllm(record)
    } else if has("content") {
        sandbox_fusion(record)
    } else {
        Err((
            "official_tests",
            "there, or else `public_tests`, `problem` or `content`: no form of contest records",
        ))
    }
}

fn open_r1(record: &Value) -> Result<Task, Complaint> {
    let text = |key| text_field(record, key).filter(|text| !text.is_empty());
    let title = text("title").map(|title| format!("# {title}\n\n"));
    let section = |key, name: &str| text(key).map(|text| format!("\n\n## {name}\n{text}"));
    let mut statement = title.unwrap_or_default();
    statement += &text("description").ok_or(("description", "a text"))?;
    for part in [
        section("input_format", "Input Format"),
        section("output_format", "Output Format"),
        section("note", "Note"),
    ] {
        statement += &part.unwrap_or_default();
    }
    let mut tests = Vec::new();
    for key in ["official_tests", "generated_tests"] {
        match field(record, key) {
            // Published records have how many generated tests there are elsewhere.
            None | Some(Value::None | Value::Int(_)) => {}
            Some(found) => tests.extend(test_pairs(found, key)?),
        }
    }
    let mut task = Task::new(text("id"), statement, tests);
    if let Some(seconds) = positive(record, "time_limit") {
        task.time_s = seconds;
    }
    if let Some(megabytes) = positive(record, "memory_limit") {
        task.memory_bytes = (megabytes * 1e6) as u64;
    }
    if text("input_mode").as_deref() == Some("file") {
        task.streams = Streams::Files {
            input: "input.txt".to_owned(),
            output: "output.txt".to_owned(),
        };
    }
    task.checker = text("generated_checker");
    task.rating = positive(record, "rating").map(|rating| rating as u32);
    Ok(task)
}

fn code_contests(record: &Value) -> Result<Task, Complaint> {
    let text = |key| text_field(record, key).filter(|text| !text.is_empty());
    let statement = text("description").ok_or(("description", "a text"))?;
    let mut tests = Vec::new();
    for key in ["public_tests", "private_tests", "generated_tests"] {
        let group = field(record, key).filter(|group| **group != Value::None);
        if let Some(group) = group {
            tests.extend(test_columns(group, ["input", "output"]).ok_or((
                key,
                "an object with as many `input`s as `output`s, texts all",
            ))?);
        }
    }
    let mut task = Task::new(text("name"), statement, tests);
    if let Some(limit) = field(record, "time_limit") {
        let part = |key| positive(limit, key).unwrap_or_default();
        let seconds = part("seconds") + 1e-9 * part("nanos");
        if seconds > 0.0 {
            task.time_s = seconds;
        }
    }
    if let Some(bytes) = positive(record, "memory_limit_bytes") {
        task.memory_bytes = bytes as u64;
    }
    if let (Some(input), Some(output)) = (text("input_file"), text("output_file")) {
        task.streams = Streams::Files { input, output };
    }
    task.rating = positive(record, "cf_rating").map(|rating| rating as u32);
    Ok(task)
}

fn rllm(record: &Value) -> Result<Task, Complaint> {
    let statement = text_field(record, "problem").ok_or(("problem", "a text"))?;
    let tests = field(record, "tests").ok_or(("tests", "there"))?;
    // Some files hold the tests as the text of a JSON value.
    let parsed = match tests {
        Value::Str(text) => Some(json::parse(text).map_err(|_| ("tests", "JSON"))?),
        _ => None,
    };
    let records = parsed.as_ref().unwrap_or(tests);
    let tests = match test_columns(records, ["inputs", "outputs"]) {
        Some(tests) => tests,
        None => test_pairs(records, "tests")?,
    };
    let function = function(records)?;
    if function.is_some() && !tests.iter().all(is_of_function) {
        let expected = "texts of JSON, an argument a line, since they are of a function";
        return Err(("tests", expected));
    }
    Ok(Task {
        function,
        ..Task::new(None, statement, tests)
    })
}

/// The function that tests are of, as their first says (rLLM's `postprocess_lcb_sample`).
fn function(tests: &Value) -> Result<Option<String>, Complaint> {
    let first = match tests {
        Value::List(tests) => tests.first(),
        columns => return Ok(text_field(columns, "fn_name")),
    };
    let kind = first.and_then(|test| text_field(test, "testtype"));
    if kind.as_deref() != Some("functional") {
        return Ok(None);
    }
    let metadata = match first.and_then(|test| field(test, "metadata")) {
        Some(Value::Str(text)) => json::parse(text).ok(),
        metadata => metadata.cloned(),
    };
    let metadata = metadata.unwrap_or(Value::None);
    let name = text_field(&metadata, "func_name").or_else(|| text_field(&metadata, "fn_name"));
    let expected = "with `func_name` in the `metadata` of the first, since they are of a function";
    name.map(Some).ok_or(("tests", expected))
}

/// True if a test is one of a function.
fn is_of_function(test: &Test) -> bool {
    let mut values = test.input.split('\n').chain([test.output.as_str()]);
    values.all(|text| json::parse(text).is_ok())
}

fn sandbox_fusion(record: &Value) -> Result<Task, Complaint> {
    let statement = text_field(record, "content").ok_or(("content", "a text"))?;
    let inner = |key: &'static str| {
        let text = text_field(record, key).ok_or((key, "the text of a JSON value"))?;
        json::parse(&text).map_err(|_| (key, "the text of a JSON value"))
    };
    let test = |test: &Value| {
        let stream = |side, name| text_field(field(test, side)?, name);
        Some(Test {
            input: stream("input", "stdin")?,
            output: stream("output", "stdout")?,
        })
    };
    let Value::List(tests) = inner("test")? else {
        return Err(("test", "the text of a JSON list"));
    };
    let tests: Option<Vec<Test>> = tests.iter().map(test).collect();
    let tests = tests.ok_or(("test", "a list of `input.stdin` and `output.stdout`"))?;
    let labels = inner("labels")?;
    let name = ["source", "name"].map(|key| text_field(&labels, key).unwrap_or_default());
    let task_id = name[1..]
        .iter()
        .all(|name| !name.is_empty())
        .then(|| name.join("/"));
    Ok(Task::new(task_id, statement, tests))
}

/// A number above 0.
fn positive(record: &Value, key: &str) -> Option<f64> {
    let number = field(record, key)?.as_f64();
    number.filter(|number| *number > 0.0)
}
