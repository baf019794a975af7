//! Tests that call a function, in `LiveCodeBench`'s way: one process for all of them, which ends at
//! the first that does not pass, and star imports before the program, as the site that asks has
//! them.
//!
//! Outputs are compared here, and a program sees inputs alone. Not done here: other programs of
//! `LiveCodeBench`'s, which are graded through `codes` too (`livecodebench`).

use std::ops::ControlFlow;

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, CallRule, End, Limits, Pool, Program, Response};

use crate::contest::task::Test;
use crate::json;
use crate::outcome::{Failure, Fault, Kind, Part};
use crate::records::DataError;

/// Seconds of a test.
pub(crate) const TEST_S: f64 = 6.0;
/// Memory of a process.
pub(crate) const MEMORY_BYTES: u64 = 4 << 30;
/// Outputs have megabytes; larger ones count as wrong.
const ITEMS_MAX: usize = 1 << 20;
const SHOWN_CHARS: usize = 300;
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

/// Tests of a function.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    method: String,
    inputs: Vec<Arguments>,
    expected: Vec<Value>,
    tolerance: Option<f64>,
}

impl Calls {
    /// The tests made ready; the question says whether numbers may be off.
    pub(crate) fn new(
        task_id: &str,
        question: &str,
        tests: &[Test],
        method: &str,
    ) -> Result<Self, DataError> {
        let parse = |text: &str| {
            json::parse(text).map_err(|source| DataError::Json {
                path: format!("test of {task_id}").into(),
                line: 1,
                source,
            })
        };
        let arguments = |test: &Test| {
            let lines: Result<Vec<Value>, _> = test.input.split('\n').map(parse).collect();
            Ok(Arguments::of(&lines?))
        };
        let expected = |test: &Test| parse(&test.output);
        let is_eased = ["10^-5", "10-5", "10<sup>-5</sup>", "10^{-5}"]
            .iter()
            .any(|phrase| question.contains(phrase));
        Ok(Self {
            method: method.to_owned(),
            inputs: tests.iter().map(arguments).collect::<Result<_, _>>()?,
            expected: tests.iter().map(expected).collect::<Result<_, _>>()?,
            tolerance: is_eased.then_some(1e-5),
        })
    }

    /// What is run of a program; `guard` stands before everything.
    pub(crate) fn program(&self, program: &str, mode: Mode, guard: &str) -> Program {
        let make = if program.contains("class Solution") {
            "Solution()"
        } else {
            "__import__('sys').modules[__name__]"
        };
        let method = &self.method;
        let call = match mode {
            Mode::Right => format!("def __case__(*a):\n    return {make}.{method}(*a)\n"),
            Mode::Compatible => format!(
                "__target__ = {make}.{method}\n\
                 def __case__(*a):\n    r = __target__(*a)\n    \
                 return list(r) if isinstance(r, tuple) else r\n"
            ),
        };
        Program {
            source: format!("{guard}{}\n\n{program}\n\n{call}", preamble()),
            entry_point: "__case__".to_owned(),
            inputs: self.inputs.clone(),
            check: None,
        }
    }

    /// True if a call gave what it should.
    pub(crate) fn accepts(&self, index: usize, value: &Value, mode: Mode) -> bool {
        let expected = &self.expected[index];
        match mode {
            Mode::Right => is_same(value, expected, self.tolerance),
            Mode::Compatible => value.equals(expected),
        }
    }
}

/// The official grader's codes, up to the first test that fails.
pub(crate) fn codes(
    tests: &[Test],
    program: &Program,
    is_right: impl Fn(usize, &Value) -> bool,
    pool: &Pool,
) -> Result<(Vec<Code>, Part), Fault> {
    let (mut codes, mut wrong) = (Vec::new(), None);
    let rule = CallRule {
        call_s: vec![TEST_S],
        convert: None,
        items_max: Some(ITEMS_MAX),
    };
    let n_tests = tests.len();
    let cpu_s = (TEST_S as u64 + 1) * n_tests as u64 + 5;
    let limits = Limits {
        cpu_s,
        wall_s: cpu_s as f64,
        memory_bytes: MEMORY_BYTES,
        result_bytes_max: 1 << 28,
    };
    let result = {
        let mut on_response = |response: Response<'_>| {
            let call = response.into_result();
            let code = code(&is_right, codes.len(), &call);
            codes.push(code);
            if code == Code::Passed {
                return ControlFlow::Continue(());
            }
            wrong = Some((code, call));
            ControlFlow::Break(())
        };
        pool.run_each(program, &rule, limits, &mut on_response)
    };
    let n_right = codes.len() - usize::from(wrong.is_some());
    let test = tests.get(n_right);
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

fn code(is_right: &impl Fn(usize, &Value) -> bool, index: usize, call: &CallResult) -> Code {
    match call {
        CallResult::Value(value) if is_right(index, value) => Code::Passed,
        CallResult::Value(_) => Code::Wrong,
        CallResult::Raised { error, .. } => match error.as_str() {
            "TimeoutException" => Code::OutOfTime,
            // The official grader catches exceptions of `Exception` alone.
            "SystemExit" | "KeyboardInterrupt" | "GeneratorExit" => Code::Lost,
            _ => Code::Raised,
        },
    }
}

/// What a call that did not pass did, in our words, and what it gave.
fn fault(code: Code, call: &CallResult) -> (Kind, String) {
    if let CallResult::Value(Value::Str(text)) = call {
        return (Kind::WrongAnswer, shown(text));
    }
    let kind = match code {
        Code::OutOfTime => Kind::TimedOut,
        Code::Lost => Kind::Died,
        Code::Raised | Code::Wrong | Code::Passed => Kind::of_call(call),
    };
    (kind, Failure::got(call, SHOWN_CHARS))
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

/// What is imported before a program.
pub(crate) fn preamble() -> String {
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
