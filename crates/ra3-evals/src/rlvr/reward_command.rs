//! A reward that a command of the user's gives, in whatever language: it is started once, and
//! answers one line of JSON with one.
//!
//! For each program an object comes to its standard input, in UTF-8:
//!
//! ```json
//! {"task_id": "mbpp/602", "prompt": "…", "program": "…", "latents": ["first rationale", "…"],
//!  "verdict": {"passed": false, "plus": null, "base": {
//!     "status": "fail", "kind": "wrong_answer", "n_right": 2, "n_tests": 3,
//!     "failure": {"index": 2, "input": "…", "expected": "…", "got": "…"}}}}
//! ```
//!
//! (the names are those of [`crate::outcome`]; `failure` is the first test that failed, or null),
//! and before the next one is sent it writes a line: a number, which is the reward, or an object of
//! named numbers, its components. The reward is then the component named `reward` if there is one,
//! and the sum of all otherwise. In Python:
//!
//! ```python
//! import json, sys
//! for line in sys.stdin:
//!     program = json.loads(line)
//!     solved = float(program["verdict"]["passed"])
//!     length = -0.001 * len(program["program"])
//!     print(json.dumps({"solved": solved, "length": length}), flush=True)
//! ```
//!
//! What it writes to standard error is shown where it fails. It is trusted, and runs without any
//! sandbox. Where it is late or says what was not asked it is killed, with all processes of its
//! group, and so it is when the [`RewardCommand`] is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::line_process::{LineProcess, NoAnswer};
use crate::outcome::{Part, Verdict};

/// Characters of an answer, and of the command, that an error shows.
const SHOWN_CHARS: usize = 200;

/// A program that a command is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The problem.
    pub task_id: &'a str,
    /// What was asked.
    pub prompt: &'a str,
    /// The program that ran.
    pub program: &'a str,
    /// The rationales that were written with it, in their order.
    pub latents: &'a [String],
    /// How it did on its tests.
    pub verdict: &'a Verdict,
}

/// What a program earns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reward {
    /// The reward, finite in 32 bits too.
    pub total: f64,
    /// All that was named, a `reward` too; empty where the answer was a number.
    pub components: BTreeMap<String, f64>,
}

