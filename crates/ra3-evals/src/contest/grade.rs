//! Runs a program on a contest problem's tests, each in a process of its own.
//!
//! Tests of a function are graded as `LiveCodeBench`'s, with its limits ([`Mode::Right`]). What a
//! script wrote is compared here, or by the problem's checker, which runs as a script in another
//! process and sees the test and what was written: `checker input.txt correct_output.txt
//! solution_output.txt` prints 1 for what is right, and may print a share for what is so in part.
//! One that prints no number for the expected output is a fault of the data.
//! Limits are the problem's, in whole seconds of CPU time; what missed a deadline on the clock is
//! run again alone by [`crate::outcome::grade_all`].

use ra3_sandbox::value::Value;
use ra3_sandbox::{Clock, Limits, Pool, Script, ScriptEnd, ScriptResult};

use crate::contest::answer::for_newer_python;
use crate::contest::compare::accepts;
use crate::contest::function::{Calls, Mode, codes};
use crate::contest::reward::Scheme;
use crate::contest::task::{Streams, Task, Test};
use crate::outcome::{Failure, Fault, Graded, Kind, Part};

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

impl Task {
    /// The verdict on a program, which stops at the first test that fails.
    ///
    /// # Errors
    /// The sandbox failed, or the problem's checker is broken.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        self.run(program, false, pool)
    }

    /// The verdict on a program for a reward: on all tests where the scheme counts them. Names that
    /// newer versions of Python have dropped are there, as open-r1's rewards have it.
    ///
    /// # Errors
    /// As [`Self::grade`].
    pub fn grade_for(&self, scheme: Scheme, program: &str, pool: &Pool) -> Graded {
        if program.trim().is_empty() {
            let failure = Failure::of_all("there is no program");
            return Ok(Part::failed(Kind::WrongAnswer, failure, 0, self.tests.len()).into());
        }
        self.run(&for_newer_python(program), scheme != Scheme::Pass, pool)
    }

    fn run(&self, program: &str, runs_all: bool, pool: &Pool) -> Graded {
        if self.tests.is_empty() {
            return Err(Fault::no_tests());
        }
        let (mut n_right, mut first, mut is_chance) = (0, None, false);
        for index in 0..self.tests.len() {
            let part = self.test(index, program, pool)?;
            is_chance |= part.is_chance;
            match part.kind {
                Kind::Passed => {
                    n_right += 1;
                    continue;
                }
                // What Python cannot read fails them all.
                Kind::SyntaxError => first = Some(part),
                _ => {
                    first.get_or_insert(part);
                    if runs_all {
                        continue;
                    }
                }
            }
            break;
        }
        let n_tests = self.tests.len();
        let part = first.unwrap_or_else(|| Part::passed(n_tests));
        Ok(Part {
            n_right,
            n_tests,
            is_chance,
            ..part
        }
        .into())
    }

    /// What comes of one test.
    fn test(&self, index: usize, program: &str, pool: &Pool) -> Result<Part, Fault> {
        let test = &self.tests[index];
        let failed = |kind, got| {
            let failure = Failure {
                index,
                input: shown(&test.input),
                expected: shown(&test.output),
                got,
            };
            Part::failed(kind, failure, 0, 1)
        };
        if let Some(function) = &self.function {
            let part = self.call(function, test, program, pool)?;
            let Some(failure) = part.failure else {
                return Ok(part);
            };
            let kind = match part.kind {
                Kind::Raised if is_syntax_error(&failure.got) => Kind::SyntaxError,
                kind => kind,
            };
            return Ok(Part {
                is_chance: part.is_chance,
                ..failed(kind, failure.got)
            });
        }
        let result = pool.run_script(&self.script(test, program), self.limits(test));
        if let Some((kind, got)) = fault(&result)? {
            return Ok(Part {
                is_chance: result.end == ScriptEnd::TimedOut(Clock::Wall),
                ..failed(kind, got)
            });
        }
        let output = result.written.as_ref().unwrap_or(&result.stdout);
        let output = String::from_utf8_lossy(output);
        let got = if let Some(checker) = &self.checker {
            check(checker, test, &output, pool)?
        } else {
            let is_right = accepts(&output, &test.output, self.ignores_case);
            (!is_right).then(|| shown(&output))
        };
        Ok(got.map_or_else(|| Part::passed(1), |got| failed(Kind::WrongAnswer, got)))
    }

    /// As [`Self::test`], of a function.
    fn call(&self, function: &str, test: &Test, program: &str, pool: &Pool) -> Result<Part, Fault> {
        let tests = std::slice::from_ref(test);
        let calls = Calls::new(&self.task_id, &self.statement, tests, function);
        let calls = calls.map_err(|error| Fault::Checker(format!("cannot run: {error}")))?;
        let is_right = |index: usize, value: &Value| calls.accepts(index, value, Mode::Right);
        let program = calls.program(program, Mode::Right, "");
        Ok(codes(tests, &program, is_right, pool)?.1)
    }

    fn script(&self, test: &Test, program: &str) -> Script {
        let source = program.to_owned();
        match &self.streams {
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
        let cpu_s = self.time_s.ceil().max(1.0);
        Limits {
            cpu_s: cpu_s as u64,
            // What missed it runs once more: no program takes more than twice as long as there.
            wall_s: cpu_s + START_S,
            memory_bytes: self.memory_bytes + INTERPRETER_BYTES,
            result_bytes_max: OUTPUT_BYTES_MIN.max(2 * test.output.len()),
        }
    }
}

