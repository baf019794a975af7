//! A bounded pool: threads that each run one program at a time.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::confine::{HELPER_ARGUMENT, Request, Role};
use crate::interpreter::Interpreter;
use crate::marshal::Arguments;
use crate::process::Process;
use crate::program::{CallResult, CallRule, Clock, End, Level, Limits, Program, RunResult};
use crate::script::{self, Script, ScriptEnd, ScriptResult, Workplace};
use crate::session::{Listener, Session};
use crate::value::Value;

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
        "cannot run a trial program: {reason} (the level `require` needs seccomp and landlock; \
         `best_effort` takes what there is)"
    )]
    Trial {
        /// How it ended.
        reason: String,
    },
}

/// A bounded pool of processes.
#[derive(Debug)]
pub struct Pool {
    helper: PathBuf,
    interpreter: Interpreter,
    level: Level,
    n_workers: usize,
    limits: Limits,
    /// What confines programs here.
    pub confinement: Vec<String>,
}

static N_NONCES: AtomicU64 = AtomicU64::new(0);

/// True if what holds is what [`Level::Require`] requires.
pub(crate) fn is_enough(held: &[&str]) -> bool {
    ["seccomp", "landlock"]
        .iter()
        .all(|name| held.contains(name))
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
            helper,
            interpreter,
            level,
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
            return Err(SandboxError::Trial { reason });
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
        &self.interpreter.version
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
                | End::TimedOut(Clock::Cpu)
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
        let mut listener = |call| {
            calls.push(call);
            ControlFlow::Continue(())
        };
        let rule = CallRule::default();
        let result = self.run_heard(program, &rule, limits, &mut listener);
        RunResult { calls, ..result }
    }

    /// Runs one program within limits of its own, and hands each result to the listener as it
    /// comes; the run ends where that wants no more. The result holds no calls.
    pub fn run_heard<'a>(
        &self,
        program: &'a Program,
        rule: &'a CallRule,
        limits: Limits,
        listener: &'a mut Listener<'a>,
    ) -> RunResult {
        let nonce = format!(
            "{:x}-{}",
            std::process::id(),
            N_NONCES.fetch_add(1, Ordering::Relaxed)
        );
        self.start(program, limits)
            .and_then(|processes| {
                Session::new(program, rule, limits, nonce, processes, listener).run()
            })
            .unwrap_or_else(|error| RunResult {
                calls: Vec::new(),
                end: End::Infrastructure {
                    reason: format!("cannot run {}: {error}", self.helper.display()),
                },
                confinement: Vec::new(),
            })
    }

    /// Runs a whole program with standard streams of its own.
    pub fn run_script(&self, script: &Script, limits: Limits) -> ScriptResult {
        let run = || {
            let workplace = Workplace::of(script)?;
            let request = self.request(Role::Script, limits, workplace.as_ref());
            let mut command = Command::new(&self.helper);
            command.args([HELPER_ARGUMENT, &request]);
            script::run(&mut command, script, workplace.as_ref(), limits)
        };
        run().unwrap_or_else(|error: std::io::Error| ScriptResult {
            stdout: Vec::new(),
            written: None,
            error: String::new(),
            end: ScriptEnd::Infrastructure {
                reason: format!("cannot run {}: {error}", self.helper.display()),
            },
            confinement: Vec::new(),
        })
    }

    fn start(&self, program: &Program, limits: Limits) -> std::io::Result<Vec<Process>> {
        let checker = program.check.as_ref().map(|_| Role::Checker);
        [Role::Candidate]
            .into_iter()
            .chain(checker)
            .map(|role| {
                let request = self.request(role, limits, None);
                Process::start(&self.helper, &[HELPER_ARGUMENT, &request])
            })
            .collect()
    }

    fn request(&self, role: Role, limits: Limits, workplace: Option<&Workplace>) -> String {
        let request = Request {
            role,
            python: self.interpreter.python.clone(),
            driver: self.interpreter.driver(role).to_owned(),
            prefixes: self.interpreter.prefixes.clone(),
            cpu_s: limits.cpu_s,
            memory_bytes: limits.memory_bytes,
            confined: self.level != Level::Off,
            required: self.level == Level::Require,
            folder: workplace.map(|place| place.folder().to_owned()),
            output: workplace.and_then(Workplace::output).map(Path::to_owned),
            file_bytes_max: limits.result_bytes_max as u64,
        };
        serde_json::to_string(&request).expect("a request has only plain fields")
    }
}
