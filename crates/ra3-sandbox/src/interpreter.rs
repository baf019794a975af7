//! The interpreter that programs run in: where it is, what it reads, and the drivers as it has
//! compiled them, which saves every process the time.

use std::path::PathBuf;
use std::process::Command;

use crate::confine::Role;
use crate::pool::SandboxError;

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

/// An interpreter.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) python: PathBuf,
    /// The folders that it reads.
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) version: String,
    /// Of the candidate, the checker and scripts: code objects in marshal's format, in hexadecimal.
    drivers: [String; 3],
}

impl Interpreter {
    /// Asks the one of this name.
    pub(crate) fn find(name: &str) -> Result<Self, SandboxError> {
        let fail = |reason: String| SandboxError::Python {
            python: name.to_owned(),
            reason,
        };
        let output = Command::new(name)
            .args(["-c", QUESTIONS, CANDIDATE, CHECKER, SCRIPT])
            .output()
            .map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        let version = next();
        let python = PathBuf::from(next());
        let drivers = [next(), next(), next()];
        if !python.is_file() || drivers.iter().any(String::is_empty) {
            return Err(fail("it does not say where it is".to_owned()));
        }
        let prefixes = lines.map(PathBuf::from);
        Ok(Self {
            python,
            prefixes: prefixes.filter(|path| path.as_os_str() != "/").collect(),
            version,
            drivers,
        })
    }

    pub(crate) fn driver(&self, role: Role) -> &str {
        &self.drivers[match role {
            Role::Candidate => 0,
            Role::Checker => 1,
            Role::Script => 2,
        }]
    }
}
