//! Grading of functions: a whole program is run in the sandbox, what it gives is compared here.
//!
//! Tests of the form `assert candidate(arguments) == expected` become inputs and expected values
//! that only this process holds; so do other asserts that can be asked without saying what is
//! expected ([`crate::question`]). A test of any other form runs in a process of its own, which
//! sees the program's values and none of its objects. No program shares a process with its tests.

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, Check, End, Pool, Program, RunResult};

use crate::json::text;
use crate::outcome::{Failure, Fault, Graded, Kind, Part, Status};
use crate::problem::Problem;
use crate::question::{Questions, WALK};

/// Takes tests apart; see there.
const SPLIT: &str = concat!(include_str!("walk.py"), include_str!("split.py"));
/// Tests that one process takes apart: what it sends back is limited.
const N_TESTS_SPLIT: usize = 16;
const SHOWN_CHARS: usize = 120;

/// A problem with its tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    /// The problem.
    pub problem: Problem,
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

/// Makes problems ready: their tests are taken apart once, in processes of their own.
pub fn prepare<'a>(
    graders: impl IntoIterator<Item = &'a mut Grader>,
    purpose: Purpose,
    pool: &Pool,
) {
    let mut graders: Vec<&mut Grader> = graders.into_iter().collect();
    let alone = |problem: &Problem| Arguments::of(&[text(&problem.test)]);
    let split = ask_splitter("split", &graders, &alone, pool);
    for (grader, call) in graders.iter_mut().zip(split) {
        if let Some(cases) = call.as_ref().and_then(cases) {
            grader.tests = Tests::Values(cases);
        }
    }
    graders.retain(|grader| grader.form() == Form::Asserts);
    let with_prelude = |problem: &Problem| {
        let is_benchmark = Value::Bool(purpose == Purpose::Benchmark);
        Arguments::of(&[text(&problem.test), text(&problem.prelude), is_benchmark])
    };
    let asked = ask_splitter("questions", &graders, &with_prelude, pool);
    for (grader, call) in graders.iter_mut().zip(asked) {
        if let Some(questions) = call.as_ref().and_then(Questions::of) {
            grader.tests = Tests::Questions(questions);
        }
    }
}

/// What a function of the splitter makes of each problem; `None` where it fails.
fn ask_splitter(
    function: &str,
    graders: &[&mut Grader],
    arguments: &dyn Fn(&Problem) -> Arguments,
    pool: &Pool,
) -> Vec<Option<CallResult>> {
    let program = |graders: &[&mut Grader]| Program {
        source: SPLIT.to_owned(),
        entry_point: function.to_owned(),
        inputs: graders
            .iter()
            .map(|grader| arguments(&grader.problem))
            .collect(),
        check: None,
    };
    let programs: Vec<Program> = graders.chunks(N_TESTS_SPLIT).map(program).collect();
    let results = pool.run_all(&programs, &mut |_| {});
    let mut found = Vec::new();
    for (chunk, result) in graders.chunks(N_TESTS_SPLIT).zip(results) {
        let calls = result.calls.into_iter().map(Some);
        found.extend(calls.chain(std::iter::repeat(None)).take(chunk.len()));
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
    /// A problem whose tests are run as asserts, until [`prepare`] takes them apart.
    pub fn new(problem: Problem) -> Self {
        Self {
            tests: Tests::Asserts(asserts(&problem)),
            problem,
        }
    }

    /// How its tests are run.
    pub fn form(&self) -> Form {
        match self.tests {
            Tests::Values(_) => Form::Values,
            Tests::Questions(_) => Form::Questions,
            Tests::Asserts(_) => Form::Asserts,
        }
    }

    /// What is run of a program.
    fn program(&self, source: &str) -> Program {
        let problem = &self.problem;
        let (inputs, check) = match &self.tests {
            Tests::Values(cases) => {
                let inputs = cases
                    .iter()
                    .map(|case| Arguments::of(case.arguments.items()));
                (inputs.collect(), None)
            }
            Tests::Questions(questions) => {
                return questions.program(source, &problem.setup, &problem.entry_point);
            }
            Tests::Asserts(check) => (Vec::new(), Some(check.clone())),
        };
        let mut source = source.to_owned();
        if !problem.setup.is_empty() {
            source += &format!("\n{}\n", problem.setup);
        }
        let mut entry_point = problem.entry_point.clone();
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

    /// The verdict on a whole program.
    ///
    /// # Errors
    /// The sandbox failed, or the test cannot run.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        let result = pool.run(&self.program(program));
        let part = self.part(&result);
        let part = part.map_err(|fault| self.broken_test(pool).unwrap_or(fault));
        Ok(part?.into())
    }

    /// What is wrong with asserts that cannot run for a function that does nothing either, while
    /// that runs without them.
    fn broken_test(&self, pool: &Pool) -> Option<Fault> {
        let name = &self.problem.entry_point;
        let nothing = is_name(name).then(|| format!("def {name}(*a, **k):\n    pass\n"));
        let tested = self.program(&nothing.unwrap_or_default());
        tested.check.as_ref()?;
        let bare = Program {
            check: None,
            ..tested.clone()
        };
        match (pool.run(&tested).end, pool.run(&bare).end) {
            (End::Infrastructure { reason }, End::Finished) => {
                Some(Fault::Checker(format!("cannot run: {reason}")))
            }
            _ => None,
        }
    }

    /// A test that failed decides over how the run ended, for the benchmarks' word; for ours it is
    /// the other way round. Asserts pass together or not at all.
    fn part(&self, result: &RunResult) -> Result<Part, Fault> {
        let n_calls = match &self.tests {
            Tests::Values(cases) => cases.len(),
            Tests::Questions(questions) => questions.questions.len(),
            Tests::Asserts(_) => 0,
        };
        let calls = result.calls.iter().take(n_calls).enumerate();
        let mut wrong = calls.filter_map(|(index, call)| Some((call, self.failure(index, call)?)));
        let first = wrong.next();
        let n_wrong = wrong.count() + usize::from(first.is_some());
        let n_right = result.calls.len().min(n_calls) - n_wrong;
        let is_through = result.end == End::Finished && result.calls.len() == n_calls;
        let n_tests = n_calls.max(1);
        let ended = if is_through {
            Part::passed(n_tests)
        } else {
            let at = |got: String| Failure::of_all(&got);
            Part::ended(&result.end, at, n_right, n_tests)?
        };
        let Some((call, failure)) = first else {
            return Ok(ended);
        };
        let kind = match call {
            _ if result.end != End::Finished => ended.kind,
            call => Kind::of_call(call),
        };
        Ok(Part {
            status: Status::Fail,
            kind,
            failure: Some(failure),
            n_right,
            ..ended
        })
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
}

impl Case {
    fn failure(&self, index: usize, call: &CallResult) -> Option<Failure> {
        let is_right = matches!(call, CallResult::Value(value) if value.equals(&self.expected));
        (!is_right).then(|| Failure {
            index,
            input: self.arguments.display(SHOWN_CHARS),
            expected: self.expected.display(SHOWN_CHARS),
            got: Failure::got(call, SHOWN_CHARS),
        })
    }
}
