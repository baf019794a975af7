//! Why a worker cannot be had, or what it said of a request.

use ra3::policy::PolicyError;

use crate::wire::{Answer, WireError};

/// Why a worker cannot be used (any more). It names the log, which has all that it said.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkerError {
    /// Its program cannot be started.
    #[error("cannot start the worker by `{command}`: {reason}")]
    Start {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
    /// Its files cannot be written.
    #[error("{0}")]
    Files(String),
    /// Its Python misses something.
    #[error("the worker cannot run: {0}")]
    Libraries(String),
    /// It speaks another protocol, or its files are not those of this program.
    #[error(
        "the worker is of another version of ra3 ({0}): remove its folder, it is written again"
    )]
    Version(String),
    /// It ended.
    #[error("the worker has ended{}: {output}", while_doing(.phase))]
    Ended {
        /// What it was doing.
        phase: String,
        /// The last of what it printed, and where that stands.
        output: String,
    },
    /// One of its ranks ended, or failed.
    #[error("rank {rank} of the worker {reason}; {output}")]
    Rank {
        /// Which.
        rank: u32,
        /// What became of it, and what it was doing.
        reason: String,
        /// The last of what it printed, and where that stands.
        output: String,
    },
    /// It did not answer in time.
    #[error(
        "the worker has not answered for {deadline_s} seconds{} and was ended; {output}",
        while_doing(.phase)
    )]
    Deadline {
        /// The time that it had.
        deadline_s: u64,
        /// What it said last that it was doing.
        phase: String,
        /// The last of what it printed, and where that stands.
        output: String,
    },
    /// It said something that cannot be.
    #[error("the worker was ended, for {reason}; {output}")]
    Nonsense {
        /// What.
        reason: String,
        /// The last of what it printed, and where that stands.
        output: String,
    },
    /// A request could not be done; the worker goes on.
    #[error("the worker: {0}")]
    Request(String),
}

fn while_doing(phase: &str) -> String {
    if phase.is_empty() {
        String::new()
    } else {
        format!(" (it was at: {phase})")
    }
}

/// What a request came to, if not to an answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no worker any more.
    Worker(WorkerError),
    /// The policy's error.
    Policy(PolicyError),
    /// It could not be done.
    Request(String),
}

/// The code of an error that is the end of a worker.
const RANK: u32 = 7;

impl Refusal {
    /// Of an error frame: a code, numbers, a text.
    pub(crate) fn read(mut answer: Answer) -> Result<Self, WireError> {
        let [code] = answer.exactly::<u32, 1>()?;
        let values = answer.numbers::<f64>()?;
        let text = answer.text()?;
        let value = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let count = |index: usize| value(index) as usize;
        // Of several ranks it says which.
        let of_rank = |error: PolicyError| {
            let reason = format!("{text}: {error}");
            Self::Policy(if text.is_empty() {
                error
            } else {
                PolicyError::Engine { reason }
            })
        };
        Ok(match code {
            1 => of_rank(PolicyError::NonFiniteLoss { value: value(0) }),
            2 => of_rank(PolicyError::NonFiniteGradient { value: value(0) }),
            3 => Self::Policy(PolicyError::NotANumber),
            4 => Self::Policy(PolicyError::CacheTooSmall {
                n_tokens: count(0),
                n_tokens_max: count(1),
                n_bytes: count(2),
            }),
            RANK => {
                return Err(WireError::Rank {
                    rank: value(0) as u32,
                    reason: text,
                });
            }
            _ => Self::Request(text),
        })
    }
}

impl From<Refusal> for WorkerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Worker(error) => error,
            Refusal::Policy(error) => Self::Request(error.to_string()),
            Refusal::Request(text) => Self::Request(text),
        }
    }
}

impl From<Refusal> for PolicyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Policy(error) => error,
            Refusal::Worker(_) | Refusal::Request(_) => Self::Engine {
                reason: WorkerError::from(refusal).to_string(),
            },
        }
    }
}
