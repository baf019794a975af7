//! Checks, goldens and benches of the workspace.

fn main() {}
