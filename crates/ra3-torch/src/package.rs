//! The worker's Python, which this binary carries.

use std::path::Path;

use ra3_files::WriteError;
use sha2::{Digest, Sha256};

const PACKAGE: &str = "ra3_worker";

/// Its files by name.
const FILES: [(&str, &str); 23] = [
    (
        "__init__.py",
        include_str!("../python/ra3_worker/__init__.py"),
    ),
    (
        "adapters.py",
        include_str!("../python/ra3_worker/adapters.py"),
    ),
    ("ahead.py", include_str!("../python/ra3_worker/ahead.py")),
    (
        "attention.py",
        include_str!("../python/ra3_worker/attention.py"),
    ),
    (
        "compiled.py",
        include_str!("../python/ra3_worker/compiled.py"),
    ),
    ("draw.py", include_str!("../python/ra3_worker/draw.py")),
    ("graphs.py", include_str!("../python/ra3_worker/graphs.py")),
    ("hub.py", include_str!("../python/ra3_worker/hub.py")),
    ("join.py", include_str!("../python/ra3_worker/join.py")),
    (
        "last_layer.py",
        include_str!("../python/ra3_worker/last_layer.py"),
    ),
    ("main.py", include_str!("../python/ra3_worker/main.py")),
    ("model.py", include_str!("../python/ra3_worker/model.py")),
    ("parts.py", include_str!("../python/ra3_worker/parts.py")),
    ("pool.py", include_str!("../python/ra3_worker/pool.py")),
    (
        "product.py",
        include_str!("../python/ra3_worker/product.py"),
    ),
    ("ranks.py", include_str!("../python/ra3_worker/ranks.py")),
    ("run.py", include_str!("../python/ra3_worker/run.py")),
    ("serve.py", include_str!("../python/ra3_worker/serve.py")),
    (
        "sharding.py",
        include_str!("../python/ra3_worker/sharding.py"),
    ),
    ("state.py", include_str!("../python/ra3_worker/state.py")),
    ("trie.py", include_str!("../python/ra3_worker/trie.py")),
    ("update.py", include_str!("../python/ra3_worker/update.py")),
    ("wire.py", include_str!("../python/ra3_worker/wire.py")),
];

/// SHA-256 over names and texts, as the worker computes it of its own files.
pub(crate) fn hash() -> String {
    let mut digest = Sha256::new();
    for (name, text) in FILES {
        digest.update(format!("{name}\0{text}\0"));
    }
    format!("{:x}", digest.finalize())
}

/// Writes the package into a folder, where it is not there as it is here.
pub(crate) fn write(folder: &Path) -> Result<(), WriteError> {
    let package = folder.join(PACKAGE);
    std::fs::create_dir_all(&package).map_err(ra3_files::at(&package))?;
    for (name, text) in FILES {
        let path = package.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            ra3_files::write(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is carried is all that is there.
    #[test]
    fn every_file_of_the_package_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("python")
            .join(PACKAGE);
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("the package")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .filter(|name| Path::new(name).extension() == Some("py".as_ref()))
            .collect();
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name.to_owned()));
    }

    #[test]
    fn what_is_damaged_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("a package");
        let main = folder.path().join(PACKAGE).join("main.py");
        std::fs::write(&main, "").expect("a file");
        write(folder.path()).expect("a package");
        assert!(
            std::fs::read_to_string(&main)
                .expect("a file")
                .contains("def main")
        );
    }
}
