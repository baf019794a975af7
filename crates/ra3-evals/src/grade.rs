//! Grading: program = prompt + completion, run in the sandbox, compared here.
//!
//! Tests of the form `assert candidate(arguments) == expected` become inputs and expected values
//! that only this process holds; so do other asserts that can be asked without saying what is
//! expected ([`crate::question`]). A test of any other form runs in a process of its own, which
//! sees the program's values and none of its objects. No program shares a process with its tests.

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, Check, Clock, End, Limits, Pool, Program, RunResult};

use crate::outcome::{self, CHECKER, Failure, Part, Status};
use crate::problem::Problem;
use crate::question::{Questions, WALK};

/// Takes tests apart; see there.
const SPLIT: &str = concat!(include_str!("walk.py"), include_str!("split.py"));
/// Tests that one process takes apart: what it sends back is limited.
const N_TESTS_SPLIT: usize = 16;
const SHOWN_CHARS: usize = 120;

/// A problem made ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    prompt: String,
    entry_point: String,
    setup: String,
    tests: Tests,
}

#[derive(Clone, Debug, PartialEq)]
enum Tests {
    /// Argument tuples, and what only this process knows.
    Values(Vec<Case>),
    /// Expressions, and what only this process knows.
    Questions(Questions),
    /// Asserts of other forms.
    Asserts(Check),
}

/// How the tests of a problem are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As argument tuples and expected values.
    Values,
    /// As expressions and expected values.
    Questions,
    /// As asserts in a process of their own.
    Asserts,
}

