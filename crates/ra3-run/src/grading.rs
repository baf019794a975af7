//! `ra3 grade`: anybody's samples on a benchmark, from a file of samples to a file of results.
//!
//! Results that the output file holds already are not graded again: a sample is known by its task
//! and the text of its program. Not done here: sampling.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ra3_evals::bench::{self, Bench, Name};
use ra3_evals::evalplus::data::Rules;
use ra3_evals::outcome::{Fault, Graded, grade_until};
use ra3_evals::results::{self, Conditions, Entry, Results};
use ra3_evals::samples;
use ra3_evals::sampling::Sampling;
use ra3_evals::sanitize::sanitize as sanitize_text;
use ra3_evals::task::is_day;
use ra3_sandbox::{Level, Pool};

use crate::benchmark_data;
use crate::event::{Event, Watcher};
use crate::grade_report::{GradeReport, report};

/// Samples between two writings of the output file, at most.
const N_BATCH: usize = 256;
/// How long they may go on beginning: slow ones are written in time as well.
const BATCH: Duration = Duration::from_secs(5);

/// A sample: its task, and the text of its program.
type Item = (String, String);

/// What is graded, on what.
#[derive(Clone, Debug)]
pub struct GradeRequest {
    /// JSON lines or a folder.
    pub samples: PathBuf,
    /// The benchmark's name.
    pub bench: String,
    /// Its data: a file, or a folder of files; this machine's copy where none is named.
    pub data: Option<PathBuf>,
    /// Take the programs out of the samples as EvalPlus does.
    pub sanitize: bool,
    /// First day of the tasks, such as `2024-08-01`.
    pub from: Option<String>,
    /// Last day of the tasks.
    pub to: Option<String>,
    /// What must hold of the sandbox.
    pub confinement: Level,
    /// By EvalPlus's rules of 2024, for results that are compared with old ones.
    pub rules_of_2024: bool,
    /// Processes that grade.
    pub n_workers: usize,
    /// Result file, read and written.
    pub out: Option<PathBuf>,
    /// Further result files, read.
    pub merge: Vec<PathBuf>,
}

/// Grades samples.
///
/// # Errors
/// Files cannot be read or written, the sandbox cannot run, or fails for a sample.
pub fn grade(request: &GradeRequest, watcher: &mut Watcher<'_>) -> Result<GradeReport> {
    let (bench, pool) = prepare(request, watcher)?;
    grade_prepared(request, None, &bench, &pool, watcher)
}

/// The benchmark, and the pool that grades.
pub(crate) fn prepare(request: &GradeRequest, watcher: &mut Watcher<'_>) -> Result<(Bench, Pool)> {
    let name = name(&request.bench)?;
    check_window(request)?;
    check_place(request.out.as_deref())?;
    let pool = Pool::new(request.n_workers, name.limits(), request.confinement)?;
    let mut bench = load(name, request, &pool, watcher)?;
    if request.from.is_some() || request.to.is_some() {
        let n_unknown = bench.keep_window(request.from.as_deref(), request.to.as_deref());
        if n_unknown > 0 {
            let text = format!("{n_unknown} tasks have no date and are left out");
            watcher(Event::Note(text));
        }
    }
    Ok((bench, pool))
}

/// Dates are compared as text, so they have to be dates.
fn check_window(request: &GradeRequest) -> Result<()> {
    for (option, date) in [("--from", &request.from), ("--to", &request.to)] {
        let Some(date) = date else { continue };
        ensure!(
            is_day(date),
            "{option} {date:?} is no day; write it as 2024-08-01"
        );
    }
    if let (Some(from), Some(to)) = (&request.from, &request.to) {
        ensure!(from <= to, "--from {from} is after --to {to}");
    }
    Ok(())
}

