//! Reading a run file: strict TOML and overrides on the command line, with all faults at once.

use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Table, Value};

use super::fault::{Fault, Faults, Origin};
use super::setting::{keys_of, put, way};
use super::steps::{Lines, Steps, line_at};
use super::walk::findings;
use super::{Allowed, RunFile};

/// Why a run file was refused.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The file cannot be read.
    #[error("cannot read run file {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// What is written cannot be meant.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Reads a run file and applies overrides such as `rlvr.n_updates=10`.
///
/// # Errors
/// The file is missing or not TOML; keys are unknown or missing, values of a wrong type or out of
/// their range: all that there are, each with its line.
pub fn load(path: &Path, overrides: &[String]) -> Result<RunFile, RunFileError> {
    parse(&read(path)?, path, overrides)
}

/// What a run file and overrides say, without the defaults of what they do not.
///
/// # Errors
/// As [`load`].
pub fn written(path: &Path, overrides: &[String]) -> Result<Table, RunFileError> {
    Ok(checked(&read(path)?, path, overrides)?)
}

/// [`load`] for text that is at hand; `path` is for messages, and paths begin at its folder.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<RunFile, RunFileError> {
    let table = checked(text, path, overrides)?;
    let file = table.try_into().map_err(|error: toml::de::Error| {
        let message = error.message().to_owned();
        Faults(vec![of_file(path, 1, String::new(), message)])
    })?;
    Ok(file)
}

fn read(path: &Path) -> Result<String, RunFileError> {
    std::fs::read_to_string(path).map_err(|source| RunFileError::Read(path.to_owned(), source))
}

fn checked(text: &str, path: &Path, overrides: &[String]) -> Result<Table, Faults> {
    let mut table = table(text, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    place(folder.unwrap_or(Path::new(".")), "", &mut table);
    let mut faults = Vec::new();
    let mut overridden: Vec<(Steps, &String)> = Vec::new();
    let whole: Option<RunFile> = table.clone().try_into().ok();
    let defaults = whole.and_then(|mut file| {
        file.name_measures();
        Table::try_from(file).ok()
    });
    for text in overrides {
        if let (Some(defaults), Some((path, _))) = (&defaults, text.split_once('=')) {
            write_out(&mut table, defaults, path.trim());
        }
        match apply_override(&mut table, text) {
            Ok(steps) => overridden.push((steps, text)),
            Err(message) => faults.push(Fault {
                origin: Origin::Override(text.clone()),
                key: text.split('=').next().unwrap_or_default().to_owned(),
                message,
            }),
        }
    }
    let lines = Lines::of(text);
    let mut in_file = Vec::new();
    for finding in findings(&table) {
        let (key, message) = (finding.steps.to_string(), finding.message);
        let by = overridden
            .iter()
            .rev()
            .find(|(steps, _)| steps.is_on_the_way_to(&finding.steps));
        match by {
            Some((_, text)) => faults.push(Fault {
                origin: Origin::Override((*text).clone()),
                key,
                message,
            }),
            None => in_file.push((lines.line(&finding.steps), key, message)),
        }
    }
    in_file.sort_by_key(|(line, ..)| *line);
    let in_file = in_file.into_iter();
    let in_file = in_file.map(|(line, key, message)| of_file(path, line, key, message));
    let faults: Vec<Fault> = in_file.chain(faults).collect();
    if faults.is_empty() {
        Ok(table)
    } else {
        Err(Faults(faults))
    }
}

/// The text as TOML; of what is none, the first places where it is not.
fn table(text: &str, path: &Path) -> Result<Table, Faults> {
    const SHOWN_MAX: usize = 5;
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = line_at(text, span.start);
        let is_new = |fault: &Fault| match &fault.origin {
            Origin::File { line: other, .. } => *other != line,
            _ => true,
        };
        if faults.len() < SHOWN_MAX && faults.iter().all(is_new) {
            let source = text.lines().nth(line - 1).unwrap_or_default().trim();
            let source: String = source.chars().take(60).collect();
            let message = format!("this is no TOML: {}: {source}", error.message());
            faults.push(of_file(path, line, String::new(), message));
        }
    }
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    toml::from_str(text).map_err(|error| {
        let line = line_at(text, error.span().unwrap_or_default().start);
        Faults(vec![of_file(
            path,
            line,
            String::new(),
            error.message().to_owned(),
        )])
    })
}