/// Whether what cannot be asked without saying what is expected may be computed beside the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A reward: no.
    Reward,
    /// A published score of asserts that are to be run as they stand: yes.
    Benchmark,
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

    /// The fault of the problem's checker, if that is why there is no verdict.
    pub fn broken_checker(&self) -> Option<&str> {
        let Self::Infrastructure { detail } = self else {
            return None;
        };
        detail.starts_with(CHECKER).then_some(detail)
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

/// Makes problems ready for rewards; see [`prepare_for`].
pub fn prepare(problems: &[Problem], pool: &Pool) -> Vec<Grader> {
    prepare_for(problems, Purpose::Reward, pool)
}

/// Makes problems ready: their tests are taken apart once, in processes of their own.
pub fn prepare_for(problems: &[Problem], purpose: Purpose, pool: &Pool) -> Vec<Grader> {
    let alone = |problem: &Problem| Arguments::of(&[text(&problem.test)]);
    let split: Vec<Option<Tests>> = ask_splitter("split", problems, &|_| true, &alone, pool)
        .iter()
        .map(|call| call.as_ref().and_then(cases).map(Tests::Values))
        .collect();
    let is_left = |index: usize| split[index].is_none();
    let with_prelude = |problem: &Problem| {
        let is_benchmark = Value::Bool(purpose == Purpose::Benchmark);
        Arguments::of(&[text(&problem.test), text(&problem.prelude), is_benchmark])
    };
    let asked = ask_splitter("questions", problems, &is_left, &with_prelude, pool);
    let questions = asked
        .iter()
        .map(|call| call.as_ref().and_then(Questions::of));
    problems
        .iter()
        .zip(split.iter().zip(questions))
        .map(|(problem, (values, questions))| Grader {
            prompt: problem.prompt.clone(),
            entry_point: problem.entry_point.clone(),
            setup: problem.setup.clone(),
            tests: values
                .clone()
                .or_else(|| questions.map(Tests::Questions))
                .unwrap_or_else(|| Tests::Asserts(asserts(problem))),
        })
        .collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// What a function of the splitter makes of each problem; `None` where it is not asked, or fails.
fn ask_splitter(
    function: &str,
    problems: &[Problem],
    is_asked: &dyn Fn(usize) -> bool,
    arguments: &dyn Fn(&Problem) -> Arguments,
    pool: &Pool,
) -> Vec<Option<CallResult>> {
    let asked: Vec<usize> = (0..problems.len())
        .filter(|index| is_asked(*index))
        .collect();
    let program = |indices: &[usize]| Program {
        source: SPLIT.to_owned(),
        entry_point: function.to_owned(),
        inputs: indices
            .iter()
            .map(|index| arguments(&problems[*index]))
            .collect(),
        check: None,
    };
    let programs: Vec<Program> = asked.chunks(N_TESTS_SPLIT).map(program).collect();
    let results = pool.run_all(&programs, &mut |_| {});
    let mut found = vec![None; problems.len()];
    for (indices, result) in asked.chunks(N_TESTS_SPLIT).zip(results) {
        for (index, call) in indices.iter().zip(result.calls) {
            found[*index] = Some(call);
        }
    }
    found
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
    let prelude = if problem.prelude.is_empty() {
        format!("{}\n    pass\n", problem.prompt)
    } else {
        problem.prelude.clone()
    };
    Check {
        prelude: format!("{WALK}{prelude}"),
        test: problem.test.clone(),
    }
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|character| character == '_' || character.is_alphanumeric())
}

impl Grader {
    /// How its tests are run.
    pub fn form(&self) -> Form {
        match self.tests {
            Tests::Values(_) => Form::Values,
            Tests::Questions(_) => Form::Questions,
            Tests::Asserts(_) => Form::Asserts,
        }
    }

    /// The program that a completion makes.
    pub fn program(&self, completion: &str) -> Program {
        self.program_of(&format!("{}{completion}\n", self.prompt))
    }

    /// What is run of a whole program.
    fn program_of(&self, source: &str) -> Program {
        let (inputs, check) = match &self.tests {
            Tests::Values(cases) => {
                let inputs = cases
                    .iter()
                    .map(|case| Arguments::of(case.arguments.items()));
                (inputs.collect(), None)
            }
            Tests::Questions(questions) => {
                return questions.program(source, &self.setup, &self.entry_point);
            }
            Tests::Asserts(check) => (Vec::new(), Some(check.clone())),
        };
        let mut source = source.to_owned();
        if !self.setup.is_empty() {
            source += &format!("\n{}\n", self.setup);
        }
        let mut entry_point = self.entry_point.clone();
        if !is_name(&entry_point) {
            source +=
                &format!("\ndef __candidate__(*a, **k):\n    return {entry_point}(*a, **k)\n");
            "__candidate__".clone_into(&mut entry_point);
        }
        Program {
            source,
            entry_point,
            inputs,
            check,
        }
    }

    /// Grades a whole program, and names the first failing test.
    pub fn grade_whole(&self, source: &str, limits: Limits, pool: &Pool) -> outcome::Verdict {
        let result = pool.run_with(&self.program_of(source), limits);
        outcome::Verdict {
            base: self.part(&result),
            plus: None,
        }
    }

    /// The share of the tests that a run passed; asserts pass together or not at all.
    pub fn share(&self, result: &RunResult) -> f64 {
        let n_right = (0..result.calls.len())
            .filter(|index| self.failure(*index, &result.calls[*index]).is_none())
            .count();
        let is_passed = f64::from(u8::from(result.end == End::Finished));
        match &self.tests {
            Tests::Values(cases) => n_right as f64 / cases.len() as f64,
            Tests::Questions(questions) => n_right as f64 / questions.questions.len() as f64,
            Tests::Asserts(_) => is_passed,
        }
    }

    fn n_calls(&self) -> usize {
        match &self.tests {
            Tests::Values(cases) => cases.len(),
            Tests::Questions(questions) => questions.questions.len(),
            Tests::Asserts(_) => 0,
        }
    }

    /// What is wrong with the result of a call.
    fn failure(&self, index: usize, call: &CallResult) -> Option<Failure> {
        match &self.tests {
            Tests::Values(cases) => cases[index].failure(index, call),
            Tests::Questions(questions) => {
                let question = &questions.questions[index];
                let is_right = matches!(call, CallResult::Value(value) if question.accepts(value));
                (!is_right).then(|| question.failure(index, call))
            }
            Tests::Asserts(_) => None,
        }
    }

    fn first_failure(&self, result: &RunResult) -> Option<Failure> {
        let calls = result.calls.iter().enumerate();
        calls
            .take(self.n_calls())
            .find_map(|(index, call)| self.failure(index, call))
    }

    fn part(&self, result: &RunResult) -> Part {
        match self.first_failure(result) {
            Some(failure) => Part::failed(Status::Fail, failure),
            None => part_of_end(&result.end, result.calls.len() == self.n_calls()),
        }
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
            End::Finished => self.judge_calls(&result.calls),
        }
    }

    fn judge_calls(&self, calls: &[CallResult]) -> Verdict {
        for (index, call) in calls.iter().enumerate().take(self.n_calls()) {
            let Some(failure) = self.failure(index, call) else {
                continue;
            };
            let input = &failure.input;
            return match call {
                CallResult::Value(_) => Verdict::WrongAnswer {
                    detail: format!(
                        "for {input}: expected {}, got {}",
                        failure.expected, failure.got
                    ),
                },
                CallResult::Raised {
                    error,
                    message,
                    line,
                } => raised(error, message, *line, &format!("for {input}")),
            };
        }
        if calls.len() == self.n_calls() {
            Verdict::Passed
        } else {
            Verdict::Died
        }
    }
}

impl Case {
    fn failure(&self, index: usize, call: &CallResult) -> Option<Failure> {
        let got = match call {
            CallResult::Value(value) if value.equals(&self.expected) => return None,
            CallResult::Value(value) => value.display(SHOWN_CHARS),
            CallResult::Raised {
                error,
                message,
                line,
            } => Failure::raised(error, message, *line),
        };
        Some(Failure {
            index,
            input: self.arguments.display(SHOWN_CHARS),
            expected: self.expected.display(SHOWN_CHARS),
            got,
        })
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
