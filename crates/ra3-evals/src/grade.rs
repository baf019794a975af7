//! Grading: program = prompt + completion, run in the sandbox, compared here.
//!
//! Tests of the form `assert candidate(arguments) == expected` become inputs and expected values
//! that only this process holds. A test of any other form runs in a process of its own, which
//! sees the program's values and none of its objects. No program shares a process with its tests.

use ra3_sandbox::value::Value;
use ra3_sandbox::{CallResult, Check, Clock, End, Limits, Pool, Program, RunResult};

use crate::outcome::{self, Failure, Part, Status};
use crate::problem::Problem;

/// Takes tests apart; see there.
const SPLIT: &str = include_str!("split.py");
/// Tests that one process takes apart: what it sends back is limited.
const N_TESTS_SPLIT: usize = 16;

/// A problem made ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    prompt: String,
    entry_point: String,
    tests: Tests,
}

#[derive(Clone, Debug, PartialEq)]
enum Tests {
    /// Argument tuples, and what only this process knows.
    Values(Vec<Case>),
    /// Asserts of other forms.
    Asserts(Check),
}

#[derive(Clone, Debug, PartialEq)]
struct Case {
    arguments: Value,
    expected: Value,
}

/// The outcome for one program.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every test passed.
    Passed,
    /// A test did not.
    WrongAnswer {
        /// The first that did not: input, expected and got.
        detail: String,
    },
    /// The program raised.
    Raised {
        /// Type and text of the exception, and the input.
        detail: String,
    },
    /// No Python.
    SyntaxError,
    /// Out of time.
    TimedOut,
    /// Out of memory.
    OutOfMemory,
    /// Sent more than it may.
    OutputLimit,
    /// Ended before its tests did.
    Died,
    /// The sandbox failed, not the program.
    Infrastructure {
        /// How.
        detail: String,
    },
}

impl Verdict {
    /// Its name in tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::WrongAnswer { .. } => "wrong_answer",
            Self::Raised { .. } => "raised",
            Self::SyntaxError => "syntax_error",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputLimit => "output_limit",
            Self::Died => "died",
            Self::Infrastructure { .. } => "infrastructure",
        }
    }

    /// What a reader wants to know beyond the name.
    pub fn detail(&self) -> &str {
        match self {
            Self::WrongAnswer { detail }
            | Self::Raised { detail }
            | Self::Infrastructure { detail } => detail,
            Self::Passed
            | Self::SyntaxError
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::OutputLimit
            | Self::Died => "",
        }
    }
}

/// Makes problems ready: their tests are taken apart once, in processes of their own.
pub fn prepare(problems: &[Problem], pool: &Pool) -> Vec<Grader> {
    let literal = |text: &str| format!("({},)", Value::Str(text.to_owned()).to_python());
    let programs: Vec<Program> = problems
        .chunks(N_TESTS_SPLIT)
        .map(|problems| Program {
            source: SPLIT.to_owned(),
            entry_point: "split".to_owned(),
            inputs: problems
                .iter()
                .map(|problem| literal(&problem.test))
                .collect(),
            check: None,
        })
        .collect();
    let split = pool.run_all(&programs, &mut |_| {});
    let tests = problems
        .chunks(N_TESTS_SPLIT)
        .zip(&split)
        .flat_map(|(problems, result)| {
            (0..problems.len()).map(|index| result.calls.get(index).and_then(cases))
        });
    problems
        .iter()
        .zip(tests)
        .map(|(problem, cases)| Grader {
            prompt: problem.prompt.clone(),
            entry_point: problem.entry_point.clone(),
            tests: cases.map_or_else(|| Tests::Asserts(asserts(problem)), Tests::Values),
        })
        .collect()
}

/// What the splitter made of a test; `None` where it has another form.
fn cases(call: &CallResult) -> Option<Vec<Case>> {
    let CallResult::Value(Value::List(pairs)) = call else {
        return None;
    };
    pairs
        .iter()
        .map(|pair| match pair {
            Value::Tuple(pair) if !pair.iter().any(Value::has_opaque) => {
                let [arguments, expected] = pair.as_slice() else {
                    return None;
                };
                Some(Case {
                    arguments: arguments.clone(),
                    expected: expected.clone(),
                })
            }
            _ => None,
        })
        .collect()
}

/// The prompt may define what its tests use; its own function needs a body to be loaded.
fn asserts(problem: &Problem) -> Check {
    Check {
        prelude: format!("{}\n    pass\n", problem.prompt),
        test: problem.test.clone(),
    }
}

impl Grader {
    /// The program that a completion makes.
    pub fn program(&self, completion: &str) -> Program {
        let (inputs, check) = match &self.tests {
            Tests::Values(cases) => (
                cases
                    .iter()
                    .map(|case| case.arguments.to_python())
                    .collect(),
                None,
            ),
            Tests::Asserts(check) => (Vec::new(), Some(check.clone())),
        };
        Program {
            source: format!("{}{completion}\n", self.prompt),
            entry_point: self.entry_point.clone(),
            inputs,
            check,
        }
    }

