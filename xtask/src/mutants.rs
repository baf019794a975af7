//! `cargo xtask mutants`: the method and the engine are changed on purpose, one place at a time,
//! and what no test notices is compared with the list in `docs/mutants.md`.
//!
//! It takes under a minute a change, so it is run on some files, and is no part of the tests.
//! `cargo install cargo-mutants` brings the tool; `.cargo/mutants.toml` says what of each crate is
//! changed. A change is known by its file and words, not by its line, so that the list survives
//! edits elsewhere in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A crate, and the tests that have to notice: all of them where none are named.
const SUITES: &[(&str, &[&str])] = &[
    ("ra3", &["--lib", "--test", "method", "--test", "table"]),
    ("ra3-lm", &[]),
];

/// The list of survivors, from the workspace's root.
const LIST: &str = "docs/mutants.md";

/// How often each change survives, by `file: change`.
type Survivors = BTreeMap<String, usize>;

/// Runs the tool on the named crates (on all without names; what follows `--file` narrows it to
/// some files), and says how the survivors differ from the list.
///
/// # Errors
/// The tool is not there or did not end, or a file cannot be read.
pub fn differences(root: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let (names, narrowing) = split(arguments);
    for name in names {
        let is_known = SUITES.iter().any(|(known, _)| known == name);
        ensure!(is_known, "{name} is no crate that is mutated");
    }
    let list = std::fs::read_to_string(root.join(LIST)).with_context(|| format!("no {LIST}"))?;
    let listed = listed(&list);
    let mut found = Vec::new();
    for (name, tests) in SUITES {
        if !names.is_empty() && !names.iter().any(|asked| asked == name) {
            continue;
        }
        let output = root.join("target/mutants").join(name);
        run(root, name, tests, narrowing, &output)?;
        let output = output.join("mutants.out");
        let read = |name: &str| {
            let path = output.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))
        };
        let survived = survivors(&format!("{}{}", read("missed.txt")?, read("timeout.txt")?));
        let files = mutated_files(&read("mutants.json")?)?;
        let is_here = |key: &str| files.iter().any(|file| is_of(key, file));
        let here = listed.iter().filter(|(key, _)| is_here(key));
        let here = here.map(|(key, n)| (key.clone(), *n)).collect();
        found.extend(compare(&survived, &here));
    }
    Ok(found)
}

/// Names of crates, and what is handed on to the tool; a `--` may stand between them.
fn split(arguments: &[String]) -> (&[String], &[String]) {
    let n_names = arguments
        .iter()
        .position(|argument| argument.starts_with('-'))
        .unwrap_or(arguments.len());
    let (names, narrowing) = arguments.split_at(n_names);
    match narrowing {
        [first, rest @ ..] if first == "--" => (names, rest),
        _ => (names, narrowing),
    }
}

fn run(root: &Path, name: &str, tests: &[&str], narrowing: &[String], output: &Path) -> Result<()> {
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["mutants", "--package", name, "--output"])
        .arg(output)
        .args(narrowing)
        .arg("--")
        .args(tests)
        .status()
        .context("cannot start cargo mutants: `cargo install cargo-mutants` brings it")?;
    // 0: all were noticed; 2: some were missed; 3: some ran out of time.
    let has_ended = matches!(status.code(), Some(0 | 2 | 3));
    ensure!(
        has_ended,
        "cargo mutants did not end well on {name}: {status}"
    );
    Ok(())
}

