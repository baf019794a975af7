//! The worker's process: started by a command, ended with all that it has started.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// Of the log, what an error shows.
const LINES_SHOWN: usize = 12;
/// The same of a log that ends with what `torchrun` says of ranks.
const LINES_SHOWN_OF_RANKS: usize = 60;
const BYTES_SHOWN: u64 = 1 << 14;

/// A process that leads a group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    /// Starts `command` with these arguments behind its own, in a folder. What it prints goes to
    /// `log`, which is begun anew.
    pub(crate) fn start(
        command: &[String],
        arguments: &[String],
        variables: &[(&str, String)],
        folder: &Path,
        log: &Path,
    ) -> io::Result<Self> {
        if let Some(parent) = log.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let output = File::create(log)?;
        let (program, own) = command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let child = Command::new(program)
            .args(own)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// True once it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends its whole group.
    pub(crate) fn end(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended by itself, and whom it started with it.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// The last lines that it printed, and those that ranks printed which have logs of their own.
    pub(crate) fn output(&self, ranks: &[u32]) -> String {
        let own = ranks.iter().filter(|rank| **rank > 0);
        let logs = own.map(|rank| self.log.with_extension(format!("{rank}.log")));
        let mut logs: Vec<PathBuf> = logs.collect();
        if logs.is_empty() || ranks.contains(&0) {
            logs.insert(0, self.log.clone());
        }
        let n_shown = |log: &Path| match ranks {
            [_, _, ..] if log == self.log => LINES_SHOWN_OF_RANKS,
            _ => LINES_SHOWN,
        };
        let shown = logs.iter().map(|log| {
            let text = end_of(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(n_shown(log))..].join("\n");
            format!("the last of {}:\n{last}", log.display())
        });
        shown.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let n_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(n_bytes.saturating_sub(BYTES_SHOWN)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
