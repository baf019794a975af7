//! A worker and what is asked of it: one request at a time, each with a deadline.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::door::{Door, Port, TOKEN_FILE};
use crate::error::{Refusal, WorkerError};
use crate::package;
use crate::process::Process;
use crate::stream::{Stream, Timed, is_late};
use crate::wire::WireError;
use crate::wire::{self, ANSWER, Answer, BYTES_MAX, Column, ERROR, Frame, Kind, PHASE, PROTOCOL};

/// A worker says every second what it is at; one that is silent for so long hangs.
const SILENT: Duration = Duration::from_secs(5);

/// How models are run and trained; the worker has the same names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// As PyTorch names it, `cpu` or `cuda:0`; `auto` is the first GPU or else the processor.
    pub device: String,
    /// What passes are computed in, `float32` or `bfloat16`; weights are `float32`.
    pub dtype: String,
    /// Threads of a processor's products.
    pub n_threads: usize,
    /// Decoupled weight decay, of matrices only.
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip_norm: f64,
    /// Rows that are live at once; a larger tree runs alone.
    pub n_tokens_micro: usize,
    /// Layers run again in the backward pass instead of keeping what they computed.
    pub recompute: bool,
    /// Bytes of the keys and values while generating.
    pub cache_bytes_max: usize,
    /// What the optimizer's moments are kept in, `float32` or `bfloat16`.
    pub moments: String,
    /// What is trained in place of all weights; `None` trains these.
    pub lora: Option<Lora>,
    /// Whether each of several processes has a part of every tensor (`full`), or all (`none`).
    pub sharding: String,
    /// Layers are compiled for passes that train.
    pub compile: bool,
    /// Passes that draw and score are recorded on a GPU and replayed.
    pub cuda_graphs: bool,
}

/// Adapters of low rank, which alone are trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lora {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// What `B A` is multiplied with, times the rank.
    pub alpha: f64,
    /// The last names of the products that get one; `all-linear` alone is all but the head.
    pub target_modules: Vec<String>,
    /// What `A` is drawn from.
    pub seed: u64,
}

/// How a worker is started.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    /// The Python that has its libraries, and what stands before it.
    pub command: Vec<String>,
    /// Processes of it, which share the work; of a worker that is started elsewhere, those of one
    /// machine.
    pub n_processes: usize,
    /// Where a worker comes to that is started elsewhere; `None` starts one here.
    pub port: Option<Port>,
    /// Where its files are written, in a folder that is named by their hash.
    pub folder: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// The time that it has for an answer, in seconds.
    pub deadline_s: u64,
    /// What it is told.
    pub models: Settings,
}

/// A process with models. It is ended with the last of them that is here.
#[derive(Debug)]
pub struct Worker {
    link: Mutex<Link>,
    about: About,
}

/// What a worker is made of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct About {
    /// Version of Python.
    pub python: String,
    /// Version of torch.
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
    /// Its processes.
    pub n_processes: u32,
    /// Where its models are, as PyTorch names it.
    pub device: String,
    /// The GPUs that PyTorch sees.
    pub gpus: Vec<Gpu>,
}

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            python,
            torch,
            transformers,
            device,
            n_processes,
            ..
        } = self;
        write!(
            formatter,
            "torch {torch}, transformers {transformers}, Python {python}, on {device}"
        )?;
        match n_processes {
            0 | 1 => Ok(()),
            n => write!(formatter, ", {n} processes"),
        }
    }
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Gpu {
    /// As it calls itself.
    pub name: String,
    /// Its memory.
    pub memory_mib: u64,
    /// What of it is free.
    pub free_mib: u64,
}

/// What the worker says first.
#[derive(Debug, Deserialize)]
struct Greeting {
    protocol: u32,
    hash: String,
    fault: String,
    #[serde(flatten)]
    about: About,
}

impl WorkerSettings {
    /// The folder of the worker's files.
    fn package(&self) -> PathBuf {
        self.folder.join(&package::hash()[..16])
    }

    fn run(&self, folder: &Path, address: String) -> std::io::Result<Process> {
        let (mut arguments, mut variables) = (Vec::new(), Vec::new());
        if self.n_processes > 1 {
            arguments = ["--standalone", "--local-addr=127.0.0.1", "--max-restarts=0"].into();
            arguments.splice(..0, ["-m", "torch.distributed.run"]);
            variables = vec![
                ("RA3_WORKER_LOG", absolute(&self.log)?),
                ("OMP_NUM_THREADS", self.models.n_threads.to_string()),
            ];
        }
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        if self.n_processes > 1 {
            arguments.push(format!("--nproc-per-node={}", self.n_processes));
        }
        arguments.extend(["-m", "ra3_worker.main"].map(str::to_owned));
        arguments.push(address);
        Process::start(&self.command, &arguments, &variables, folder, &self.log)
    }

