//! What grading a program comes to, whatever the benchmark: base tests, and further ones where
//! there are some, with the first test that failed.
//!
//! Where nothing can be said of a program, that is no verdict but a [`Fault`]: of the data, or of
//! the machine. Not done here: what a verdict earns ([`crate::contest::reward`]).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use ra3_sandbox::{CallResult, Clock, End, Pool};

/// How the failure begins of a call that the clock ended, not its own time: once alone, it may do.
pub(crate) const LATE: &str = "TimeoutException: the call was late";
/// How the failure begins of a program that could not be loaded.
const LOADING: &str = "cannot be loaded: ";

/// The outcome for one program, where there is one.
pub type Graded = Result<Verdict, Fault>;

/// Why nothing can be said of a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The problem's checker, or its test, is broken: so it is for every program, however often it
    /// is graded.
    #[error("the problem's checker {0}")]
    Checker(String),
    /// The sandbox failed: once alone, it may do.
    #[error("{0}")]
    Sandbox(String),
}

impl Fault {
    /// Without a test nothing can be right or wrong.
    pub(crate) fn no_tests() -> Self {
        Self::Checker("has no tests".to_owned())
    }

    /// Its name in tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Checker(_) => "broken_checker",
            Self::Sandbox(_) => "infrastructure",
        }
    }
}

/// How a program did on its tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every test passed.
    Passed,
    /// A test did not.
    WrongAnswer,
    /// The program raised.
    Raised,
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
}

impl Kind {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::WrongAnswer => "wrong_answer",
            Self::Raised => "raised",
            Self::SyntaxError => "syntax_error",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputLimit => "output_limit",
            Self::Died => "died",
        }
    }

    /// Of a call that was wrong.
    pub(crate) fn of_call(call: &CallResult) -> Self {
        match call {
            CallResult::Value(_) => Self::WrongAnswer,
            CallResult::Raised { error, .. } => Self::of_error(error),
        }
    }

    /// Of an exception by the name of its type.
    pub(crate) fn of_error(error: &str) -> Self {
        match error {
            "MemoryError" => Self::OutOfMemory,
            _ => Self::Raised,
        }
    }
}

/// The verdict on one part, in EvalPlus's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every test passed.
    Pass,
    /// One did not.
    Fail,
    /// The process was ended, or ended itself, before its tests were through.
    Timeout,
}

impl Status {
    /// As result files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Timeout => "timeout",
        }
    }

    /// From a result file.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pass, Self::Fail, Self::Timeout]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// The first test that failed, cut to what a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The test, from 0.
    pub index: usize,
    /// Its input; empty where the program could not be loaded.
    pub input: String,
    /// What it should give.
    pub expected: String,
    /// What it gave or raised.
    pub got: String,
}

impl Failure {
    /// Of no test in particular.
    pub(crate) fn of_all(got: &str) -> Self {
        Self {
            index: 0,
            input: String::new(),
            expected: String::new(),
            got: got.to_owned(),
        }
    }

    /// What a call gave, in at most so many characters, or raised.
    pub(crate) fn got(call: &CallResult, n_chars: usize) -> String {
        match call {
            CallResult::Value(value) => value.display(n_chars),
            CallResult::Raised {
                error,
                message,
                line,
            } => Self::raised(error, message, *line),
        }
    }

    /// An exception in one line.
    fn raised(error: &str, message: &str, line: Option<u32>) -> String {
        let place = line.map_or(String::new(), |line| format!(" (line {line})"));
        format!("{error}: {message}{place}")
    }
}

/// The outcome of one part of the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The verdict.
    pub status: Status,
    /// How it came to that.
    pub kind: Kind,
    /// The first test that failed.
    pub failure: Option<Failure>,
    /// Tests that passed, as far as they were run.
    pub n_right: usize,
    /// All tests.
    pub n_tests: usize,
    /// True if a busy machine may have made it fail.
    pub(crate) is_chance: bool,
}

impl Part {
    /// Of a program that passed all of so many tests.
    pub const fn passed(n_tests: usize) -> Self {
        Self {
            status: Status::Pass,
            kind: Kind::Passed,
            failure: None,
            n_right: n_tests,
            n_tests,
            is_chance: false,
        }
    }

    pub(crate) fn failed(kind: Kind, failure: Failure, n_right: usize, n_tests: usize) -> Self {
        Self {
            status: match kind {
                Kind::TimedOut => Status::Timeout,
                _ => Status::Fail,
            },
            kind,
            is_chance: failure.got.starts_with(LATE),
            failure: Some(failure),
            n_right,
            n_tests,
        }
    }

