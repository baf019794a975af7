//! Samples as EvalPlus reads them: JSON lines with `task_id` and `solution` or `completion`, or a
//! folder `HumanEval_0/0.py`; and as `LiveCodeBench` writes them: `question_id` and `code_list`.
//!
//! A solution is a whole program; a completion follows its task's prompt.

use std::path::{Path, PathBuf};

use ra3_sandbox::value::Value;

use crate::json::{field, text_field};
use crate::records::{DataError, Place, entries, json_records, read_text};

/// What a model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// A whole program.
    Solution(String),
    /// What follows the prompt.
    Completion(String),
}

/// A sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its task.
    pub task_id: String,
    /// What was written.
    pub text: Text,
    /// Where it stands, for messages.
    pub place: String,
}

impl Sample {
    /// The whole program.
    pub fn program(&self, prompt: &str) -> String {
        match &self.text {
            Text::Solution(solution) => solution.clone(),
            Text::Completion(completion) => format!("{prompt}{completion}"),
        }
    }
}

/// Reads samples, in the order of the file, or of the names in a folder.
///
/// # Errors
/// They cannot be read, or a line lacks a key.
pub fn read(path: &Path) -> Result<Vec<Sample>, DataError> {
    if path.is_dir() {
        return read_folder(path);
    }
    let text = read_text(path)?;
    let samples = |found: Result<(Place, Value), DataError>| {
        let (place, record) = found?;
        let fail = |key, expected| DataError::Field {
            path: path.to_owned(),
            place,
            key,
            expected,
        };
        let stands = format!("{}, {place}", path.display());
        let question_id = text_field(&record, "question_id");
        if let (None, Some(question_id)) = (field(&record, "task_id"), question_id) {
            let codes = code_list(&record, &question_id, &stands);
            return codes.ok_or_else(|| fail("code_list", "a list of programs"));
        }
        let task_id = text_field(&record, "task_id").ok_or_else(|| fail("task_id", "a string"))?;
        let text = program_field(&record, "solution").map(Text::Solution);
        let text = text.or_else(|| program_field(&record, "completion").map(Text::Completion));
        Ok(vec![Sample {
            task_id,
            text: text.ok_or_else(|| fail("solution", "a string, or else `completion`"))?,
            place: stands,
        }])
    };
    let samples: Result<Vec<_>, _> = json_records(&text, path)?.map(samples).collect();
    Ok(samples?.into_iter().flatten().collect())
}

/// The programs of a question in `LiveCodeBench`'s own form.
fn code_list(record: &Value, question_id: &str, place: &str) -> Option<Vec<Sample>> {
    let Value::List(codes) = field(record, "code_list")? else {
        return None;
    };
    let sample = |code: &Value| {
        Some(Sample {
            task_id: question_id.to_owned(),
            text: Text::Solution(program_text(code)?),
            place: place.to_owned(),
        })
    };
    codes.iter().map(sample).collect()
}

/// A program in a record. What no source file can hold stays what Python refuses: in place of a
/// lone surrogate stands a zero.
fn program_field(record: &Value, key: &str) -> Option<String> {
    program_text(field(record, key)?)
}

fn program_text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone()),
        text @ Value::Surrogates(_) => {
            let bytes = text.as_bytes()?;
            Some(String::from_utf8_lossy(&bytes).replace(char::REPLACEMENT_CHARACTER, "\0"))
        }
        _ => None,
    }
}

fn read_folder(path: &Path) -> Result<Vec<Sample>, DataError> {
    let mut samples = Vec::new();
    for folder in entries(path)?.into_iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut files = entries(&folder)?;
        files.retain(|file| file.extension().is_some_and(|suffix| suffix == "py"));
        let number = |file: &PathBuf| -> Option<u64> { file.file_stem()?.to_str()?.parse().ok() };
        files.sort_by_key(|file| (number(file), file.clone()));
        for file in files {
            samples.push(Sample {
                task_id: name.replacen('_', "/", 1),
                text: Text::Solution(read_text(&file)?),
                place: file.display().to_string(),
            });
        }
    }
    Ok(samples)
}