    /// Grades a whole program, and names the first failing test.
    pub fn grade_whole(&self, source: &str, limits: Limits, pool: &Pool) -> outcome::Verdict {
        let program = Program {
            source: source.to_owned(),
            ..self.program("")
        };
        let result = pool.run_with(&program, limits);
        outcome::Verdict {
            base: self.part(&result),
            plus: None,
        }
    }

    fn part(&self, result: &RunResult) -> Part {
        let cases = match &self.tests {
            Tests::Values(cases) => cases.as_slice(),
            Tests::Asserts(_) => &[],
        };
        for (index, (case, call)) in cases.iter().zip(&result.calls).enumerate() {
            let got = match call {
                CallResult::Value(value) if value.equals(&case.expected) => continue,
                CallResult::Value(value) => value.display(SHOWN_CHARS),
                CallResult::Raised {
                    error,
                    message,
                    line,
                } => Failure::raised(error, message, *line),
            };
            let failure = Failure {
                index,
                input: case.arguments.display(SHOWN_CHARS),
                expected: case.expected.display(SHOWN_CHARS),
                got,
            };
            return Part::failed(Status::Fail, failure);
        }
        part_of_end(&result.end, result.calls.len() == cases.len())
    }

    /// The verdict on a program that ran.
    pub fn judge(&self, result: &RunResult) -> Verdict {
        match &result.end {
            End::LoadError { error, .. }
                if error == "SyntaxError" || error == "IndentationError" =>
            {
                Verdict::SyntaxError
            }
            End::LoadError {
                error,
                message,
                line,
            } => raised(error, message, *line, "loading"),
            End::CheckFailed { reason } => Verdict::WrongAnswer {
                detail: reason.clone(),
            },
            End::TimedOut(_) => Verdict::TimedOut,
            End::OutputLimit => Verdict::OutputLimit,
            End::Died => Verdict::Died,
            End::Infrastructure { reason } => Verdict::Infrastructure {
                detail: reason.clone(),
            },
            End::Finished => match &self.tests {
                Tests::Values(cases) => compare(cases, &result.calls),
                Tests::Asserts(_) => Verdict::Passed,
            },
        }
    }
}

/// The outcome of a program whose calls, as far as it came, were right.
pub(crate) fn part_of_end(end: &End, is_complete: bool) -> Part {
    let failed = |status, got: &str| {
        let got = got.to_owned();
        Part::failed(
            status,
            Failure {
                index: 0,
                input: String::new(),
                expected: String::new(),
                got,
            },
        )
    };
    match end {
        End::Finished if is_complete => Part::passed(),
        End::Finished | End::Died => failed(Status::Fail, "the process ended"),
        End::LoadError {
            error,
            message,
            line,
        } => Part::failed(Status::Fail, Failure::loading(error, message, *line)),
        End::CheckFailed { reason } => failed(Status::Fail, reason),
        End::TimedOut(clock) => Part {
            is_chance: *clock == Clock::Wall,
            ..failed(Status::Timeout, "out of time")
        },
        End::OutputLimit => failed(Status::Fail, "too much output"),
        End::Infrastructure { reason } => Part::infrastructure(reason.clone()),
    }
}

const SHOWN_CHARS: usize = 120;

fn compare(cases: &[Case], calls: &[CallResult]) -> Verdict {
    for (
        Case {
            arguments,
            expected,
        },
        call,
    ) in cases.iter().zip(calls)
    {
        let input = arguments.display(SHOWN_CHARS);
        match call {
            CallResult::Value(value) if value.equals(expected) => {}
            CallResult::Value(value) => {
                let (wanted, got) = (expected.display(SHOWN_CHARS), value.display(SHOWN_CHARS));
                let detail = format!("for {input}: expected {wanted}, got {got}");
                return Verdict::WrongAnswer { detail };
            }
            CallResult::Raised {
                error,
                message,
                line,
            } => {
                return raised(error, message, *line, &format!("for {input}"));
            }
        }
    }
    if calls.len() == cases.len() {
        Verdict::Passed
    } else {
        Verdict::Died
    }
}

fn raised(error: &str, message: &str, line: Option<u32>, when: &str) -> Verdict {
    if error == "MemoryError" {
        return Verdict::OutOfMemory;
    }
    let place = line.map_or(String::new(), |line| format!(" (line {line})"));
    Verdict::Raised {
        detail: format!("{when}: {error}: {message}{place}"),
    }
}

/// Grades completions, each with its grader, in their order.
pub fn grade_all(
    graders: &[(&Grader, &str)],
    pool: &Pool,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Verdict> {
    let programs: Vec<Program> = graders
        .iter()
        .map(|(grader, completion)| grader.program(completion))
        .collect();
    let results = pool.run_all(&programs, on_done);
    graders
        .iter()
        .zip(&results)
        .map(|((grader, _), result)| grader.judge(result))
        .collect()
}
