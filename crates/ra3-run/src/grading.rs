//! `ra3 grade`: anybody's samples on a benchmark, from a file of samples to a file of results.
//!
//! Results that the output file or a merged file holds already are not graded again: a sample is
//! known by its task and the text of its program. Not done here: sampling.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ra3::seed::Seed;
use ra3_evals::bench::{self, Bench, Name};
use ra3_evals::evalplus::data::Rules;
use ra3_evals::outcome::{Verdict, grade_all};
use ra3_evals::pass_at_k::{estimate, pass_at_k};
use ra3_evals::results::{self, Conditions, Entry, Results};
use ra3_evals::samples;
use ra3_evals::sanitize::sanitize as sanitize_text;
use ra3_sandbox::{Level, Pool};
use serde::Serialize;

use crate::benchmark_data;
use crate::event::{Event, Watcher};
use crate::run_file::ConfinementName;

/// Samples between two writings of the output file.
const N_BATCH: usize = 256;
/// k of pass@k, where every task has so many samples.
const KS: [usize; 3] = [1, 10, 100];

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
    pub confinement: ConfinementName,
    /// By EvalPlus's rules of 2024, for results that are compared with old ones.
    pub rules_of_2024: bool,
    /// Processes that grade.
    pub n_workers: usize,
    /// Result file, read and written.
    pub out: Option<PathBuf>,
    /// Further result files, read.
    pub merge: Vec<PathBuf>,
}

/// pass@k with its interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassAt {
    /// k.
    pub k: usize,
    /// `base` or `plus`; plus is base and plus.
    pub tests: &'static str,
    /// The mean over tasks.
    pub mean: f64,
    /// 95 % interval.
    pub interval: [f64; 2],
}

/// A program that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedSample {
    /// Its task.
    pub task_id: String,
    /// Which of the task's samples, from 0.
    pub sample: usize,
    /// `base` or `plus`.
    pub tests: &'static str,
    /// `fail` or `timeout`.
    pub status: &'static str,
    /// The first failing test's input.
    pub input: String,
    /// What it should give.
    pub expected: String,
    /// What it gave or raised.
    pub got: String,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradeReport {
    /// The benchmark's name.
    pub bench: String,
    /// How the model was asked; empty where that is not known.
    pub variant: String,
    /// Name and version of the data.
    pub version: String,
    /// MD5 sum of the uncompressed data.
    pub checksum: String,
    /// What confined the programs.
    pub sandbox: String,
    /// The interpreter's version.
    pub python: String,
    /// Tasks with samples.
    pub n_tasks: usize,
    /// Tasks of the benchmark without samples: they count for nothing.
    pub n_tasks_missing: usize,
    /// Samples.
    pub n_samples: usize,
    /// Of them, graded now.
    pub n_graded: usize,
    /// Scores.
    pub pass_at: Vec<PassAt>,
    /// Failures, by task.
    pub failures: Vec<FailedSample>,
}

/// Grades samples.
///
/// # Errors
/// Files cannot be read or written, the sandbox cannot run, or fails for a sample.
pub fn grade(request: &GradeRequest, watcher: &mut Watcher<'_>) -> Result<GradeReport> {
    let (bench, pool) = prepare(request, watcher)?;
    grade_prepared(request, &bench, &pool, watcher)
}

