//! What grading a program comes to, whatever the benchmark: base tests, and further ones where
//! there are some, with the first test that failed.

use ra3_sandbox::Pool;

/// How the failure begins of a call that the clock ended, not its own time: once alone, it may do.
pub(crate) const LATE: &str = "TimeoutException: the call was late";

/// How the reason begins where no verdict is possible since the problem's checker is broken: that
/// is a fault of the data, and grading again does not help.
pub const CHECKER: &str = "the problem's checker";

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
    /// Of a program that could not be loaded.
    pub(crate) fn loading(error: &str, message: &str, line: Option<u32>) -> Self {
        Self {
            index: 0,
            input: String::new(),
            expected: String::new(),
            got: format!("cannot be loaded: {}", Self::raised(error, message, line)),
        }
    }

    /// An exception in one line.
    pub(crate) fn raised(error: &str, message: &str, line: Option<u32>) -> String {
        let place = line.map_or(String::new(), |line| format!(" (line {line})"));
        format!("{error}: {message}{place}")
    }
}

/// The outcome of one part of the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The verdict.
    pub status: Status,
    /// The first test that failed.
    pub failure: Option<Failure>,
    /// True if a busy machine may have made it fail.
    pub(crate) is_chance: bool,
    /// The sandbox failed, not the program: then there is no verdict.
    pub infrastructure: Option<String>,
}

impl Part {
    pub(crate) const fn passed() -> Self {
        Self {
            status: Status::Pass,
            failure: None,
            is_chance: false,
            infrastructure: None,
        }
    }

    pub(crate) const fn failed(status: Status, failure: Failure) -> Self {
        Self {
            status,
            failure: Some(failure),
            is_chance: false,
            infrastructure: None,
        }
    }

    pub(crate) const fn infrastructure(reason: String) -> Self {
        Self {
            status: Status::Fail,
            failure: None,
            is_chance: true,
            infrastructure: Some(reason),
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

impl Verdict {
    /// True if a busy machine may have made it fail.
    fn is_chance(&self) -> bool {
        self.base.is_chance || self.plus.as_ref().is_some_and(|plus| plus.is_chance)
    }

    /// The fault of the problem's checker, if that is why there is no verdict.
    pub fn broken_checker(&self) -> Option<&str> {
        self.infrastructure()
            .filter(|reason| reason.starts_with(CHECKER))
    }

    /// Why there is no verdict.
    pub fn infrastructure(&self) -> Option<&str> {
        let plus = self.plus.as_ref();
        let reason = self.base.infrastructure.as_ref();
        reason
            .or_else(|| plus.and_then(|plus| plus.infrastructure.as_ref()))
            .map(String::as_str)
    }
}

/// Grades items on all workers; what a busy machine may have made fail is graded once more, alone.
pub fn grade_all<T: Sync>(
    items: &[T],
    pool: &Pool,
    grade: impl Fn(&T) -> Verdict + Sync,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Verdict> {
    let mut verdicts = pool.map(items, &grade, on_done);
    for (item, verdict) in items.iter().zip(&mut verdicts) {
        if verdict.is_chance() && verdict.broken_checker().is_none() {
            *verdict = grade(item);
        }
    }
    verdicts
}
