//! Reading contest problems from the forms that they are published in, told apart by their keys.
//!
//! | form | keys |
//! |---|---|
//! | open-r1/codeforces | `official_tests`, `time_limit` in s, `memory_limit` in MB, `input_mode` |
//! | `CodeContests` as JSON | `public_tests`, `private_tests`, `generated_tests`, `time_limit` |
//! | rLLM and `DeepCoder` | `problem`, `tests` |
//! | `SandboxFusion` | `content`, `test`, `labels` |
//!
//! Not done here: grading, and the Riegeli files themselves.

use std::collections::BTreeSet;
use std::path::Path;

use ra3_sandbox::value::Value;

use crate::contest::task::{Streams, Task, Test};
use crate::evalplus::data::DataError;
use crate::json::{self, field, text_field};
use crate::records::{Complaint, read_each};

/// Reads problems, with the checksum of the data; of two with the same statement the first stays.
///
/// # Errors
/// The file cannot be read, or a record is of none of the forms.
pub fn read(path: &Path) -> Result<(Vec<Task>, String), DataError> {
    let (mut tasks, checksum) = read_each(path, &mut |_, record| task(record))?;
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
    let official = field(record, "official_tests").map(|tests| pairs(tests, "official_tests"));
    let mut tests = official.transpose()?.unwrap_or_default();
    if let Some(generated) = field(record, "generated_tests") {
        tests.extend(pairs(generated, "generated_tests")?);
    }
    let mut task = Task::new(text("id"), statement, tests);
    task.is_complete = matches!(
        field(record, "official_tests_complete"),
        Some(Value::Bool(true))
    );
    if let Some(seconds) = number(record, "time_limit") {
        task.time_s = seconds;
    }
    if let Some(megabytes) = number(record, "memory_limit") {
        task.memory_bytes = (megabytes * 1e6) as u64;
    }
    if text("input_mode").as_deref() == Some("file") {
        task.streams = Streams::Files {
            input: "input.txt".to_owned(),
            output: "output.txt".to_owned(),
        };
    }
    task.checker = text("generated_checker");
    task.rating = number(record, "rating").map(|rating| rating as u32);
    Ok(task)
}

fn code_contests(record: &Value) -> Result<Task, Complaint> {
    let text = |key| text_field(record, key).filter(|text| !text.is_empty());
    let statement = text("description").ok_or(("description", "a text"))?;
    let mut tests = Vec::new();
    for key in ["public_tests", "private_tests", "generated_tests"] {
        if let Some(group) = field(record, key) {
            tests.extend(columns(group, ["input", "output"]).ok_or((
                key,
                "an object with as many `input`s as `output`s, texts all",
            ))?);
        }
    }
    let mut task = Task::new(text("name"), statement, tests);
    if let Some(limit) = field(record, "time_limit") {
        let part = |key| number(limit, key).unwrap_or_default();
        task.time_s = part("seconds") + 1e-9 * part("nanos");
    }
    if let Some(bytes) = number(record, "memory_limit_bytes").filter(|bytes| *bytes > 0.0) {
        task.memory_bytes = bytes as u64;
    }
    if let (Some(input), Some(output)) = (text("input_file"), text("output_file")) {
        task.streams = Streams::Files { input, output };
    }
    let rating = number(record, "cf_rating").filter(|rating| *rating > 0.0);
    task.rating = rating.map(|rating| rating as u32);
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
    let tests = parsed.as_ref().unwrap_or(tests);
    let tests = match columns(tests, ["inputs", "outputs"]) {
        Some(tests) => tests,
        None => pairs(tests, "tests")?,
    };
    Ok(Task::new(None, statement, tests))
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

/// A list of objects with `input` and `output`.
fn pairs(tests: &Value, key: &'static str) -> Result<Vec<Test>, Complaint> {
    let complaint = (key, "a list of objects with the texts `input` and `output`");
    let Value::List(tests) = tests else {
        return Err(complaint);
    };
    let test = |test: &Value| {
        Some(Test {
            input: text_field(test, "input")?,
            output: text_field(test, "output")?,
        })
    };
    let tests: Option<Vec<Test>> = tests.iter().map(test).collect();
    tests.ok_or(complaint)
}

/// An object of two lists of texts.
fn columns(tests: &Value, [inputs, outputs]: [&str; 2]) -> Option<Vec<Test>> {
    let texts = |key| match field(tests, key)? {
        Value::List(items) => items
            .iter()
            .map(|item| match item {
                Value::Str(text) => Some(text.clone()),
                _ => None,
            })
            .collect::<Option<Vec<String>>>(),
        _ => None,
    };
    let (inputs, outputs) = (texts(inputs)?, texts(outputs)?);
    (inputs.len() == outputs.len()).then(|| {
        let tests = inputs.into_iter().zip(outputs);
        tests
            .map(|(input, output)| Test { input, output })
            .collect()
    })
}

fn number(record: &Value, key: &str) -> Option<f64> {
    field(record, key)?.as_f64()
}
