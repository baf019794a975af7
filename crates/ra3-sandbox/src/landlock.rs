//! What files a program may touch, as a ruleset that a process takes upon itself by its descriptor.
//!
//! Rulesets are made by the parent: once for all programs, and one for each that has a folder. Not
//! covered by Landlock: modes, owners and times of files, which `seccomp` denies.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

/// What every interpreter reads.
const SYSTEM: [&str; 7] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/dev/urandom",
    "/dev/zero",
];

/// Reading of the interpreter's folders and one more, writing of one file, no network, no signals;
/// `None` where the kernel has no Landlock.
pub(crate) fn ruleset(
    interpreter: &[PathBuf],
    folder: Option<&Path>,
    output: Option<&Path>,
) -> Option<OwnedFd> {
    let abi = ABI::V6;
    let readable = SYSTEM
        .iter()
        .map(Path::new)
        .chain(interpreter.iter().map(PathBuf::as_path))
        .chain(folder);
    let build = || -> Result<Option<OwnedFd>, RulesetError> {
        let created = Ruleset::default()
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
                output,
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            ))?;
        Ok(created.into())
    };
    build().ok().flatten()
}
