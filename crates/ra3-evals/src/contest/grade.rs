//! Runs a program on a contest problem's tests, each in a process of its own.
//!
//! Tests of a function are graded as `LiveCodeBench`'s, with its limits ([`Mode::Right`]). What a
//! script wrote is compared here, or by the problem's checker, which runs as a script in another
//! process and sees the test and what was written: `checker input.txt correct_output.txt
//! solution_output.txt` prints 1 for what is right, and may print a share for what is so in part.
//! One that prints no number for the expected output is a fault of the data.
//! Limits are the problem's, in whole seconds of CPU time; what missed a deadline on the clock is
//! run again alone by [`crate::outcome::grade_all`] and [`crate::rlvr::exercise::grade_all`].

use ra3_sandbox::{Clock, Limits, Pool, Script, ScriptEnd, ScriptResult};

use crate::contest::answer::for_newer_python;
use crate::contest::reward::{Outcome, Scheme};
use crate::contest::task::{Streams, Task, Test};
use crate::grade;
use crate::livecodebench::grade::Code;
use crate::livecodebench::{self, Mode};
use crate::outcome::{CHECKER, Failure, Part, Status, Verdict};

/// What an interpreter maps beside the program's own memory.
const INTERPRETER_BYTES: u64 = 128 << 20;
/// Seconds that a process may take before its program, as official judges allow.
const START_S: f64 = 1.0;
/// Least bytes that a program may write; else twice what is expected.
const OUTPUT_BYTES_MIN: usize = 1 << 20;
const SHOWN_CHARS: usize = 300;
/// Limits of a checker.
const CHECKER_LIMITS: Limits = Limits {
    cpu_s: 10,
    wall_s: 60.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 16,
};

/// A problem that is ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    /// The problem.
    pub task: Task,
}

/// What came of a program, for a reward.
#[derive(Clone, Debug, PartialEq)]
pub struct Graded {
    /// What its reward is made of.
    pub outcome: Outcome,
    /// In the words of problems with functions.
    pub verdict: grade::Verdict,
    /// True if a busy machine may have made it fail.
    pub is_chance: bool,
}

/// What a test has against a program.
#[derive(Clone, Debug)]
struct Complaint {
    fault: Fault,
    /// What it wrote or raised, for a reader.
    got: String,
    is_chance: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Wrong,
    Raised,
    NotCompiled,
    OutOfTime,
    OutOfMemory,
    OutputLimit,
    Died,
}

impl Grader {
    /// The verdict on a program, which stops at the first test that fails.
    pub fn grade(&self, program: &str, pool: &Pool) -> Verdict {
        let tests = self.task.tests.iter().enumerate();
        let base = tests
            .map(|(index, test)| match self.test(test, program, pool) {
                Ok(None) => Part::passed(),
                Ok(Some(complaint)) => complaint.part(index, test),
                Err(reason) => Part::infrastructure(reason),
            })
            .find(|part| part.status != Status::Pass || part.infrastructure.is_some());
        Verdict {
            base: base.unwrap_or_else(|| {
                if self.task.tests.is_empty() {
                    Part::infrastructure("the problem has no tests".to_owned())
                } else {
                    Part::passed()
                }
            }),
            plus: None,
        }
    }

    /// How many tests a program passes, of those that the scheme needs: all, or up to the first
    /// that fails. Names that newer versions of Python have dropped are there, as open-r1's
    /// rewards have it.
    pub fn outcome(&self, program: &str, scheme: Scheme, pool: &Pool) -> Graded {
        let n_tests = self.task.tests.len();
        let graded = |outcome, verdict, is_chance| Graded {
            outcome,
            verdict,
            is_chance,
        };
        if program.trim().is_empty() {
            let detail = "there is no program".to_owned();
            let verdict = grade::Verdict::WrongAnswer { detail };
            return graded(Outcome::NoProgram, verdict, false);
        }
        let program = for_newer_python(program);
        let (mut n_passed, mut first, mut is_chance) = (0, None, false);
        for test in &self.task.tests {
            match self.test(test, &program, pool) {
                Ok(None) => n_passed += 1,
                Ok(Some(complaint)) if complaint.fault == Fault::NotCompiled => {
                    return graded(Outcome::NotCompiled, grade::Verdict::SyntaxError, false);
                }
                Ok(Some(complaint)) => {
                    is_chance |= complaint.is_chance;
                    first.get_or_insert_with(|| complaint.verdict(test));
                }
                Err(detail) => {
                    let is_chance = !detail.starts_with(CHECKER);
                    let verdict = grade::Verdict::Infrastructure { detail };
                    return graded(Outcome::Tests { n_passed, n_tests }, verdict, is_chance);
                }
            }
            if first.is_some() && scheme == Scheme::PassFail {
                break;
            }
        }
        let verdict = first.unwrap_or(grade::Verdict::Passed);
        graded(Outcome::Tests { n_passed, n_tests }, verdict, is_chance)
    }

