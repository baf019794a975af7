//! Where the published benchmarks lie that some tests read; without them these say so and skip.

use std::path::PathBuf;

/// Their folder: what `RA3_BENCHMARKS` names, or one beside the repository.
pub(crate) fn benchmarks() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/benchmarks"
    ));
    let path = std::env::var_os("RA3_BENCHMARKS").map_or(path, PathBuf::from);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}