/// Why there is no reward.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// The command cannot be started.
    #[error(
        "the reward command {command:?} cannot be started from {directory}: name an executable \
         file, or one on PATH"
    )]
    Start {
        /// What was to run.
        command: String,
        /// Where.
        directory: PathBuf,
        /// Why it does not.
        source: std::io::Error,
    },
    /// It ended while it was asked.
    #[error(
        "the reward command {command:?} ended ({status}) where it was asked about a program for \
         {task_id}; standard error: {last_words:?}"
    )]
    Ended {
        /// The command.
        command: String,
        /// The problem.
        task_id: String,
        /// How it ended.
        status: String,
        /// The last lines of its standard error.
        last_words: String,
    },
    /// It took too long.
    #[error(
        "the reward command {command:?} wrote no whole line within {deadline:?} about a program \
         for {task_id} ({said:?} so far); give it longer, or flush after each line; standard \
         error: {last_words:?}"
    )]
    Late {
        /// The command.
        command: String,
        /// The problem.
        task_id: String,
        /// What it was given.
        deadline: Duration,
        /// The beginning of a line.
        said: String,
        /// The last lines of its standard error.
        last_words: String,
    },
    /// What it said is no reward.
    #[error(
        "the reward command {command:?} said {said:?} about a program for {task_id}: {reason}; \
         write one line of JSON a program, a number or an object of named numbers"
    )]
    Answer {
        /// The command.
        command: String,
        /// The problem.
        task_id: String,
        /// The beginning of what it said.
        said: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to pass something on.
    #[error("the reward command {0:?} cannot be talked to")]
    Broken(String, #[source] std::io::Error),
}

/// A command that gives rewards, kept alive.
#[derive(Debug)]
pub struct RewardCommand {
    /// Its beginning, for errors.
    name: String,
    deadline: Duration,
    process: LineProcess,
}

impl RewardCommand {
    /// Starts a program with its arguments, no shell between, in a directory from which relative
    /// paths go. Each answer has to come within the deadline; the first one's has the start in it.
    ///
    /// # Errors
    /// There is no such program, or it may not be run.
    pub fn start(
        command: &[String],
        directory: &Path,
        deadline: Duration,
    ) -> Result<Self, RewardError> {
        let name = shown(command.join(" ").as_bytes());
        let start = || {
            let (program, arguments) = command
                .split_first()
                .ok_or_else(|| std::io::Error::other("it names no program"))?;
            LineProcess::start(
                Command::new(program)
                    .args(arguments)
                    .current_dir(directory)
                    // Python would keep what it prints until it has more of it.
                    .env("PYTHONUNBUFFERED", "1"),
            )
        };
        match start() {
            Ok(process) => Ok(Self {
                name,
                deadline,
                process,
            }),
            Err(source) => Err(RewardError::Start {
                command: name,
                directory: directory.to_owned(),
                source,
            }),
        }
    }

    /// What each program earns, in their order.
    ///
    /// # Errors
    /// The command ended, was late, or said what is no reward. It may be over then.
    pub fn rewards(&mut self, items: &[Item<'_>]) -> Result<Vec<Reward>, RewardError> {
        items.iter().map(|item| self.reward(item)).collect()
    }

    fn reward(&mut self, item: &Item<'_>) -> Result<Reward, RewardError> {
        let line = format!("{}\n", question(item));
        let answer = self.process.ask(line.as_bytes(), self.deadline);
        let answer = answer.map_err(|silence| self.failure(item, silence))?;
        reward(&answer).map_err(|reason| self.refusal(item, &answer, reason))
    }

    fn failure(&self, item: &Item<'_>, silence: NoAnswer) -> RewardError {
        let (command, task_id) = (self.name.clone(), item.task_id.to_owned());
        let last_words = self.process.last_words();
        match silence {
            NoAnswer::Ended => RewardError::Ended {
                command,
                task_id,
                status: self.process.end_text().to_owned(),
                last_words,
            },
            NoAnswer::Late => RewardError::Late {
                command,
                task_id,
                deadline: self.deadline,
                said: shown(self.process.said()),
                last_words,
            },
            NoAnswer::Flooded(reason) => self.refusal(item, self.process.said(), reason.to_owned()),
            NoAnswer::Broken(source) => RewardError::Broken(command, source),
        }
    }

    fn refusal(&self, item: &Item<'_>, said: &[u8], reason: String) -> RewardError {
        RewardError::Answer {
            command: self.name.clone(),
            task_id: item.task_id.to_owned(),
            said: shown(said),
            reason,
        }
    }
}

/// What a command is asked.
fn question(item: &Item<'_>) -> Value {
    let Verdict { base, plus } = item.verdict;
    json!({
        "task_id": item.task_id,
        "prompt": item.prompt,
        "program": item.program,
        "latents": item.latents,
        "verdict": {
            "passed": item.verdict.is_passed(),
            "base": part(base),
            "plus": plus.as_ref().map(part),
        },
    })
}

fn part(part: &Part) -> Value {
    let failure = part.failure.as_ref().map(|failure| {
        json!({
            "index": failure.index,
            "input": failure.input,
            "expected": failure.expected,
            "got": failure.got,
        })
    });
    json!({
        "status": part.status.name(),
        "kind": part.kind.name(),
        "n_right": part.n_right,
        "n_tests": part.n_tests,
        "failure": failure,
    })
}

/// The reward that an answer says, or what is wrong with it.
fn reward(answer: &[u8]) -> Result<Reward, String> {
    let value: Value = serde_json::from_slice(answer)
        .map_err(|error| format!("it cannot be read as JSON ({error})"))?;
    let reward = match &value {
        Value::Number(_) => Reward {
            total: number(&value)?,
            components: BTreeMap::new(),
        },
        Value::Object(components) => {
            let component = |(name, value): (&String, &Value)| {
                let value = number(value).map_err(|reason| format!("{name}: {reason}"))?;
                Ok((name.clone(), value))
            };
            let components = components.iter().map(component);
            let components: BTreeMap<String, f64> = components.collect::<Result<_, String>>()?;
            if components.is_empty() {
                return Err("it names no component".to_owned());
            }
            let sum = || components.values().sum();
            Reward {
                total: components.get("reward").copied().unwrap_or_else(sum),
                components,
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {
            return Err("it is neither a number nor an object".to_owned());
        }
    };
    // Rewards are learnt from in 32 bits.
    let is_finite = (reward.total as f32).is_finite();
    let too_large = || format!("a reward of {} is out of range", reward.total);
    if is_finite {
        Ok(reward)
    } else {
        Err(too_large())
    }
}

fn number(value: &Value) -> Result<f64, String> {
    value
        .as_f64()
        .ok_or_else(|| format!("{value} is no number"))
}

/// The beginning of a text.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .take(SHOWN_CHARS)
        .collect()
}
