//! A whole program with real standard streams: text in, text out, as contests have it.
//!
//! One process a run, so nothing of one test is left for the next. What the program wrote is its
//! word and no more: the caller compares. Files are given in a folder of the run's own, of which
//! one file may be written. Not done here: calls of functions ([`crate::Pool::run`]).

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use tempfile::TempDir;

use crate::interpreter::Role;
use crate::marshal::Writer;
use crate::process::{FirstLine, Input, set_nonblocking, wait_for};
use crate::program::{Clock, Limits};
use crate::zygote::{Forked, Order, Zygotes};

/// Bytes of standard error that are kept: the last ones.
const ERROR_BYTES: usize = 1 << 12;
/// Reads of one output between two looks at the whole.
const N_READS: usize = 16;

/// A program and what it may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Python source.
    pub source: String,
    /// What follows its name on the command line.
    pub arguments: Vec<String>,
    /// Standard input.
    pub stdin: String,
    /// Names and contents of files in its folder.
    pub files: Vec<(String, String)>,
    /// The file in its folder that it may write; there is none without it.
    pub output_file: Option<String>,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It ran out of time.
    TimedOut(Clock),
    /// It wrote more than it may.
    OutputLimit,
    /// The sandbox failed, not the program.
    Infrastructure {
        /// What failed.
        reason: String,
    },
}

/// What a script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptResult {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// The file that it may write; `None` where it may write none.
    pub written: Option<Vec<u8>>,
    /// The end of standard error.
    pub error: String,
    /// How it ended.
    pub end: ScriptEnd,
    /// What confined it.
    pub confinement: Vec<String>,
}

/// The folder of a run, removed with this value.
#[derive(Debug)]
struct Workplace {
    folder: TempDir,
    output: Option<PathBuf>,
}

impl Workplace {
    /// A folder with the script's files; none where it has none.
    fn of(script: &Script) -> std::io::Result<Option<Self>> {
        if script.files.is_empty() && script.output_file.is_none() {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("ra3-script-").tempdir()?;
        // The program may run as another user, who reads all and writes one file.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let place = |name: &str, content: &[u8], mode| {
            let path = folder.path().join(name);
            if Path::new(name).components().count() != 1 || path.parent() != Some(folder.path()) {
                let message = format!("{name} is no plain file name");
                return Err(std::io::Error::new(ErrorKind::InvalidInput, message));
            }
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
            Ok(path)
        };
        for (name, content) in &script.files {
            place(name, content.as_bytes(), 0o644)?;
        }
        let output = script.output_file.as_deref();
        let output = output.map(|name| place(name, b"", 0o666)).transpose()?;
        Ok(Some(Self { folder, output }))
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    /// What was written, up to a byte more than may be; nothing where the program has seen to it
    /// that it cannot be read.
    fn written(&self, n_bytes_max: usize) -> Option<Vec<u8>> {
        let path = self.output.as_ref()?;
        let read = || -> std::io::Result<Vec<u8>> {
            // Not through a link that the program put in its place.
            let no_follow = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(no_follow)
                .open(path)?;
            let mut content = Vec::new();
            file.take(n_bytes_max as u64 + 1)
                .read_to_end(&mut content)?;
            Ok(content)
        };
        Some(read().unwrap_or_default())
    }
}

/// A running script: its process and what has come of it so far.
struct Run<'a> {
    forked: Forked<'a>,
    /// Readable once the process has ended.
    ended: OwnedFd,
    input: Input,
    output: Stream,
    error: Stream,
}

/// One of its outputs.
struct Stream {
    file: Option<File>,
    received: Vec<u8>,
    /// The first bytes are dropped beyond so many.
    n_kept: usize,
}

