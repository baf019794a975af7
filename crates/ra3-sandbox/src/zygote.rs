//! Zygotes: confined interpreters that have started already and fork for each program.
//!
//! To start Python and to confine it anew takes five times as long as a short program runs. A
//! zygote never sees a program: it is told which driver a fork becomes and within which limits,
//! and hands it the descriptors of its channel. So every fork begins with the same memory, in which
//! nothing of another program ever stood. Landlock's rules, limits, and the filter that forbids
//! further forks are the fork's own. One zygote has one fork at a time, which it waits for when
//! told to, so that a process's number is never another's while it is in use.

use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::confine::{HELPER_ARGUMENT, Request};
use crate::interpreter::{Interpreter, Role};
use crate::landlock::ruleset;
use crate::marshal::Writer;
use crate::program::{Clock, Level, Limits};
use crate::seccomp::Filters;

/// Linux's numbers, the same on every architecture.
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;
/// A zygote that says nothing for so long is no zygote.
const SILENCE: Duration = Duration::from_mins(1);
/// A machine that has no process left for so long will have none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to fork.
const PAUSE: Duration = Duration::from_millis(50);
/// What ran for a smaller share of its time was asleep: a busy machine lets a process run more.
const IDLE_SHARE: f64 = 0.1;
/// What ran for a larger share of its time had the processor for itself: alone it gets no more.
const BUSY_SHARE: f64 = 0.9;
/// Bytes of a zygote's word, or of what a failed helper says.
const WORD_BYTES: usize = 1 << 10;
/// Most descriptors that travel to a fork.
const N_FDS_MAX: usize = 4;

/// All zygotes of a pool, and what they are made of.
#[derive(Debug)]
pub(crate) struct Zygotes {
    helper: PathBuf,
    request: String,
    /// The first message to each.
    setup: Vec<u8>,
    /// What a program without a folder may touch.
    ruleset: Option<OwnedFd>,
    is_confined: bool,
    interpreter_folders: Vec<PathBuf>,
    idle: Mutex<Vec<Zygote>>,
}

/// What a fork is to be.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    /// Its folder, and the one file of it that it may write.
    pub(crate) place: Option<(&'a Path, Option<&'a Path>)>,
    /// Its descriptors from 0 on.
    pub(crate) streams: &'a [BorrowedFd<'a>],
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    /// The CPU seconds that it took.
    pub(crate) cpu_s: f64,
}

impl Exit {
    /// True if a limit of so many CPU seconds ended it.
    pub(crate) fn has_used_up(&self, cpu_s: u64) -> bool {
        match self.status.signal() {
            Some(SIGXCPU) => true,
            // The second CPU limit's, unless it is ours.
            Some(SIGKILL) => self.cpu_s >= cpu_s as f64,
            _ => false,
        }
    }

    /// Whose time ran out where it was ended after so many seconds on the clock.
    pub(crate) fn clock(&self, wall_s: f64) -> Clock {
        if self.cpu_s < IDLE_SHARE * wall_s {
            Clock::Idle
        } else if self.cpu_s > BUSY_SHARE * wall_s {
            Clock::Cpu
        } else {
            Clock::Wall
        }
    }
}

#[derive(Debug)]
struct Zygote {
    child: Child,
    control: OwnedFd,
}

/// A process that a zygote forked; dropping it kills it and its group.
#[derive(Debug)]
pub(crate) struct Forked<'a> {
    zygotes: &'a Zygotes,
    /// Until the process has been waited for.
    zygote: Option<Zygote>,
    pid: Pid,
}

