//! The system calls that a program which computes has no need of.
//!
//! They fail with EPERM, and `clone3` with ENOSYS, after which the C library makes its threads
//! with `clone`, whose flags a filter can read. File modes, owners and times are here because
//! Landlock does not cover them. Not covered: what an allowed call does to the program itself.

use std::collections::BTreeMap;
use std::error::Error;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// Whole families: a part of one does for whoever guesses a number or inherits a descriptor.
const DENIED: &[c_long] = &[
    // Networks. What a program needs of a pair that it made itself is denied to forks in part.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    // Other processes: their memory, signals, ranks and places.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_get_robust_list,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpgid,
    SYS_PROCESS_MRELEASE,
    // Kernel interfaces with a history.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_personality,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    // Looking at and holding up the files of others.
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_flock,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Keys, and the objects of System V and POSIX that outlive a process. Not every object needs
    // a call of `get`: numbers can be guessed.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_OPEN_TREE_ATTR,
    SYS_STATMOUNT,
    SYS_LISTMOUNT,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    SYS_QUOTACTL_FD,
    // Changes to files that Landlock does not cover.
    libc::SYS_truncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_FCHMODAT2,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
];

/// What a zygote does for its forks, and forks may not.
const DENIED_TO_FORKS: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_setsid,
];

/// What forks may do to themselves alone: the first argument is this process. Programs look whether
/// they live, and raise their own stack; limits that hold are hard ones.
const FOR_ITSELF: &[(c_long, &[u32])] = &[
    (libc::SYS_kill, &[ITSELF]),
    (libc::SYS_tgkill, &[ITSELF]),
    (libc::SYS_prlimit64, &[ITSELF, 0]),
];
/// Stands in a filter for the number of the fork that takes it upon itself, which puts its own in
/// this place: no process has so high a number.
pub(crate) const ITSELF: u32 = 0x7fff_fff1;

/// Missing in the C library's list.
const SYS_IO_PGETEVENTS: c_long = if cfg!(target_arch = "x86_64") {
    333
} else {
    292
};

/// Younger than the C library's list of names; the same numbers on every architecture.
const SYS_QUOTACTL_FD: c_long = 443;
const SYS_PROCESS_MRELEASE: c_long = 448;
const SYS_FCHMODAT2: c_long = 452;
const SYS_STATMOUNT: c_long = 457;
const SYS_LISTMOUNT: c_long = 458;
const SYS_SETXATTRAT: c_long = 463;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_SETATTR: c_long = 469;
/// Younger than this list: absent, whatever they will do.
const UNKNOWN: std::ops::Range<c_long> = 470..512;

/// Calls that are denied with these arguments: which of them, and its values. Leases, locks and
/// signals of files hold up or end other processes, and so do large pipes, of which a user has so
/// many pages; attributes of files outlive the program.
const DENIED_WITH: &[(c_long, u8, &[u32])] = &[
    (
        libc::SYS_fcntl,
        1,
        &[
            F_SETLK,
            F_SETLKW,
            F_SETOWN,
            F_SETSIG,
            F_SETOWN_EX,
            F_OFD_SETLK,
            F_OFD_SETLKW,
            F_SETLEASE,
            F_NOTIFY,
            F_SETPIPE_SZ,
        ],
    ),
    (
        libc::SYS_ioctl,
        1,
        &[
            FS_IOC_SETFLAGS,
            FS_IOC32_SETFLAGS,
            FS_IOC_SETVERSION,
            FS_IOC_FSSETXATTR,
            FIOSETOWN,
            SIOCSPGRP,
            TIOCSTI,
        ],
    ),
];
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_SETSIG: u32 = 10;
const F_SETOWN_EX: u32 = 15;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_NOTIFY: u32 = 1026;
const F_SETPIPE_SZ: u32 = 1031;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
const FS_IOC_SETVERSION: u32 = 0x4008_7602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const TIOCSTI: u32 = 0x5412;

/// The same in forks: not to die with the zygote, and to have memory that others may open.
const DENIED_TO_FORKS_WITH: &[(c_long, u8, &[u32])] =
    &[(libc::SYS_prctl, 0, &[PR_SET_PDEATHSIG, PR_SET_DUMPABLE])];
const PR_SET_PDEATHSIG: u32 = 1;
const PR_SET_DUMPABLE: u32 = 4;

/// Calls that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_OLD: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_inotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_OLD: &[c_long] = &[];

#[cfg(target_arch = "x86_64")]
const FORKS_OLD: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS_OLD: &[c_long] = &[];

/// The x32 interface, which shares the architecture's mark: the same calls with this bit, and a
/// range of its own behind it.
#[cfg(target_arch = "x86_64")]
const X32: Option<(c_long, std::ops::Range<c_long>)> = Some((0x4000_0000, 512..560));
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<(c_long, std::ops::Range<c_long>)> = None;

