//! The interpreter that programs run in: where it is, what it reads, and the drivers as it has
//! compiled them, which saves every process the time.

use std::path::PathBuf;
use std::process::Command;

use crate::marshal::bytes_of;
use crate::pool::SandboxError;

const ZYGOTE: &str = include_str!("driver/zygote.py");
const CANDIDATE: &str = concat!(
    include_str!("driver/channel.py"),
    include_str!("driver/candidate.py")
);
const CHECKER: &str = concat!(
    include_str!("driver/channel.py"),
    include_str!("driver/checker.py")
);
const SCRIPT: &str = include_str!("driver/script.py");

/// A line each: the version, the path, the drivers that are its arguments, the folders. In a
/// virtual environment the interpreter is a link, and its libraries are elsewhere.
const QUESTIONS: &str = "\
import marshal, platform, sys, sysconfig
print(platform.python_version())
print(getattr(sys, '_base_executable', None) or sys.executable)
for driver in sys.argv[1:]:
    print(marshal.dumps(compile(driver, '<driver>', 'exec', 0, True)).hex())
print(sys.base_prefix)
print(sysconfig.get_path('stdlib'))
";

/// Which driver a process runs: its place among [`Interpreter::drivers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The program under test.
    Candidate = 0,
    /// Assert-style tests.
    Checker = 1,
    /// A whole program with standard streams of its own.
    Script = 2,
}

/// An interpreter.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) python: PathBuf,
    /// The folders that it reads.
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) version: String,
    /// A code object in marshal's format, in hexadecimal.
    pub(crate) zygote: String,
    /// The same of the drivers, by their roles, as they are.
    pub(crate) drivers: [Vec<u8>; 3],
}

impl Interpreter {
    /// Asks the one of this name.
    pub(crate) fn find(name: &str) -> Result<Self, SandboxError> {
        let fail = |reason: String| SandboxError::Python {
            python: name.to_owned(),
            reason,
        };
        let output = Command::new(name)
            .args(["-c", QUESTIONS, ZYGOTE, CANDIDATE, CHECKER, SCRIPT])
            .output()
            .map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        let version = next();
        let python = PathBuf::from(next());
        let zygote = next();
        let drivers = [next(), next(), next()];
        if !python.is_file() || zygote.is_empty() || drivers.iter().any(String::is_empty) {
            return Err(fail("it does not say where it is".to_owned()));
        }
        let prefixes = lines.map(PathBuf::from);
        Ok(Self {
            python,
            prefixes: prefixes.filter(|path| path.as_os_str() != "/").collect(),
            version,
            zygote,
            drivers: drivers.map(|hex| bytes_of(&hex)),
        })
    }
}
