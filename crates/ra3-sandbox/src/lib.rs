//! Runs an untrusted Python program under limits and says what it returned.
//!
//! Each program has a process of its own: a re-executed helper (`confine`) confines itself and
//! becomes an interpreter that forks for each program (`zygote`, `driver/`); the fork takes upon
//! itself what it may not undo (`landlock`, `seccomp`, limits) before it reads the program. Calls
//! go in and type-tagged values come out over private pipes; the exit code and what a program
//! prints decide nothing. Values are compared by the caller ([`value`]), or by assert-style tests
//! in a second process (`session`), so nothing that the program can reach knows what is expected.
//!
//! Covered: CPU and wall time, memory, files, processes, network, output. Not covered: side
//! channels, bugs of the kernel; and at [`Level::Off`], children that leave their process group.

mod confine;
mod driver_value;
mod float;
mod interpreter;
mod landlock;
pub mod marshal;
mod pool;
mod process;
mod program;
mod script;
mod seccomp;
mod session;
pub mod value;
mod zygote;

pub use confine::helper_main_if_requested;
pub use marshal::{Arguments, EncodedValue};
pub use pool::{Pool, SandboxError};
pub use program::{CallResult, CallRule, Check, Clock, End, Level, Limits, Program, RunResult};
pub use script::{Script, ScriptEnd, ScriptResult};
pub use session::{OnResponse, Response, is_visible};