/// True if a line is the last of what Python says of a program that it cannot read.
fn is_syntax_error(line: &str) -> bool {
    ["SyntaxError", "IndentationError", "TabError"]
        .iter()
        .any(|name| line.starts_with(name))
}

/// Why a program has failed before its output is looked at, and what it raised.
fn fault(result: &ScriptResult) -> Result<Option<(Kind, String)>, Fault> {
    let found = |kind, got: &str| Ok(Some((kind, got.to_owned())));
    match &result.end {
        ScriptEnd::Exited(0) => Ok(None),
        ScriptEnd::Exited(code) => {
            match result.error.trim_end().lines().last().unwrap_or_default() {
                "" => found(Kind::Raised, &format!("exit code {code}")),
                "MemoryError" => found(Kind::OutOfMemory, "out of memory"),
                last if is_syntax_error(last) => {
                    let got = format!("does not compile: {}", shown(last));
                    found(Kind::SyntaxError, &got)
                }
                last => found(Kind::Raised, &shown(last)),
            }
        }
        ScriptEnd::Killed(signal) => found(Kind::Died, &format!("ended by signal {signal}")),
        ScriptEnd::TimedOut(_) => found(Kind::TimedOut, "out of time"),
        ScriptEnd::OutputLimit => found(Kind::OutputLimit, "too much output"),
        ScriptEnd::Infrastructure { reason } => Err(Fault::Sandbox(reason.clone())),
    }
}

/// What the checker has against an output.
fn check(checker: &str, test: &Test, output: &str, pool: &Pool) -> Result<Option<String>, Fault> {
    let said = ask(checker, test, output, pool)?;
    if said.score.is_some_and(|score| score >= 1.0) {
        return Ok(None);
    }
    // One that cannot read what was written has found it wrong, if it can read what is right.
    if said.score.is_none() {
        probe(checker, test, pool)?;
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

fn ask(checker: &str, test: &Test, output: &str, pool: &Pool) -> Result<Said, Fault> {
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
        return Err(Fault::Sandbox(reason));
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
fn probe(checker: &str, test: &Test, pool: &Pool) -> Result<(), Fault> {
    if test.output.trim().is_empty() {
        let broken = || Fault::Checker("does not compile".to_owned());
        return compiles(checker, pool).then_some(()).ok_or_else(broken);
    }
    let said = ask(checker, test, &test.output, pool)?;
    let broken = || format!("gives no number for the expected output: {}", said.words);
    said.score
        .map(|_| ())
        .ok_or_else(|| Fault::Checker(broken()))
}

/// What is wrong with a problem's checker, by its first test; `None` without a checker or tests.
pub(crate) fn checker_fault(task: &Task, pool: &Pool) -> Option<Fault> {
    let (checker, test) = (task.checker.as_ref()?, task.tests.first()?);
    let fault = probe(checker, test, pool).err()?;
    matches!(fault, Fault::Checker(_)).then_some(fault)
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
