//! A bounded pool: threads that each run one program at a time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::interpreter::{Interpreter, Role};
use crate::marshal::Arguments;
use crate::process::Process;
use crate::program::{CallResult, CallRule, Clock, End, Level, Limits, Program, RunResult};
use crate::script::{self, Script, ScriptEnd, ScriptResult};
use crate::session::{OnResponse, Response, Session};
use crate::value::Value;
use crate::zygote::Zygotes;

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
    /// A trial program did not end as it should: what the level requires does not hold, or the
    /// helper is not one.
    #[error(
        "cannot run a trial program: {0} (the level `require` needs seccomp and landlock; \
         `best_effort` takes what there is)"
    )]
    Trial(String),
}

/// A bounded pool of processes.
#[derive(Debug)]
pub struct Pool {
    zygotes: Zygotes,
    python_version: String,
    n_workers: usize,
    limits: Limits,
    /// What confines programs here.
    pub confinement: Vec<String>,
}

impl Pool {
    /// Finds the interpreter and tries the confinement once. The current program must call
    /// [`crate::helper_main_if_requested`] before anything else.
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
        let interpreter = Interpreter::find("python3")?;
        let mut pool = Self {
            zygotes: Zygotes::new(helper, &interpreter, level),
            python_version: interpreter.version,
            n_workers: n_workers.max(1),
            limits,
            confinement: Vec::new(),
        };
        let result = pool.run(&Program {
            source: "def one():\n    return 1\n".to_owned(),
            entry_point: "one".to_owned(),
            inputs: vec![Arguments::of(&[])],
            check: None,
        });
        if result.calls != [CallResult::Value(Value::Int("1".to_owned()))] {
            let reason = match result.end {
                End::Infrastructure { reason } => reason,
                other => format!("{other:?}"),
            };
            return Err(SandboxError::Trial(reason));
        }
        pool.confinement = result.confinement;
        Ok(pool)
    }

    /// The limits that hold where a run brings none of its own.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The interpreter's version, such as `3.11.7`.
    pub fn python_version(&self) -> &str {
        &self.python_version
    }

    /// Runs all programs; results are in their order. `on_done` hears of each as it ends.
    pub fn run_all(&self, programs: &[Program], on_done: &mut dyn FnMut(usize)) -> Vec<RunResult> {
        let mut results = self.map(programs, |program| self.run(program), on_done);
        // A busy machine is no reason to fail: what missed a deadline runs once more, alone.
        for (program, result) in programs.iter().zip(&mut results) {
            let is_chance = match result.end {
                End::TimedOut(Clock::Wall) | End::Infrastructure { .. } => true,
                End::Finished
                | End::CheckFailed { .. }
                | End::LoadError { .. }
                | End::TimedOut(Clock::Cpu | Clock::Idle)
                | End::OutputLimit
                | End::Died => false,
            };
            if is_chance && self.n_workers > 1 {
                *result = self.run(program);
            }
        }
        results
    }

    /// Does work on every item, on as many threads as there are workers; in the items' order.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
        on_done: &mut dyn FnMut(usize),
    ) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for _ in 0..self.n_workers.min(items.len()) {
                let (sender, next, results, work) = (sender.clone(), &next, &results, &work);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(index) else {
                            break;
                        };
                        let result = work(item);
                        *results[index].lock().expect("no worker panics") = Some(result);
                        // The receiver outlives the workers.
                        let _ = sender.send(index);
                    }
                });
            }
            drop(sender);
            receiver.iter().for_each(&mut *on_done);
        });
        let take = |slot: Mutex<Option<R>>| {
            let result = slot.into_inner().expect("no worker panics");
            result.expect("all was done")
        };
        results.into_iter().map(take).collect()
    }

    /// Runs one program.
    pub fn run(&self, program: &Program) -> RunResult {
        self.run_with(program, self.limits)
    }

    /// Runs one program within limits of its own.
    pub fn run_with(&self, program: &Program, limits: Limits) -> RunResult {
        let mut calls = Vec::new();
        let mut on_response = |response: Response<'_>| {
            calls.push(response.into_result());
            ControlFlow::Continue(())
        };
        let rule = CallRule::default();
        let result = self.run_each(program, &rule, limits, &mut on_response);
        RunResult { calls, ..result }
    }

    /// Runs one program within limits of its own, and hands each result to `on_response` as it
    /// comes; the run ends where that wants no more. The result holds no calls.
    pub fn run_each<'a>(
        &'a self,
        program: &'a Program,
        rule: &'a CallRule,
        limits: Limits,
        on_response: &'a mut OnResponse<'a>,
    ) -> RunResult {
        self.start(program, limits)
            .and_then(|processes| Session::new(program, rule, limits, processes, on_response).run())
            .unwrap_or_else(|error| RunResult {
                calls: Vec::new(),
                end: End::Infrastructure {
                    reason: error.to_string(),
                },
                confinement: Vec::new(),
            })
    }

    /// Runs a whole program with standard streams of its own.
    pub fn run_script(&self, script: &Script, limits: Limits) -> ScriptResult {
        script::run(&self.zygotes, script, limits).unwrap_or_else(|error| ScriptResult {
            stdout: Vec::new(),
            written: None,
            error: String::new(),
            end: ScriptEnd::Infrastructure {
                reason: error.to_string(),
            },
            confinement: Vec::new(),
        })
    }

    fn start(&self, program: &Program, limits: Limits) -> std::io::Result<Vec<Process<'_>>> {
        let checker = program.check.as_ref().map(|_| Role::Checker);
        [Role::Candidate]
            .into_iter()
            .chain(checker)
            .map(|role| Process::start(&self.zygotes, role, limits))
            .collect()
    }
}
