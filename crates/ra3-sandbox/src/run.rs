//! Running programs: one process each, a bounded pool of them, a deadline from outside.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::confine::{HELPER_ARGUMENT, Request};
use crate::value::Value;

/// What must hold of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The function that is called; empty if there is only a check.
    pub entry_point: String,
    /// Argument tuples as Python literals, one a call.
    pub inputs: Vec<String>,
    /// Python source that is run afterwards in the program's own names (assert-style tests). It
    /// runs where the program can reach it; prefer inputs.
    pub check: Option<String>,
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
    },
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The driver came to its end.
    Finished {
        /// True if there was a check and it passed.
        checked: bool,
        /// What the check raised, if it did not pass.
        check_error: Option<String>,
    },
    /// The program could not be loaded.
    LoadError {
        /// Type of the exception.
        error: String,
        /// Its text.
        message: String,
    },
    /// It ran out of CPU or wall time.
    TimedOut,
    /// It sent more than it may.
    OutputLimit,
    /// It ended before its driver did (`os._exit`, a fatal signal, memory).
    Died,
    /// The sandbox failed, not the program.
    Infrastructure {
        /// What failed.
        reason: String,
    },
}

/// What a program did.
#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    /// Results of the calls, in order; shorter than the inputs if it ended early.
    pub calls: Vec<CallResult>,
    /// How it ended.
    pub end: End,
    /// What confined it.
    pub confinement: Vec<String>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This program cannot find itself.
    #[error("cannot find the program to start as a helper")]
    Helper(#[source] std::io::Error),
    /// There is no Python.
    #[error("cannot run {python}: {reason}; install Python 3 or put it on the PATH")]
    Python {
        /// The interpreter.
        python: String,
        /// Why.
        reason: String,
    },
    /// The kernel does not offer what the level requires.
    #[error("the sandbox level `require` needs seccomp and landlock, and here holds only {held}")]
    Confinement {
        /// What holds.
        held: String,
    },
}

/// A bounded pool of processes.
#[derive(Debug)]
pub struct Pool {
    helper: PathBuf,
    request: String,
    n_workers: usize,
    limits: Limits,
    /// What confines programs here.
    pub confinement: Vec<String>,
}

static N_NONCES: AtomicU64 = AtomicU64::new(0);

impl Pool {
    /// Finds the interpreter and tries the confinement once.
    ///
    /// # Errors
    /// There is no Python, or less holds than the level requires.
    pub fn new(n_workers: usize, limits: Limits, level: Level) -> Result<Self, SandboxError> {
        let helper = std::env::current_exe().map_err(SandboxError::Helper)?;
        Self::with_helper(helper, n_workers, limits, level)
    }

