//! One program's run: its process, the checker's beside it where there are assert-style tests, and
//! the relay between the two.
//!
//! The checker asks, the candidate answers, and each value that passes is parsed, checked and
//! written anew here: nothing of the candidate's making reaches the checker. Whatever comes over
//! the candidate's channel is its word: a program that writes there itself can only send other
//! values, and values are its own to choose. What makes no sense ends the run.

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::marshal::{self, EncodedValue, Writer};
use crate::process::{Event, FirstLine, Process, next_event};
use crate::program::{CallResult, CallRule, Clock, End, Limits, Program, RunResult};
use crate::value::Value;

const CANDIDATE: usize = 0;
const CHECKER: usize = 1;
/// Characters of an exception's text that are kept.
const WORDS_CHARS: usize = 300;
/// Where so many results are still to come, they are gathered.
const N_GATHERED: usize = 16;

/// The result of a call as it came; a plain one is read only where somebody looks into it.
#[derive(Debug)]
pub struct Response<'a>(Content<'a>);

#[derive(Debug)]
enum Content<'a> {
    Encoded(&'a [u8]),
    Other(CallResult),
}

impl Response<'_> {
    /// True if it is this value and of the same types; false says nothing.
    pub fn is(&self, expected: &EncodedValue) -> bool {
        matches!(self.0, Content::Encoded(bytes) if expected.is(bytes))
    }

    /// Reads it.
    pub fn into_result(self) -> CallResult {
        match self.0 {
            Content::Encoded(bytes) => {
                let other = || Value::Opaque("too deep, or no plain value".to_owned());
                CallResult::Value(marshal::read(bytes).unwrap_or_else(other))
            }
            Content::Other(result) => result,
        }
    }
}

/// Takes the result of each call on the inputs as it comes, and says whether to go on.
pub type OnResponse<'a> = dyn FnMut(Response<'_>) -> ControlFlow<()> + 'a;

/// The state of a run.
pub(crate) struct Session<'a> {
    program: &'a Program,
    rule: &'a CallRule,
    limits: Limits,
    n_received: usize,
    /// Values that a test has asked for.
    n_asked: usize,
    /// Values that a test has seen.
    n_replies: usize,
    on_response: &'a mut OnResponse<'a>,
    /// The candidate, and the checker where there is a check.
    processes: Vec<Process<'a>>,
    began: Instant,
    confinement: Vec<String>,
}

/// An exception as a driver sends it.
#[derive(Debug, Deserialize)]
struct Failure {
    stage: Stage,
    error: String,
    message: String,
    line: Option<u32>,
    /// The line of the test.
    #[serde(default)]
    source: String,
}

/// Where something raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Load,
    Call,
    Check,
}

impl<'a> Session<'a> {
    /// Starts on processes that have been started and told nothing yet.
    pub(crate) fn new(
        program: &'a Program,
        rule: &'a CallRule,
        limits: Limits,
        processes: Vec<Process<'a>>,
        on_response: &'a mut OnResponse<'a>,
    ) -> Self {
        Self {
            program,
            rule,
            limits,
            n_received: 0,
            n_asked: 0,
            n_replies: 0,
            on_response,
            processes,
            began: Instant::now(),
            confinement: Vec::new(),
        }
    }

