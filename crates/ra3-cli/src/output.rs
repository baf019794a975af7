//! Standard output and standard error, either of which may be closed at any moment: `ra3 … | head`
//! and a terminal that is gone.

use std::fmt::{self, Display};
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use ra3_run::visible::visible;

/// Nobody reads standard output any more; there is nothing left to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputClosed;

impl OutputClosed {
    /// What a shell reports of a program that `SIGPIPE` ended.
    pub(crate) const EXIT_CODE: u8 = 141;
}

impl Display for OutputClosed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("standard output was closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Writes a line of results.
pub(crate) fn print(text: impl Display) -> Result<()> {
    print_as_is(format_args!("{text}\n"))
}

/// [`print()`] without an end of line.
pub(crate) fn print_as_is(text: impl Display) -> Result<()> {
    let mut output = std::io::stdout().lock();
    let written = write!(output, "{text}").and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// True where standard output is a terminal, and nobody asked for no colour (no-color.org).
pub(crate) fn is_coloured() -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_unwanted
}

/// Writes a line for whoever watches; that nobody does is no reason to stop. Names and reasons from
/// files that users bring neither turn nor hide it.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", visible(&text.to_string()));
}
