//! Which problems can be graded here: a set may have tests that need a package, or checkers that
//! are broken.

use std::collections::{BTreeMap, BTreeSet};

use ra3_sandbox::{End, Pool, Program};

use crate::contest;
use crate::problem::Problem;
use crate::rlvr::exercise::Exercise;

/// A problem that cannot be graded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub task_id: String,
    /// What its tests raise when they are loaded, or what is wrong with its checker.
    pub reason: String,
}

/// Leaves out what has a function whose tests need what the sandbox has not, such as a package:
/// their trusted part cannot be loaded. Those.
pub fn keep_usable<T>(
    items: &mut Vec<T>,
    function: impl Fn(&T) -> Option<&Problem>,
    pool: &Pool,
) -> Vec<LeftOut> {
    let functions = items.iter().filter_map(&function);
    let preludes: BTreeSet<&str> = functions.map(|problem| problem.prelude.as_str()).collect();
    let preludes: Vec<String> = preludes.into_iter().map(str::to_owned).collect();
    let load = |prelude: &String| Program {
        source: format!("{prelude}\ndef loaded():\n    pass\n"),
        entry_point: "loaded".to_owned(),
        inputs: Vec::new(),
        check: None,
    };
    let programs: Vec<Program> = preludes.iter().map(load).collect();
    let results = pool.run_all(&programs, &mut |_| {});
    let failed: BTreeMap<String, String> = preludes
        .into_iter()
        .zip(results)
        .filter_map(|(prelude, result)| match result.end {
            End::LoadError { error, message, .. } => Some((prelude, format!("{error}: {message}"))),
            _ => None,
        })
        .collect();
    leave_out(items, |item| {
        let problem = function(item)?;
        Some(LeftOut {
            task_id: problem.task_id.clone(),
            reason: failed.get(&problem.prelude)?.clone(),
        })
    })
}

/// Leaves out contests' problems whose checkers are broken. Those.
pub fn keep_checked(items: &mut Vec<Exercise>, pool: &Pool) -> Vec<LeftOut> {
    let fault = |item: &Exercise| match item {
        Exercise::Function(_) => None,
        Exercise::Contest(task) => contest::grade::checker_fault(task, pool),
    };
    let mut faults = pool.map(items, fault, &mut |_| {}).into_iter();
    leave_out(items, |item| {
        let reason = faults.next().expect("one an item")?;
        Some(LeftOut {
            task_id: item.task_id().to_owned(),
            reason,
        })
    })
}

/// Takes out what there is a word about, and returns the words; in the order of the items.
fn leave_out<T>(items: &mut Vec<T>, mut word: impl FnMut(&T) -> Option<LeftOut>) -> Vec<LeftOut> {
    let mut left_out = Vec::new();
    items.retain(|item| {
        let word = word(item);
        let is_kept = word.is_none();
        left_out.extend(word);
        is_kept
    });
    left_out
}
