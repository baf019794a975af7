//! One program's run: its process, the checker's beside it where there are assert-style tests, and
//! the relay between the two.
//!
//! The checker asks, the candidate answers, and each value that passes is parsed, checked and
//! written anew as a Python literal here: nothing of the candidate's making reaches the checker.
//! The candidate's lines carry a nonce, which keeps strays out; a program that finds it can only
//! send other values, and values are its own to choose.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::marshal::{self, Arguments};
use crate::process::{News, Process, next_news};
use crate::program::{CallResult, CallRule, Clock, End, Limits, Program, RunResult};
use crate::value::Value;

/// Linux's number, the same on every architecture.
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;
const CANDIDATE: usize = 0;
const CHECKER: usize = 1;

/// Hears the result of each call on the inputs as it comes, and says whether to go on.
pub type Listener<'a> = dyn FnMut(CallResult) -> ControlFlow<()> + 'a;

/// The state of a run.
pub(crate) struct Session<'a> {
    program: &'a Program,
    rule: &'a CallRule,
    limits: Limits,
    nonce: String,
    n_heard: usize,
    listener: &'a mut Listener<'a>,
    /// The candidate, and the checker where there is a check.
    processes: Vec<Process>,
    has_begun: [bool; 2],
    began: Instant,
    confinement: Vec<String>,
}

