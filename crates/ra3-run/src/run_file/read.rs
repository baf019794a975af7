//! Reading a run file: strict TOML, overrides on the command line, and the nearest known key for
//! one that is unknown.

use std::path::{Path, PathBuf};

use super::RunFile;

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
    // The file is checked by itself first, so that errors point at its lines.
    let written: RunFile = toml::from_str(text).map_err(|error| RunFileError::Parse {
        path: path.to_owned(),
        message: with_nearest_key(&error.to_string()),
    })?;
    if overrides.is_empty() {
        return Ok(written);
    }
    let mut table: toml::Table = toml::from_str(text).expect("the file was parsed a moment ago");
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

fn apply_override(table: &mut toml::Table, text: &str) -> Result<(), String> {
    let (path, value) = text.split_once('=').ok_or("expected key.path=value")?;
    let keys: Vec<&str> = path.trim().split('.').collect();
    let (last, parents) = keys.split_last().expect("split gives at least one part");
    let mut place = table;
    for key in parents {
        place = place
            .entry(*key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{key}` is not a table"))?;
    }
    place.insert((*last).to_owned(), parse_value(value.trim()));
    Ok(())
}

/// A TOML value, or the text itself where it is none (so that strings need no quotes).
fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
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
