//! The rules of STYLE.md that a program can check.
//!
//! `cargo xtask tidy` prints what is broken; `cargo test -p xtask` fails on it. These checks read
//! text, not syntax trees: rustfmt's layout is what makes that enough.

pub mod dependencies;
pub mod mutants;
pub mod source;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn workspace_root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}