    /// What a test has against a program; `Err` where the sandbox failed.
    fn test(&self, test: &Test, program: &str, pool: &Pool) -> Result<Option<Complaint>, String> {
        if let Some(function) = &self.task.function {
            return self.call(function, test, program, pool);
        }
        let result = pool.run_script(&self.script(test, program), self.limits(test));
        if let Some(complaint) = complaint(&result)? {
            return Ok(Some(complaint));
        }
        let output = result.written.as_ref().unwrap_or(&result.stdout);
        let output = String::from_utf8_lossy(output);
        let got = if let Some(checker) = &self.task.checker {
            check(checker, test, &output, pool)?
        } else {
            let is_right = self.task.comparison.accepts(&output, &test.output);
            (!is_right).then(|| shown(&output))
        };
        Ok(got.map(|got| Complaint::new(Fault::Wrong, got)))
    }

    /// As [`Self::test`], of a function.
    fn call(
        &self,
        function: &str,
        test: &Test,
        program: &str,
        pool: &Pool,
    ) -> Result<Option<Complaint>, String> {
        let task = livecodebench::data::Task {
            task_id: self.task.task_id.clone(),
            question: self.task.statement.clone(),
            starter_code: String::new(),
            platform: String::new(),
            date: String::new(),
            difficulty: String::new(),
            function: Some(function.to_owned()),
            tests: vec![test.clone()],
            is_erroneous: false,
        };
        let grader = livecodebench::grade::Grader::new(task, Mode::Right);
        let grader = grader.map_err(|error| error.to_string())?;
        let (codes, part) = grader.codes(program, pool);
        if let Some(reason) = part.infrastructure {
            return Err(reason);
        }
        let got = part.failure.map(|failure| failure.got).unwrap_or_default();
        let fault = match codes.last().copied().unwrap_or(Code::Lost) {
            Code::Passed => return Ok(None),
            Code::Wrong => Fault::Wrong,
            Code::OutOfTime => Fault::OutOfTime,
            Code::Raised if is_syntax_error(got.trim_start_matches(LOADING)) => Fault::NotCompiled,
            Code::Raised if got.starts_with("MemoryError") => Fault::OutOfMemory,
            Code::Raised => Fault::Raised,
            Code::Lost | Code::Grader if part.status == Status::Timeout => Fault::OutOfTime,
            Code::Lost | Code::Grader => Fault::Died,
        };
        Ok(Some(Complaint {
            is_chance: part.is_chance,
            ..Complaint::new(fault, got)
        }))
    }

    fn script(&self, test: &Test, program: &str) -> Script {
        let source = program.to_owned();
        match &self.task.streams {
            Streams::Standard => Script {
                source,
                stdin: test.input.clone(),
                ..Script::default()
            },
            Streams::Files { input, output } => Script {
                source,
                files: vec![(input.clone(), test.input.clone())],
                output_file: Some(output.clone()),
                ..Script::default()
            },
        }
    }

    fn limits(&self, test: &Test) -> Limits {
        let cpu_s = self.task.time_s.ceil().max(1.0);
        Limits {
            cpu_s: cpu_s as u64,
            // What missed it runs once more: no program takes more than twice as long as there.
            wall_s: cpu_s + START_S,
            memory_bytes: self.task.memory_bytes + INTERPRETER_BYTES,
            result_bytes_max: OUTPUT_BYTES_MIN.max(2 * test.output.len()),
        }
    }
}

impl Complaint {
    const fn new(fault: Fault, got: String) -> Self {
        Self {
            fault,
            got,
            is_chance: false,
        }
    }

    fn part(self, index: usize, test: &Test) -> Part {
        let status = match self.fault {
            Fault::OutOfTime => Status::Timeout,
            Fault::Wrong
            | Fault::Raised
            | Fault::NotCompiled
            | Fault::OutOfMemory
            | Fault::OutputLimit
            | Fault::Died => Status::Fail,
        };
        let failure = Failure {
            index,
            input: shown(&test.input),
            expected: shown(&test.output),
            got: self.got,
        };
        Part {
            is_chance: self.is_chance,
            ..Part::failed(status, failure)
        }
    }

    fn verdict(&self, test: &Test) -> grade::Verdict {
        let (input, expected, got) = (shown(&test.input), shown(&test.output), &self.got);
        match self.fault {
            Fault::Wrong => grade::Verdict::WrongAnswer {
                detail: format!("for {input}: expected {expected}, got {got}"),
            },
            Fault::Raised => grade::Verdict::Raised {
                detail: format!("for {input}: {got}"),
            },
            Fault::NotCompiled => grade::Verdict::SyntaxError,
            Fault::OutOfTime => grade::Verdict::TimedOut,
            Fault::OutOfMemory => grade::Verdict::OutOfMemory,
            Fault::OutputLimit => grade::Verdict::OutputLimit,
            Fault::Died => grade::Verdict::Died,
        }
    }
}

/// How the failure begins of a program with a function that could not be loaded.
const LOADING: &str = "cannot be loaded: ";