impl Stream {
    /// Takes what has come, or of a flood so much that the caller can put an end to it.
    fn read(&mut self) {
        let mut part = [0u8; 1 << 14];
        for _ in 0..N_READS {
            let Some(file) = self.file.as_mut() else {
                return;
            };
            match file.read(&mut part) {
                Ok(n) if n > 0 => {
                    self.received.extend_from_slice(&part[..n]);
                    let n_over = self.received.len().saturating_sub(self.n_kept);
                    self.received.drain(..n_over);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.file = None,
            }
        }
    }
}

/// Runs a script.
pub(crate) fn run(
    zygotes: &Zygotes,
    script: &Script,
    limits: Limits,
) -> std::io::Result<ScriptResult> {
    let workplace = Workplace::of(script)?;
    let mut run = Run::start(zygotes, script, workplace.as_ref(), limits)?;
    let deadline = Instant::now() + Duration::from_secs_f64(limits.wall_s);
    let mut end = run.watch(limits.result_bytes_max, deadline)?;
    let exit = run.forked.end()?;
    if end == Some(ScriptEnd::TimedOut(Clock::Wall)) {
        end = Some(ScriptEnd::TimedOut(exit.clock(limits.wall_s)));
    }
    // What is still in the pipes.
    run.output.read();
    run.error.read();
    let by_itself = match (exit.status.code(), exit.status.signal()) {
        (Some(code), _) => ScriptEnd::Exited(code),
        (None, _) if exit.has_used_up(limits.cpu_s) => ScriptEnd::TimedOut(Clock::Cpu),
        (None, signal) => ScriptEnd::Killed(signal.unwrap_or_default()),
    };
    let mut stdout = std::mem::take(&mut run.output.received);
    let first = take_first_line(&mut stdout);
    let begun = first.as_ref().and_then(|line| line.confinement.clone());
    if begun.is_none() {
        let refused = first.and_then(|line| line.refused);
        let reason = refused.unwrap_or_else(|| "the process ended without a word".to_owned());
        end = Some(ScriptEnd::Infrastructure { reason });
    }
    let written = workplace
        .as_ref()
        .and_then(|place| place.written(limits.result_bytes_max));
    let n_written = written.as_ref().map_or(0, Vec::len);
    if end.is_none() && stdout.len().max(n_written) > limits.result_bytes_max {
        end = Some(ScriptEnd::OutputLimit);
    }
    let error = &run.error.received;
    let error = &error[error.len().saturating_sub(ERROR_BYTES)..];
    Ok(ScriptResult {
        stdout,
        written,
        error: String::from_utf8_lossy(error).into_owned(),
        end: end.unwrap_or(by_itself),
        confinement: begun.unwrap_or_default(),
    })
}

fn take_first_line(stdout: &mut Vec<u8>) -> Option<FirstLine> {
    let at = stdout.iter().position(|byte| *byte == b'\n')?;
    let first = serde_json::from_slice(&stdout[..at]).ok();
    stdout.drain(..=at);
    first
}

impl<'a> Run<'a> {
    fn start(
        zygotes: &'a Zygotes,
        script: &Script,
        workplace: Option<&Workplace>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let (its_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, its_output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (error, its_error) = pipe_with(PipeFlags::CLOEXEC)?;
        for end in [&input, &output, &error] {
            set_nonblocking(end)?;
        }
        let forked = zygotes.fork(&Order {
            role: Role::Script,
            limits,
            place: workplace.map(|place| (place.folder(), place.output())),
            streams: &[its_input.as_fd(), its_output.as_fd(), its_error.as_fd()],
        })?;
        let stream = |file: OwnedFd, n_kept| Stream {
            file: Some(file.into()),
            received: Vec::new(),
            n_kept,
        };
        Ok(Self {
            ended: pidfd_open(forked.pid(), PidfdFlags::empty())?,
            forked,
            input: Input::new(input, pending(script), true),
            output: stream(output, usize::MAX),
            error: stream(error, ERROR_BYTES),
        })
    }

    /// Until it has ended by itself, or for what reason it has to be ended.
    fn watch(
        &mut self,
        n_bytes_max: usize,
        deadline: Instant,
    ) -> std::io::Result<Option<ScriptEnd>> {
        loop {
            self.input.write();
            self.output.read();
            self.error.read();
            if self.output.received.len() > n_bytes_max + ERROR_BYTES {
                return Ok(Some(ScriptEnd::OutputLimit));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Ok(Some(ScriptEnd::TimedOut(Clock::Wall)));
            }
            if self.wait(left)? {
                return Ok(None);
            }
        }
    }

    /// Waits for news; true if the process has ended.
    fn wait(&self, left: Duration) -> std::io::Result<bool> {
        let outputs = [self.output.file.as_ref(), self.error.file.as_ref()];
        let reading = outputs.into_iter().flatten();
        let mut ends: Vec<PollFd<'_>> = std::iter::once(PollFd::new(&self.ended, PollFlags::IN))
            .chain(self.input.poll_fd())
            .chain(reading.map(|output| PollFd::new(output, PollFlags::IN)))
            .collect();
        wait_for(&mut ends, left)?;
        Ok(ends[0].revents().contains(PollFlags::IN))
    }
}

/// What the driver is told, and what follows it as the program's input.
fn pending(script: &Script) -> Vec<u8> {
    let texts = script.arguments.iter().chain([&script.source]);
    let mut program = Writer::default();
    program.list(script.arguments.len() + 1);
    texts.for_each(|text| program.text(text));
    let program = program.finish();
    let length = format!("{:016}", program.len());
    [length.as_bytes(), &program, script.stdin.as_bytes()].concat()
}
