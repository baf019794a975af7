//! A plan's stages, one after the other.
//!
//! The file to read first: every stage is one line of `run_task`. Stages meet on disk only. Each
//! lies in a store under the key of what it depends on, so one that is finished is used again, by
//! this run and by others, and one that was killed goes on from its last commit.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use ra3_records::ledger::{ArmRecord, Record, RunRecord};
use ra3_records::tensorboard::EVENTS_OF;
use ra3_report::Table;

use crate::benchmark_data;
use crate::directory::RunDirectory;
use crate::engine::Engines;
use crate::estimate::{self, Pace};
use crate::event::{Event, Watcher};
use crate::plan::{Method, Plan, Stage, Task};
use crate::programs::pool;
use crate::recipe::{Before, Recipe, recipe};
use crate::report;
use crate::run_file::{ProblemSetName, RunFile, name_of};
use crate::stages::{base, corpus, evaluate, held_out, midtrain, rlvr};
use crate::store::{StageFolder, read_progress};

/// How a run is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// What the program calls itself in the ledger.
    pub build: &'a str,
    /// The stage in progress begins again.
    pub restarts_stage: bool,
    /// A plan that needs more memory than there is runs all the same.
    pub ignores_memory: bool,
}

/// Runs what is not done yet of a plan, writes the report and returns its table.
///
/// # Errors
/// A stage failed. What was committed stays, and the same call continues from there.
pub fn run(plan: &Plan, start: Start<'_>, watcher: &mut Watcher<'_>) -> Result<Table> {
    if !start.ignores_memory {
        estimate::check_memory(plan)?;
    }
    ra3_lm::set_threads(plan.file.n_threads);
    check_what_later_stages_need(plan)?;
    let mut directory = RunDirectory::open(plan)?;
    warn_of_threads(plan.file.n_threads, watcher);
    let (mut before, mut restart) = (Before::default(), start.restarts_stage);
    let n_stages = plan.stages.len();
    let engines = Engines::of(&plan.file);
    let mut not_started = Some(&engines);
    // What is not in the cache yet has no estimate.
    let mut pace = estimate::estimate(plan)
        .ok()
        .map(|it| Pace::new(&it.stages));
    for (place, stage) in plan.stages.iter().enumerate() {
        watcher(Event::Stage {
            name: stage.name.clone(),
            place,
            n_stages,
            seconds_left: pace.as_ref().and_then(|pace| pace.seconds_from(place)),
        });
        let recipe = recipe(plan, stage, &before, watcher)
            .with_context(|| format!("stage {} cannot begin", stage.name))?;
        let key = recipe.key();
        say_what_changed(&directory, &recipe, &key, watcher);
        directory.begin(plan, &stage.name, &key)?;
        let events = directory.events(&stage.name);
        let are_of_this = events_are_of(&events, &key)?;
        let mut folder = directory.store().stage(&recipe, &events, watcher)?;
        if folder.is_done() {
            watcher(Event::Note(format!("{:<16} done before", stage.name)));
            if !are_of_this {
                folder.replay(&events)?;
            }
        } else {
            if let Some(engines) = not_started.take() {
                start_engine(engines, plan, start, watcher)?;
            }
            begin(&mut folder, &events, &mut restart, watcher)?;
            let is_whole = folder.state().is_none();
            let began = Instant::now();
            let made = Made {
                before: &before,
                directory: &directory,
                engines: &engines,
            };
            run_task(stage, plan, &made, &mut folder, watcher).with_context(|| {
                format!("stage {} failed; what it has committed is kept", stage.name)
            })?;
            folder.commit_done(outputs(stage.task))?;
            if let Some(pace) = pace.as_mut().filter(|_| is_whole) {
                pace.took(place, began.elapsed());
            }
        }
        publish(plan, stage, &mut directory, &folder)?;
        if let Some(spent) = folder.spent() {
            before.spent.insert(stage.name.clone(), spent.clone());
        }
        before.keys.insert(stage.name.clone(), key);
        directory.gather(&first_line(plan, start.build))?;
    }
    directory.finish(plan)?;
    report::write(directory.root())
}

