//! Runs a program on a contest problem's tests, each in a process of its own.
//!
//! What it wrote is compared here, or by the problem's checker, which runs as a script in another
//! process and sees the test and what was written: `checker input.txt correct_output.txt
//! solution_output.txt` prints 1 for what is right, and may print a share for what is so in part.
//! Limits are the problem's, in whole seconds of CPU time; what missed a deadline on the clock is
//! run again alone by [`crate::outcome::grade_all`].

use ra3_sandbox::{Clock, Limits, Pool, Script, ScriptEnd, ScriptResult};

use crate::contest::reward::Outcome;
use crate::contest::task::{Streams, Task, Test};
use crate::outcome::{Failure, Part, Status, Verdict};

/// What an interpreter maps beside the program's own memory.
const INTERPRETER_BYTES: u64 = 128 << 20;
/// Least bytes that a program may write; else twice what is expected.
const OUTPUT_BYTES_MIN: usize = 1 << 20;
const SHOWN_CHARS: usize = 300;
/// Limits of a checker.
const CHECKER: Limits = Limits {
    cpu_s: 10,
    wall_s: 60.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 16,
};

/// A problem that is ready to grade.
#[derive(Clone, Debug)]
pub struct Grader {
    /// The problem.
    pub task: Task,
}

impl Grader {
    /// The verdict on a program, which stops at the first test that fails.
    pub fn grade(&self, program: &str, pool: &Pool) -> Verdict {
        let tests = self.task.tests.iter().enumerate();
        let base = tests
            .map(|(index, test)| self.test(index, test, program, pool))
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

    /// How many tests a program passes, all of which are run.
    ///
    /// # Errors
    /// The sandbox failed, and why.
    pub fn outcome(&self, program: &str, pool: &Pool) -> Result<Outcome, String> {
        let mut n_passed = 0;
        for (index, test) in self.task.tests.iter().enumerate() {
            let part = self.test(index, test, program, pool);
            if let Some(reason) = part.infrastructure {
                return Err(reason);
            }
            let got = part
                .failure
                .as_ref()
                .map_or("", |failure| failure.got.as_str());
            if got.starts_with(NOT_COMPILED) {
                return Ok(Outcome::NotCompiled);
            }
            n_passed += usize::from(part.status == Status::Pass);
        }
        Ok(Outcome::Tests {
            n_passed,
            n_tests: self.task.tests.len(),
        })
    }

    fn test(&self, index: usize, test: &Test, program: &str, pool: &Pool) -> Part {
        let result = pool.run_script(&self.script(test, program), self.limits(test));
        let output = result.written.as_ref().unwrap_or(&result.stdout);
        let output = String::from_utf8_lossy(output);
        let complaint = match (complaint(&result), self.task.checker.as_deref()) {
            (Err(part), _) => return *part,
            (Ok(Some(complaint)), _) => Some(complaint),
            (Ok(None), Some(checker)) => match check(checker, test, &output, pool) {
                Ok(complaint) => complaint.map(|complaint| (Status::Fail, complaint)),
                Err(reason) => return Part::infrastructure(reason),
            },
            (Ok(None), None) => {
                let is_right = self.task.comparison.accepts(&output, &test.output);
                (!is_right).then(|| (Status::Fail, shown(&output)))
            }
        };
        let Some((status, got)) = complaint else {
            return Part::passed();
        };
        let failure = Failure {
            index,
            input: shown(&test.input),
            expected: shown(&test.output),
            got,
        };
        Part {
            is_chance: result.end == ScriptEnd::TimedOut(Clock::Wall),
            ..Part::failed(status, failure)
        }
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
            wall_s: 3.0 * cpu_s + 2.0,
            memory_bytes: self.task.memory_bytes + INTERPRETER_BYTES,
            result_bytes_max: OUTPUT_BYTES_MIN.max(2 * test.output.len()),
        }
    }
}

const NOT_COMPILED: &str = "does not compile";

/// Why a program has failed before its output is looked at; `Err` where the sandbox failed.
fn complaint(result: &ScriptResult) -> Result<Option<(Status, String)>, Box<Part>> {
    let failed = |got: &str| Ok(Some((Status::Fail, got.to_owned())));
    match &result.end {
        ScriptEnd::Exited(0) => Ok(None),
        ScriptEnd::Exited(code) => {
            let last = result.error.trim_end().lines().last().unwrap_or_default();
            let is_syntax = ["SyntaxError", "IndentationError", "TabError"]
                .iter()
                .any(|name| last.starts_with(name));
            match last {
                "" => failed(&format!("exit code {code}")),
                "MemoryError" => failed("out of memory"),
                _ if is_syntax => failed(&format!("{NOT_COMPILED}: {}", shown(last))),
                _ => failed(&shown(last)),
            }
        }
        ScriptEnd::Killed(signal) => failed(&format!("ended by signal {signal}")),
        ScriptEnd::TimedOut(_) => Ok(Some((Status::Timeout, "out of time".to_owned()))),
        ScriptEnd::OutputLimit => failed("too much output"),
        ScriptEnd::Infrastructure { reason } => Err(Box::new(Part::infrastructure(reason.clone()))),
    }
}

/// What the checker has against an output; `Err` where the sandbox failed.
fn check(checker: &str, test: &Test, output: &str, pool: &Pool) -> Result<Option<String>, String> {
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
    let result = pool.run_script(&script, CHECKER);
    if let ScriptEnd::Infrastructure { reason } = result.end {
        return Err(reason);
    }
    let said = String::from_utf8_lossy(&result.stdout);
    let score = said
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    if result.end == ScriptEnd::Exited(0) && score.is_some_and(|score| score >= 1.0) {
        return Ok(None);
    }
    // One that cannot read what was written has found it wrong.
    let last = result.error.trim_end().lines().last().unwrap_or_default();
    let reason = if last.is_empty() { said.trim() } else { last };
    Ok(Some(format!(
        "{} (checker: {})",
        shown(output),
        shown(reason)
    )))
}

fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN_CHARS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
