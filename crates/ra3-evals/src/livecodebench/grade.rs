//! Grading for LiveCodeBench: right, or as its own grader does.
//!
//! | | [`Mode::Right`] | [`Mode::Compatible`] |
//! |---|---|---|
//! | standard input | a process a test with a real one | one interpreter, a stand-in |
//! | functions | a `Solution` a call, tuples are lists | one `Solution`, outermost tuple a list |
//! | numbers of functions | 1e-5 where the question says so | exact |
//! | code | as it stands | after many star imports, `__main__` unwrapped |
//! | names such as `os.getcwd`, modules such as `resource` | there | taken away |
//! | `class Solution` in a program with standard input | allowed | an error |
//!
//! In both modes outputs are compared here, and a program sees inputs alone. Functions have the
//! star imports in both: the site that asks for them has them too.

use std::ops::ControlFlow;

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, CallRule, End, Heard, Limits, Pool, Program};

use crate::contest;
use crate::contest::compare::Comparison;
use crate::json;
use crate::livecodebench::data::Task;
use crate::outcome::{Failure, Fault, Graded, Kind, Part};
use crate::records::DataError;

/// Seconds of a test.
const TEST_S: f64 = 6.0;
const MEMORY_BYTES: u64 = 4 << 30;
/// Outputs have megabytes; larger ones count as wrong.
const ITEMS_MAX: usize = 1 << 20;
const SHOWN_CHARS: usize = 300;
const STANDARD: &str = include_str!("standard.py");
const GUARD: &str = include_str!("guard.py");
/// Star imports, in their order; all but the last two are imported by name as well.
const MODULES: [&str; 18] = [
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
    "itertools",
    "functools",
    "operator",
    "io",
    "sys",
    "json",
    "builtins",
    "typing",
];

/// How programs are graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they behave.
    Right,
    /// As the official grader does.
    Compatible,
}

/// The official grader's code for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `True`.
    Passed,
    /// −1: the process did not come back.
    Lost,
    /// −2, or `False` where a function was called.
    Wrong,
    /// −3.
    OutOfTime,
    /// −4: it raised, or could not be loaded.
    Raised,
}

/// A problem that is ready to grade.
#[derive(Clone, Debug)]
pub struct Grader {
    /// The problem.
    pub task: Task,
    mode: Mode,
    calls: Option<Calls>,
}

/// Tests of a function.
#[derive(Clone, Debug)]
struct Calls {
    method: String,
    inputs: Vec<Arguments>,
    expected: Vec<Value>,
    tolerance: Option<f64>,
}

impl Grader {
    /// A problem made ready.
    ///
    /// # Errors
    /// The inputs or outputs of a function are no JSON.
    pub fn new(task: Task, mode: Mode) -> Result<Self, DataError> {
        let calls = match &task.function {
            None => None,
            Some(method) => Some(calls(&task, method.clone())?),
        };
        Ok(Self { task, mode, calls })
    }

    /// The verdict on a program.
    ///
    /// # Errors
    /// The sandbox failed.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        match (&self.calls, self.mode) {
            (None, Mode::Right) => self.contest().grade(program, pool),
            _ => Ok(self.codes(program, pool)?.1.into()),
        }
    }

    /// The official grader's codes, up to the first test that fails.
    ///
    /// # Errors
    /// The sandbox failed.
    pub fn codes(&self, program: &str, pool: &Pool) -> Result<(Vec<Code>, Part), Fault> {
        let (mut codes, mut wrong) = (Vec::new(), None);
        let program = match &self.calls {
            Some(calls) => self.function(program, calls),
            None => self.standard(program),
        };
        let rule = CallRule {
            call_s: vec![TEST_S],
            convert: None,
            items_max: Some(ITEMS_MAX),
        };
        let n_tests = self.task.tests.len();
        let cpu_s = (TEST_S as u64 + 1) * n_tests as u64 + 5;
        let limits = Limits {
            cpu_s,
            wall_s: cpu_s as f64,
            memory_bytes: MEMORY_BYTES,
            result_bytes_max: 1 << 28,
        };
        let result = {
            let mut listener = |heard: Heard<'_>| {
                let call = heard.into_result();
                let code = self.code(codes.len(), &call);
                codes.push(code);
                if code == Code::Passed {
                    return ControlFlow::Continue(());
                }
                wrong = Some((code, call));
                ControlFlow::Break(())
            };
            pool.run_heard(&program, &rule, limits, &mut listener)
        };
        let n_right = codes.len() - usize::from(wrong.is_some());
        let test = self.task.tests.get(n_right);
        let at = |got: String| Failure {
            index: n_right,
            input: test.map_or(String::new(), |test| shown(&test.input)),
            expected: test.map_or(String::new(), |test| shown(&test.output)),
            got,
        };
        let part = match &wrong {
            Some((code, call)) => {
                let (kind, got) = fault(*code, call);
                Part::failed(kind, at(got), n_right, n_tests)
            }
            None if result.end == End::Finished && n_right == n_tests && n_tests > 0 => {
                Part::passed(n_tests)
            }
            None => {
                if matches!(result.end, End::LoadError { .. }) {
                    codes = vec![Code::Raised];
                } else {
                    codes.push(Code::Lost);
                }
                Part::ended(&result.end, at, n_right, n_tests)?
            }
        };
        Ok((codes, part))
    }

    /// The problem as the contest that it is from has it.
    fn contest(&self) -> contest::task::Task {
        contest::task::Task {
            time_s: TEST_S,
            memory_bytes: MEMORY_BYTES,
            comparison: Comparison::default(),
            tests: self.task.tests.clone(),
            ..contest::task::Task::new(Some(self.task.task_id.clone()), String::new(), Vec::new())
        }
    }

    fn function(&self, program: &str, calls: &Calls) -> Program {
        let make = if program.contains("class Solution") {
            "Solution()"
        } else {
            "__import__('sys').modules[__name__]"
        };
        let method = &calls.method;
        let call = match self.mode {
            Mode::Right => format!("def __case__(*a):\n    return {make}.{method}(*a)\n"),
            Mode::Compatible => format!(
                "__target__ = {make}.{method}\n\
                 def __case__(*a):\n    r = __target__(*a)\n    \
                 return list(r) if isinstance(r, tuple) else r\n"
            ),
        };
        let guard = match self.mode {
            Mode::Right => "",
            Mode::Compatible => GUARD,
        };
        Program {
            source: format!("{guard}{}\n\n{program}\n\n{call}", preamble()),
            entry_point: "__case__".to_owned(),
            inputs: calls.inputs.clone(),
            check: None,
        }
    }

    fn standard(&self, program: &str) -> Program {
        let literal = |text: &str| Value::Str(text.to_owned()).to_python();
        let input = |test: &contest::task::Test| Arguments::of(&[Value::Str(test.input.clone())]);
        let names = [&preamble(), program, GUARD].map(literal).join(", ");
        Program {
            source: format!("PREAMBLE, PROGRAM, GUARD = {names}\n{STANDARD}"),
            entry_point: "case".to_owned(),
            inputs: self.task.tests.iter().map(input).collect(),
            check: None,
        }
    }
}

