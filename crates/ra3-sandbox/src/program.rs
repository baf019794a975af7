//! The nouns: a program and what to do with it, its limits, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::marshal::Arguments;
use crate::value::Value;

/// What must hold of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Refuse to run unless seccomp and Landlock hold.
    Require,
    /// Take what the kernel offers, and say what it was.
    BestEffort,
    /// Limits only.
    Off,
}

/// Limits of one program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// CPU seconds.
    pub cpu_s: u64,
    /// Wall seconds: loose, for programs that sleep.
    pub wall_s: f64,
    /// Address space in bytes.
    pub memory_bytes: u64,
    /// Bytes of results.
    pub result_bytes_max: usize,
}

/// A program and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Python source.
    pub source: String,
    /// The function that is called.
    pub entry_point: String,
    /// Arguments, one item a call.
    pub inputs: Vec<Arguments>,
    /// Assert-style tests to run after the inputs.
    pub check: Option<Check>,
}

/// How the calls of one run are made, where they are not made plainly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallRule {
    /// Seconds of CPU time after which a call is interrupted, or after three times as many on the
    /// clock: one a call, the last one for all that follow; none where empty. The program may
    /// thwart it; the limits of the run it cannot.
    pub call_s: Vec<f64>,
    /// A Python function of the result, applied before it is sent: `lambda value: ...`. Trusted,
    /// but it runs beside the program: what it makes is the program's word.
    pub convert: Option<String>,
    /// Items, or every eight characters of text, of the largest result that is sent whole; larger
    /// ones are sent as digests. 20,000 where there is none.
    pub items_max: Option<usize>,
}

/// Tests that call the program's function from another process. They see its values, built anew
/// from built-in types, and none of its objects; arguments are copied, so a test cannot see the
/// function change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Python source that the tests may use: trusted, and without the program.
    pub prelude: String,
    /// Python source that defines `check(candidate)`: trusted.
    pub test: String,
}

/// What one call gave.
#[derive(Clone, Debug, PartialEq)]
pub enum CallResult {
    /// It returned.
    Value(Value),
    /// It raised.
    Raised {
        /// Type of the exception.
        error: String,
        /// Its text.
        message: String,
        /// The line of the source that was being run, from 1.
        line: Option<u32>,
    },
}

/// How a program ended. What it says is the program's word: it may lie about its values, and
/// nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every input was tried, and the check passed if there was one; or whoever heard the results
    /// wanted no more.
    Finished,
    /// The check did not pass.
    CheckFailed {
        /// Type and text of what it raised, and the line of the test.
        reason: String,
    },
    /// The program could not be loaded.
    LoadError {
        /// Type of the exception.
        error: String,
        /// Its text.
        message: String,
        /// The line of the source, from 1.
        line: Option<u32>,
    },
    /// It ran out of time.
    TimedOut(Clock),
    /// It sent more than it may.
    OutputLimit,
    /// It ended before its driver did (`os._exit`, a fatal signal).
    Died,
    /// The sandbox or the test failed, not the program.
    Infrastructure {
        /// What failed.
        reason: String,
    },
}

/// Whose time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The program's own CPU time, or the deadline after it had run all the while: it would run out
    /// again.
    Cpu,
    /// The deadline, and the program had hardly run: it sleeps, and would again.
    Idle,
    /// The deadline: the machine may be busy.
    Wall,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    /// Results of the calls on the inputs, in order; fewer than the inputs if it ended early.
    pub calls: Vec<CallResult>,
    /// How it ended.
    pub end: End,
    /// What confined it.
    pub confinement: Vec<String>,
}
