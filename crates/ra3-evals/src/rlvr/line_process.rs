//! A process that answers lines with lines, each within a deadline, and is killed with its group.
//!
//! Its three pipes are polled together and never waited for alone: a process that does not read,
//! does not write, or writes without end or to the wrong place keeps nobody waiting beyond the
//! deadline. While nothing is asked nothing is read: whoever writes then waits for the next line.
//! Not done here: what lines mean.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 16;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of standard error that are kept, and lines of them that are shown.
const LAST_BYTES: usize = 2000;
const LAST_LINES: usize = 5;
/// Reads after its end, in case somebody holds its standard error open and goes on writing.
const N_LAST_READS: usize = 64;
/// How long a process that has closed its standard output may take to end.
const GRACE: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const NAP: Duration = Duration::from_millis(2);
/// The longest wait for news at once.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// Why a line has no answer. The process is over then, with its group.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It ended, or closed its standard output.
    Ended,
    /// Out of time.
    Late,
    /// It said something unasked, or more than one line, or a line without end.
    Flooded(&'static str),
    /// The pipes cannot be used.
    Broken(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// The process.
#[derive(Debug)]
pub(crate) struct LineProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// `None` once it is closed.
    stderr: Option<ChildStderr>,
    /// What was read and belongs to no answer yet.
    said: Vec<u8>,
    /// The end of what standard error had.
    last_bytes: Vec<u8>,
    /// How it ended, once it has.
    end: Option<String>,
}

impl LineProcess {
    /// Starts it in a process group of its own.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let pipes = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.process_group(0).spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let process = Self {
            child,
            stdin,
            stdout,
            stderr: Some(stderr),
            said: Vec::new(),
            last_bytes: Vec::new(),
            end: None,
        };
        set_nonblocking(&process.stdin)?;
        set_nonblocking(&process.stdout)?;
        set_nonblocking(process.stderr.as_ref().expect("it is open"))?;
        Ok(process)
    }

    /// Sends a line, its end included, and waits for the line that answers it.
    pub(crate) fn ask(
        &mut self,
        line: &[u8],
        deadline: Duration,
    ) -> std::result::Result<Vec<u8>, NoAnswer> {
        let answer = self.answer(line, deadline);
        match &answer {
            Ok(_) => {}
            Err(NoAnswer::Ended) => self.end(GRACE),
            Err(NoAnswer::Late | NoAnswer::Flooded(_) | NoAnswer::Broken(_)) => {
                self.end(Duration::ZERO);
            }
        }
        answer
    }

    /// What it has said of an answer that is not whole.
    pub(crate) fn said(&self) -> &[u8] {
        &self.said
    }

    /// How it ended; empty while it goes on.
    pub(crate) fn end_text(&self) -> &str {
        self.end.as_deref().unwrap_or_default()
    }

    /// The last lines of its standard error, in one.
    pub(crate) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.last_bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let lines = lines.into_iter().filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ")
    }

    fn answer(
        &mut self,
        line: &[u8],
        deadline: Duration,
    ) -> std::result::Result<Vec<u8>, NoAnswer> {
        let began = Instant::now();
        let mut unsent = line;
        if self.end.is_some() {
            return Err(NoAnswer::Ended);
        }
        loop {
            let is_open = self.read()?;
            // Nobody can answer a line before its end.
            if !self.said.is_empty() && !unsent.is_empty() {
                return Err(NoAnswer::Flooded("nobody had asked yet"));
            }
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                if end + 1 < self.said.len() {
                    return Err(NoAnswer::Flooded("it is more than one line"));
                }
                self.said.truncate(end);
                return Ok(std::mem::take(&mut self.said));
            }
            if self.said.len() > ANSWER_BYTES_MAX {
                return Err(NoAnswer::Flooded("it is a line without end"));
            }
            if !is_open {
                return Err(NoAnswer::Ended);
            }
            unsent = self.write(unsent)?;
            let left = deadline.saturating_sub(began.elapsed());
            if left == Duration::ZERO {
                return Err(NoAnswer::Late);
            }
            self.wait(left, !unsent.is_empty())?;
        }
    }

    /// Reads what is there; false once standard output is closed.
    fn read(&mut self) -> Result<bool> {
        self.read_last_words();
        let mut chunk = vec![0; CHUNK_BYTES];
        match self.stdout.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.said.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(error) if is_passing(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads once from standard error; false if there is nothing now.
    fn read_last_words(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else {
            return false;
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        match stderr.read(&mut chunk) {
            Err(error) if is_passing(&error) => false,
            // What it says beside cannot be had: nothing depends on that.
            Ok(0) | Err(_) => {
                self.stderr = None;
                false
            }
            Ok(n) => {
                self.last_bytes.extend_from_slice(&chunk[..n]);
                let n_over = self.last_bytes.len().saturating_sub(LAST_BYTES);
                self.last_bytes.drain(..n_over);
                true
            }
        }
    }

    /// Sends what there is room for; what is left to be sent.
    fn write<'a>(&mut self, unsent: &'a [u8]) -> Result<&'a [u8]> {
        if unsent.is_empty() {
            return Ok(unsent);
        }
        match self.stdin.write(unsent) {
            Ok(n) => Ok(&unsent[n..]),
            Err(error) if is_passing(&error) => Ok(unsent),
            // It reads no more: it has ended, or says so soon, or is late.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(&[]),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is something to read, or room to write.
    fn wait(&self, left: Duration, has_unsent: bool) -> Result<()> {
        let mut ends = vec![PollFd::new(&self.stdout, PollFlags::IN)];
        ends.extend(
            self.stderr
                .iter()
                .map(|end| PollFd::new(end, PollFlags::IN)),
        );
        if has_unsent {
            ends.push(PollFd::new(&self.stdin, PollFlags::OUT));
        }
        let left = Timespec::try_from(left.min(WAIT_MAX)).map_err(Error::other)?;
        match poll(&mut ends, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it so long to end by itself, and kills what is left of its group.
    fn end(&mut self, grace: Duration) {
        if self.end.is_some() {
            return;
        }
        let pid = Pid::from_child(&self.child);
        let began = Instant::now();
        // Not waited for yet: until it is, nobody else has its number.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_ended = loop {
            self.read_last_words();
            match waitid(WaitId::Pid(pid), look) {
                Ok(Some(_)) => break true,
                Ok(None) if began.elapsed() < grace => sleep(NAP),
                Ok(None) | Err(_) => break false,
            }
        };
        let _ = kill_process_group(pid, Signal::KILL);
        // It may have joined another group.
        let _ = self.child.kill();
        let status = self.child.wait();
        self.end = Some(match status {
            Ok(status) if has_ended => status.to_string(),
            Ok(_) | Err(_) if grace > Duration::ZERO => "standard output was closed".to_owned(),
            Ok(_) | Err(_) => "killed after a failure".to_owned(),
        });
        for _ in 0..N_LAST_READS {
            if !self.read_last_words() {
                break;
            }
        }
    }
}

impl Drop for LineProcess {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn set_nonblocking(end: impl AsFd) -> Result<()> {
    let flags = fcntl_getfl(&end)?;
    Ok(fcntl_setfl(&end, flags | OFlags::NONBLOCK)?)
}

/// True if there is nothing now, which may change.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