/// What a call that did not pass did, in our words, and what it gave.
fn fault(code: Code, call: &CallResult) -> (Kind, String) {
    match call {
        CallResult::Value(Value::Str(text)) => (Kind::WrongAnswer, shown(text)),
        CallResult::Value(value) => (Kind::WrongAnswer, value.display(SHOWN_CHARS)),
        CallResult::Raised {
            error,
            message,
            line,
        } => {
            let kind = match code {
                Code::OutOfTime => Kind::TimedOut,
                Code::Lost => Kind::Died,
                Code::Raised | Code::Wrong | Code::Passed => Kind::of_error(error),
            };
            (kind, Failure::raised(error, message, *line))
        }
    }
}

impl Grader {
    fn code(&self, index: usize, call: &CallResult) -> Code {
        let is_right = match (call, &self.calls) {
            (CallResult::Raised { error, .. }, _) => {
                return match error.as_str() {
                    "TimeoutException" => Code::OutOfTime,
                    // The official grader catches exceptions of `Exception` alone.
                    "SystemExit" | "KeyboardInterrupt" | "GeneratorExit" => Code::Lost,
                    _ => Code::Raised,
                };
            }
            (CallResult::Value(value), Some(calls)) => {
                let expected = &calls.expected[index];
                match self.mode {
                    Mode::Right => is_same(value, expected, calls.tolerance),
                    Mode::Compatible => value.equals(expected),
                }
            }
            (CallResult::Value(Value::Str(text)), None) => {
                Comparison::default().accepts(text, &self.task.tests[index].output)
            }
            (CallResult::Value(_), None) => false,
        };
        if is_right { Code::Passed } else { Code::Wrong }
    }
}

/// Equal, where tuples are lists and numbers may be off by the tolerance.
fn is_same(value: &Value, expected: &Value, tolerance: Option<f64>) -> bool {
    if let (Value::List(items) | Value::Tuple(items), Value::List(expected)) = (value, expected) {
        return items.len() == expected.len()
            && items
                .iter()
                .zip(expected)
                .all(|(item, expected)| is_same(item, expected, tolerance));
    }
    value.equals(expected)
        || match (value, expected, tolerance) {
            (Value::Float(_) | Value::Int(_), Value::Float(_) | Value::Int(_), Some(tolerance)) => {
                let numbers = value.as_f64().zip(expected.as_f64());
                numbers.is_some_and(|(a, b)| (a - b).abs() <= tolerance)
            }
            _ => false,
        }
}

fn calls(task: &Task, method: String) -> Result<Calls, DataError> {
    let parse = |text: &str| {
        json::parse(text).map_err(|source| DataError::Json {
            path: format!("test of {}", task.task_id).into(),
            line: 1,
            source,
        })
    };
    let arguments = |test: &contest::task::Test| {
        let lines: Result<Vec<Value>, _> = test.input.split('\n').map(parse).collect();
        Ok(Arguments::of(&lines?))
    };
    let question = &task.question;
    let is_eased = ["10^-5", "10-5", "10<sup>-5</sup>", "10^{-5}"]
        .iter()
        .any(|phrase| question.contains(phrase));
    Ok(Calls {
        method,
        inputs: task.tests.iter().map(arguments).collect::<Result<_, _>>()?,
        expected: task
            .tests
            .iter()
            .map(|test| parse(&test.output))
            .collect::<Result<_, _>>()?,
        tolerance: is_eased.then_some(1e-5),
    })
}

/// What is imported before a program.
fn preamble() -> String {
    let stars = MODULES
        .map(|name| format!("from {name} import *\n"))
        .concat();
    let by_name = MODULES[..MODULES.len() - 2].iter();
    let names = by_name
        .map(|name| format!("import {name}\n"))
        .collect::<Vec<_>>()
        .concat();
    format!("{stars}{names}sys.setrecursionlimit(50000)\n")
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}
