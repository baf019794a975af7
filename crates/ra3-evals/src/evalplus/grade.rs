//! The verdict on one program: base tests and further tests, each in a process of its own.
//!
//! Outputs are compared as they come, here, and the process is ended at the first that is wrong.
//! Limits are EvalPlus's, counted in CPU time first: a call has 4 s or four times what the right
//! program took, all calls of one part together at most 60 s. What missed a deadline on the clock
//! runs once more, alone.

use std::ops::ControlFlow;

use ra3_sandbox::value::Value;
use ra3_sandbox::{
    Arguments, CallResult, CallRule, Clock, End, Heard, Limits, Plain, Pool, Program, RunResult,
};

use crate::evalplus::compare::{self, Oracle};
use crate::evalplus::data::{Dataset, Rules, Task};
use crate::evalplus::oracle::{Expected, MEMORY_BYTES, RESULT_BYTES_MAX, TaskExpected};
use crate::outcome::{Failure, LATE, Part, Status, Verdict};

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
    plain: Vec<Option<Plain>>,
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
    let plain = |output| Plain::of(output).filter(|_| oracle.takes_equality());
    Tests {
        right_s: expected.seconds.iter().sum(),
        plain: expected.outputs.iter().map(plain).collect(),
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

    /// Grades a whole program.
    pub fn grade(&self, solution: &str, pool: &Pool) -> Verdict {
        let task = &self.task;
        Verdict {
            base: self.part(solution, &self.base, &task.base, pool),
            plus: Some(self.part(solution, &self.plus, &task.plus, pool)),
        }
    }

    fn part(&self, solution: &str, tests: &Tests, arguments: &[Value], pool: &Pool) -> Part {
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
            let mut listener = |heard: Heard<'_>| {
                let (input, expected) = (&arguments[n_right], &tests.outputs[n_right]);
                let plain = tests.plain[n_right].as_ref();
                if plain.is_some_and(|plain| heard.is(plain)) {
                    compare::stick(expected, &mut tolerance);
                    n_right += 1;
                    return ControlFlow::Continue(());
                }
                let call = heard.into_result();
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
                wrong = Some(failure(n_right, input, expected, &call));
                ControlFlow::Break(())
            };
            pool.run_heard(&program, &rule, tests.limits, &mut listener)
        };
        part(wrong, n_right, arguments, tests, &result)
    }
}

fn part(
    wrong: Option<Failure>,
    n_right: usize,
    arguments: &[Value],
    tests: &Tests,
    result: &RunResult,
) -> Part {
    if let Some(failure) = wrong {
        let is_late = failure.got.starts_with(LATE);
        return Part {
            is_chance: is_late,
            ..Part::failed(Status::Fail, failure)
        };
    }
    // Where it ended; a program that cannot be loaded ended before the first input.
    let at = |got: String| Failure {
        index: n_right,
        input: arguments
            .get(n_right)
            .map_or(String::new(), |input| input.display(SHOWN_CHARS)),
        expected: tests
            .outputs
            .get(n_right)
            .map_or(String::new(), |output| output.display(SHOWN_CHARS)),
        got,
    };
    match &result.end {
        End::Finished if n_right == tests.outputs.len() => Part::passed(),
        End::LoadError {
            error,
            message,
            line,
        } => Part::failed(Status::Fail, Failure::loading(error, message, *line)),
        End::TimedOut(clock) => Part {
            is_chance: *clock == Clock::Wall,
            ..Part::failed(Status::Timeout, at("out of time".to_owned()))
        },
        End::OutputLimit => Part::failed(Status::Fail, at("too much output".to_owned())),
        // EvalPlus hears nothing more of such a process and calls that a timeout.
        End::Finished | End::Died => {
            Part::failed(Status::Timeout, at("the process ended".to_owned()))
        }
        End::Infrastructure { reason } | End::CheckFailed { reason } => {
            Part::infrastructure(reason.clone())
        }
    }
}

fn failure(index: usize, input: &Value, expected: &Value, call: &CallResult) -> Failure {
    let got = match call {
        CallResult::Value(value) => value.display(SHOWN_CHARS),
        CallResult::Raised {
            error,
            message,
            line,
        } => Failure::raised(error, message, *line),
    };
    Failure {
        index,
        input: input.display(SHOWN_CHARS),
        expected: expected.display(SHOWN_CHARS),
        got,
    }
}