/// The benchmark, and the pool that grades.
///
/// # Errors
/// There is no such benchmark, its data cannot be read, or the sandbox cannot run.
pub(crate) fn prepare(request: &GradeRequest, watcher: &mut Watcher<'_>) -> Result<(Bench, Pool)> {
    let name = name(&request.bench)?;
    let level = match request.confinement {
        ConfinementName::Require => Level::Require,
        ConfinementName::BestEffort => Level::BestEffort,
        ConfinementName::Off => Level::Off,
    };
    let pool = Pool::new(request.n_workers, name.limits(), level)?;
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

/// Grades samples on a benchmark that is ready.
pub(crate) fn grade_prepared(
    request: &GradeRequest,
    bench: &Bench,
    pool: &Pool,
    watcher: &mut Watcher<'_>,
) -> Result<GradeReport> {
    let name = bench.name;
    let mut samples = samples::read(&request.samples)?;
    if request.sanitize {
        sanitize(&mut samples, bench);
    }
    let mut results = Results::new(Conditions {
        checksum: bench.checksum.clone(),
        version: bench.version.clone(),
        sandbox: pool.confinement.join(", "),
        python: pool.python_version().to_owned(),
    });
    let out = request.out.iter().filter(|path| path.exists());
    for path in out.chain(&request.merge) {
        results.merge(results::read(path)?, path)?;
    }
    let todo = missing(bench, &samples, &results, watcher)?;
    watcher(Event::Started {
        stage: format!("grade {}", name.text()),
        position: 0,
        total: todo.len() as u64,
        unit: "samples",
    });
    let mut n_done = 0;
    for batch in todo.chunks(N_BATCH) {
        let verdicts = grade_batch(bench, batch, pool, &mut |n_samples| {
            n_done += n_samples as u64;
            watcher(Event::Advanced {
                position: n_done,
                n_tokens: 0,
                message: String::new(),
            });
        });
        for item in batch {
            let (task_id, program) = item;
            let verdict = verdicts[item].clone();
            if let Some(reason) = verdict.infrastructure() {
                bail!("the sandbox failed, not the sample of {task_id}: {reason}; run again");
            }
            let entries = results.tasks.entry(task_id.clone()).or_default();
            entries.push(Entry::new(program.clone(), verdict));
        }
        if let Some(path) = &request.out {
            results::write(path, &results)?;
        }
    }
    if let Some(path) = &request.out {
        results::write(path, &results)?;
    }
    let message = format!("{} samples graded", todo.len());
    watcher(Event::Finished { message });
    Ok(report(bench, &results, todo.len()))
}

/// The verdict on each item. Equal programs of a task run once, and the tasks whose right programs
/// take longest run first, so that no worker is left alone with them at the end. `on_done` hears
/// how many samples are through.
fn grade_batch<'a>(
    bench: &Bench,
    batch: &'a [Item],
    pool: &Pool,
    on_done: &mut dyn FnMut(usize),
) -> BTreeMap<&'a Item, Verdict> {
    let mut n_samples: BTreeMap<&Item, usize> = BTreeMap::new();
    for item in batch {
        *n_samples.entry(item).or_default() += 1;
    }
    let mut items: Vec<&Item> = n_samples.keys().copied().collect();
    let seconds = |(task_id, _): &Item| bench.right_s(task_id).unwrap_or_default();
    items.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    let grade = |(task_id, program): &&Item| {
        let verdict = bench.grade(task_id, program, pool);
        verdict.expect("the task was looked up")
    };
    let verdicts = grade_all(&items, pool, grade, &mut |index| {
        on_done(n_samples[items[index]]);
    });
    items.iter().copied().zip(verdicts).collect()
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
    watcher(Event::Started {
        stage: "right programs".to_owned(),
        position: 0,
        total: 0,
        unit: "tasks",
    });
    let rules = if request.rules_of_2024 {
        Rules::Of2024
    } else {
        Rules::Current
    };
    let cache = cache_folder();
    let mut n_done = 0;
    let mut on_done = |_| {
        n_done += 1;
        watcher(Event::Advanced {
            position: n_done,
            n_tokens: 0,
            message: String::new(),
        });
    };
    let bench = bench::load(
        name,
        rules,
        &benchmark_data::locate(name, request.data.as_deref())?,
        pool,
        cache.as_deref(),
        &mut on_done,
    )?;
    let message = format!("{}, MD5 {}", bench.version, bench.checksum);
    watcher(Event::Finished { message });
    Ok(bench)
}

/// Where expected outputs are kept.
fn cache_folder() -> Option<PathBuf> {
    let home = |name: &str, rest: &str| Some(Path::new(&std::env::var_os(name)?).join(rest));
    home("XDG_CACHE_HOME", "ra3/expected").or_else(|| home("HOME", ".cache/ra3/expected"))
}

