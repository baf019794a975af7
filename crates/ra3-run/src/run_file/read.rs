//! Reading a run file: strict TOML, overrides on the command line, and the nearest known key for
//! one that is unknown.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Allowed, RunFile};

/// Why a run file was refused.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The file cannot be read.
    #[error("cannot read run file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a run file.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong and where, with the nearest known key.
        message: String,
    },
    /// An override is not `key.path=value`, or leads nowhere.
    #[error("--set {text}: {message}")]
    Override {
        /// As it was given.
        text: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads a run file and applies overrides such as `rlvr.n_updates=10`.
///
/// # Errors
/// The file is missing or not TOML, a key is unknown, a value has the wrong type.
pub fn load(path: &Path, overrides: &[String]) -> Result<RunFile, RunFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| RunFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, path, overrides)
}

/// [`load`] for text that is at hand; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<RunFile, RunFileError> {
    let refused = |error: toml::de::Error| RunFileError::Parse {
        path: path.to_owned(),
        message: with_nearest_key(&error.to_string()),
    };
    // The file is checked by itself first, so that errors point at its lines.
    toml::from_str::<RunFile>(text).map_err(refused)?;
    let mut table: Table = toml::from_str(text).map_err(refused)?;
    place(path.parent().unwrap_or(Path::new("")), "", &mut table);
    let written: RunFile = table.try_into().map_err(refused)?;
    // What an override changes may be a default: it is put into the whole of it.
    let mut table = Table::try_from(written).expect("a run file is made of TOML's types");
    for text in overrides {
        apply_override(&mut table, text).map_err(|message| RunFileError::Override {
            text: text.clone(),
            message,
        })?;
    }
    table
        .try_into()
        .map_err(|error: toml::de::Error| RunFileError::Override {
            text: overrides.join(" --set "),
            message: with_nearest_key(&error.to_string()),
        })
}

/// Paths that are not absolute begin at the run file's folder; those of `--set` where the command
/// was given.
fn place(folder: &Path, under: &str, table: &mut Table) {
    for (name, value) in table {
        let key = format!("{under}{name}");
        match value {
            Value::Table(table) => place(folder, &format!("{key}."), table),
            Value::Array(values) => {
                for value in values.iter_mut().filter_map(Value::as_table_mut) {
                    place(folder, &format!("{key}."), value);
                }
            }
            Value::String(text) if is_place(&key, text, folder) => {
                *text = folder.join(&*text).display().to_string();
            }
            _ => {}
        }
    }
}

/// False for what is looked up elsewhere: a command, a name on the Hub, an arm.
fn is_place(key: &str, text: &str, folder: &Path) -> bool {
    let is_there = || folder.join(text).exists();
    match key {
        "base.path" | "arms.from" => looks_local(text) || (text.contains('/') && is_there()),
        "corpus.sources.python" => text.contains('/'),
        _ => super::key(key).is_some_and(|key| key.allowed == Allowed::Path),
    }
}

fn looks_local(text: &str) -> bool {
    ["./", "../", "/"]
        .iter()
        .any(|start| text.starts_with(start))
}

fn apply_override(table: &mut Table, text: &str) -> Result<(), String> {
    let (path, value) = text.split_once('=').ok_or("expected key.path=value")?;
    put(table, path.trim(), parse_value(value.trim()))
}

/// Puts a value where a path such as `a.b.c` leads. A table of a list is named by its `name`:
/// `arms.ra3.rlvr`.
pub(crate) fn put(table: &mut Table, path: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), value);
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(values) => {
            let (place, rest) = element(values, rest).ok_or_else(|| {
                format!("`{first}` is a list of several: {first}.NAME.key=value names one of them")
            })?;
            let named = values[place].as_table_mut();
            let named = named.ok_or_else(|| format!("`{first}` is no list of tables"))?;
            put(named, rest, value)
        }
        _ => Err(format!("`{first}` is not a table")),
    }
}

/// The place of the table of a list that the first part of a path names, and the rest of the path.
/// The only one needs no name.
fn element<'a>(values: &[Value], path: &'a str) -> Option<(usize, &'a str)> {
    let named = path.split_once('.').and_then(|(name, rest)| {
        let is_named = |value: &Value| value.get("name").and_then(Value::as_str) == Some(name);
        Some((values.iter().position(is_named)?, rest))
    });
    named.or((values.len() == 1).then_some((0, path)))
}

/// A TOML value, or the text itself where it is none (so that strings need no quotes).
fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A name that is less alike was not meant.
const SIMILARITY_MIN: f64 = 0.75;

/// Adds "did you mean" to serde's message about an unknown key or variant, which quotes the
/// unknown name first and the known ones after it.
fn with_nearest_key(message: &str) -> String {
    let marked = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|mark| message.find(mark).map(|at| at + mark.len()));
    let Some(start) = marked else {
        return message.to_owned();
    };
    let quoted: Vec<&str> = message[start - 1..].split('`').skip(1).step_by(2).collect();
    let similarity = |name: &str| strsim::jaro_winkler(quoted[0], name);
    let known = quoted.iter().skip(1);
    let nearest = known
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|name| similarity(name) >= SIMILARITY_MIN);
    nearest.map_or_else(
        || message.to_owned(),
        |name| format!("{}\ndid you mean `{name}`?", message.trim_end()),
    )
}