    /// Runs to the end; the processes are dead afterwards. The calls are `on_response`'s.
    pub(crate) fn run(mut self) -> std::io::Result<RunResult> {
        self.brief();
        let deadline = self.began + Duration::from_secs_f64(self.limits.wall_s);
        let cap = self.limits.result_bytes_max;
        let end = loop {
            let is_alone = self.processes.len() == 1;
            let gathers = is_alone && self.n_received + N_GATHERED < self.program.inputs.len();
            let end = match next_event(&mut self.processes, cap, deadline, gathers)? {
                Event::Begun { from, line } => self.begin(from, line),
                Event::Frame {
                    from: CANDIDATE,
                    mark,
                    content,
                } => self.candidate_frame(mark, content)?,
                Event::Frame { mark, content, .. } => self.checker_frame(mark, content)?,
                Event::Closed { from } => Some(self.end_of_closed(from)?),
                Event::Flooded => Some(End::OutputLimit),
                Event::Deadline if self.processes[CANDIDATE].has_begun() => {
                    let exit = self.processes[CANDIDATE].end()?;
                    Some(End::TimedOut(exit.clock(self.limits.wall_s)))
                }
                Event::Deadline => Some(infrastructure("the program did not start in time")),
            };
            if let Some(end) = end {
                break end;
            }
        };
        Ok(RunResult {
            calls: Vec::new(),
            end,
            confinement: self.confinement,
        })
    }

    /// Tells both sides what to do.
    fn brief(&mut self) {
        self.processes[CANDIDATE].send(&request(self.program, self.rule));
        match &self.program.check {
            None => self.processes[CANDIDATE].close_input(),
            Some(check) => {
                let mut request = Writer::default();
                request.dictionary();
                for (key, text) in [
                    ("prelude", &check.prelude),
                    ("test", &check.test),
                    ("entry_point", &self.program.entry_point),
                ] {
                    request.text(key);
                    request.text(text);
                }
                request.end_of_dictionary();
                self.processes[CHECKER].send(&request.finish());
            }
        }
    }

    fn begin(&mut self, from: usize, line: FirstLine) -> Option<End> {
        if let Some(reason) = line.refused {
            return Some(infrastructure(&reason));
        }
        if from == CANDIDATE {
            self.confinement = line.confinement.unwrap_or_default();
        }
        None
    }

    /// Takes a frame of the candidate's in; the run's end if this is it.
    fn candidate_frame(&mut self, mark: u8, content: Range<usize>) -> std::io::Result<Option<End>> {
        let content = self.processes[CANDIDATE].content(content);
        let response = match mark {
            b'p' => Some(Content::Encoded(content)),
            b'v' => Value::of_driver(content).map(|value| Content::Other(CallResult::Value(value))),
            b'r' => match serde_json::from_slice(content) {
                Ok(failure) => match raised(&failure) {
                    Ok(raised) => Some(Content::Other(raised)),
                    Err(end) => return Ok(Some(end)),
                },
                Err(_) => None,
            },
            // With a check it is the checker that ends a run.
            b'f' if self.program.check.is_none() => return Ok(Some(End::Finished)),
            _ => None,
        };
        let Some(response) = response.map(Response) else {
            return self.end_of_closed(CANDIDATE).map(Some);
        };
        if self.n_received < self.program.inputs.len() {
            self.n_received += 1;
            let wants_more = (self.on_response)(response).is_continue();
            return Ok((!wants_more).then_some(End::Finished));
        }
        let reply = reply(&response.into_result());
        if self.n_replies == self.n_asked {
            // Nobody asked.
            return self.end_of_closed(CANDIDATE).map(Some);
        }
        if let Some(checker) = self.processes.get_mut(CHECKER) {
            self.n_replies += 1;
            checker.send(&reply);
        }
        Ok(None)
    }

    fn checker_frame(&mut self, mark: u8, content: Range<usize>) -> std::io::Result<Option<End>> {
        let content = self.processes[CHECKER].content(content);
        match mark {
            b'u' => {
                let reason: String = serde_json::from_slice(content).unwrap_or_default();
                Ok(Some(self.unfit(&reason)))
            }
            b'c' => Ok(Some(End::Finished)),
            b'r' => {
                let failure: Failure = serde_json::from_slice(content)?;
                let (error, text, source) = (failure.error, failure.message, failure.source);
                let reason = format!("{error}: {text} at {source}");
                Ok(Some(End::CheckFailed { reason }))
            }
            _ => {
                let question: Value = serde_json::from_slice(content)?;
                // Arguments by place, and by name.
                if question.has_opaque() {
                    let reason = "the test passes an argument that is not of a built-in type";
                    return Ok(Some(self.unfit(reason)));
                }
                self.n_asked += 1;
                let mut message = Writer::default();
                message.value(&question);
                self.processes[CANDIDATE].send(&message.finish());
                Ok(None)
            }
        }
    }