    /// What starts the worker elsewhere, where one is waited for; the token is written.
    ///
    /// # Errors
    /// The port or the token's file cannot be had.
    pub fn line(&self) -> Result<Option<String>, WorkerError> {
        let Some(port) = &self.port else {
            return Ok(None);
        };
        let files = |error: std::io::Error| WorkerError::Files(error.to_string());
        port.token().map_err(files)?;
        let token = absolute(&port.token_file).map_err(files)?;
        let package = absolute(&self.package()).map_err(files)?;
        Ok(Some(format!(
            "{TOKEN_FILE}={token} PYTHONPATH={package} {} -m torch.distributed.run \
             --max-restarts=0 --nnodes=1 --nproc-per-node={} -m ra3_worker.main {}",
            self.command.join(" "),
            self.n_processes,
            port.address_from_afar(),
        )))
    }
}

fn absolute(path: &Path) -> std::io::Result<String> {
    Ok(std::path::absolute(path)?.display().to_string())
}

impl Worker {
    /// Starts a worker and greets it, or waits for one that is started elsewhere.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn start(settings: &WorkerSettings) -> Result<Arc<Self>, WorkerError> {
        let files = |error: &dyn std::fmt::Display| WorkerError::Files(error.to_string());
        let folder = settings.package();
        package::write(&folder).map_err(|error| files(&error))?;
        let (door, process) = match &settings.port {
            None => {
                let door = Door::near().map_err(|error| files(&error))?;
                let address = door.address().map_err(|error| files(&error))?;
                let process = settings.run(&folder, address);
                let process = process.map_err(|error| WorkerError::Start {
                    command: settings.command.join(" "),
                    reason: error.to_string(),
                })?;
                (door, Some(process))
            }
            Some(port) => {
                let door = Door::far(port)
                    .map_err(|error| files(&format!("{}: {error}", port.address)))?;
                (door, None)
            }
        };
        let mut link = Link {
            process,
            stream: None,
            deadline: Duration::from_secs(settings.deadline_s),
            sequence: 0,
            n_slots: 0,
            failure: None,
            phase: "starting".to_owned(),
            heard: Instant::now(),
            behind: (0..settings.n_processes as u32).collect(),
            n_ranks: 0,
        };
        link.accept(&door)?;
        let about = link.greet(&settings.models)?;
        link.n_ranks = about.n_processes;
        Ok(Arc::new(Self {
            link: Mutex::new(link),
            about,
        }))
    }

    /// What it is made of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// True once it can do nothing more.
    pub fn has_failed(&self) -> bool {
        self.link().failure.is_some()
    }

    /// The one who holds this asks.
    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        // A panic between two requests leaves nothing half done.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection to a worker.
