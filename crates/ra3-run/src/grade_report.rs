//! What grading came to: scores with intervals, and the failures, as a table, JSON and a page.
//!
//! Not done here: grading (`grading`).

use std::collections::BTreeMap;

use ra3::seed::Seed;
use ra3_evals::bench::Bench;
use ra3_evals::results::{Entry, Results};
use ra3_evals::sampling::Sampling;
use ra3_records::ledger::{Interval, ScoreRecord};
use ra3_report::percent;
use ra3_statistics::pass_at_k::{estimate, pass_at_k};
use serde::Serialize;

use crate::visible::visible;

/// k of pass@k, where every task has so many samples.
const KS: [usize; 3] = [1, 10, 100];

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

/// A task that cannot be graded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its name.
    pub task_id: String,
    /// What is wrong with its data.
    pub reason: String,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradeReport {
    /// The benchmark's name.
    pub bench: String,
    /// How the samples were written, as far as that is known.
    pub sampling: Vec<Sampling>,
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
    /// Tasks whose samples count for nothing, since their checkers are broken.
    pub faults: Vec<Fault>,
    /// Failures, by task.
    pub failures: Vec<FailedSample>,
}

/// The report on results of this benchmark.
pub(crate) fn report(
    bench: &Bench,
    results: Results,
    n_graded: usize,
    faults: BTreeMap<String, String>,
) -> GradeReport {
    let fault = |(task_id, reason)| Fault { task_id, reason };
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
    let (n_samples, failures) = (all.len(), failures(&results));
    let n_tasks_missing = bench
        .task_ids()
        .filter(|id| !results.tasks.contains_key(*id))
        .count();
    let conditions = results.conditions;
    GradeReport {
        bench: bench.graded_as.clone(),
        version: bench.version.clone(),
        checksum: conditions.checksum,
        sandbox: conditions.sandbox,
        python: conditions.python,
        sampling: results.sampling,
        n_tasks: results.tasks.len(),
        n_tasks_missing,
        n_samples,
        n_graded,
        pass_at,
        faults: faults.into_iter().map(fault).collect(),
        failures,
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
        let sampling = |sampling: &Sampling| {
            format!(
                " [{}, temperature {}, seed {}]",
                sampling.variant, sampling.temperature, sampling.seed
            )
        };
        let variant: String = self.sampling.iter().map(sampling).collect();
        let head = format!(
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
        let scores = self.pass_at.iter().map(|pass| {
            let (mean, [low, high]) = (pass.mean, pass.interval);
            let name = format!("{} pass@{}", pass.tests, pass.k);
            (name, Interval { mean, low, high })
        });
        let fault = |fault: &Fault| {
            let Fault { task_id, reason } = fault;
            format!("left out, by a fault of the data: {task_id}: {reason}")
        };
        table(head, scores, self.faults.iter().map(fault))
    }

    /// The failures, one paragraph each.
    pub fn failures_text(&self) -> String {
        let paragraph = |failed: &FailedSample| {
            format!(
                "{} sample {}: {} ({} tests)\n  input     {}\n  expected  {}\n  got       {}\n",
                visible(&failed.task_id),
                failed.sample,
                failed.status,
                failed.tests,
                visible(&failed.input),
                visible(&failed.expected),
                visible(&failed.got)
            )
        };
        let paragraphs: Vec<String> = self.failures.iter().map(paragraph).collect();
        paragraphs.join("\n")
    }
}

/// The score of a file of problems, as a table.
pub fn score_text(score: &ScoreRecord) -> String {
    let head = format!(
        "{} problems, {} samples each, temperature {}, decisions {}\n",
        score.n_problems, score.n_samples, score.temperature, score.decision
    );
    let scores = score.pass_at.iter();
    let scores = scores.map(|(k, interval)| (format!("pass@{k}"), *interval));
    let families = score.by_family.iter();
    let families = families.map(|(name, pass)| format!("  {name:<12} {:.1} %", 100.0 * pass));
    let verdicts = score.verdicts.iter();
    let verdicts = verdicts.map(|(name, n)| format!("  {name:<16} {n}"));
    table(head, scores, families.chain(verdicts))
}

/// What was graded and how, scores with their intervals, and what else there is to say, a line
/// each.
fn table(
    head: String,
    scores: impl Iterator<Item = (String, Interval)>,
    further: impl Iterator<Item = String>,
) -> String {
    let score = |(name, interval)| format!("{name:<14} {} %", percent(&interval));
    let lines = scores.map(score).chain(further);
    visible(&lines.fold(head, |text, line| text + &line + "\n"))
}