    /// Of a run that ended before its `n_tests` tests were through: `at` is where.
    pub(crate) fn ended(
        end: &End,
        at: impl FnOnce(String) -> Failure,
        n_right: usize,
        n_tests: usize,
    ) -> Result<Self, Fault> {
        let failed = |kind, failure| Self::failed(kind, failure, n_right, n_tests);
        Ok(match end {
            End::Finished | End::Died => failed(Kind::Died, at("the process ended".to_owned())),
            End::LoadError {
                error,
                message,
                line,
            } => {
                let kind = match error.as_str() {
                    "SyntaxError" | "IndentationError" | "TabError" => Kind::SyntaxError,
                    error => Kind::of_error(error),
                };
                let error = Failure::raised(error, message, *line);
                failed(kind, Failure::of_all(&format!("{LOADING}{error}")))
            }
            End::CheckFailed { reason } => failed(Kind::WrongAnswer, Failure::of_all(reason)),
            End::TimedOut(clock) => Self {
                is_chance: *clock == Clock::Wall,
                ..failed(Kind::TimedOut, at("out of time".to_owned()))
            },
            End::OutputLimit => failed(Kind::OutputLimit, at("too much output".to_owned())),
            End::Infrastructure { reason } => return Err(Fault::Sandbox(reason.clone())),
        })
    }

    /// The share of the tests that passed.
    pub fn share(&self) -> f64 {
        self.n_right as f64 / self.n_tests.max(1) as f64
    }

    /// What a reader wants to know beyond the kind: which test was wrong, or what was raised.
    pub fn detail(&self) -> String {
        let Some(failure) = &self.failure else {
            return String::new();
        };
        let (input, expected, got) = (&failure.input, &failure.expected, &failure.got);
        match self.kind {
            Kind::WrongAnswer if input.is_empty() && expected.is_empty() => got.clone(),
            Kind::WrongAnswer => format!("for {input}: expected {expected}, got {got}"),
            Kind::Raised => match got.strip_prefix(LOADING) {
                Some(error) if input.is_empty() => format!("loading: {error}"),
                _ => format!("for {input}: {got}"),
            },
            Kind::Passed
            | Kind::SyntaxError
            | Kind::TimedOut
            | Kind::OutOfMemory
            | Kind::OutputLimit
            | Kind::Died => String::new(),
        }
    }
}

/// The outcome for one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// On the base tests.
    pub base: Part,
    /// On the further tests; `None` where the benchmark has none.
    pub plus: Option<Part>,
}

impl From<Part> for Verdict {
    fn from(base: Part) -> Self {
        Self { base, plus: None }
    }
}

impl Verdict {
    /// True if every test passed.
    pub fn is_passed(&self) -> bool {
        let mut parts = [&self.base].into_iter().chain(&self.plus);
        parts.all(|part| part.status == Status::Pass)
    }

    /// True if a busy machine may have made it fail.
    fn is_chance(&self) -> bool {
        let mut parts = [&self.base].into_iter().chain(&self.plus);
        parts.any(|part| part.is_chance)
    }
}

/// Grades items on all workers; what a busy machine may have made fail is graded once more, alone.
/// `on_done` hears the index of each item that is through.
pub fn grade_all<T: Sync>(
    items: &[T],
    pool: &Pool,
    grade: impl Fn(&T) -> Graded + Sync,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Graded> {
    let all = grade_until(None, items, pool, grade, on_done);
    let outcome = |graded: Option<Graded>| graded.expect("all were begun");
    all.into_iter().map(outcome).collect()
}

/// As [`grade_all`], where nothing begins after an instant: what had not by then has no outcome.
pub fn grade_until<T: Sync>(
    until: Option<Instant>,
    items: &[T],
    pool: &Pool,
    grade: impl Fn(&T) -> Graded + Sync,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Option<Graded>> {
    let begun: Vec<(&T, AtomicBool)> = items.iter().map(|item| (item, false.into())).collect();
    let first = |(item, is_begun): &(&T, AtomicBool)| {
        is_begun.store(until.is_none_or(|until| Instant::now() < until), Relaxed);
        is_begun.load(Relaxed).then(|| grade(item))
    };
    let mut all = pool.map(&begun, first, &mut |index| {
        if begun[index].1.load(Relaxed) {
            on_done(index);
        }
    });
    for (item, graded) in items.iter().zip(&mut all) {
        let is_chance = match &*graded {
            Some(Ok(verdict)) => verdict.is_chance(),
            Some(Err(Fault::Sandbox(_))) => true,
            Some(Err(Fault::Checker(_))) | None => false,
        };
        if is_chance {
            *graded = Some(grade(item));
        }
    }
    all
}
