//! Which tasks can be graded here: a set may have tests that need a package, or checkers that are
//! broken.

use std::collections::{BTreeMap, BTreeSet};

use ra3_sandbox::{End, Pool, Program};

use crate::contest;
use crate::task::Task;

/// A task that cannot be graded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub task_id: String,
    /// What its tests raise when they are loaded, or what is wrong with its checker.
    pub reason: String,
}

/// Leaves out functions whose tests need what the sandbox has not, such as a package: their trusted
/// part cannot be loaded. Those.
pub fn keep_usable(tasks: &mut Vec<Task>, pool: &Pool) -> Vec<LeftOut> {
    let prelude = |task: &Task| Some(task.function()?.prelude.clone());
    let preludes: BTreeSet<String> = tasks.iter().filter_map(prelude).collect();
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
    leave_out(tasks, |task| failed.get(&task.function()?.prelude).cloned())
}

/// Leaves out contests' problems whose checkers are broken. Those.
pub fn keep_checked(tasks: &mut Vec<Task>, pool: &Pool) -> Vec<LeftOut> {
    let fault = |task: &Task| match task {
        Task::Contest(task) => contest::grade::checker_fault(task, pool),
        Task::Plus(_) | Task::Function(_) | Task::LiveCodeBench(_) => None,
    };
    let mut faults = pool.map(tasks, fault, &mut |_| {}).into_iter();
    leave_out(tasks, |_| Some(faults.next()??.to_string()))
}

/// Takes out what there is a reason for; in the order of the tasks.
fn leave_out(
    tasks: &mut Vec<Task>,
    mut reason: impl FnMut(&Task) -> Option<String>,
) -> Vec<LeftOut> {
    let mut left_out = Vec::new();
    tasks.retain(|task| {
        let word = reason(task).map(|reason| LeftOut {
            task_id: task.task_id().to_owned(),
            reason,
        });
        let is_kept = word.is_none();
        left_out.extend(word);
        is_kept
    });
    left_out
}
