//! What a run's settings have otherwise than those of the others, and a name for it.

use std::collections::{BTreeMap, BTreeSet};

use super::RunRecords;

/// Longest variation that is a title; where there are longer ones, they get letters and a table.
const TITLE_MAX: usize = 100;

fn keep_what_differs(runs: &mut [RunRecords]) {
    let all = runs.iter().flat_map(|run| run.settings.keys().cloned());
    let mut differing: BTreeSet<String> = all.collect();
    differing.retain(|key| {
        let first = runs[0].settings.get(key);
        runs.iter().any(|run| run.settings.get(key) != first)
    });
    for run in runs {
        run.settings.retain(|key, _| differing.contains(key));
    }
}

/// Leaves out of runs' settings what all have in common, and names what is left of each.
pub fn name_variations(runs: &mut [RunRecords]) {
    keep_what_differs(runs);
    let is_long = runs
        .iter()
        .any(|run| title(&run.settings).chars().count() > TITLE_MAX);
    let mut met: Vec<BTreeMap<String, String>> = Vec::new();
    for run in runs {
        let place = met.iter().position(|settings| *settings == run.settings);
        let place = place.unwrap_or_else(|| {
            met.push(run.settings.clone());
            met.len() - 1
        });
        run.variation = if is_long {
            format!("settings {}", place + 1)
        } else {
            title(&run.settings)
        };
    }
}

/// Settings in a line; where all have the same, nothing.
pub(super) fn title(settings: &BTreeMap<String, String>) -> String {
    let named = settings.iter().map(|(key, value)| format!("{key}={value}"));
    named.collect::<Vec<_>>().join(" ")
}