/// Before the first stage that runs, also where it has no model: what is missing is said now.
fn start_engine(
    engines: &Engines,
    plan: &Plan,
    start: Start<'_>,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let engine = engines.engine(&plan.file.training);
    if let Some(line) = engine.line()? {
        watcher(Event::Note(format!(
            "waiting for the worker; start it by: {line}"
        )));
    }
    if let Some(about) = engine.start()? {
        watcher(Event::Note(about.to_string()));
        if !start.ignores_memory {
            estimate::check_devices(plan, &about)?;
        }
    }
    Ok(())
}

/// Begins a stage that is not done: anew where that is wished, which is once.
fn begin(
    folder: &mut StageFolder,
    events: &Path,
    restart: &mut bool,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    if std::mem::take(restart) {
        folder.restart()?;
        let stage = folder.stage();
        watcher(Event::Note(format!("stage {stage} begins again")));
    }
    if folder.state().is_none() {
        // What a process that was killed has shown of a stage that begins anew.
        remove_events(events)?;
    }
    Ok(())
}

fn run_task(
    stage: &Stage,
    plan: &Plan,
    made: &Made<'_>,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let file = &plan.file;
    let engine = |file: &RunFile| made.engines.engine(&file.training);
    let corpus = || made.by("corpus", "corpus");
    match stage.task {
        Task::Corpus => corpus::run(plan, folder, watcher),
        Task::Base => base::run(file, &engine(file), &corpus()?, folder, watcher),
        Task::Checkpoint(arm) => {
            let arm = &plan.arms[arm];
            base::adopt(arm, &engine(&arm.file), &corpus()?, folder, watcher)
        }
        Task::Midtrain(arm) => {
            let start = made.by(&plan.start(arm), "model")?;
            let (arm, corpus) = (&plan.arms[arm], corpus()?);
            let engine = engine(&arm.file);
            midtrain::run(arm, &engine, &corpus, &start, made.before, folder, watcher)
        }
        Task::HeldOut(subject) => {
            let model = made.by(&plan.maker(subject), "model")?;
            let reference = made.by(&plan.maker(subject), midtrain::REFERENCE)?;
            let models = held_out::Models {
                name: plan.model_name(subject),
                last_method: plan.last_method(subject.arm).clone(),
                model,
                reference: reference.exists().then_some(reference),
            };
            held_out::run(file, &engine(file), &models, &corpus()?, folder, watcher)
        }
        Task::Evaluate(subject, place) => {
            let measured = evaluate::Measured {
                measure: &plan.measures()[place],
                name: plan.model_name(subject),
                is_after_rlvr: subject.is_after_rlvr,
                model: made.by(&plan.maker(subject), "model")?,
            };
            evaluate::run(file, &engine(file), &measured, &corpus()?, folder, watcher)
        }
        Task::Rlvr(arm) => {
            let start = made.by(&plan.trained(arm), "model")?;
            let arm = &plan.arms[arm];
            rlvr::run(arm, &engine(&arm.file), &corpus()?, &start, folder, watcher)
        }
    }
}

/// What a stage leaves for those behind it, in its folder.
fn outputs(task: Task) -> &'static [&'static str] {
    match task {
        Task::Corpus => &["corpus"],
        Task::Base | Task::Checkpoint(_) | Task::Rlvr(_) => &["model"],
        Task::Midtrain(_) => &["model", midtrain::REFERENCE],
        Task::HeldOut(_) | Task::Evaluate(..) => &[],
    }
}

/// What stages are run with: those before them, where they lie, and engines.
struct Made<'a> {
    before: &'a Before,
    directory: &'a RunDirectory,
    engines: &'a Engines,
}

impl Made<'_> {
    /// What a finished stage has made under this name.
    fn by(&self, stage: &str, name: &str) -> Result<PathBuf> {
        let key = self.before.keys.get(stage).context("stages are in order")?;
        Ok(self.directory.store().folder(stage, key).join(name))
    }
}