/// Whether a result file can be written, before hours are spent on what belongs in it.
///
/// # Errors
/// The folder is missing or cannot be written.
pub fn check_place(out: Option<&Path>) -> Result<()> {
    let Some(out) = out else { return Ok(()) };
    ensure!(
        !out.is_dir(),
        "{} is a folder; name a file in it",
        out.display()
    );
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    tempfile::tempfile_in(folder).map(|_| ()).with_context(|| {
        let folder = folder.display();
        format!(
            "cannot write {}: make the folder {folder}, or one that can be written",
            out.display()
        )
    })
}

/// Grades samples on a benchmark that is ready; how they were written, where that is known.
pub(crate) fn grade_prepared(
    request: &GradeRequest,
    sampling: Option<Sampling>,
    bench: &Bench,
    pool: &Pool,
    watcher: &mut Watcher<'_>,
) -> Result<GradeReport> {
    let name = bench.name;
    let mut samples = samples::read(&request.samples)?;
    ensure!(
        !samples.is_empty(),
        "{} holds no sample: it wants a line of JSON with `task_id` and `solution` for each, or a \
         folder such as HumanEval_0 with files 0.py",
        request.samples.display()
    );
    if request.sanitize {
        sanitize(&mut samples, bench);
    }
    let mut results = Results::new(Conditions {
        benchmark: bench.graded_as.clone(),
        checksum: bench.checksum.clone(),
        version: bench.version.clone(),
        sandbox: pool.confinement.join(", "),
        python: pool.python_version().to_owned(),
    });
    if let Some(path) = request.out.as_ref().filter(|path| path.exists()) {
        results.resume(results::read(path)?, path)?;
    }
    if let Some(sampling) = sampling {
        results.add_sampling(sampling);
    }
    let todo = missing(bench, &samples, &results, watcher)?;
    for path in &request.merge {
        results.merge(results::read(path)?, path)?;
    }
    let stage = format!("grade {}", name.text());
    watcher(Event::started(stage, todo.len() as u64, "samples"));
    let faults = grade_missing(request, bench, &todo, &mut results, pool, watcher)?;
    let message = format!("{} samples graded", todo.len());
    watcher(Event::Finished { message });
    // A file may hold more than is asked for now, such as tasks outside the window.
    let is_asked = |task_id: &String| bench.task(task_id).is_some();
    results
        .tasks
        .retain(|task_id, _| is_asked(task_id) && !faults.contains_key(task_id));
    Ok(report(bench, results, todo.len(), faults))
}