/// A line of a driver, or of a helper that did not become one.
#[derive(Debug, Deserialize)]
struct Message {
    nonce: Option<String>,
    confinement: Option<Vec<String>>,
    value: Option<Value>,
    plain: Option<String>,
    ask: Option<Value>,
    stage: Option<Stage>,
    error: Option<String>,
    #[serde(rename = "message")]
    text: Option<String>,
    line: Option<u32>,
    source: Option<String>,
    #[serde(default)]
    checked: bool,
    #[serde(default)]
    finished: bool,
    unfit: Option<String>,
    refused: Option<String>,
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
        nonce: String,
        processes: Vec<Process>,
        listener: &'a mut Listener<'a>,
    ) -> Self {
        Self {
            program,
            rule,
            limits,
            nonce,
            n_heard: 0,
            listener,
            processes,
            has_begun: [false; 2],
            began: Instant::now(),
            confinement: Vec::new(),
        }
    }

    /// Runs to the end; the processes are dead afterwards. The calls are the listener's.
    pub(crate) fn run(mut self) -> std::io::Result<RunResult> {
        self.brief();
        let deadline = self.began + Duration::from_secs_f64(self.limits.wall_s);
        let end = loop {
            let cap = self.limits.result_bytes_max;
            let end = match next_news(&mut self.processes, cap, deadline)? {
                News::Line { from, line } => self.hear(from, &line),
                News::Closed { from } => Some(self.end_of_closed(from)),
                News::Flooded => Some(End::OutputLimit),
                News::Deadline if self.has_begun[CANDIDATE] => Some(End::TimedOut(Clock::Wall)),
                News::Deadline => Some(infrastructure("the helper did not start in time")),
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
        let inputs: Vec<&str> = self.program.inputs.iter().map(Arguments::hex).collect();
        let request = json!({
            "nonce": self.nonce,
            "source": self.program.source,
            "entry_point": self.program.entry_point,
            "inputs": inputs,
            "call_s": self.rule.call_s,
            "convert": self.rule.convert,
            "items_max": self.rule.items_max,
        });
        self.processes[CANDIDATE].send(&request.to_string());
        match &self.program.check {
            None => self.processes[CANDIDATE].close_input(),
            Some(check) => {
                let request = json!({
                    "nonce": self.nonce,
                    "prelude": check.prelude,
                    "test": check.test,
                    "entry_point": self.program.entry_point,
                });
                self.processes[CHECKER].send(&request.to_string());
            }
        }
    }

    /// Takes a line in; the run's end if this is it.
    fn hear(&mut self, from: usize, line: &[u8]) -> Option<End> {
        let message: Message = serde_json::from_slice(line).ok()?;
        let is_first = !std::mem::replace(&mut self.has_begun[from], true);
        if let Some(reason) = message.refused.as_ref().filter(|_| is_first) {
            return Some(infrastructure(reason));
        }
        if message.nonce.as_ref() != Some(&self.nonce) {
            return None;
        }
        if is_first && from == CANDIDATE {
            self.confinement = message.confinement.unwrap_or_default();
            return None;
        }
        match from {
            CANDIDATE => self.hear_candidate(message),
            _ => self.hear_checker(message),
        }
    }

    fn hear_candidate(&mut self, message: Message) -> Option<End> {
        if message.finished {
            // With a check it is the checker that ends a run.
            return self.program.check.is_none().then_some(End::Finished);
        }
        let raised = message.error.map(|error| CallResult::Raised {
            error,
            message: message.text.unwrap_or_default(),
            line: message.line,
        });
        let plain = message.plain.as_deref().and_then(marshal::read);
        let call = match (message.stage, message.value.or(plain), raised) {
            (
                Some(Stage::Load),
                _,
                Some(CallResult::Raised {
                    error,
                    message,
                    line,
                }),
            ) => {
                return Some(End::LoadError {
                    error,
                    message,
                    line,
                });
            }
            (_, Some(value), None) if value.is_well_formed() => CallResult::Value(value),
            (_, None, Some(raised)) => raised,
            _ => return None,
        };
        if self.n_heard < self.program.inputs.len() {
            self.n_heard += 1;
            return (self.listener)(call).is_break().then_some(End::Finished);
        } else if let Some(checker) = self.processes.get_mut(CHECKER) {
            checker.send(&reply(&call));
        }
        None
    }

    fn hear_checker(&mut self, message: Message) -> Option<End> {
        if let Some(reason) = message.unfit {
            return Some(infrastructure(&reason));
        }
        if message.checked {
            return Some(End::Finished);
        }
        if message.stage == Some(Stage::Check) {
            let error = message.error.unwrap_or_default();
            let text = message.text.unwrap_or_default();
            let source = message.source.unwrap_or_default();
            let reason = format!("{error}: {text} at {source}");
            return Some(End::CheckFailed { reason });
        }
        match message.ask {
            // Arguments by place, and by name.
            Some(Value::Tuple(arguments)) if !arguments.iter().any(Value::has_opaque) => {
                let arguments = Value::Tuple(arguments).to_python();
                self.processes[CANDIDATE].send(&arguments);
                None
            }
            Some(_) => Some(infrastructure(
                "the test passes an argument that is not of a built-in type",
            )),
            None => None,
        }
    }

    /// A side closed its channel before the run's end.
    fn end_of_closed(&mut self, from: usize) -> End {
        let signal = self.processes[from].end();
        let has_used_up = self.began.elapsed() >= Duration::from_secs(self.limits.cpu_s);
        if !self.has_begun[from] {
            return infrastructure("the helper ended without a word");
        }
        match signal {
            Some(SIGXCPU) => End::TimedOut(Clock::Cpu),
            // The second CPU limit's, unless it is ours.
            Some(SIGKILL) if has_used_up => End::TimedOut(Clock::Cpu),
            _ => End::Died,
        }
    }
}

fn infrastructure(reason: &str) -> End {
    End::Infrastructure {
        reason: reason.to_owned(),
    }
}

/// What the checker gets to see of a call.
fn reply(call: &CallResult) -> String {
    let reply = match call {
        CallResult::Value(Value::Opaque(name)) => json!({ "opaque": name }),
        CallResult::Value(value) if value.has_opaque() => json!({ "opaque": "something else" }),
        CallResult::Value(value) => json!({ "value": value.to_python() }),
        CallResult::Raised { error, message, .. } => json!({ "error": error, "message": message }),
    };
    reply.to_string()
}
