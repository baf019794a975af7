//! Runs an untrusted Python program under limits and says what it returned.
//!
//! Each program has a process of its own: a re-executed helper ([`confine`]) limits and confines
//! itself, then becomes the interpreter with a small driver. Requests and results go over private
//! pipes; the exit code and what a program prints decide nothing. Values come back as type-tagged
//! JSON ([`value`]) and are compared by the caller, so nothing that the program can reach knows
//! what is expected. Covered: CPU and wall time, memory, files, processes, network, output, and
//! everything the program started is killed. Not covered: side channels, bugs of the kernel.

pub mod confine;
pub mod run;
pub mod value;

pub use confine::helper_main_if_requested;
pub use run::{CallResult, End, Level, Limits, Pool, Program, RunResult, SandboxError};