#[derive(Debug)]
pub(crate) struct Link {
    /// `None` of a worker that was started elsewhere.
    process: Option<Process>,
    /// `None` until there is one.
    stream: Option<Stream>,
    deadline: Duration,
    sequence: u64,
    n_slots: u32,
    failure: Option<WorkerError>,
    /// What the worker said last that it was doing.
    phase: String,
    /// When it said something last.
    heard: Instant,
    /// The ranks that others wait for; all of them until the worker has greeted.
    behind: Vec<u32>,
    /// Ranks of a worker that has greeted, 0 before.
    n_ranks: u32,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

impl Link {
    /// A number for a new model.
    pub(crate) fn new_slot(&mut self) -> u32 {
        self.n_slots += 1;
        self.n_slots
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<T>(
        &mut self,
        kind: Kind,
        columns: &[Column],
        read: impl FnOnce(Answer) -> Result<T, WireError>,
    ) -> Result<T, Refusal> {
        if let Some(failure) = &self.failure {
            return Err(Refusal::Worker(failure.clone()));
        }
        let said = self.exchange(kind, columns);
        let read = said.and_then(|frame| match frame.kind {
            ERROR => Refusal::read(frame.answer).map(Err),
            _ => read(frame.answer).map(Ok),
        });
        read.unwrap_or_else(|error| Err(Refusal::Worker(self.fail(error))))
    }

    /// As [`Self::ask`] where nothing comes back and nobody can be told: what fails is said at the
    /// next request.
    pub(crate) fn tell(&mut self, kind: Kind, columns: &[Column]) {
        if let Err(refusal) = self.ask(kind, columns, |_| Ok(())) {
            self.remember(refusal);
        }
    }

    /// Makes a refusal that nobody can be told the answer to the next request.
    pub(crate) fn remember(&mut self, refusal: Refusal) {
        self.failure.get_or_insert(refusal.into());
    }

    fn exchange(&mut self, kind: Kind, columns: &[Column]) -> Result<Frame, WireError> {
        let until = Instant::now() + self.deadline;
        self.sequence += 1;
        self.phase = format!("{kind:?}").to_lowercase();
        self.heard = Instant::now();
        if self.n_ranks > 0 {
            self.behind.clear();
        }
        let Some(stream) = &self.stream else {
            return Err(WireError::Nonsense("there is no connection"));
        };
        let mut stream = Timed { stream, until };
        let sent = stream.write_all(&wire::encode(kind as u16, self.sequence, columns));
        loop {
            // What has ended may have said why.
            let read = wire::read(&mut stream, BYTES_MAX);
            let mut frame = match (read, &sent) {
                (Ok(frame), _) => frame,
                (Err(WireError::Stream(_)), Err(error)) => {
                    return Err(std::io::Error::from(error.kind()).into());
                }
                (Err(error), _) => return Err(error),
            };
            if frame.sequence != self.sequence {
                return Err(WireError::Nonsense("it answers what was not asked"));
            }
            self.heard = Instant::now();
            match frame.kind {
                PHASE => {
                    self.phase = frame.answer.text()?;
                    self.behind = frame.answer.numbers()?;
                }
                ANSWER | ERROR => return Ok(frame),
                greeting if greeting == Kind::Hello as u16 => return Ok(frame),
                _ => return Err(WireError::Nonsense("it asks instead of answering")),
            }
        }
    }

    fn end(&mut self) {
        if let Some(stream) = &self.stream {
            stream.close();
        }
        if let Some(process) = &mut self.process {
            process.end();
        }
    }

    /// Ends the worker, for good.
    fn fail(&mut self, error: WireError) -> WorkerError {
        self.end();
        if self.n_ranks > 1 && self.heard.elapsed() > SILENT {
            // It speaks for all of them.
            self.behind = vec![0];
            self.phase.push_str(", and rank 0 is silent");
        }
        let output = |ranks: &[u32]| match &self.process {
            Some(process) => process.output(ranks),
            None => "what it printed stands where it was started".to_owned(),
        };
        let (phase, behind) = (self.phase.clone(), output(&self.behind));
        let failure = match error {
            WireError::Stream(error) if is_late(&error) => WorkerError::Deadline {
                deadline_s: self.deadline.as_secs(),
                phase,
                output: behind,
            },
            WireError::Stream(_) if self.n_ranks > 1 => WorkerError::Rank {
                rank: 0,
                reason: format!("has ended (it was at: {phase})"),
                output: output(&[0]),
            },
            WireError::Stream(_) => WorkerError::Ended {
                phase,
                output: behind,
            },
            WireError::Nonsense(reason) => WorkerError::Nonsense {
                reason: reason.to_owned(),
                output: behind,
            },
            WireError::Rank { rank, reason } => WorkerError::Rank {
                rank,
                reason,
                output: output(&[rank]),
            },
        };
        self.failure.get_or_insert(failure).clone()
    }

    fn accept(&mut self, door: &Door) -> Result<(), WorkerError> {
        let until = Instant::now() + self.deadline;
        let process = &mut self.process;
        let is_over = || process.as_mut().is_some_and(Process::has_ended);
        match door.accept(until, is_over) {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => return Err(self.fail(error.into())),
        }
        Ok(())
    }

    fn greet(&mut self, settings: &Settings) -> Result<About, WorkerError> {
        let settings = serde_json::to_string(settings).expect("numbers and names");
        let columns = [Column::Text(settings)];
        let text = self.ask(Kind::Hello, &columns, |mut answer| answer.text())?;
        let Ok(greeting) = serde_json::from_str::<Greeting>(&text) else {
            let nonsense = WireError::Nonsense("its greeting cannot be read");
            return Err(self.fail(nonsense));
        };
        if !greeting.fault.is_empty() {
            return Err(WorkerError::Libraries(greeting.fault));
        }
        if greeting.protocol != PROTOCOL {
            let version = format!("protocol {} instead of {PROTOCOL}", greeting.protocol);
            return Err(WorkerError::Version(version));
        }
        let hash = package::hash();
        if greeting.hash != hash {
            let version = format!("files {} instead of {hash}", greeting.hash);
            return Err(WorkerError::Version(version));
        }
        Ok(greeting.about)
    }
}
