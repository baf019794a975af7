//! A worker and what is asked of it: one request at a time, each with a deadline.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Refusal, WorkerError};
use crate::package;
use crate::process::Process;
use crate::wire::{self, ANSWER, Answer, Column, ERROR, Frame, Kind, PHASE, PROTOCOL, WireError};

/// How often a worker that starts is looked after.
const PAUSE: Duration = Duration::from_millis(10);

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
}

/// How a worker is started.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    /// The Python that has its libraries, and what stands before it.
    pub command: Vec<String>,
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
            ..
        } = self;
        write!(
            formatter,
            "torch {torch}, transformers {transformers}, Python {python}, on {device}"
        )
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

impl Worker {
    /// Starts a worker and greets it.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn start(settings: &WorkerSettings) -> Result<Arc<Self>, WorkerError> {
        let folder = settings.folder.join(&package::hash()[..16]);
        let files = |error: &dyn std::fmt::Display| WorkerError::Files(error.to_string());
        package::write(&folder).map_err(|error| files(&error))?;
        // The path of a socket has to be short, and nobody else may connect.
        let place = tempfile::tempdir().map_err(|error| files(&error))?;
        let path = place.path().join("worker");
        let listener = UnixListener::bind(&path).map_err(|error| files(&error))?;
        let module = ["-m", "ra3_worker.main"].map(str::to_owned);
        let arguments = [&module[..], &[path.display().to_string()]].concat();
        let process = Process::start(&settings.command, &arguments, &folder, &settings.log);
        let process = process.map_err(|error| WorkerError::Start {
            command: settings.command.join(" "),
            reason: error.to_string(),
        })?;
        let (stream, _) = UnixStream::pair().map_err(|error| files(&error))?;
        let mut link = Link {
            process,
            stream,
            deadline: Duration::from_secs(settings.deadline_s),
            sequence: 0,
            n_slots: 0,
            failure: None,
            phase: "starting".to_owned(),
        };
        link.stream = link.accept(&listener)?;
        let about = link.greet(&settings.models)?;
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
    process: Process,
    stream: UnixStream,
    deadline: Duration,
    sequence: u64,
    n_slots: u32,
    failure: Option<WorkerError>,
    /// What the worker said last that it was doing.
    phase: String,
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
        let mut stream = Timed {
            stream: &self.stream,
            until,
        };
        stream.write_all(&wire::encode(kind as u16, self.sequence, columns))?;
        loop {
            let mut frame = wire::read(&mut stream)?;
            if frame.sequence != self.sequence {
                return Err(WireError::Nonsense("it answers what was not asked"));
            }
            match frame.kind {
                PHASE => self.phase = frame.answer.text()?,
                ANSWER | ERROR => return Ok(frame),
                greeting if greeting == Kind::Hello as u16 => return Ok(frame),
                _ => return Err(WireError::Nonsense("it asks instead of answering")),
            }
        }
    }

    /// Ends the worker, for good.
    fn fail(&mut self, error: WireError) -> WorkerError {
        self.process.end();
        let (log, last_lines) = (self.process.log.clone(), self.process.last_lines());
        let phase = self.phase.clone();
        let failure = match error {
            WireError::Stream(error) if is_late(&error) => WorkerError::Deadline {
                deadline_s: self.deadline.as_secs(),
                phase,
                log,
                last_lines,
            },
            WireError::Stream(_) => WorkerError::Ended {
                phase,
                log,
                last_lines,
            },
            WireError::Nonsense(reason) => WorkerError::Nonsense {
                reason: reason.to_owned(),
                log,
                last_lines,
            },
        };
        self.failure.get_or_insert(failure).clone()
    }

    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, WorkerError> {
        let until = Instant::now() + self.deadline;
        let accepted = listener.set_nonblocking(true).and_then(|()| {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        return Ok(stream);
                    }
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    Err(_) if self.process.has_ended() => {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    Err(_) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        });
        accepted.map_err(|error| self.fail(error.into()))
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

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// A stream that has to be done by an instant.
struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