/// True if a line is the last of what Python says of a program that it cannot read.
fn is_syntax_error(line: &str) -> bool {
    ["SyntaxError", "IndentationError", "TabError"]
        .iter()
        .any(|name| line.starts_with(name))
}

/// Why a program has failed before its output is looked at; `Err` where the sandbox failed.
fn complaint(result: &ScriptResult) -> Result<Option<Complaint>, String> {
    let (fault, got) = match &result.end {
        ScriptEnd::Exited(0) => return Ok(None),
        ScriptEnd::Exited(code) => {
            match result.error.trim_end().lines().last().unwrap_or_default() {
                "" => (Fault::Raised, format!("exit code {code}")),
                "MemoryError" => (Fault::OutOfMemory, "out of memory".to_owned()),
                last if is_syntax_error(last) => (
                    Fault::NotCompiled,
                    format!("does not compile: {}", shown(last)),
                ),
                last => (Fault::Raised, shown(last)),
            }
        }
        ScriptEnd::Killed(signal) => (Fault::Died, format!("ended by signal {signal}")),
        ScriptEnd::TimedOut(_) => (Fault::OutOfTime, "out of time".to_owned()),
        ScriptEnd::OutputLimit => (Fault::OutputLimit, "too much output".to_owned()),
        ScriptEnd::Infrastructure { reason } => return Err(reason.clone()),
    };
    Ok(Some(Complaint {
        is_chance: result.end == ScriptEnd::TimedOut(Clock::Wall),
        ..Complaint::new(fault, got)
    }))
}

/// What the checker has against an output; `Err` where the sandbox failed, or the checker.
fn check(checker: &str, test: &Test, output: &str, pool: &Pool) -> Result<Option<String>, String> {
    let said = ask(checker, test, output, pool)?;
    if said.score.is_some_and(|score| score >= 1.0) {
        return Ok(None);
    }
    // One that cannot read what was written has found it wrong, if it can read what is right.
    if said.score.is_none() {
        fault_of(checker, test, pool)?;
    }
    Ok(Some(format!("{} (checker: {})", shown(output), said.words)))
}

/// What a checker said.
struct Said {
    /// The number that it ended with success for.
    score: Option<f64>,
    /// Its last words.
    words: String,
}

impl Said {
    fn fault(&self) -> String {
        let words = &self.words;
        format!("{CHECKER} gives no number for the expected output: {words}")
    }
}

fn ask(checker: &str, test: &Test, output: &str, pool: &Pool) -> Result<Said, String> {
    let files = [
        ("input.txt", test.input.as_str()),
        ("correct_output.txt", &test.output),
        ("solution_output.txt", output),
    ];
    let script = Script {
        source: checker.to_owned(),
        arguments: files.iter().map(|(name, _)| (*name).to_owned()).collect(),
        files: files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
            .collect(),
        ..Script::default()
    };
    let result = pool.run_script(&script, CHECKER_LIMITS);
    if let ScriptEnd::Infrastructure { reason } = result.end {
        return Err(reason);
    }
    let stdout = String::from_utf8_lossy(&result.stdout);
    let score = stdout
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok())
        .filter(|score| result.end == ScriptEnd::Exited(0) && score.is_finite());
    let last = result.error.trim_end().lines().last().unwrap_or_default();
    let words = match (last, stdout.trim()) {
        ("", "") => format!("{:?}", result.end),
        ("", stdout) => shown(stdout),
        (last, _) => shown(last),
    };
    Ok(Said { score, words })
}

/// Refuses a checker that has no number for the expected output of a test: nothing that a program
/// writes is then wrong by its word. Where no output is expected, it need only be Python.
fn fault_of(checker: &str, test: &Test, pool: &Pool) -> Result<(), String> {
    if test.output.trim().is_empty() {
        return if compiles(checker, pool) {
            Ok(())
        } else {
            Err(format!("{CHECKER} does not compile"))
        };
    }
    let said = ask(checker, test, &test.output, pool)?;
    match said.score {
        Some(_) => Ok(()),
        None => Err(said.fault()),
    }
}

/// What is wrong with a problem's checker, by its first test; `None` without a checker or tests.
pub(crate) fn checker_fault(task: &Task, pool: &Pool) -> Option<String> {
    let (checker, test) = (task.checker.as_ref()?, task.tests.first()?);
    let fault = fault_of(checker, test, pool).err()?;
    fault.starts_with(CHECKER).then_some(fault)
}

/// True if Python can read a checker.
fn compiles(checker: &str, pool: &Pool) -> bool {
    let script = Script {
        source: "compile(open('checker.py').read(), 'checker.py', 'exec', 0, True)".to_owned(),
        files: vec![("checker.py".to_owned(), checker.to_owned())],
        ..Script::default()
    };
    // Only what Python says of it counts against it.
    pool.run_script(&script, CHECKER_LIMITS).end != ScriptEnd::Exited(1)
}

fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN_CHARS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
