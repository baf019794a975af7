//! One helper process with its two pipes: lines in, lines out, never waiting for one side only.
//!
//! A hostile program may stop reading, stop writing, or write without end; [`next_news`] polls all
//! pipes against one deadline, so that none of these holds the caller up. Dropping a process kills
//! its group. What the lines mean is not known here.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

/// A running helper.
#[derive(Debug)]
pub(crate) struct Process {
    child: Leader,
    input: Option<ChildStdin>,
    /// What is still to be written.
    pending: Vec<u8>,
    closes_input: bool,
    output: Option<ChildStdout>,
    /// What was read and not yet handed on.
    received: Vec<u8>,
    /// Bytes of `received` without a newline.
    n_scanned: usize,
    n_bytes_read: usize,
}

/// What happened next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A whole line.
    Line { from: usize, line: Vec<u8> },
    /// No more lines will come.
    Closed { from: usize },
    /// More bytes came than may.
    Flooded,
    /// The deadline passed.
    Deadline,
}

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self {
            input: child.stdin.take(),
            output: child.stdout.take(),
            child: Leader::new(child),
            pending: Vec::new(),
            closes_input: false,
            received: Vec::new(),
            n_scanned: 0,
            n_bytes_read: 0,
        };
        for end in [
            process.input.as_ref().map(AsFd::as_fd),
            process.output.as_ref().map(AsFd::as_fd),
        ] {
            let end = end.expect("both ends were piped");
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(process)
    }

    /// Queues a line.
    pub(crate) fn send(&mut self, line: &str) {
        self.pending.extend_from_slice(line.as_bytes());
        self.pending.push(b'\n');
        self.write();
    }

    /// Closes its input after what is queued.
    pub(crate) fn close_input(&mut self) {
        self.closes_input = true;
        self.write();
    }

    /// Kills it with its group; the signal that had ended it, if one had.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.end().ok().and_then(|status| status.signal())
    }

    /// The line that was read first, if it is whole.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let unscanned = &self.received[self.n_scanned..];
        let Some(at) = unscanned.iter().position(|byte| *byte == b'\n') else {
            self.n_scanned = self.received.len();
            return None;
        };
        let rest = self.received.split_off(self.n_scanned + at + 1);
        let mut line = std::mem::replace(&mut self.received, rest);
        line.pop();
        self.n_scanned = 0;
        Some(line)
    }

    fn write(&mut self) {
        while let Some(input) = self.input.as_mut() {
            if self.pending.is_empty() {
                if self.closes_input {
                    self.input = None;
                }
                return;
            }
            match input.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody reads any more; that its output ends is the news.
                Err(_) => self.input = None,
            }
        }
    }

    fn read(&mut self) {
        let Some(output) = self.output.as_mut() else {
            return;
        };
        let mut part = [0u8; 1 << 14];
        match output.read(&mut part) {
            Ok(n) if n > 0 => {
                self.received.extend_from_slice(&part[..n]);
                self.n_bytes_read += n;
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(_) | Err(_) => self.output = None,
        }
    }

    fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let output = self.output.as_ref();
        let input = self.input.as_ref().filter(|_| !self.pending.is_empty());
        let reading = output.map(|output| PollFd::new(output, PollFlags::IN));
        reading
            .into_iter()
            .chain(input.map(|input| PollFd::new(input, PollFlags::OUT)))
    }
}

/// A child that leads a group of processes; dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Leader {
    child: Child,
    /// Once it has been waited for: its number may be another's from then on.
    status: Option<ExitStatus>,
}

impl Leader {
    pub(crate) fn new(child: Child) -> Self {
        Self {
            child,
            status: None,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.expect("a child has a number")
    }

    /// Kills the group; how the child had ended, or that it was killed.
    pub(crate) fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let _ = kill_process_group(self.pid(), Signal::KILL);
        // It leads no group before it has come so far.
        let _ = self.child.kill();
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Waits for the next news of any of the processes. Lines come before the end of their process.
pub(crate) fn next_news(
    processes: &mut [Process],
    n_bytes_max: usize,
    deadline: Instant,
) -> std::io::Result<News> {
    loop {
        for (from, process) in processes.iter_mut().enumerate() {
            if let Some(line) = process.take_line() {
                return Ok(News::Line { from, line });
            }
            if process.n_bytes_read > n_bytes_max {
                return Ok(News::Flooded);
            }
            if process.output.is_none() {
                return Ok(News::Closed { from });
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(News::Deadline);
        }
        wait(processes, left)?;
        processes.iter_mut().for_each(|process| {
            process.write();
            process.read();
        });
    }
}

fn wait(processes: &[Process], left: Duration) -> std::io::Result<()> {
    let mut ends: Vec<PollFd<'_>> = processes.iter().flat_map(Process::poll_fds).collect();
    let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
    match poll(&mut ends, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