/// The survivors in the tool's own words, `file:line:column: change` on a line.
fn survivors(text: &str) -> Survivors {
    let mut found = Survivors::new();
    for line in text.lines() {
        let mut parts = line.splitn(4, ':');
        if let (Some(file), Some(_), Some(_), Some(change)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        {
            *found.entry(format!("{file}:{change}")).or_default() += 1;
        }
    }
    found
}

/// The list's items: `` - `file: change` `` and why it may survive, with ` (3 times)` between them
/// where a function has more than one such place.
fn listed(text: &str) -> Survivors {
    let mut found = Survivors::new();
    for line in text.lines() {
        let Some((change, reason)) = line
            .strip_prefix("- `")
            .and_then(|rest| rest.split_once('`'))
        else {
            continue;
        };
        let n = reason
            .strip_prefix(" (")
            .and_then(|rest| rest.split_once(" times)"))
            .and_then(|(n, _)| n.parse().ok())
            .unwrap_or(1);
        *found.entry(change.to_owned()).or_default() += n;
    }
    found
}

fn mutated_files(json: &str) -> Result<BTreeSet<String>> {
    let mutants: serde_json::Value = serde_json::from_str(json).context("mutants.json")?;
    let mutants = mutants.as_array().context("mutants.json is no list")?;
    let file = |mutant: &serde_json::Value| mutant["file"].as_str().map(str::to_owned);
    Ok(mutants.iter().filter_map(file).collect())
}

fn is_of(key: &str, file: &str) -> bool {
    key.strip_prefix(file)
        .is_some_and(|rest| rest.starts_with(':'))
}

fn compare(survived: &Survivors, listed: &Survivors) -> Vec<String> {
    let keys: BTreeSet<&String> = survived.keys().chain(listed.keys()).collect();
    let count = |of: &Survivors, key: &String| of.get(key).copied().unwrap_or(0);
    let mut found = Vec::new();
    for key in keys {
        let (now, then) = (count(survived, key), count(listed, key));
        if now > then {
            found.push(format!(
                "no test notices, {now} times where {then} are listed: {key}"
            ));
        } else if now < then {
            found.push(format!(
                "noticed, take it off {LIST} ({then} to {now}): {key}"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURVIVED: &str = "crates/a/src/x.rs:3:9: replace + with - in sum
crates/a/src/x.rs:7:1: replace + with - in sum
crates/a/src/x.rs:9:12: replace f -> Vec<a::B> with vec![]
";

    #[test]
    fn survivors_are_known_by_file_and_change() {
        let found = survivors(SURVIVED);
        let expected = [
            ("crates/a/src/x.rs: replace + with - in sum", 2),
            ("crates/a/src/x.rs: replace f -> Vec<a::B> with vec![]", 1),
        ];
        let expected = expected.map(|(key, n)| (key.to_owned(), n));
        assert_eq!(found, Survivors::from(expected));
    }

    #[test]
    fn the_list_says_which_and_how_many() {
        let text = "# Survivors\n\n- a sentence with `words`\n\
            - `crates/a/src/x.rs: replace + with - in sum` (2 times): nothing is added\n\
            - `crates/a/src/x.rs: replace f -> Vec<a::B> with vec![]`: it is empty anyhow\n";
        assert_eq!(listed(text), survivors(SURVIVED));
        assert!(compare(&survivors(SURVIVED), &listed(text)).is_empty());
    }

    #[test]
    fn differences_go_both_ways() {
        let found = compare(&survivors(SURVIVED), &Survivors::new());
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("no test notices, 2 times where 0 are listed: crates/a"));
        let found = compare(&Survivors::new(), &survivors(SURVIVED));
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("noticed, take it off docs/mutants.md (1 to 0): crates/a"));
    }

    #[test]
    fn names_come_before_what_narrows() {
        let arguments = ["ra3", "--file", "crates/ra3/src/grpo.rs"].map(str::to_owned);
        let (names, narrowing) = split(&arguments);
        assert_eq!((names, narrowing), (&arguments[..1], &arguments[1..]));
        let divided = ["ra3", "--", "--file", "crates/ra3/src/grpo.rs"].map(str::to_owned);
        assert_eq!(split(&divided), (names, narrowing));
        assert_eq!(split(&arguments[1..]), (&[][..], narrowing));
        assert!(is_of("crates/a/x.rs: replace", "crates/a/x.rs"));
        assert!(!is_of("crates/a/x.rs: replace", "crates/a/x"));
    }

    #[test]
    fn the_mutated_files_are_read_from_the_tools_record() {
        let json = r#"[{"file": "a.rs", "line": 1}, {"file": "a.rs"}, {"file": "b.rs"}]"#;
        let found = mutated_files(json).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a.rs", "b.rs"]);
        assert!(mutated_files("{}").is_err());
    }
}