/// Puts what a stage has made where a user looks for it.
fn publish(
    plan: &Plan,
    stage: &Stage,
    directory: &mut RunDirectory,
    folder: &StageFolder,
) -> Result<()> {
    let mut model = |name: &str, made: &Path| directory.publish_model(made, name);
    match stage.task {
        Task::Corpus => directory.publish_corpus(&folder.path("corpus")),
        Task::Base | Task::Rlvr(_) => model(&stage.name, &folder.path("model")),
        Task::Checkpoint(arm) => {
            let arm = &plan.arms[arm];
            let is_all = arm.method == Method::None;
            let name = if is_all { &arm.name } else { &stage.name };
            model(name, &folder.path("model"))
        }
        Task::Midtrain(_) => {
            let reference = folder.path(midtrain::REFERENCE);
            if reference.exists() {
                model(
                    &format!("{}-{}", stage.name, midtrain::REFERENCE),
                    &reference,
                )?;
            }
            model(&stage.name, &folder.path("model"))
        }
        Task::HeldOut(_) | Task::Evaluate(..) => Ok(()),
    }
}

/// False where there are no event files of the stage of this key; those of another are removed.
fn events_are_of(events: &Path, key: &str) -> Result<bool> {
    let known = std::fs::read_to_string(events.join(EVENTS_OF)).unwrap_or_default();
    if known == key {
        return Ok(true);
    }
    remove_events(events)?;
    Ok(false)
}

fn remove_events(events: &Path) -> Result<()> {
    if !events.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(events).with_context(|| format!("cannot remove {}", events.display()))
}

/// Says why a stage of the run is not the one that it was.
fn say_what_changed(
    directory: &RunDirectory,
    recipe: &Recipe,
    key: &str,
    watcher: &mut Watcher<'_>,
) {
    let Some(old) = directory
        .key_before(&recipe.stage)
        .filter(|old| *old != key)
    else {
        return;
    };
    let folder = directory.store().folder(&recipe.stage, old);
    // One that cannot be read is not needed either.
    let Ok(Some(old)) = read_progress(&folder) else {
        return;
    };
    let reasons = recipe.differences(&old.recipe).join("; ");
    watcher(Event::Note(format!("{}: {reasons}", recipe.stage)));
}

/// What is missing for a later stage is said now, and not after hours of training.
fn check_what_later_stages_need(plan: &Plan) -> Result<()> {
    let grades = |stage: &Stage| matches!(stage.task, Task::Evaluate(..) | Task::Rlvr(_));
    if !plan.stages.iter().any(grades) {
        return Ok(());
    }
    pool(&plan.file.grading, ProblemSetName::Testbed)?;
    let arms = plan.arms.iter().filter(|arm| arm.goes_to_rlvr);
    let rlvr = arms.filter_map(|arm| Some(&arm.file.rlvr.as_ref()?.problems));
    let measures = plan.measures().iter().map(|measure| &measure.problems);
    for problems in measures.chain(rlvr) {
        if let Some(bench) = problems.set.bench() {
            benchmark_data::locate(bench, problems.data.as_deref())
                .with_context(|| format!("problems.data of the set {:?}", problems.set.text()))?;
        }
    }
    Ok(())
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

/// What the processor calls itself, where the system says it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
    name.unwrap_or("not known").to_owned()
}

/// The ledger's first line.
fn first_line(plan: &Plan, build: &str) -> Vec<u8> {
    let arms = plan.file.arms.iter().map(|arm| ArmRecord {
        name: arm.name.clone(),
        from: arm.from.clone(),
        method: name_of(&arm.method),
    });
    let record = Record::Run(RunRecord {
        name: plan.file.name.clone(),
        seed: plan.file.seed,
        plan_hash: plan.hash(),
        version: build.to_owned(),
        n_threads: plan.file.n_threads,
        processor: processor(),
        arms: arms.collect(),
    });
    let mut line = serde_json::to_vec(&record).expect("a record has only plain fields");
    line.push(b'\n');
    line
}
