//! Length of files and functions, module headers, banned names and calls.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lines of a function, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file, at most; one that opens with the word [`FLAT`] in its header may be longer.
const FILE_LINES_MAX: usize = 500;
/// Word in a header that claims a long, flat list.
const FLAT: &str = "flat list";
/// Characters of a line, at most.
const LINE_CHARS_MAX: usize = 100;
/// File names that say nothing.
const BANNED_NAMES: &[&str] = &["utils", "helpers", "common", "misc", "types", "manager"];
/// Folders in which `unsafe` may stand.
const UNSAFE_ALLOWED: &[&str] = &[
    "crates/ra3-sandbox/",
    "crates/ra3-lm/src/device/",
    "crates/ra3-corpus/src/shards.rs",
];

/// Every Rust file of the workspace, relative to its root, sorted.
///
/// # Errors
/// A folder cannot be read.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root.join(folder), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What breaks the rules, one sentence each.
///
/// # Errors
/// A file cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in files(root)? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        found.extend(check(&name, &text));
    }
    Ok(found)
}

fn check(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("{name}:{line}: {what}"));
    let stem = Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if BANNED_NAMES.contains(&stem.as_str()) {
        say(
            1,
            format!("a file called `{stem}` does not say its subject"),
        );
    }
    if !text.starts_with("//!") {
        say(
            1,
            "the file does not open with //! saying what it is".to_owned(),
        );
    }
    let header: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let n_lines = text.lines().count();
    if n_lines > FILE_LINES_MAX && !header.contains(FLAT) {
        say(1, format!("{n_lines} lines, at most {FILE_LINES_MAX}"));
    }
    let production = text.find("#[cfg(test)]").unwrap_or(text.len());
    let production_lines = text[..production].lines().count();
    let is_test = ["/tests/", "/benches/", "/tests.rs"]
        .iter()
        .any(|part| name.contains(part));
    for (index, line) in text.lines().enumerate() {
        if line.chars().count() > LINE_CHARS_MAX {
            say(index + 1, format!("more than {LINE_CHARS_MAX} characters"));
        }
        if is_test || index >= production_lines || line.trim_start().starts_with("//") {
            continue;
        }
        if line.contains(concat!(".unw", "rap()")) {
            say(index + 1, "unwrap outside tests".to_owned());
        }
        let is_unsafe =
            line.contains(concat!("uns", "afe {")) || line.contains(concat!("uns", "afe fn"));
        // The shards are one memory map, checked by a checksum before it is read.
        if is_unsafe && !UNSAFE_ALLOWED.iter().any(|folder| name.starts_with(folder)) {
            say(
                index + 1,
                "unsafe outside the folders that may have it".to_owned(),
            );
        }
    }
    for (line, length) in long_functions(text) {
        say(
            line,
            format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}"),
        );
    }
    found
}

/// First line and length of every function that is too long. A function ends where a line closes
/// with a brace at the depth of its `fn`, which rustfmt guarantees.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if !is_function(code) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines[start..]
            .iter()
            .position(|line| *line == closing)
            .map_or(0, |n| n + 1);
        if length > FUNCTION_LINES_MAX {
            found.push((start + 1, length));
        }
    }
    found
}

fn is_function(code: &str) -> bool {
    let words = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "const fn ",
        "pub const fn ",
    ];
    words.iter().any(|word| code.starts_with(word)) && !code.ends_with(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach() {
        assert!(check("crates/a/src/utils.rs", "//! Header.\n")[0].contains("does not say"));
        assert!(check("crates/a/src/b.rs", "fn a() {}\n")[0].contains("does not open"));
        let unwrapped = format!("//! H.\nfn a() {{ b.unw{}; }}\n", "rap()");
        assert!(check("crates/a/src/b.rs", &unwrapped)[0].contains("unwrap outside"));
        assert!(check("crates/a/tests/b.rs", &unwrapped).is_empty());
        let wide = format!("//! H.\n// {}\n", "x".repeat(120));
        assert!(check("crates/a/src/b.rs", &wide)[0].contains("characters"));
    }

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let body = "    let a = 1;\n".repeat(80);
        let long = format!("//! H.\nfn a() {{\n{body}}}\n");
        assert_eq!(long_functions(&long), [(2, 82)]);
        assert!(long_functions("//! H.\nfn a() {\n    let a = 1;\n}\n").is_empty());
    }
}
