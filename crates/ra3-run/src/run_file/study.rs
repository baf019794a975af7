//! Section of the run file: a study, the same run over seeds and settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Value;

/// A study: every seed with every combination of the values.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySection {
    /// The seeds of the runs.
    pub seeds: Vec<u64>,
    /// Keys, as `--set` takes them, with the values that each takes in turn.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Vec<serde_json::Value>>")]
    pub vary: BTreeMap<String, Vec<Value>>,
    /// The arm that others are compared with; the first one where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
}
