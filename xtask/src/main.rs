//! `cargo xtask tidy`: prints what breaks the rules of STYLE.md.
//! `cargo xtask mutants [CRATE] [--file FILE]`: prints what no test notices, and is not listed.

use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn main() -> anyhow::Result<ExitCode> {
    let root = xtask::workspace_root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = match arguments.first().map(String::as_str) {
        Some("tidy") => {
            let mut found = xtask::dependencies::violations(&root)?;
            found.extend(xtask::source::violations(&root)?);
            found
        }
        Some("mutants") => xtask::mutants::differences(&root, &arguments[1..])?,
        _ => {
            println!("usage: cargo xtask tidy | mutants [CRATE] [--file FILE]");
            return Ok(ExitCode::from(2));
        }
    };
    found.iter().for_each(|line| println!("{line}"));
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
