//! `cargo xtask tidy`: prints what breaks the rules of STYLE.md.

use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn main() -> anyhow::Result<ExitCode> {
    let root = xtask::workspace_root();
    if std::env::args().nth(1).as_deref() != Some("tidy") {
        println!("usage: cargo xtask tidy");
        return Ok(ExitCode::from(2));
    }
    let mut found = xtask::dependencies::violations(&root)?;
    found.extend(xtask::source::violations(&root)?);
    found.iter().for_each(|line| println!("{line}"));
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
