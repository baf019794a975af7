//! The helper: this very program, started again, which limits and confines itself and then becomes
//! the interpreter.
//!
//! A fresh single-threaded process, because seccomp and Landlock are per thread and neither can be
//! set up between fork and exec of a threaded parent.

use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal, setrlimit, setsid};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
use seccompiler::{SeccompFilter, SeccompRule};
use serde::{Deserialize, Serialize};

/// First argument of a process that is to be the helper.
pub const HELPER_ARGUMENT: &str = "--ra3-sandbox-helper";

const DRIVER: &str = include_str!("driver.py");
/// The user without rights.
const NOBODY: libc::uid_t = 65534;

/// What the parent asks of the helper, as its second argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) python: PathBuf,
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) cpu_s: u64,
    pub(crate) memory_bytes: u64,
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
        .and_then(|request| become_interpreter(&request));
    // Only a failure comes back; the parent sees a helper that said nothing.
    let reason = error.err().unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "sandbox helper: {reason}");
    #[expect(clippy::exit, reason = "the helper is a process of its own")]
    std::process::exit(125);
}

fn become_interpreter(request: &Request) -> Result<(), String> {
    let mut input = String::new();
    std::io::stdin()
        .read_to_string(&mut input)
        .map_err(|error| error.to_string())?;
    setsid().map_err(|error| error.to_string())?;
    close_what_was_inherited();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| error.to_string())?;
    limit(request)?;
    // Made before the confinement, which forbids making one.
    let mut file = memory_file()?;
    let mut held = vec!["limits"];
    if request.confined {
        if drop_root(&request.python) {
            held.push("unprivileged");
        }
        rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
        if landlock(&request.prefixes) {
            held.push("landlock");
        }
        if seccomp() {
            held.push("seccomp");
        }
    }
    let mut message: serde_json::Value =
        serde_json::from_str(&input).map_err(|error| error.to_string())?;
    message["confinement"] = serde_json::json!(held);
    file.write_all(message.to_string().as_bytes())
        .and_then(|()| file.rewind())
        .map_err(|error| error.to_string())?;
    let error = Command::new(&request.python)
        .args(["-I", "-S", "-B", "-c", DRIVER])
        .env_clear()
        .env("PYTHONHASHSEED", "0")
        .env("LC_ALL", "C.UTF-8")
        .env("OMP_NUM_THREADS", "1")
        .current_dir("/")
        .stdin(file)
        .stderr(std::process::Stdio::null())
        .exec();
    Err(format!(
        "cannot start {}: {error}",
        request.python.display()
    ))
}

/// A file without a name: the request may be longer than a pipe holds.
fn memory_file() -> Result<std::fs::File, String> {
    rustix::fs::memfd_create("request", rustix::fs::MemfdFlags::CLOEXEC)
        .map(std::fs::File::from)
        .map_err(|error| error.to_string())
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
    let limits = [
        (Resource::Cpu, request.cpu_s),
        (Resource::As, request.memory_bytes),
        (Resource::Fsize, 1 << 20),
        (Resource::Nofile, 32),
        (Resource::Core, 0),
        (Resource::Nproc, 64),
    ];
    for (resource, wanted) in limits {
        // Never above the hard limit that we were given.
        let hard = rustix::process::getrlimit(resource)
            .maximum
            .unwrap_or(u64::MAX);
        let limit = wanted.min(hard);
        let pair = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        // As root the number of processes counts the whole user: left to seccomp.
        if resource == Resource::Nproc {
            continue;
        }
        setrlimit(resource, pair).map_err(|error| format!("cannot set {resource:?}: {error}"))?;
    }
    Ok(())
}

/// Becomes nobody, if this is root and nobody can run the interpreter.
#[expect(
    unsafe_code,
    reason = "changing the user of the whole process is libc's alone"
)]
fn drop_root(python: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    let real = std::fs::canonicalize(python).unwrap_or_else(|_| python.to_owned());
    if !rustix::process::geteuid().is_root() || !real.ancestors().all(is_open) {
        return false;
    }
    // SAFETY: plain system calls of a single-threaded process; each result is checked.
    unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    }
}

/// Reading of the interpreter and its libraries only, no writing, no network.
fn landlock(prefixes: &[PathBuf]) -> bool {
    let abi = ABI::V5;
    let system = [
        "/usr",
        "/lib",
        "/lib64",
        "/bin",
        "/etc/ld.so.cache",
        "/dev/urandom",
    ];
    let readable = system
        .iter()
        .map(PathBuf::from)
        .chain(prefixes.iter().cloned());
    let build = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(
                ["/dev/null"],
                AccessFs::ReadFile | AccessFs::WriteFile,
            ))?
            .restrict_self()
    };
    build().is_ok_and(|status| status.ruleset != landlock::RulesetStatus::NotEnforced)
}

/// Calls that a program which computes has no need of: they fail with EPERM.
fn denied_calls() -> Vec<libc::c_long> {
    vec![
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_userfaultfd,
        libc::SYS_personality,
        libc::SYS_memfd_create,
        libc::SYS_shmget,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone3,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_setpriority,
        libc::SYS_prlimit64,
        libc::SYS_setrlimit,
        libc::SYS_setsid,
        libc::SYS_setpgid,
    ]
}

fn seccomp() -> bool {
    let build = || -> Result<BpfProgram, Box<dyn std::error::Error>> {
        let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = denied_calls()
            .into_iter()
            .map(|call| (call, Vec::new()))
            .collect();
        // clone makes threads only.
        let thread = libc::CLONE_THREAD as u64;
        let no_thread = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(thread),
            0,
        )?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            std::env::consts::ARCH.try_into()?,
        )?;
        Ok(filter.try_into()?)
    };
    build().is_ok_and(|program| seccompiler::apply_filter(&program).is_ok())
}
