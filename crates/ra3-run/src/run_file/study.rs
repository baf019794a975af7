//! Section of the run file: a study, the same run over seeds and settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Value;

use super::{ArmSection, shown};

/// Keys that a study does not vary, and why.
const NOT_VARIED: [(&str, &str); 9] = [
    ("seed", "the seeds are study.seeds"),
    ("name", "it changes no result"),
    ("directory", "a study gives each run a folder of its own"),
    ("store", "a study's runs share one"),
    ("n_threads", "it changes no result"),
    ("checkpoint_every", "it changes no result"),
    ("training.cache_mib", "it changes no result"),
    ("training.recorded_mib", "it changes no result"),
    ("grading.n_workers", "it changes no result"),
];

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
    /// A folder to keep the records of finished runs in, without models and stages: small enough
    /// to be committed. A run whose records are there, of the same settings, is not run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<PathBuf>,
}

impl StudySection {
    /// What a range does not say: seeds and values are there, each once, and lead somewhere.
    ///
    /// # Errors
    /// The key, and what to do.
    pub(crate) fn check(&self, arms: &[ArmSection]) -> Result<()> {
        ensure!(
            !self.seeds.is_empty(),
            "study.seeds is empty: name the seeds of the runs, such as [1, 2, 3]"
        );
        if let Some(seed) = twice(&self.seeds) {
            anyhow::bail!("study.seeds has {seed} twice: each seed is one run");
        }
        for (key, values) in &self.vary {
            let at = format!("study.vary.{key:?}");
            let not_varied = NOT_VARIED.iter().find(|(name, _)| name == key);
            if let Some((_, why)) = not_varied {
                anyhow::bail!("{at} cannot be varied: {why}");
            }
            ensure!(!key.starts_with("study."), "{at}: a study varies no study");
            ensure!(
                !values.is_empty(),
                "{at} is empty: name the values that it takes in turn, or take it out"
            );
            if let Some(value) = twice(values) {
                anyhow::bail!("{at} has {} twice: each value is one run", shown(value));
            }
        }
        if let Some(against) = &self.against {
            let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
            ensure!(
                names.contains(&against.as_str()),
                "study.against: there is no arm {against:?}: the arms are {}",
                names.join(", ")
            );
        }
        Ok(())
    }
}

fn twice<T: PartialEq>(values: &[T]) -> Option<&T> {
    let mut places = values.iter().enumerate();
    let again = places.find(|(place, value)| values[..*place].contains(value));
    again.map(|(_, value)| value)
}