/// Grades batch by batch, and keeps each as it is through. The tasks whose checkers are broken,
/// which the first sample that shows it leaves out, with what is wrong with them.
fn grade_missing(
    request: &GradeRequest,
    bench: &Bench,
    todo: &[Item],
    results: &mut Results,
    pool: &Pool,
    watcher: &mut Watcher<'_>,
) -> Result<BTreeMap<String, String>> {
    let mut n_done = 0;
    let (mut faults, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
    let mut rest: Vec<&Item> = todo.iter().collect();
    while !rest.is_empty() {
        grade_batch(bench, &rest, &mut verdicts, pool, &mut |n_samples| {
            n_done += n_samples as u64;
            watcher(Event::advanced(n_done));
        });
        let known = faults.clone();
        let failed = take(&mut rest, &verdicts, results, &mut faults);
        kept(request, results)?;
        if let Some((task_id, reason)) = failed {
            bail!(
                "the sandbox failed, not the sample of {task_id}: {reason}; run again, which goes \
                 on from what --out holds"
            );
        }
        for (task_id, fault) in faults.iter().filter(|(id, _)| !known.contains_key(*id)) {
            watcher(Event::Note(format!("{task_id} is left out: {fault}")));
        }
    }
    kept(request, results)?;
    Ok(faults)
}

/// Moves what has a verdict from the rest to the results: of each task in the order of its samples,
/// so that it is the same however the samples fall into batches. The first that the sandbox failed
/// for, and why.
fn take(
    rest: &mut Vec<&Item>,
    verdicts: &BTreeMap<&Item, Graded>,
    results: &mut Results,
    faults: &mut BTreeMap<String, String>,
) -> Option<(String, String)> {
    let mut waiting = BTreeSet::new();
    let mut failed = None;
    rest.retain(|item| {
        let (task_id, program) = item;
        if faults.contains_key(task_id) {
            return false;
        }
        let graded = verdicts.get(item);
        match graded.filter(|_| !waiting.contains(task_id)) {
            Some(Ok(verdict)) => {
                let entries = results.tasks.entry(task_id.clone()).or_default();
                entries.push(Entry::new(program.clone(), verdict.clone()));
                return false;
            }
            Some(Err(fault @ Fault::Checker(_))) => {
                faults.insert(task_id.clone(), fault.to_string());
                return false;
            }
            Some(Err(Fault::Sandbox(reason))) => {
                failed.get_or_insert((task_id.clone(), reason.clone()));
            }
            None => {}
        }
        waiting.insert(task_id.clone());
        true
    });
    failed
}

fn kept(request: &GradeRequest, results: &Results) -> Result<()> {
    let Some(path) = &request.out else {
        return Ok(());
    };
    Ok(results::write(path, results)?)
}

/// Grades the first of the rest, as many as begin in time. Equal programs of a task run once, and
/// the tasks whose right programs take longest run first, so that no worker is left alone with them
/// at the end. `on_done` hears how many samples are through.
fn grade_batch<'a>(
    bench: &Bench,
    rest: &[&'a Item],
    verdicts: &mut BTreeMap<&'a Item, Graded>,
    pool: &Pool,
    on_done: &mut dyn FnMut(usize),
) {
    let mut n_samples: BTreeMap<&Item, usize> = BTreeMap::new();
    for item in rest {
        *n_samples.entry(item).or_default() += 1;
    }
    let batch = rest.iter().take(N_BATCH).copied();
    let mut seen = BTreeSet::new();
    let is_new = |item: &&'a Item| !verdicts.contains_key(item) && seen.insert(*item);
    let mut items: Vec<&'a Item> = batch.filter(is_new).collect();
    let task = |item: &Item| bench.task(&item.0).expect("the task was looked up");
    let seconds = |item: &Item| task(item).right_s().unwrap_or_default();
    items.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    let grade = |item: &&Item| task(item).grade(&item.1, pool);
    let graded = grade_until(
        Some(Instant::now() + BATCH),
        &items,
        pool,
        grade,
        &mut |index| {
            on_done(n_samples[items[index]]);
        },
    );
    let graded = items.into_iter().zip(graded);
    verdicts.extend(graded.filter_map(|(item, graded)| Some((item, graded?))));
}

fn name(text: &str) -> Result<Name> {
    let names = Name::ALL.map(Name::text).join(", ");
    Name::of(text).with_context(|| format!("no benchmark is called {text}; there are {names}"))
}

fn load(
    name: Name,
    request: &GradeRequest,
    pool: &Pool,
    watcher: &mut Watcher<'_>,
) -> Result<Bench> {
    watcher(Event::started("right programs", 0, "tasks"));
    let rules = if request.rules_of_2024 {
        Rules::Of2024
    } else {
        Rules::Current
    };
    let cache = ra3_files::cache_folder(|name| std::env::var_os(name)).join("ra3/expected");
    let mut n_done = 0;
    let mut on_done = |_| {
        n_done += 1;
        watcher(Event::advanced(n_done));
    };
    let bench = bench::load(
        name,
        rules,
        &benchmark_data::locate(name, request.data.as_deref())?,
        pool,
        Some(&cache),
        &mut on_done,
    )?;
    let message = format!("{}, MD5 {}", bench.version, bench.checksum);
    watcher(Event::Finished { message });
    Ok(bench)
}

/// Takes the programs out of the samples as EvalPlus does.
fn sanitize(samples: &mut [samples::Sample], bench: &Bench) {
    for sample in samples {
        if let Some(task) = bench.task(&sample.task_id) {
            let program = sample.program(task.preamble());
            let program = sanitize_text(&program, task.defines());
            sample.text = samples::Text::Solution(program);
        }
    }
}

/// The samples, as task and program, that have no results yet.
fn missing(
    bench: &Bench,
    samples: &[samples::Sample],
    results: &Results,
    watcher: &mut Watcher<'_>,
) -> Result<Vec<Item>> {
    let mut known: BTreeMap<Item, usize> = BTreeMap::new();
    for (task_id, entries) in &results.tasks {
        for entry in entries.iter().filter(|entry| entry.origin.is_empty()) {
            let key = (task_id.clone(), entry.solution.clone());
            *known.entry(key).or_default() += 1;
        }
    }
    let mut todo = Vec::new();
    let mut n_unknown = 0;
    for sample in samples {
        let Some(task) = bench.task(&sample.task_id) else {
            n_unknown += 1;
            continue;
        };
        let item = (sample.task_id.clone(), sample.program(task.preamble()));
        match known.get_mut(&item) {
            Some(n) if *n > 0 => *n -= 1,
            _ => todo.push(item),
        }
    }
    ensure!(
        n_unknown < samples.len(),
        "no sample is of a task of {}; name the benchmark of the samples with --bench",
        bench.version
    );
    if n_unknown > 0 {
        let text = format!("{n_unknown} samples are of no task of {}", bench.version);
        watcher(Event::Note(text));
    }
    Ok(todo)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ra3_evals::outcome::Part;

    use super::*;

    proptest! {
        /// Whatever comes through first, what is kept of a task is a beginning of its samples.
        #[test]
        fn results_are_in_the_order_of_the_samples(
            todo in proptest::collection::vec(("[ab]", "[xyz]"), 0..12),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut results = Results::new(Conditions::default());
            let programs = |results: &Results, task_id: &str| -> Vec<String> {
                let entries = results.tasks.get(task_id).into_iter().flatten();
                entries.map(|entry| entry.solution.clone()).collect()
            };
            let wanted = |task_id: &str| -> Vec<String> {
                let own = todo.iter().filter(|(own, _)| own == task_id);
                own.map(|(_, program)| program.clone()).collect()
            };
            let (mut faults, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
            let mut rest: Vec<&Item> = todo.iter().collect();
            let passed = || Ok(Part::passed(1).into());
            for index in order.iter().filter(|_| !todo.is_empty()) {
                verdicts.insert(index.get(&todo), passed());
                prop_assert_eq!(take(&mut rest, &verdicts, &mut results, &mut faults), None);
                for task_id in ["a", "b"] {
                    let (kept, wanted) = (programs(&results, task_id), wanted(task_id));
                    let n_known = todo.iter()
                        .filter(|(own, _)| own == task_id)
                        .take_while(|item| verdicts.contains_key(item))
                        .count();
                    prop_assert_eq!(kept, &wanted[..n_known]);
                }
            }
            verdicts.extend(todo.iter().map(|item| (item, passed())));
            take(&mut rest, &verdicts, &mut results, &mut faults);
            prop_assert!(rest.is_empty() && faults.is_empty());
            for task_id in ["a", "b"] {
                prop_assert_eq!(programs(&results, task_id), wanted(task_id));
            }
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_at_once() {
        let folder = tempfile::tempdir().expect("there is room");
        let there = folder.path().join("results.json");
        assert!(check_place(Some(&there)).is_ok() && check_place(None).is_ok());
        assert!(!there.exists());
        let missing = folder.path().join("missing/results.json");
        let error = check_place(Some(&missing)).expect_err("there is no folder");
        assert!(error.to_string().contains("make the folder"), "{error}");
        assert!(check_place(Some(folder.path())).is_err());
    }
}
