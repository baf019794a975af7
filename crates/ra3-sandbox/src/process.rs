//! One forked process with its two pipes: frames in, frames out, never waiting for one side only.
//!
//! A hostile program may stop reading, stop writing, or write without end; [`next_event`] polls all
//! pipes against one deadline, so that none of these holds the caller up. A frame is four bytes of
//! length, its content, and on the way out a byte before that which says what it is. What frames
//! mean is not known here, but for the line before the first, in which the zygote's fork says what
//! confines it.

use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Deserialize;

use crate::interpreter::Role;
use crate::program::Limits;
use crate::zygote::{Exit, Forked, Order, Zygotes};

/// Bytes of a frame before its content.
const HEAD_BYTES: usize = 5;
/// Bytes of the line before the first frame.
const LINE_BYTES_MAX: usize = 1 << 12;
/// Bytes of a frame's content, of which a driver sends no more: what a value takes of this process
/// is some ten times that.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes that are read at once: what a pipe holds.
const PART_BYTES: usize = 1 << 16;
/// A result that comes soon after another is worth no waking for its own sake.
const NAP: Duration = Duration::from_micros(500);

/// A running program or its checker.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    forked: Forked<'a>,
    input: Input,
    output: Option<File>,
    /// What was read; handed on up to `n_taken`.
    received: Vec<u8>,
    n_taken: usize,
    n_bytes_read: usize,
    has_begun: bool,
}

/// The input of a process, and what is still to be written to it.
#[derive(Debug)]
pub(crate) struct Input {
    file: Option<File>,
    /// From `n_written` on.
    pending: Vec<u8>,
    n_written: usize,
    /// True if it is closed after that.
    closes: bool,
}

/// The first line of a fork: what confines it, or why it goes no further.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct FirstLine {
    pub(crate) confinement: Option<Vec<String>>,
    pub(crate) refused: Option<String>,
}

/// What happened next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has begun.
    Begun { from: usize, line: FirstLine },
    /// A whole frame, whose content is [`Process::content`] until the next event.
    Frame {
        from: usize,
        mark: u8,
        content: std::ops::Range<usize>,
    },
    /// No more will come; or what comes makes no sense.
    Closed { from: usize },
    /// More bytes came than may.
    Flooded,
    /// The deadline passed.
    Deadline,
}

impl<'a> Process<'a> {
    pub(crate) fn start(zygotes: &'a Zygotes, role: Role, limits: Limits) -> Result<Self> {
        let (its_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, its_output) = pipe_with(PipeFlags::CLOEXEC)?;
        for end in [&input, &output] {
            set_nonblocking(end)?;
        }
        let forked = zygotes.fork(&Order {
            role,
            limits,
            place: None,
            streams: &[its_input.as_fd(), its_output.as_fd()],
        })?;
        Ok(Self {
            forked,
            input: Input::new(input, Vec::new(), false),
            output: Some(output.into()),
            received: Vec::new(),
            n_taken: 0,
            n_bytes_read: 0,
            has_begun: false,
        })
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, content: &[u8]) {
        let length = u32::try_from(content.len()).expect("a request has less than 4 GiB");
        self.input.pending.extend(length.to_le_bytes());
        self.input.pending.extend_from_slice(content);
        self.input.write();
    }

    /// Closes its input after what is queued.
    pub(crate) fn close_input(&mut self) {
        self.input.closes = true;
        self.input.write();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The content of the frame that was news.
    pub(crate) fn content(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.received[range]
    }

    /// Kills it with its group; how it had ended.
    pub(crate) fn end(&mut self) -> Result<Exit> {
        self.forked.end()
    }

    /// What was received first and not yet handed on, if it is whole.
    fn take(&mut self, from: usize) -> Option<Event> {
        let unread = &self.received[self.n_taken..];
        if !self.has_begun {
            let Some(at) = unread.iter().position(|byte| *byte == b'\n') else {
                return (unread.len() > LINE_BYTES_MAX).then_some(Event::Closed { from });
            };
            let line = serde_json::from_slice(&unread[..at]);
            self.n_taken += at + 1;
            self.has_begun = true;
            return Some(match line {
                Ok(line) => Event::Begun { from, line },
                Err(_) => Event::Closed { from },
            });
        }
        let (head, rest) = unread.split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, d, mark] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > FRAME_BYTES_MAX {
            return Some(Event::Flooded);
        }
        if rest.len() < length {
            return None;
        }
        let start = self.n_taken + HEAD_BYTES;
        self.n_taken = start + length;
        Some(Event::Frame {
            from,
            mark,
            content: start..self.n_taken,
        })
    }

    /// Reads what there is, up to a part's length.
    fn read(&mut self) {
        let Some(output) = self.output.as_ref() else {
            return;
        };
        self.received.drain(..std::mem::take(&mut self.n_taken));
        self.received.reserve(PART_BYTES);
        match rustix::io::read(output, spare_capacity(&mut self.received)) {
            Ok(n) if n > 0 => self.n_bytes_read += n,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.output = None,
        }
    }

    fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let output = self.output.as_ref();
        let reading = output.map(|output| PollFd::new(output, PollFlags::IN));
        reading.into_iter().chain(self.input.poll_fd())
    }
}

impl Input {
    pub(crate) fn new(end: OwnedFd, pending: Vec<u8>, closes: bool) -> Self {
        Self {
            file: Some(end.into()),
            pending,
            n_written: 0,
            closes,
        }
    }

    /// Writes what there is room for.
    pub(crate) fn write(&mut self) {
        while let Some(file) = self.file.as_mut() {
            let rest = &self.pending[self.n_written..];
            if rest.is_empty() {
                self.pending.clear();
                self.n_written = 0;
                if self.closes {
                    self.file = None;
                }
                return;
            }
            match file.write(rest) {
                Ok(n) => self.n_written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody reads any more, which is no failure; its output may end, too.
                Err(_) => self.file = None,
            }
        }
    }

    /// What to wait for until there is room for more, if there is more.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let file = self.file.as_ref();
        let file = file.filter(|_| self.n_written < self.pending.len());
        file.map(|file| PollFd::new(file, PollFlags::OUT))
    }
}

/// Lets reads and writes of this end return at once.
pub(crate) fn set_nonblocking(end: &OwnedFd) -> Result<()> {
    fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    Ok(())
}

/// Waits for the next news of any of the processes. Frames come before the end of their process.
/// Where many more results are to come, `naps` lets several gather.
pub(crate) fn next_event(
    processes: &mut [Process<'_>],
    n_bytes_max: usize,
    deadline: Instant,
    naps: bool,
) -> Result<Event> {
    loop {
        for (from, process) in processes.iter_mut().enumerate() {
            if let Some(news) = process.take(from) {
                return Ok(news);
            }
            if process.n_bytes_read > n_bytes_max {
                return Ok(Event::Flooded);
            }
            if process.output.is_none() {
                return Ok(Event::Closed { from });
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(Event::Deadline);
        }
        let mut ends: Vec<_> = processes.iter().flat_map(Process::poll_fds).collect();
        wait_for(&mut ends, left)?;
        if naps {
            std::thread::sleep(NAP);
        }
        for process in processes.iter_mut() {
            process.input.write();
            process.read();
        }
    }
}

/// Waits until one of these is ready, at most so long.
pub(crate) fn wait_for(ends: &mut [PollFd<'_>], left: Duration) -> Result<()> {
    let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
    match poll(ends, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
