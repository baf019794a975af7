//! `cargo xtask tidy`: prints what breaks the rules of STYLE.md.

use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn main() -> anyhow::Result<ExitCode> {
    let root = xtask::workspace_root();
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let mut found = xtask::dependencies::violations(&root)?;
            found.extend(xtask::source::violations(&root)?);
            for line in &found {
                println!("{line}");
            }
            Ok(if found.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        _ => {
            println!("usage: cargo xtask tidy");
            Ok(ExitCode::from(2))
        }
    }
}
