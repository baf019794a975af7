//! The records of a study's finished runs, kept in a folder that is committed.
//!
//! A study goes on from them on another machine: what is there is not run again. Models, stages and
//! samples are not kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::directory::{copy_records, read_state};
use crate::finished_runs::compared_settings;
use crate::plan::Plan;
use crate::run_file::{Allowed, RunFile, key, keys_of};

/// Where the records of a plan's run are kept, if they are.
pub(crate) fn find(plan: &Plan, results: &Path) -> Result<Option<PathBuf>> {
    let place = place(plan, results);
    let Some(state) = read_state(&place)? else {
        return Ok(None);
    };
    let kept: RunFile = toml::from_str(&state.plan)
        .with_context(|| format!("{}: its plan is of another version", place.display()))?;
    let (kept, asked) = (what_it_is(&kept), what_it_is(&plan.file));
    let names = kept.keys().chain(asked.keys());
    let other = names
        .into_iter()
        .find(|name| kept.get(*name) != asked.get(*name));
    if let Some(name) = other {
        let shown = |settings: &BTreeMap<String, String>| {
            settings
                .get(name)
                .map_or("not set", String::as_str)
                .to_owned()
        };
        bail!(
            "{} keeps the records of a run with {name} {}, and this one has {}: name another \
             folder as study.results, or move these",
            place.display(),
            shown(&kept),
            shown(&asked)
        );
    }
    Ok(Some(place))
}

/// Keeps the records of a plan's finished run.
pub(crate) fn keep(plan: &Plan, results: &Path) -> Result<()> {
    std::fs::create_dir_all(results)
        .with_context(|| format!("cannot create {}", results.display()))?;
    copy_records(&plan.file.directory, &place(plan, results))
}

fn place(plan: &Plan, results: &Path) -> PathBuf {
    results.join(plan.file.directory.file_name().unwrap_or_default())
}

/// The settings that a result depends on. Not paths: each machine has its own.
fn what_it_is(file: &RunFile) -> BTreeMap<String, String> {
    let mut settings = compared_settings(file);
    let is_path = |name: &String| {
        let mut keys = keys_of(name);
        keys.any(|path| key(&path).is_some_and(|key| key.allowed == Allowed::Path))
    };
    settings.retain(|name, _| !is_path(name));
    settings.insert("seed".to_owned(), file.seed.to_string());
    settings
}
