//! MBPP as it was published (Austin et al. 2021, arXiv 2108.07732): records, the 3-shot prompt,
//! and grading by three asserts. The sanitized file has the same records under other names.
//!
//! Each assert is taken apart into an expression, which runs beside the program, and what it is
//! compared with, which stays here. Not done here: the further tests of MBPP+ (`evalplus`).

use std::path::Path;

use ra3_sandbox::value::Value;
use ra3_sandbox::{CallResult, Limits, Pool, Program, RunResult};

use crate::evalplus::data::{DataError, checksum, json_records, read_text};
use crate::grade::part_of_end;
use crate::json::{field, text_field};
use crate::outcome::{Failure, Part, Status, Verdict};

const SPLIT: &str = include_str!("mbpp.py");
/// The tasks that the prompt shows, and the first and last of the test split.
const SHOTS: [u32; 3] = [2, 3, 4];
const SHOWN_CHARS: usize = 300;

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// 2 and so on.
    pub number: u32,
    /// What is to be written, in words.
    pub text: String,
    /// A right program.
    pub code: String,
    /// What runs between the program and its asserts.
    pub setup: String,
    /// Asserts.
    pub tests: Vec<String>,
}

impl Task {
    /// `Mbpp/2`.
    pub fn task_id(&self) -> String {
        format!("Mbpp/{}", self.number)
    }

    /// True if it is one of the 500 that models are tested on.
    pub const fn is_of_test_split(&self) -> bool {
        self.number >= 11 && self.number <= 510
    }

    fn question(&self) -> String {
        format!(
            "You are an expert Python programmer, and here is your task: {} Your code should pass \
             these tests:\n\n{}\n[BEGIN]\n",
            self.text,
            self.tests.join("\n")
        )
    }
}

/// The published prompt: three tasks with their programs, then this one. An answer ends at
/// `[DONE]`. `None` where the tasks that it shows are missing.
pub fn three_shot_prompt(task: &Task, tasks: &[Task]) -> Option<String> {
    let shot = |number: &u32| {
        let shot = tasks.iter().find(|task| task.number == *number)?;
        let code = shot.code.replace('\r', "").replace('\t', "    ");
        Some(format!("{}{code}\n[DONE]\n", shot.question()))
    };
    let shots: String = SHOTS.iter().map(shot).collect::<Option<_>>()?;
    Some(shots + &task.question())
}

/// Reads `mbpp.jsonl` or `sanitized-mbpp.json`, with the checksum.
///
/// # Errors
/// It cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Task>, String), DataError> {
    let text = read_text(path)?;
    let records = json_records(&text, path)?;
    let tasks = records.iter().map(|(place, record)| {
        task(record).map_err(|(key, expected)| DataError::Field {
            path: path.to_owned(),
            place: *place,
            key,
            expected,
        })
    });
    Ok((tasks.collect::<Result<_, _>>()?, checksum(&text)))
}