/// Takes the programs out of the samples as EvalPlus does.
fn sanitize(samples: &mut [samples::Sample], bench: &Bench) {
    for sample in samples {
        if let Some(task) = bench.task(&sample.task_id) {
            let entry_point = task.entry_point().unwrap_or_default();
            let program = sample.program(task.prompt());
            sample.text = samples::Text::Solution(sanitize_text(&program, entry_point));
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
        for entry in entries {
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
        let item = (sample.task_id.clone(), sample.program(task.prompt()));
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

fn report(bench: &Bench, results: &Results, n_graded: usize) -> GradeReport {
    let all: Vec<&Entry> = results.tasks.values().flatten().collect();
    let has_plus = all.iter().any(|entry| entry.plus.is_some());
    let mut pass_at = Vec::new();
    for (tests, with_plus) in [("base", false), ("plus", true)] {
        let counts = results.counts(with_plus);
        let n_min = counts.iter().map(|(n, _)| *n).min().unwrap_or(0);
        for k in KS
            .into_iter()
            .filter(|k| *k <= n_min && (has_plus || !with_plus))
        {
            let by_task: Vec<f64> = counts.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect();
            let estimate = estimate(&by_task, Seed::root(0).child(tests).nth(k as u64));
            pass_at.push(PassAt {
                k,
                tests,
                mean: estimate.mean,
                interval: [estimate.low, estimate.high],
            });
        }
    }
    let conditions = &results.conditions;
    GradeReport {
        bench: bench.name.text().to_owned(),
        variant: String::new(),
        version: conditions.version.clone(),
        checksum: conditions.checksum.clone(),
        sandbox: conditions.sandbox.clone(),
        python: conditions.python.clone(),
        n_tasks: results.tasks.len(),
        n_tasks_missing: bench
            .task_ids()
            .filter(|id| !results.tasks.contains_key(*id))
            .count(),
        n_samples: all.len(),
        n_graded,
        pass_at,
        failures: failures(results),
    }
}

/// The first failing part of every sample that failed.
fn failures(results: &Results) -> Vec<FailedSample> {
    let mut found = Vec::new();
    for (task_id, entries) in &results.tasks {
        for (sample, entry) in entries.iter().enumerate().filter(|(_, e)| !e.passes(true)) {
            let is_base = !entry.passes(false);
            let status = if is_base {
                Some(entry.base)
            } else {
                entry.plus
            };
            let failure = entry.failures[usize::from(!is_base)].clone();
            let text = |part: fn(&ra3_evals::outcome::Failure) -> &String| {
                failure.as_ref().map(part).cloned().unwrap_or_default()
            };
            found.push(FailedSample {
                task_id: task_id.clone(),
                sample,
                tests: if is_base { "base" } else { "plus" },
                status: status.map_or("fail", ra3_evals::outcome::Status::name),
                input: text(|failure| &failure.input),
                expected: text(|failure| &failure.expected),
                got: text(|failure| &failure.got),
            });
        }
    }
    found
}

impl GradeReport {
    /// A table.
    pub fn to_text(&self) -> String {
        let variant = if self.variant.is_empty() {
            String::new()
        } else {
            format!(" [{}]", self.variant)
        };
        let mut text = format!(
            "{}{variant} ({}, MD5 {})\n{} samples of {} tasks, {} graded now; {} tasks have \
             no samples\nsandbox: {}; Python {}\n",
            self.bench,
            self.version,
            self.checksum,
            self.n_samples,
            self.n_tasks,
            self.n_graded,
            self.n_tasks_missing,
            self.sandbox,
            self.python
        );
        for pass in &self.pass_at {
            let [low, high] = pass.interval.map(|share| 100.0 * share);
            text += &format!(
                "{}  pass@{:<4} {:5.1} %  ({low:.1} to {high:.1})\n",
                pass.tests,
                pass.k,
                100.0 * pass.mean
            );
        }
        text
    }

    /// The failures, one paragraph each.
    pub fn failures_text(&self) -> String {
        let paragraph = |failed: &FailedSample| {
            format!(
                "{} sample {}: {} ({} tests)\n  input     {}\n  expected  {}\n  got       {}\n",
                failed.task_id,
                failed.sample,
                failed.status,
                failed.tests,
                failed.input,
                failed.expected,
                failed.got
            )
        };
        let paragraphs: Vec<String> = self.failures.iter().map(paragraph).collect();
        paragraphs.join("\n")
    }
}