impl Zygotes {
    /// None is started yet.
    pub(crate) fn new(helper: PathBuf, interpreter: &Interpreter, level: Level) -> Self {
        let is_confined = level != Level::Off;
        let request = Request {
            python: interpreter.python.clone(),
            zygote: interpreter.zygote.clone(),
            confined: is_confined,
        };
        let folders = interpreter.prefixes.clone();
        Self {
            helper,
            request: serde_json::to_string(&request).expect("a request has only plain fields"),
            setup: setup(interpreter, level),
            ruleset: is_confined.then(|| ruleset(&folders, None, None)).flatten(),
            is_confined,
            interpreter_folders: folders,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// A process that becomes what is ordered: of an idle zygote, or of a new one.
    pub(crate) fn fork(&self, order: &Order<'_>) -> Result<Forked<'_>> {
        let own = match order.place {
            Some((folder, output)) if self.is_confined => {
                ruleset(&self.interpreter_folders, Some(folder), output)
            }
            _ => None,
        };
        let rules = own.as_ref().or(self.ruleset.as_ref()).map(AsFd::as_fd);
        let numbers: Vec<BorrowedFd<'_>> = order.streams.iter().copied().chain(rules).collect();
        let message = fork_message(order);
        let forked = |zygote: Zygote, pid| Forked {
            zygotes: self,
            zygote: Some(zygote),
            pid,
        };
        let idle = self.idle.lock().expect("no holder panics").pop();
        // One that does not answer any more was killed, and is let go.
        if let Some(zygote) = idle
            && let Ok(pid) = zygote.fork(&message, &numbers)
        {
            return Ok(forked(zygote, pid));
        }
        let zygote = self.start()?;
        let pid = zygote.fork(&message, &numbers)?;
        Ok(forked(zygote, pid))
    }

    fn start(&self) -> Result<Zygote> {
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        set_socket_timeout(&ours, Timeout::Recv, Some(SILENCE))?;
        set_socket_timeout(&ours, Timeout::Send, Some(SILENCE))?;
        let child = Command::new(&self.helper)
            .args([HELPER_ARGUMENT, &self.request])
            .stdin(Stdio::from(its.try_clone()?))
            .stdout(Stdio::from(its))
            .stderr(Stdio::null())
            .spawn()?;
        let zygote = Zygote {
            child,
            control: ours,
        };
        // One that has ended gets nothing; what it said before is the reason.
        let sent = zygote.send(&self.setup, &[]);
        let word = zygote.receive()?;
        sent?;
        match word.as_str() {
            "ready" => Ok(zygote),
            "" => Err(Error::other("the helper ended without a word")),
            other => Err(Error::other(other)),
        }
    }
}

/// What must hold, the drivers' codes by their roles, and the filters.
fn setup(interpreter: &Interpreter, level: Level) -> Vec<u8> {
    let required: &[&str] = match level {
        Level::Require => &["seccomp", "landlock"],
        Level::BestEffort | Level::Off => &[],
    };
    let filters = match level {
        Level::Require | Level::BestEffort => crate::seccomp::filters(),
        Level::Off => Filters::default(),
    };
    let mut message = Writer::default();
    message.tuple(4);
    message.list(required.len());
    required.iter().for_each(|layer| message.text(layer));
    message.list(interpreter.drivers.len());
    let drivers = interpreter.drivers.iter();
    drivers.for_each(|driver| message.bytes(driver));
    for filters in [filters.zygote, filters.fork] {
        message.list(filters.len());
        filters.iter().for_each(|filter| message.bytes(filter));
    }
    message.finish()
}

/// As the zygote's `become` takes it.
fn fork_message(order: &Order<'_>) -> Vec<u8> {
    let limits = order.limits;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut message = Writer::default();
    message.tuple(5);
    message.text("fork");
    message.int(order.role as i64);
    message.tuple(3);
    message.int(number(limits.cpu_s));
    message.int(number(limits.memory_bytes));
    message.int(number(limits.result_bytes_max as u64));
    let folder = order.place.map_or(Path::new("/"), |(folder, _)| folder);
    message.bytes(folder.as_os_str().as_bytes());
    message.int(order.streams.len() as i64);
    message.finish()
}

impl Zygote {
    fn send(&self, message: &[u8], numbers: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(N_FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !numbers.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(numbers)) {
            return Err(Error::other("too many descriptors for a fork"));
        }
        let parts = [std::io::IoSlice::new(message)];
        retry_on_intr(|| sendmsg(&self.control, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    fn receive(&self) -> Result<String> {
        let mut word = [0u8; WORD_BYTES];
        // A process that is stopped and goes on is interrupted here, since there is a time limit.
        let receive = || recv(&self.control, &mut word[..], RecvFlags::empty());
        let (n_bytes, _) = retry_on_intr(receive)?;
        Ok(String::from_utf8_lossy(&word[..n_bytes]).into_owned())
    }

    fn fork(&self, message: &[u8], numbers: &[BorrowedFd<'_>]) -> Result<Pid> {
        let began = Instant::now();
        loop {
            self.send(message, numbers)?;
            let word: i32 = self.receive()?.parse().map_err(Error::other)?;
            match Pid::from_raw(word.max(0)) {
                Some(pid) => return Ok(pid),
                // All processes that there are may be taken, for as long as another program runs.
                None if began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                None => {
                    let reason = Error::from_raw_os_error(-word);
                    let text = format!(
                        "no process can be started for a program: {reason}; `ulimit -u` and the \
                         container's limits say how many there may be"
                    );
                    return Err(Error::new(reason.kind(), text));
                }
            }
        }
    }

    /// Waits for a fork that has been killed.
    fn wait_for(&self, pid: Pid) -> Result<Exit> {
        let mut message = Writer::default();
        message.tuple(2);
        message.text("wait");
        message.int(pid.as_raw_nonzero().get().into());
        self.send(&message.finish(), &[])?;
        let word = self.receive()?;
        let parse = || {
            let (status, cpu_us) = word.split_once(' ')?;
            let status = ExitStatus::from_raw(status.parse().ok()?);
            let cpu_us: f64 = cpu_us.parse().ok()?;
            Some(Exit {
                status,
                cpu_s: cpu_us / 1e6,
            })
        };
        parse().ok_or_else(|| Error::other("the zygote does not say how a fork ended"))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Forked<'_> {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills it with its group; how it had ended, or that it was killed. Once.
    pub(crate) fn end(&mut self) -> Result<Exit> {
        let zygote = self.zygote.take();
        let zygote = zygote.ok_or_else(|| Error::other("the process has been waited for"))?;
        let _ = kill_process_group(self.pid, Signal::KILL);
        // It leads no group before it has come so far.
        let _ = kill_process(self.pid, Signal::KILL);
        let exit = zygote.wait_for(self.pid)?;
        let idle = &self.zygotes.idle;
        idle.lock().expect("no holder panics").push(zygote);
        Ok(exit)
    }
}

impl Drop for Forked<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