fn of_file(path: &Path, line: usize, key: String, message: String) -> Fault {
    Fault {
        origin: Origin::File {
            path: path.to_owned(),
            line,
        },
        key,
        message,
    }
}

/// Paths that are not absolute begin at the run file's folder; those of `--set` where the command
/// was given.
fn place(folder: &Path, under: &str, table: &mut Table) {
    for (name, value) in table {
        let key = format!("{under}{name}");
        // What an arm and a study have otherwise is named as the file names it.
        let own = ["arms.set.", "study.vary."];
        let own = own.iter().find_map(|start| key.strip_prefix(start));
        let key = own.map_or_else(|| key.clone(), key_of_setting);
        place_in(folder, &key, value);
    }
}

fn place_in(folder: &Path, key: &str, value: &mut Value) {
    match value {
        Value::Table(table) => place(folder, &format!("{key}."), table),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| place_in(folder, key, value)),
        Value::String(text) if is_place(key, text, folder) => {
            *text = folder.join(&*text).display().to_string();
        }
        _ => {}
    }
}

/// The key of a setting that may be of a named table: `arms.from` of `arms.ntp.from`.
fn key_of_setting(setting: &str) -> String {
    let key = keys_of(setting).find(|key| super::key(key).is_some());
    key.unwrap_or_else(|| setting.to_owned())
}

/// False for what is looked up elsewhere: a command, a name on the Hub, an arm.
fn is_place(key: &str, text: &str, folder: &Path) -> bool {
    let is_there = || folder.join(text).exists();
    match key {
        "base.path" | "arms.from" => looks_local(text) || (text.contains('/') && is_there()),
        "corpus.sources.python" | "engine.python" => text.contains('/'),
        // A script of a command lies beside the run file.
        "rlvr.reward_command" => folder.join(text).is_file(),
        _ => super::key(key).is_some_and(|key| key.allowed == Allowed::Path),
    }
}

fn looks_local(text: &str) -> bool {
    ["./", "../", "/"]
        .iter()
        .any(|start| text.starts_with(start))
}

fn apply_override(table: &mut Table, text: &str) -> Result<Steps, String> {
    let (path, value) = text.split_once('=').ok_or("expected key.path=value")?;
    put(table, path.trim(), parse_value(value.trim()))?;
    Ok(way(table, path.trim()))
}

/// Writes out the defaults that an override changes a part of: a table of a `kind`, whose keys mean
/// nothing without it, or a list of tables that are named.
fn write_out(table: &mut Table, defaults: &Table, path: &str) {
    let Some((first, rest)) = path.split_once('.') else {
        return;
    };
    match (table.get_mut(first), defaults.get(first)) {
        (None, Some(Value::Table(default))) if default.contains_key("kind") => {
            table.insert(first.to_owned(), Value::Table(default.clone()));
        }
        (None, Some(Value::Array(default))) => {
            table.insert(first.to_owned(), Value::Array(default.clone()));
        }
        (None, Some(Value::Table(default))) => {
            let mut own = Table::new();
            write_out(&mut own, default, rest);
            if !own.is_empty() {
                table.insert(first.to_owned(), Value::Table(own));
            }
        }
        (Some(Value::Table(own)), Some(Value::Table(default))) => write_out(own, default, rest),
        _ => {}
    }
}

/// A TOML value, or the text itself where it is none (so that strings need no quotes).
fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_a_named_table_has_the_key_of_the_table() {
        for (setting, key) in [
            ("arms.ntp.from", "arms.from"),
            ("arms.qwen-1.5b.from", "arms.from"),
            ("evaluate.own.problems.data", "evaluate.problems.data"),
            ("arms.ntp.set.rlvr.problems.data", "rlvr.problems.data"),
            ("base.path", "base.path"),
            ("rlvr.problems.data", "rlvr.problems.data"),
            ("evaluate.problems.data", "evaluate.problems.data"),
            ("arms.nobody.nothing", "arms.nobody.nothing"),
        ] {
            assert_eq!(key_of_setting(setting), key);
        }
    }

    #[test]
    fn a_measure_that_nobody_wrote_can_be_changed() {
        let text = include_str!("../../../../runs/base.toml");
        let changes = ["evaluate.testbed.n_samples=4".to_owned()];
        let text = text.replace("n_held_out_problems = 0", "n_held_out_problems = 8");
        let file = parse(&text, Path::new("runs/base.toml"), &changes).unwrap();
        assert_eq!(file.evaluate.unwrap()[0].n_samples, 4);
    }
}
