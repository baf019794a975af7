//! The helper: this very program, started again, which limits itself, gives up what rights it has
//! and then becomes a zygote ([`crate::zygote`]).
//!
//! A fresh single-threaded process, because namespaces and rights are a thread's own. What would
//! keep the zygote from forking, each fork takes upon itself: Landlock, seccomp, and the limits of
//! its program. Not done here: cgroups, and the namespaces of processes and mounts, which would
//! take a fork and a file system of their own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::seccomp::ITSELF;

/// First argument of a process that is to be the helper.
pub(crate) const HELPER_ARGUMENT: &str = "--ra3-sandbox-helper";

/// The user without rights.
const NOBODY: u32 = 65534;
/// Users that no system has: one for each zygote, so that its program's threads are counted alone.
const USERS_FIRST: u32 = 0x7000_0000;
/// Threads of one program, where the kernel counts them: far more than one needs.
const N_THREADS_MAX: u64 = 512;

/// What the parent asks of the helper, as its second argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) python: PathBuf,
    /// The zygote's code, as [`crate::interpreter`] has it.
    pub(crate) zygote: String,
    pub(crate) confined: bool,
}

/// Becomes the helper if this process was started as one; returns otherwise.
pub fn helper_main_if_requested() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(HELPER_ARGUMENT) {
        return;
    }
    let error = arguments
        .next()
        .ok_or_else(|| "no request".to_owned())
        .and_then(|text| serde_json::from_str::<Request>(&text).map_err(|e| e.to_string()))
        .and_then(|request| become_zygote(&request));
    // Only a failure comes back. The parent takes any word but one for it.
    let _ = write!(std::io::stdout(), "{}", error.err().unwrap_or_default());
    let _ = std::io::stdout().flush();
    #[expect(clippy::exit, reason = "the helper is a process of its own")]
    std::process::exit(125);
}

fn become_zygote(request: &Request) -> Result<(), String> {
    setsid().map_err(|error| error.to_string())?;
    close_what_was_inherited();
    for (resource, limit) in [(Resource::Nofile, 32), (Resource::Core, 0)] {
        lower(resource, limit)?;
    }
    let mut held = vec!["limits"];
    if request.confined {
        // While there are rights to do so.
        held.extend(enter_namespaces().then_some("namespaces"));
        held.extend(lower_rights(&request.python));
    }
    if request.confined {
        rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
    }
    let code = format!(
        "import marshal;exec(marshal.loads(bytes.fromhex('{}')))",
        request.zygote
    );
    // Forks take this limit upon themselves: one of its own would keep the zygote from forking.
    let n_threads = if request.confined { N_THREADS_MAX } else { 0 };
    // All processes of an ordinary user are one count.
    let count = if held.contains(&"own_user") {
        "alone"
    } else {
        "shared"
    };
    let numbers = [n_threads.to_string(), count.to_owned(), ITSELF.to_string()];
    let error = Command::new(&request.python)
        // Not isolated by `-I`, which would draw another hash seed for every process.
        .args(["-s", "-S", "-B", "-c", &code])
        .args(numbers)
        .args(held)
        .env_clear()
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONSAFEPATH", "1")
        .env("LC_ALL", "C.UTF-8")
        .env("OMP_NUM_THREADS", "1")
        .current_dir("/")
        .stderr(Stdio::null())
        .exec();
    Err(format!(
        "cannot start {}: {error}",
        request.python.display()
    ))
}

#[expect(
    unsafe_code,
    reason = "close_range has no safe wrapper; it marks, it does not close"
)]
fn close_what_was_inherited() {
    // SAFETY: marks descriptors from 3 on as close-on-exec; none is used afterwards.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// Sets a limit, never above the hard limit that we were given.
fn lower(resource: Resource, limit: u64) -> Result<(), String> {
    let given = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let limit = Some(limit.min(given));
    let pair = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(resource, pair).map_err(|error| format!("cannot set {resource:?}: {error}"))
}

/// Networks, message queues and host names that nobody else has. An ordinary user needs a
/// namespace of users for that, which many systems do not give.
#[expect(
    unsafe_code,
    reason = "unshare is unsafe where threads share descriptors; the helper has one thread"
)]
fn enter_namespaces() -> bool {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    let flags = if rustix::process::geteuid().is_root() {
        own
    } else {
        own | UnshareFlags::NEWUSER
    };
    // SAFETY: none of the flags concerns descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }.is_ok()
}

/// Gives up what root may do: its capabilities for good, and its name where nobody can run the
/// interpreter. An ordinary user has nothing to give up. The calls are those of one thread, and
/// the helper has no other.
fn lower_rights(python: &Path) -> Vec<&'static str> {
    let mut held = Vec::new();
    for capability in CapabilitySet::all().iter() {
        // Fails without the right to do so, or where the kernel does not know it.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root && is_open_to_all(python) {
        let own = USERS_FIRST + std::process::id();
        // In a container there may be no such user.
        let user = [("own_user", own), ("nobody", NOBODY)];
        let became = user.into_iter().find(|(_, number)| become_user(*number));
        held.extend(became.map(|(name, _)| name));
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let has_none = rustix::thread::set_capabilities(None, none).is_ok();
    // Root regains on exec whatever the bounding set still holds.
    let has_kept =
        |capability| rustix::thread::capability_is_in_bounding_set(capability).is_ok_and(|has| has);
    let regains = rustix::process::geteuid().is_root() && CapabilitySet::all().iter().any(has_kept);
    held.extend((has_none && !regains).then_some("no_capabilities"));
    held
}

fn become_user(number: u32) -> bool {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    rustix::thread::set_thread_groups(&[]).is_ok()
        && rustix::thread::set_thread_res_gid(group, group, group).is_ok()
        && rustix::thread::set_thread_res_uid(user, user, user).is_ok()
}

fn is_open_to_all(python: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    std::fs::canonicalize(python).is_ok_and(|real| real.ancestors().all(is_open))
}