/// The rules of a filter, by call; none is: whatever the arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters as the kernel takes them: of a zygote, and of each of its forks.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// What no program needs, the zygote included.
    pub(crate) zygote: Vec<Vec<u8>>,
    /// What only the zygote needs: forks, and limits for them.
    pub(crate) fork: Vec<Vec<u8>>,
}

/// All filters; none if there are none for this architecture.
pub(crate) fn filters() -> Filters {
    let build = || -> Result<Filters, Box<dyn Error>> {
        let absent = UNKNOWN.chain([libc::SYS_clone3]);
        let absent = absent.map(|call| (call, Vec::new())).collect();
        let mut always = denied(DENIED.iter().chain(DENIED_OLD));
        deny_with(&mut always, DENIED_WITH)?;
        let mut forks = denied(DENIED_TO_FORKS.iter().chain(FORKS_OLD));
        deny_with(&mut forks, DENIED_TO_FORKS_WITH)?;
        deny_processes(&mut forks)?;
        deny_others(&mut forks)?;
        deny_strange_pairs(&mut forks)?;
        Ok(Filters {
            zygote: vec![
                bytes(&filter(absent, libc::ENOSYS)?),
                bytes(&filter(always, libc::EPERM)?),
            ],
            fork: vec![bytes(&filter(forks, libc::EPERM)?)],
        })
    };
    build().unwrap_or_default()
}

fn bytes(filter: &BpfProgram) -> Vec<u8> {
    let instruction = |one: &sock_filter| {
        let [code_low, code_high] = one.code.to_ne_bytes();
        let [a, b, c, d] = one.k.to_ne_bytes();
        [code_low, code_high, one.jt, one.jf, a, b, c, d]
    };
    filter.iter().flat_map(instruction).collect()
}

fn filter(rules: Rules, error: i32) -> Result<BpfProgram, Box<dyn Error>> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Rules that hold whatever the arguments, for the calls and their forms of the x32 interface.
fn denied<'a>(calls: impl Iterator<Item = &'a c_long> + Clone) -> Rules {
    let mut rules: Rules = calls.clone().map(|call| (*call, Vec::new())).collect();
    if let Some((bit, own)) = X32 {
        let others = calls.copied().chain([libc::SYS_clone3]).chain(own);
        rules.extend(others.map(|call| (call | bit, Vec::new())));
    }
    rules
}

/// Adds rules for single arguments; the x32 forms are denied whatever these are.
fn deny_with(rules: &mut Rules, calls: &[(c_long, u8, &[u32])]) -> Result<(), Box<dyn Error>> {
    for (call, place, values) in calls {
        let one = |value: &u32| -> Result<SeccompRule, Box<dyn Error>> {
            let equal = SeccompCondition::new(
                *place,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                u64::from(*value),
            )?;
            Ok(SeccompRule::new(vec![equal])?)
        };
        rules.insert(*call, values.iter().map(one).collect::<Result<_, _>>()?);
        if let Some((bit, _)) = X32 {
            rules.insert(call | bit, Vec::new());
        }
    }
    Ok(())
}

/// clone makes threads only.
fn deny_processes(rules: &mut Rules) -> Result<(), Box<dyn Error>> {
    let flags = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    let no_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, flags, 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    if let Some((bit, _)) = X32 {
        rules.insert(libc::SYS_clone | bit, Vec::new());
    }
    Ok(())
}

/// What a fork may do to itself, it may not to others.
fn deny_others(rules: &mut Rules) -> Result<(), Box<dyn Error>> {
    for (call, selves) in FOR_ITSELF {
        let differs = |own: &u32| {
            let own = u64::from(*own);
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, own)
        };
        let conditions = selves.iter().map(differs).collect::<Result<_, _>>()?;
        rules.insert(*call, vec![SeccompRule::new(conditions)?]);
        if let Some((bit, _)) = X32 {
            rules.insert(call | bit, Vec::new());
        }
    }
    Ok(())
}

/// Pairs of local streams lead nowhere else, and event loops wake themselves with one; a datagram
/// of a pair can be sent to any address.
fn deny_strange_pairs(rules: &mut Rules) -> Result<(), Box<dyn Error>> {
    let dword = SeccompCmpArgLen::Dword;
    let local = libc::AF_UNIX as u64;
    let elsewhere = SeccompCondition::new(0, dword.clone(), SeccompCmpOp::Ne, local)?;
    let mut strange = vec![SeccompRule::new(vec![elsewhere])?];
    for kind in (0..=KINDS).filter(|kind| *kind != libc::SOCK_STREAM as u64) {
        let is_kind = SeccompCmpOp::MaskedEq(KINDS);
        let is_kind = SeccompCondition::new(1, dword.clone(), is_kind, kind)?;
        strange.push(SeccompRule::new(vec![is_kind])?);
    }
    rules.insert(libc::SYS_socketpair, strange);
    if let Some((bit, _)) = X32 {
        rules.insert(libc::SYS_socketpair | bit, Vec::new());
    }
    Ok(())
}
/// The bits of a socket's kind that are no flags.
const KINDS: u64 = 0xf;
