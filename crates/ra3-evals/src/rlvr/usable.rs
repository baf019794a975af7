//! Which problems can be graded here: a set may have tests that need a package.

use std::collections::BTreeMap;

use ra3_sandbox::{End, Pool, Program};

use crate::problem::Problem;

/// Leaves out problems whose tests need what the sandbox has not, such as a package: their trusted
/// part cannot be loaded. Names and reasons of those.
pub fn keep_usable(problems: &mut Vec<Problem>, pool: &Pool) -> Vec<(String, String)> {
    let mut preludes: Vec<&str> = problems.iter().map(|p| p.prelude.as_str()).collect();
    preludes.sort_unstable();
    preludes.dedup();
    let load = |prelude: &&str| Program {
        source: format!("{prelude}\ndef loaded():\n    pass\n"),
        entry_point: "loaded".to_owned(),
        inputs: Vec::new(),
        check: None,
    };
    let programs: Vec<Program> = preludes.iter().map(load).collect();
    let results = pool.run_all(&programs, &mut |_| {});
    let failed: BTreeMap<String, String> = preludes
        .iter()
        .zip(results)
        .filter_map(|(prelude, result)| match result.end {
            End::LoadError { error, message, .. } => {
                Some(((*prelude).to_owned(), format!("{error}: {message}")))
            }
            _ => None,
        })
        .collect();
    let mut left_out = Vec::new();
    problems.retain(|problem| match failed.get(&problem.prelude) {
        Some(reason) => {
            left_out.push((problem.task_id.clone(), reason.clone()));
            false
        }
        None => true,
    });
    left_out
}