fn task(record: &Value) -> Result<Task, (&'static str, &'static str)> {
    let texts = |key: &'static str| match field(record, key) {
        Some(Value::List(items)) => items
            .iter()
            .map(|item| match item {
                Value::Str(text) => Some(text.clone()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let number = match field(record, "task_id") {
        Some(Value::Int(digits)) => digits.parse().ok(),
        _ => None,
    };
    let text = text_field(record, "text").or_else(|| text_field(record, "prompt"));
    let imports = texts("test_imports").unwrap_or_default().join("\n");
    let setup = text_field(record, "test_setup_code").unwrap_or_default();
    Ok(Task {
        number: number.ok_or(("task_id", "an integer"))?,
        text: text.ok_or(("text", "a string, or else `prompt`"))?,
        code: text_field(record, "code").ok_or(("code", "a string"))?,
        setup: format!("{imports}\n{setup}"),
        tests: texts("test_list").ok_or(("test_list", "a list of strings"))?,
    })
}

/// A task that is ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    /// The task.
    pub task: Task,
    cases: Vec<Case>,
}

#[derive(Clone, Debug, PartialEq)]
struct Case {
    /// Runs beside the program.
    expression: String,
    expected: Value,
    /// Relative, of `math.isclose`; `None` is equality.
    tolerance: Option<f64>,
}

/// Makes tasks ready; the number of a task whose asserts cannot be taken apart, and why not.
///
/// # Errors
/// An assert has a form that none of the published ones has.
pub fn prepare(tasks: Vec<Task>, pool: &Pool) -> Result<Vec<Grader>, (u32, String)> {
    let program = |task: &Task| {
        let tests: Vec<Value> = task.tests.iter().cloned().map(Value::Str).collect();
        let arguments = Value::Tuple(vec![Value::List(tests)]);
        arguments.to_python()
    };
    // One process for many tasks: what it sends back is limited.
    let programs: Vec<Program> = tasks
        .chunks(64)
        .map(|tasks| Program {
            source: SPLIT.to_owned(),
            entry_point: "split".to_owned(),
            inputs: tasks.iter().map(program).collect(),
            check: None,
        })
        .collect();
    let results = pool.run_all(&programs, &mut |_| {});
    let calls: Vec<CallResult> = results
        .into_iter()
        .flat_map(|result| result.calls)
        .collect();
    let grader = |(index, task): (usize, Task)| match calls.get(index).map(cases) {
        Some(Some(cases)) => Ok(Grader { task, cases }),
        _ => Err((task.number, format!("{:?}", calls.get(index)))),
    };
    tasks.into_iter().enumerate().map(grader).collect()
}

fn cases(call: &CallResult) -> Option<Vec<Case>> {
    let CallResult::Value(Value::List(found)) = call else {
        return None;
    };
    let case = |found: &Value| {
        let Value::Tuple(parts) = found else {
            return None;
        };
        let [Value::Str(expression), Value::Str(how), expected, tolerance] = parts.as_slice()
        else {
            return None;
        };
        Some(Case {
            expression: expression.clone(),
            expected: expected.clone(),
            tolerance: (how == "close").then(|| tolerance.as_f64()).flatten(),
        })
    };
    found.iter().map(case).collect()
}

impl Grader {
    /// Grades a whole program.
    pub fn grade(&self, solution: &str, limits: Limits, pool: &Pool) -> Verdict {
        let lines = self.cases.iter().map(|case| case.expression.as_str());
        let expressions = lines.collect::<Vec<_>>().join(",\n    lambda: ");
        let setup = &self.task.setup;
        let program = Program {
            source: format!(
                "{solution}\n{setup}\n__cases__ = [\n    lambda: {expressions},\n]\n\
                 def __case__(index):\n    return __cases__[index]()\n"
            ),
            entry_point: "__case__".to_owned(),
            inputs: (0..self.cases.len())
                .map(|index| format!("({index},)"))
                .collect(),
            check: None,
        };
        let result = pool.run_with(&program, limits);
        Verdict {
            base: self.judge(&result),
            plus: None,
        }
    }

    fn judge(&self, result: &RunResult) -> Part {
        for (index, (case, call)) in self.cases.iter().zip(&result.calls).enumerate() {
            let got = match call {
                CallResult::Value(value) if case.accepts(value) => continue,
                CallResult::Value(value) => value.display(SHOWN_CHARS),
                CallResult::Raised {
                    error,
                    message,
                    line,
                } => Failure::raised(error, message, *line),
            };
            let failure = Failure {
                index,
                input: case.expression.clone(),
                expected: case.expected.display(SHOWN_CHARS),
                got,
            };
            return Part::failed(Status::Fail, failure);
        }
        part_of_end(&result.end, result.calls.len() == self.cases.len())
    }
}

impl Case {
    fn accepts(&self, value: &Value) -> bool {
        match (self.tolerance, value.as_f64(), self.expected.as_f64()) {
            (None, _, _) => value.equals(&self.expected),
            (Some(tolerance), Some(a), Some(b)) => {
                a == b
                    || (a.is_finite()
                        && b.is_finite()
                        && (a - b).abs() <= tolerance * a.abs().max(b.abs()))
            }
            (Some(_), _, _) => false,
        }
    }
}
