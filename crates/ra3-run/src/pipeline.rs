//! A plan's stages, one after the other, over a run directory.
//!
//! The file to read first: every stage is one line of `run_task`. Stages meet on disk only, so
//! any of them can be run again alone, and a run continues where its last commit left it.

use anyhow::{Context, Result};

use crate::directory::RunDirectory;
use crate::estimate;
use crate::event::{Event, Watcher};
use crate::ledger::{Record, RunRecord};
use crate::plan::{Plan, Task};
use crate::report::{self, Table};
use crate::stages::{base, corpus, evaluate, midtrain, rlvr};

/// Runs what is not done yet of a plan, writes the report and returns its table.
///
/// With `restart_stage`, the stage in progress begins again: its settings may then be others.
///
/// # Errors
/// A stage failed. What was committed stays, and the same call continues from there.
pub fn run(plan: &Plan, restart_stage: bool, watcher: &mut Watcher<'_>) -> Result<Table> {
    estimate::check_memory(plan)?;
    ra3_lm::set_threads(plan.file.n_threads);
    let mut directory = RunDirectory::open(&plan.file.directory, plan, restart_stage)?;
    for change in directory.changed() {
        watcher(Event::Note(change.clone()));
    }
    warn_of_threads(plan.file.n_threads, watcher);
    ra3_files::write(
        &directory.root().join("plan.toml"),
        plan.to_toml().as_bytes(),
    )?;
    if directory.is_new() {
        begin(plan, &mut directory)?;
    } else if !directory.changed().is_empty() {
        // The ledger says with which plan the stages behind this line ran.
        begin(plan, &mut directory)?;
        directory.commit_plan()?;
    }
    for task in plan.tasks() {
        let name = task.stage().name();
        if directory.is_done(&name) {
            watcher(Event::Note(format!("{name:<16} done before")));
            continue;
        }
        run_task(task, plan, &mut directory, watcher)
            .with_context(|| format!("stage {name} failed; the run directory keeps its state"))?;
        directory.commit_done(task.stage())?;
    }
    report::write_from_directory(directory.root())
}

fn run_task(
    task: Task<'_>,
    plan: &Plan,
    directory: &mut RunDirectory,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    match task {
        Task::Corpus => corpus::run(plan, directory, watcher),
        Task::Base => base::run(plan, directory, watcher),
        Task::Midtrain(arm, section) => midtrain::run(arm, section, plan, directory, watcher),
        Task::Evaluate(arm, section) => evaluate::run(arm, section, plan, directory, watcher),
        Task::Rlvr(arm, section, scores) => {
            rlvr::run(arm, section, scores, plan, directory, watcher)
        }
    }
}

fn warn_of_threads(n_threads: usize, watcher: &mut Watcher<'_>) {
    let n_cores = std::thread::available_parallelism().map_or(n_threads, usize::from);
    if n_threads > n_cores {
        watcher(Event::Note(format!(
            "n_threads = {n_threads}, and this machine runs {n_cores} at once: threads that wait \
             for each other take longer than fewer"
        )));
    }
}

fn begin(plan: &Plan, directory: &mut RunDirectory) -> Result<()> {
    directory.record(&Record::Run(RunRecord {
        name: plan.file.name.clone(),
        seed: plan.file.seed,
        plan_hash: plan.hash(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        n_threads: plan.file.n_threads,
    }))
}
