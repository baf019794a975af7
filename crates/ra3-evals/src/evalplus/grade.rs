//! The verdict on one program: base tests and further tests, each in a process of its own.
//!
//! Outputs are compared as they come, here, and the process is ended at the first that is wrong.
//! Limits are EvalPlus's, counted in CPU time first: a call has 4 s or four times what the right
//! program took, all calls of one part together at most 60 s. What missed a deadline on the clock
//! runs once more, alone.

use std::ops::ControlFlow;

use ra3_sandbox::value::Value;
use ra3_sandbox::{
    Arguments, CallResult, CallRule, EncodedValue, End, Limits, Pool, Program, Response, RunResult,
};

use crate::evalplus::compare::{self, Oracle};
use crate::evalplus::data::{Dataset, Rules, Task};
use crate::evalplus::oracle::{Expected, MEMORY_BYTES, RESULT_BYTES_MAX, TaskExpected};
use crate::outcome::{Failure, Fault, Graded, Kind, Part, Status, Verdict};

/// A call may take so many times what the right program took.
const CALL_FACTOR: f64 = 4.0;
/// Most seconds of all calls.
const PART_S_MAX: f64 = 60.0;
/// Seconds of a part beyond its calls.
const PART_S_MORE: f64 = 2.0;
const SHOWN_CHARS: usize = 300;

/// A task that is ready to grade.
#[derive(Debug)]
pub struct Grader {
    /// The task.
    pub task: Task,
    oracle: Oracle,
    base: Tests,
    plus: Tests,
}

#[derive(Debug)]
struct Tests {
    inputs: Vec<Arguments>,
    outputs: Vec<Value>,
    /// Of those that need not be read to be known as right.
    encoded: Vec<Option<EncodedValue>>,
    /// What the right program took for all.
    right_s: f64,
    call_s: Vec<f64>,
    limits: Limits,
}

/// Makes the tasks of a dataset ready.
pub fn graders(dataset: Dataset, expected: Vec<TaskExpected>) -> Vec<Grader> {
    let (benchmark, rules) = (dataset.benchmark, dataset.rules);
    let grader = |(task, expected): (Task, TaskExpected)| {
        let oracle = Oracle::of(benchmark, rules, &task);
        Grader {
            oracle,
            base: tests(&task.base, expected.base, oracle, rules),
            plus: tests(&task.plus, expected.plus, oracle, rules),
            task,
        }
    };
    dataset
        .tasks
        .into_iter()
        .zip(expected)
        .map(grader)
        .collect()
}

fn tests(inputs: &[Value], expected: Expected, oracle: Oracle, rules: Rules) -> Tests {
    let call_s_min = rules.call_s_min();
    let limit = |seconds: &f64| call_s_min.max(CALL_FACTOR * seconds);
    let mut call_s: Vec<f64> = expected.seconds.iter().map(limit).collect();
    let part_s = call_s.iter().sum::<f64>().min(PART_S_MAX) + PART_S_MORE;
    if call_s.iter().all(|seconds| *seconds == call_s_min) {
        call_s = vec![call_s_min];
    }
    let encoded = |output| EncodedValue::of(output).filter(|_| oracle.takes_equality());
    Tests {
        right_s: expected.seconds.iter().sum(),
        encoded: expected.outputs.iter().map(encoded).collect(),
        inputs: inputs
            .iter()
            .map(|input| Arguments::of(input.items()))
            .collect(),
        outputs: expected.outputs,
        call_s,
        limits: Limits {
            cpu_s: part_s.ceil() as u64,
            // What missed it is graded once more: no sample takes more than twice as long as there.
            wall_s: part_s,
            memory_bytes: MEMORY_BYTES,
            result_bytes_max: RESULT_BYTES_MAX,
        },
    }
}

impl Grader {
    /// Seconds that the right program took for all tests.
    pub fn right_s(&self) -> f64 {
        self.base.right_s + self.plus.right_s
    }

    /// The verdict on a whole program.
    ///
    /// # Errors
    /// The sandbox failed.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        let task = &self.task;
        Ok(Verdict {
            base: self.part(program, &self.base, &task.base, pool)?,
            plus: Some(self.part(program, &self.plus, &task.plus, pool)?),
        })
    }

    fn part(
        &self,
        solution: &str,
        tests: &Tests,
        arguments: &[Value],
        pool: &Pool,
    ) -> Result<Part, Fault> {
        let program = Program {
            source: solution.to_owned(),
            entry_point: self.task.entry_point.clone(),
            inputs: tests.inputs.clone(),
            check: None,
        };
        let rule = CallRule {
            call_s: tests.call_s.clone(),
            convert: self.oracle.conversion().map(str::to_owned),
            items_max: None,
        };
        let mut tolerance = self.task.tolerance;
        let mut n_right = 0;
        let mut wrong = None;
        let result = {
            let mut on_response = |response: Response<'_>| {
                let (input, expected) = (&arguments[n_right], &tests.outputs[n_right]);
                let encoded = tests.encoded[n_right].as_ref();
                if encoded.is_some_and(|encoded| response.is(encoded)) {
                    compare::stick(expected, &mut tolerance);
                    n_right += 1;
                    return ControlFlow::Continue(());
                }
                let call = response.into_result();
                let is_right = match &call {
                    CallResult::Value(out) => {
                        self.oracle.accepts(input, out, expected, &mut tolerance)
                    }
                    CallResult::Raised { .. } => false,
                };
                if is_right {
                    n_right += 1;
                    return ControlFlow::Continue(());
                }
                wrong = Some(call);
                ControlFlow::Break(())
            };
            pool.run_each(&program, &rule, tests.limits, &mut on_response)
        };
        part(wrong.as_ref(), n_right, arguments, tests, &result)
    }
}

/// What comes of calls of which so many were right, and the next `wrong`.
fn part(
    wrong: Option<&CallResult>,
    n_right: usize,
    arguments: &[Value],
    tests: &Tests,
    result: &RunResult,
) -> Result<Part, Fault> {
    let n_tests = tests.outputs.len();
    let shown = |value: Option<&Value>| value.map_or(String::new(), |v| v.display(SHOWN_CHARS));
    let at = |got: String| Failure {
        index: n_right,
        input: shown(arguments.get(n_right)),
        expected: shown(tests.outputs.get(n_right)),
        got,
    };
    Ok(match wrong {
        Some(call) => {
            let failure = at(Failure::got(call, SHOWN_CHARS));
            Part::failed(Kind::of_call(call), failure, n_right, n_tests)
        }
        None if result.end == End::Finished && n_right == n_tests => Part::passed(n_tests),
        None => {
            let part = Part::ended(&result.end, at, n_right, n_tests)?;
            match part.kind {
                // EvalPlus hears nothing more of such a process and calls that a timeout.
                Kind::Died => Part {
                    status: Status::Timeout,
                    ..part
                },
                _ => part,
            }
        }
    })
}
