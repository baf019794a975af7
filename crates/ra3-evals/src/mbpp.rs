//! MBPP as it was published (Austin et al. 2021, arXiv 2108.07732): records, the 3-shot prompt,
//! and three asserts a task. The sanitized file has the same records under other names.
//!
//! Not done here: grading ([`crate::grade`]), and the further tests of MBPP+ (`evalplus`).

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::json::{field, text_field, texts_field};
use crate::problem::Problem;
use crate::records::{Complaint, DataError, read_each};

/// The tasks that the prompt shows.
const SHOTS: [u32; 3] = [2, 3, 4];

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// 2 and so on.
    pub number: u32,
    /// What is to be written, in words.
    pub text: String,
    /// A right program.
    pub code: String,
    /// Imports that the asserts need.
    pub imports: String,
    /// What runs between the program and its asserts, and may use the program.
    pub setup: String,
    /// Asserts.
    pub tests: Vec<String>,
}

impl Task {
    /// True if it is one of the 500 that models are tested on.
    pub const fn is_of_test_split(&self) -> bool {
        self.number >= 11 && self.number <= 510
    }

    /// As a problem that is graded: its test calls the program's function by its own name.
    pub fn problem(&self) -> Problem {
        let name = self.function().unwrap_or_default();
        Problem {
            task_id: format!("Mbpp/{}", self.number),
            entry_point: name.clone(),
            canonical_solution: self.code.clone(),
            test: check(&name, &self.tests),
            setup: format!("{}\n{}", self.imports, self.setup),
            prelude: self.imports.clone(),
            ..Problem::default()
        }
    }

    /// The first function that a test calls of those that the right program defines.
    pub(crate) fn function(&self) -> Option<String> {
        let defined = self.code.lines().filter_map(|line| {
            let name = line.strip_prefix("def ")?.split('(').next()?;
            Some(name.trim().to_owned())
        });
        let defined: Vec<String> = defined.collect();
        let calls = |name: &String, test: &String| test.contains(&format!("{name}("));
        let called = |test: &String| defined.iter().find(|name| calls(name, test)).cloned();
        self.tests.iter().find_map(called)
    }

    fn question(&self) -> String {
        format!(
            "You are an expert Python programmer, and here is your task: {} Your code should pass \
             these tests:\n\n{}\n[BEGIN]",
            self.text,
            self.tests.join("\n")
        )
    }
}

/// The prompt as DeepSeek gives it: three tasks with their programs, then this one up to
/// `[BEGIN]`, after which a model writes the newline itself. An answer ends at `[DONE]`. `None`
/// where the tasks that it shows are missing.
pub fn three_shot_prompt(task: &Task, tasks: &[Task]) -> Option<String> {
    let shot = |number: &u32| {
        let shot = tasks.iter().find(|task| task.number == *number)?;
        let code = shot.code.replace('\r', "").replace('\t', "    ");
        Some(format!("{}\n{code}\n[DONE]\n", shot.question()))
    };
    let shots: String = SHOTS.iter().map(shot).collect::<Option<_>>()?;
    Some(shots + &task.question())
}

/// The tasks that models are tested on, each with its question as bigcode's harness and EvalPlus
/// have it, and after three others.
pub fn tested(tasks: &[Task]) -> Vec<Problem> {
    let problem = |task: &Task| {
        let first = task.tests.first().map_or("", String::as_str);
        Problem {
            question: Some(format!("\"\"\"\n{}\n{first}\n\"\"\"\n", task.text)),
            few_shot: three_shot_prompt(task, tasks),
            ..task.problem()
        }
    };
    tasks
        .iter()
        .filter(|task| task.is_of_test_split())
        .map(problem)
        .collect()
}

/// Reads `mbpp.jsonl` or `sanitized-mbpp.json`, with the checksum.
///
/// # Errors
/// It cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Task>, String), DataError> {
    let name = |task: &Task| task.number.to_string();
    read_each(path, Some(name), &mut |_, record| task(record))
}

fn task(record: &Value) -> Result<Task, Complaint> {
    let number = match field(record, "task_id") {
        Some(Value::Int(digits)) => digits.parse().ok(),
        _ => None,
    };
    let text = text_field(record, "text").or_else(|| text_field(record, "prompt"));
    let imports = texts_field(record, "test_imports")
        .unwrap_or_default()
        .join("\n");
    let setup = text_field(record, "test_setup_code").unwrap_or_default();
    Ok(Task {
        number: number.ok_or(("task_id", "an integer"))?,
        text: text.ok_or(("text", "a string, or else `prompt`"))?,
        code: text_field(record, "code").ok_or(("code", "a string"))?,
        imports,
        setup,
        tests: texts_field(record, "test_list").ok_or(("test_list", "a list of strings"))?,
    })
}

/// Asserts as a function of the function that they test.
pub(crate) fn check(name: &str, asserts: &[String]) -> String {
    let name = if name.is_empty() { "candidate" } else { name };
    let body: String = asserts
        .iter()
        .map(|assert| format!("    {}\n", assert.trim()))
        .fold(String::new(), |body, line| body + &line);
    format!("def check({name}):\n{body}")
}
