//! The helper: this very program, started again, which limits and confines itself and then becomes
//! the interpreter.
//!
//! A fresh single-threaded process, because seccomp and Landlock are per thread and neither can be
//! set up between fork and exec of a threaded parent. Where something does not hold that is
//! required, it does not become the interpreter. Not done here: cgroups, and the namespaces of
//! processes and mounts, which would take a fork and a file system of their own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, setrlimit, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use serde::{Deserialize, Serialize};

/// First argument of a process that is to be the helper.
pub(crate) const HELPER_ARGUMENT: &str = "--ra3-sandbox-helper";

/// The user without rights.
const NOBODY: u32 = 65534;
/// Threads of one user, where the kernel counts them: far more than a program needs.
const N_THREADS_MAX: u64 = 512;

/// What the parent asks of the helper, as its second argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) role: Role,
    pub(crate) python: PathBuf,
    /// As [`crate::interpreter`] has it.
    pub(crate) driver: String,
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) cpu_s: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) confined: bool,
    pub(crate) required: bool,
    /// The folder of a script, which it may read.
    pub(crate) folder: Option<PathBuf>,
    /// The one file of it that it may write.
    pub(crate) output: Option<PathBuf>,
    /// Bytes of a file that it writes.
    pub(crate) file_bytes_max: u64,
}

/// Which driver the interpreter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The program under test.
    Candidate,
    /// Assert-style tests.
    Checker,
    /// A whole program with standard streams of its own.
    Script,
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
        .and_then(|request| become_interpreter(&request));
    // Only a failure comes back. The parent believes this line only where no other came before.
    let reason = error.err().unwrap_or_default();
    let refusal = serde_json::json!({ "refused": reason });
    let _ = writeln!(std::io::stdout(), "{refusal}");
    #[expect(clippy::exit, reason = "the helper is a process of its own")]
    std::process::exit(125);
}

fn become_interpreter(request: &Request) -> Result<(), String> {
    setsid().map_err(|error| error.to_string())?;
    close_what_was_inherited();
    limit(request)?;
    let mut held = vec!["limits"];
    if request.confined {
        // While there are rights to do so.
        held.extend(enter_namespaces().then_some("namespaces"));
        held.extend(lower_rights(&request.python));
    }
    // After the change of user, which forgets it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| error.to_string())?;
    if request.confined {
        limit_threads()?;
        rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
        if landlock(request) {
            held.push("landlock");
        }
        if crate::seccomp::apply() {
            held.push("seccomp");
        }
    }
    if request.required && !crate::pool::is_enough(&held) {
        return Err(format!("only {} holds", held.join(", ")));
    }
    let driver = format!(
        "import marshal;exec(marshal.loads(bytes.fromhex('{}')))",
        request.driver
    );
    let stderr = match request.role {
        Role::Candidate | Role::Checker => Stdio::null(),
        Role::Script => Stdio::inherit(),
    };
    let folder = request.folder.as_deref().unwrap_or(Path::new("/"));
    let error = Command::new(&request.python)
        // Not isolated by `-I`, which would draw another hash seed for every process.
        .args(["-s", "-S", "-B", "-c", &driver])
        .args(held)
        .env_clear()
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONSAFEPATH", "1")
        .env("LC_ALL", "C.UTF-8")
        .env("OMP_NUM_THREADS", "1")
        .current_dir(folder)
        .stderr(stderr)
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

fn limit(request: &Request) -> Result<(), String> {
    // The first CPU limit sends SIGXCPU, which a program may ignore; the second kills.
    lower(Resource::Cpu, request.cpu_s, request.cpu_s + 1)?;
    for (resource, limit) in [
        (Resource::As, request.memory_bytes),
        (Resource::Fsize, request.file_bytes_max),
        (Resource::Nofile, 32),
        (Resource::Core, 0),
    ] {
        lower(resource, limit, limit)?;
    }
    Ok(())
}

/// Root is exempt from this one, and would share the count with all its other processes.
fn limit_threads() -> Result<(), String> {
    lower(Resource::Nproc, N_THREADS_MAX, N_THREADS_MAX)
}

/// Sets a limit, never above the hard limit that we were given.
fn lower(resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let given = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let pair = Rlimit {
        current: Some(soft.min(given)),
        maximum: Some(hard.min(given)),
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
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let is_root = rustix::process::geteuid().is_root();
    if is_root && is_open_to_all(python) {
        let is_nobody = rustix::thread::set_thread_groups(&[]).is_ok()
            && rustix::thread::set_thread_res_gid(group, group, group).is_ok()
            && rustix::thread::set_thread_res_uid(user, user, user).is_ok();
        held.extend(is_nobody.then_some("nobody"));
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

fn is_open_to_all(python: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    std::fs::canonicalize(python).is_ok_and(|real| real.ancestors().all(is_open))
}

/// Reading of the interpreter, its libraries and the folder only, writing of the one file, no
/// network, no signals.
fn landlock(request: &Request) -> bool {
    let abi = ABI::V6;
    let system = [
        "/usr",
        "/lib",
        "/lib64",
        "/bin",
        "/etc/ld.so.cache",
        "/dev/urandom",
        "/dev/zero",
    ];
    let readable = system
        .iter()
        .map(PathBuf::from)
        .chain(request.prefixes.iter().cloned())
        .chain(request.folder.clone());
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(
                ["/dev/null"],
                AccessFs::ReadFile | AccessFs::WriteFile,
            ))?
            .add_rules(path_beneath_rules(
                &request.output,
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            ))?
            .restrict_self()
    };
    build().is_ok_and(|status| status.ruleset != landlock::RulesetStatus::NotEnforced)
}