    /// A test that cannot be run is at fault itself, unless a value of the program's may be why.
    fn unfit(&self, reason: &str) -> End {
        if self.n_replies == 0 {
            infrastructure(reason)
        } else {
            End::CheckFailed {
                reason: reason.to_owned(),
            }
        }
    }

    /// A side closed its channel before the run's end, or broke it.
    fn end_of_closed(&mut self, from: usize) -> std::io::Result<End> {
        if !self.processes[from].has_begun() {
            return Ok(infrastructure("the process ended without a word"));
        }
        let exit = self.processes[from].end()?;
        Ok(if exit.has_used_up(self.limits.cpu_s) {
            End::TimedOut(Clock::Cpu)
        } else {
            End::Died
        })
    }
}

/// What the candidate's driver is told first.
fn request(program: &Program, rule: &CallRule) -> Vec<u8> {
    let mut request = Writer::default();
    request.dictionary();
    request.text("source");
    request.text(&program.source);
    request.text("entry_point");
    request.text(&program.entry_point);
    request.text("inputs");
    request.list(program.inputs.len());
    let inputs = program.inputs.iter();
    inputs.for_each(|arguments| request.bytes(arguments.bytes()));
    request.text("call_s");
    request.list(rule.call_s.len());
    rule.call_s.iter().for_each(|limit| request.float(*limit));
    request.text("convert");
    match &rule.convert {
        Some(convert) => request.text(convert),
        None => request.none(),
    }
    request.text("items_max");
    match rule.items_max {
        Some(n_items) => request.int(n_items as i64),
        None => request.none(),
    }
    request.end_of_dictionary();
    request.finish()
}

/// What a call raised; the run's end where that was while loading.
fn raised(failure: &Failure) -> Result<CallResult, End> {
    let (error, message) = (shown(&failure.error), shown(&failure.message));
    let line = failure.line;
    match failure.stage {
        Stage::Load => Err(End::LoadError {
            error,
            message,
            line,
        }),
        Stage::Call | Stage::Check => Ok(CallResult::Raised {
            error,
            message,
            line,
        }),
    }
}

fn infrastructure(reason: &str) -> End {
    End::Infrastructure {
        reason: reason.to_owned(),
    }
}

/// False for what a terminal obeys or hides: controls, breaks of lines, and the characters of
/// format that turn the direction of text or have no width.
pub fn is_visible(character: char) -> bool {
    !character.is_control()
        && !matches!(u32::from(character),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
            | 0xe0001 | 0xe0020..=0xe007f)
}

/// A program's words as a terminal and a file of results can take them.
fn shown(text: &str) -> String {
    let escaped = text.chars().take(WORDS_CHARS).flat_map(|character| {
        let is_plain = is_visible(character);
        let plain = is_plain.then_some(character);
        let escaped = (!is_plain).then(|| character.escape_default());
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    escaped.collect()
}

/// What the checker gets to see of a call.
fn reply(call: &CallResult) -> Vec<u8> {
    let mut reply = Writer::default();
    let opaque = |reply: &mut Writer, name: &str| {
        reply.tuple(2);
        reply.text("opaque");
        reply.text(name);
    };
    match call {
        CallResult::Value(Value::Opaque(name)) => opaque(&mut reply, name),
        CallResult::Value(value) if value.has_opaque() => opaque(&mut reply, "something else"),
        CallResult::Value(value) => {
            reply.tuple(2);
            reply.text("value");
            reply.value(value);
        }
        CallResult::Raised { error, message, .. } => {
            reply.tuple(3);
            reply.text("raised");
            reply.text(error);
            reply.text(message);
        }
    }
    reply.finish()
}
