//! Names of models that can only be paths.
//!
//! A folder that was mistyped must not become a question to a server: the answer would speak of
//! access, and the name of a private path would have left the machine.

use std::path::Path;

/// Endings of files that people pass instead of their folder.
const FILE_ENDINGS: [&str; 7] = [
    ".safetensors",
    ".json",
    ".bin",
    ".gguf",
    ".pt",
    ".pth",
    ".toml",
];

/// Why a name that is no folder can be nothing but a path, and what to do.
pub(super) fn why_a_path(name: &str) -> Option<String> {
    let path = Path::new(name);
    // A revision may hold slashes.
    let repository = name
        .split_once('@')
        .map_or(name, |(repository, _)| repository);
    if path.exists() {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).display();
        return Some(format!(
            "it is no folder: pass the model's folder, such as {folder}"
        ));
    }
    if path.symlink_metadata().is_ok() {
        return Some("it is a link that leads nowhere".to_owned());
    }
    if name.starts_with('~') {
        return Some("`~` is not expanded here: write $HOME, or the whole path".to_owned());
    }
    let is_path = name.starts_with(['/', '.'])
        || name.ends_with('/')
        || name.contains('\\')
        || repository.matches('/').count() > 1;
    if is_path || FILE_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return Some(format!("there is no such folder{}", below(path)));
    }
    let (parent, rest) = name.split_once('/')?;
    let is_bare = !name.contains('@') && Path::new(parent).is_dir();
    is_bare.then(|| {
        format!("the folder {parent} here has no {rest}; if the Hub's is meant, write {name}@main")
    })
}

/// Where the path ends to be there.
fn below(path: &Path) -> String {
    let mut folders = path.ancestors().skip(1);
    match folders.find(|folder| folder.is_dir() && !folder.as_os_str().is_empty()) {
        Some(folder) => format!(
            ": {} is there, and nothing of that name below it",
            folder.display()
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        for path in [
            "/models/x",
            "./x",
            "../x",
            ".",
            "~/x",
            "~bob/x",
            "runs/out/models/base",
            "a/b/c@main",
            "x/",
            "org/name/",
            "models\\base",
            "org/model.safetensors",
            "Cargo.toml",
        ] {
            assert!(why_a_path(path).is_some(), "{path}");
        }
        for name in [
            "org/name",
            "Qwen/Qwen2.5-1.5B",
            "a/b@refs/pr/3",
            "src/x@main",
            "gpt2",
        ] {
            assert_eq!(why_a_path(name), None, "{name}");
        }
        // Tests run in the crate's folder.
        let found = why_a_path("src/nothing").unwrap();
        assert!(found.contains("src here has no nothing") && found.contains("src/nothing@main"));
        let found = why_a_path("tests/hub/nothing").unwrap();
        assert!(found.contains("tests/hub is there"), "{found}");
    }

    proptest! {
        #[test]
        fn no_path_becomes_a_name(
            start in prop::sample::select(vec!["/", "./", "../", "~", "a/b/"]),
            rest in "[a-zA-Z0-9._-]{0,8}(/[a-zA-Z0-9._-]{1,8}){0,3}",
        ) {
            let name = format!("{start}{rest}");
            prop_assume!(!Path::new(&name).is_dir());
            prop_assert!(why_a_path(&name).is_some(), "{}", name);
        }
    }
}