    /// [`Self::new`] with another program as the helper.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_helper(
        helper: PathBuf,
        n_workers: usize,
        limits: Limits,
        level: Level,
    ) -> Result<Self, SandboxError> {
        let (python, prefixes) = interpreter("python3")?;
        let request = Request {
            python,
            prefixes,
            cpu_s: limits.cpu_s + 1,
            memory_bytes: limits.memory_bytes,
            confined: level != Level::Off,
        };
        let request = serde_json::to_string(&request).expect("a request has only plain fields");
        let mut pool = Self {
            helper,
            request,
            n_workers: n_workers.max(1),
            limits,
            confinement: Vec::new(),
        };
        let probe = Program {
            source: "def one():\n    return 1\n".to_owned(),
            entry_point: "one".to_owned(),
            inputs: vec!["()".to_owned()],
            check: None,
        };
        let result = pool.run(&probe);
        if result.calls != [CallResult::Value(Value::Int("1".to_owned()))] {
            let reason = format!("a trial program ended with {:?}", result.end);
            return Err(SandboxError::Python {
                python: "python3".to_owned(),
                reason,
            });
        }
        pool.confinement = result.confinement;
        let holds = |name: &str| pool.confinement.iter().any(|held| held == name);
        if level == Level::Require && !(holds("seccomp") && holds("landlock")) {
            return Err(SandboxError::Confinement {
                held: pool.confinement.join(", "),
            });
        }
        Ok(pool)
    }

    /// Runs all programs; results are in their order. `on_done` hears of each as it ends.
    pub fn run_all(&self, programs: &[Program], on_done: &mut dyn FnMut(usize)) -> Vec<RunResult> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<RunResult>>> =
            programs.iter().map(|_| Mutex::new(None)).collect();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for _ in 0..self.n_workers.min(programs.len()) {
                let (sender, next, results) = (sender.clone(), &next, &results);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(program) = programs.get(index) else {
                            break;
                        };
                        let result = self.run(program);
                        *results[index].lock().expect("no worker panics") = Some(result);
                        // The receiver outlives the workers.
                        let _ = sender.send(index);
                    }
                });
            }
            drop(sender);
            receiver.iter().for_each(&mut *on_done);
        });
        let mut results: Vec<RunResult> = results
            .into_iter()
            .map(|slot| {
                slot.into_inner()
                    .expect("no worker panics")
                    .expect("all were run")
            })
            .collect();
        // A busy machine is no reason to fail: what ran out of time runs once more, alone.
        for (program, result) in programs.iter().zip(&mut results) {
            if result.end == End::TimedOut && self.n_workers > 1 {
                *result = self.run(program);
            }
        }
        results
    }

    /// Runs one program.
    pub fn run(&self, program: &Program) -> RunResult {
        let nonce = format!(
            "{:x}-{}",
            std::process::id(),
            N_NONCES.fetch_add(1, Ordering::Relaxed)
        );
        let message = serde_json::json!({
            "nonce": nonce,
            "source": program.source,
            "entry_point": program.entry_point,
            "inputs": program.inputs,
            "check": program.check,
        });
        match self.converse(&message.to_string()) {
            Ok((output, ended_in_time)) => self.interpret(&output, &nonce, ended_in_time),
            Err(error) => {
                let end = End::Infrastructure {
                    reason: error.to_string(),
                };
                RunResult {
                    calls: Vec::new(),
                    end,
                    confinement: Vec::new(),
                }
            }
        }
    }

    /// Sends a request and reads what comes back until the deadline.
    fn converse(&self, message: &str) -> std::io::Result<(Vec<u8>, bool)> {
        let mut child = Command::new(&self.helper)
            .args([HELPER_ARGUMENT, &self.request])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it was piped");
        let mut stdout = child.stdout.take().expect("it was piped");
        let written = stdin.write_all(message.as_bytes());
        drop(stdin);
        let cap = self.limits.result_bytes_max;
        let (sender, receiver) = channel();
        let reader = std::thread::spawn(move || {
            let mut output = Vec::new();
            let mut part = vec![0u8; 1 << 16];
            while let Ok(n) = stdout.read(&mut part) {
                if n == 0 || output.len() > cap {
                    break;
                }
                output.extend_from_slice(&part[..n]);
            }
            let _ = sender.send(output);
        });
        let deadline = Duration::from_secs_f64(self.limits.wall_s);
        // A process that its CPU limit killed has run at least that long.
        let cpu = Duration::from_secs(self.limits.cpu_s).min(deadline);
        let began = Instant::now();
        let received = receiver.recv_timeout(deadline);
        end_of(&mut child);
        let output = match received {
            Ok(output) => (output, began.elapsed() < cpu),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                // The group is dead, so the pipe is closed and the reader ends.
                (receiver.recv().unwrap_or_default(), false)
            }
        };
        let _ = reader.join();
        written.map(|()| output)
    }

    fn interpret(&self, output: &[u8], nonce: &str, ended_in_time: bool) -> RunResult {
        let mut result = RunResult {
            calls: Vec::new(),
            end: End::Died,
            confinement: Vec::new(),
        };
        let (mut checked, mut check_error, mut has_begun) = (false, None, false);
        for line in output.split(|byte| *byte == b'\n') {
            let Ok(message) = serde_json::from_slice::<Message>(line) else {
                continue;
            };
            if message.nonce != nonce {
                continue;
            }
            has_begun = true;
            let raised = message
                .error
                .map(|error| (error, message.text.unwrap_or_default()));
            match (
                message.call,
                message.value,
                message.stage.as_deref(),
                raised,
            ) {
                (Some(index), Some(value), _, _) if index == result.calls.len() => {
                    result.calls.push(CallResult::Value(value));
                }
                (Some(index), None, _, Some((error, message))) if index == result.calls.len() => {
                    result.calls.push(CallResult::Raised { error, message });
                }
                (None, _, Some("load"), Some((error, message))) => {
                    result.end = End::LoadError { error, message };
                }
                (None, _, Some("check"), Some((error, message))) => {
                    check_error = Some(format!("{error}: {message}"));
                }
                _ => {}
            }
            checked |= message.checked == Some(true);
            if let Some(held) = message.confinement {
                result.confinement = held;
            }
            if message.finished == Some(true) {
                result.end = End::Finished {
                    checked,
                    check_error: check_error.clone(),
                };
            }
        }
        if result.end == End::Died {
            result.end = if output.len() > self.limits.result_bytes_max {
                End::OutputLimit
            } else if !ended_in_time {
                End::TimedOut
            } else if !has_begun {
                End::Infrastructure {
                    reason: "the helper did not start a program".to_owned(),
                }
            } else {
                End::Died
            };
        }
        result
    }
}

/// A line of the driver.
#[derive(Debug, Deserialize)]
struct Message {
    nonce: String,
    call: Option<usize>,
    value: Option<Value>,
    stage: Option<String>,
    error: Option<String>,
    #[serde(rename = "message")]
    text: Option<String>,
    checked: Option<bool>,
    finished: Option<bool>,
    confinement: Option<Vec<String>>,
}

/// Kills the helper's whole process group and reaps it.
fn end_of(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The interpreter's own path and the folders that it reads.
fn interpreter(name: &str) -> Result<(PathBuf, Vec<PathBuf>), SandboxError> {
    let fail = |reason: String| SandboxError::Python {
        python: name.to_owned(),
        reason,
    };
    let script = "import sys, sysconfig; print(sys.executable); print(sys.base_prefix); \
                  print(sysconfig.get_path('stdlib'))";
    let output = Command::new(name)
        .args(["-c", script])
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines().map(PathBuf::from);
    let python = lines.next().filter(|path| path.is_file());
    let python = python.ok_or_else(|| fail("it does not say where it is".to_owned()))?;
    Ok((
        python,
        lines.filter(|path| path.as_os_str() != "/").collect(),
    ))
}
