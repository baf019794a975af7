//! The tables of a run: what each model cost, and what it bought.

use std::collections::BTreeMap;

use ra3_page::number as short;
use ra3_records::clock::ClockRecord;
use ra3_records::ledger::{HeldOutRecord, Interval, Record, ScoreRecord};
use ra3_statistics::curves;
use serde::Serialize;

use super::arms::{all_scores, arms, held_out, is_finished, rlvr_scores, scores, spent};
use super::differences::{Difference, differences};

/// A model: what it cost, and how it predicts held-out documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub arm: String,
    /// Corpus tokens of mid-training.
    pub n_corpus_tokens: u64,
    /// Tokens sampled in mid-training.
    pub n_tokens_sampled: u64,
    /// FLOPs of mid-training.
    #[serde(serialize_with = "ra3_records::number::serialize")]
    pub flops: f64,
    /// Wall seconds of mid-training.
    pub wall_s: f64,
    /// Bits per byte on held-out documents, without latents.
    #[serde(serialize_with = "ra3_records::number::option::serialize")]
    pub bits_per_byte: Option<f64>,
    /// Upper bounds on bits per byte with latents, by name.
    #[serde(serialize_with = "ra3_records::number::map::serialize")]
    pub bounds: BTreeMap<String, f64>,
    /// Figures about the latents, by name.
    #[serde(serialize_with = "ra3_records::number::map::serialize")]
    pub latents: BTreeMap<String, f64>,
    /// Mean held-out pass@1 over the updates of RLVR (area under the curve, trapezoids).
    #[serde(serialize_with = "ra3_records::number::option::serialize")]
    pub rlvr_area: Option<f64>,
}

/// Scores that may stand side by side: of the same problems, samples and temperature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Benchmark {
    /// What was asked.
    pub benchmark: String,
    /// Problems.
    pub n_problems: u64,
    /// Samples of each.
    pub n_samples: u64,
    /// Sampling temperature.
    #[serde(serialize_with = "ra3_records::number::serialize")]
    pub temperature: f64,
    /// The models.
    pub rows: Vec<BenchmarkRow>,
}

/// A model's scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchmarkRow {
    /// Its name.
    pub arm: String,
    /// pass@k by the way of writing and `k`.
    pub pass_at: BTreeMap<String, BTreeMap<String, Interval>>,
    /// pass@k after RLVR, by `k`.
    pub after_rlvr: BTreeMap<String, Interval>,
}

/// The tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// The models, in the run's order.
    pub rows: Vec<Row>,
    /// Their scores.
    pub benchmarks: Vec<Benchmark>,
    /// Models against each other, paired over problems.
    pub differences: Vec<Difference>,
}

impl Table {
    pub(crate) fn new(ledger: &[Record], clock: &[ClockRecord]) -> Self {
        let rows = arms(ledger).into_iter();
        Self {
            rows: rows.filter_map(|arm| row(arm, ledger, clock)).collect(),
            benchmarks: benchmarks(ledger),
            differences: differences(ledger),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a table has only plain fields")
    }

    /// As aligned columns, one table below the other, that fit 80 characters where names are not
    /// long; if it is wide, with figures of the latents, every k and every forced decision besides.
    pub fn to_text(&self, is_wide: bool) -> String {
        let wide = |cells: Vec<Vec<String>>, more: Vec<Vec<String>>| {
            if is_wide {
                let rows = cells.into_iter().zip(more);
                rows.map(|(row, more)| [row, more].concat()).collect()
            } else {
                without_wide(cells)
            }
        };
        let mut text = aligned(&wide(self.cells(), self.more_cells()));
        for benchmark in &self.benchmarks {
            text += &format!("\n\n{}\n", benchmark.title());
            text += &aligned(&wide(benchmark.cells(), benchmark.more_cells()));
        }
        if !self.differences.is_empty() {
            text += "\n\ndifference of pass@1, paired over problems [95 %]\n";
            text += &aligned(&self.difference_cells());
        }
        text
    }

    /// The differences as text cells, without a header; on which problems, where there are several
    /// sets.
    pub(crate) fn difference_cells(&self) -> Vec<Vec<String>> {
        let cells = self.differences.iter().map(|difference| {
            let which = (self.benchmarks.len() > 1).then(|| difference.benchmark.clone());
            which.into_iter().chain(difference.cells()).collect()
        });
        cells.collect()
    }

    /// Costs and held-out documents as text cells.
    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let header = [
            "arm",
            "tokens",
            "sampled",
            "FLOP",
            "bits/byte",
            "ELBO",
            "IWAE",
            "think",
            "persist",
            "time, s",
        ];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        cells.extend(self.rows.iter().map(cells_of));
        cells
    }

    /// Further columns of [`Self::cells`].
    fn more_cells(&self) -> Vec<Vec<String>> {
        let head = WIDE.map(|(_, title)| title.to_owned());
        let mut cells = vec![[head.to_vec(), vec!["RLVR area".to_owned()]].concat()];
        cells.extend(self.rows.iter().map(|row| {
            let latents = WIDE.map(|(name, _)| digits(row.latents.get(name).copied(), 2));
            let area = digits(row.rlvr_area.map(|area| 100.0 * area), 2);
            [latents.to_vec(), vec![area]].concat()
        }));
        cells
    }
}

/// Figures of the latents that a wide table has, by name, and what they are called.
const WIDE: [(&str, &str); 4] = [
    ("rationale_tokens", "tokens a latent"),
    ("gain", "gain, nats"),
    ("choices", "choices left"),
    ("marker_probability", "p(marker)"),
];

/// Columns of the page's table that a wide table alone has room for.
const WIDE_COLUMNS: [&str; 2] = ["sampled", "persist"];

fn without_wide(mut cells: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let is_kept = |title: &String| !WIDE_COLUMNS.contains(&title.as_str());
    let kept: Vec<bool> = cells[0].iter().map(is_kept).collect();
    for row in &mut cells {
        let mut kept = kept.iter();
        row.retain(|_| kept.next() == Some(&true));
    }
    cells
}

/// Ways of writing that a wide table has, by name.
const WAYS: [&str; 4] = ["free", "act", "think", "true_plan"];

impl Benchmark {
    /// What was asked, and how.
    pub(crate) fn title(&self) -> String {
        format!(
            "{}: {} problems, {} samples each at temperature {:.1}",
            self.benchmark, self.n_problems, self.n_samples, self.temperature
        )
    }

    /// Scores as text cells.
    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let header = ["arm", "pass@1 [95 %]", "pass@k", "after RLVR [95 %]"];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        cells.extend(self.rows.iter().map(|row| {
            let plain = row.plain();
            vec![
                row.arm.clone(),
                plain
                    .and_then(|by_k| by_k.get("1"))
                    .map_or_else(dash, percent),
                plain.and_then(best_k).unwrap_or_else(dash),
                row.after_rlvr.get("1").map_or_else(dash, percent),
            ]
        }));
        cells
    }

    /// Further columns of [`Self::cells`]: every k, and pass@1 by forced decision.
    fn more_cells(&self) -> Vec<Vec<String>> {
        let of = |by_k: Option<&BTreeMap<String, Interval>>, k: &str| {
            let found = by_k.and_then(|by_k| by_k.get(k));
            digits(found.map(|found| 100.0 * found.mean), 1)
        };
        let plain = self.rows.iter().filter_map(BenchmarkRow::plain);
        let mut ks: Vec<u64> = plain
            .flat_map(BTreeMap::keys)
            .filter_map(|k| k.parse().ok())
            .collect();
        ks.sort_unstable();
        ks.dedup();
        let head = ks.iter().map(|k| format!("@{k}"));
        let ways = WAYS
            .iter()
            .map(|way| format!("@1 {}", way.replace('_', " ")));
        let mut cells = vec![head.chain(ways).collect()];
        cells.extend(self.rows.iter().map(|row| {
            let by_k = ks.iter().map(|k| of(row.plain(), &k.to_string()));
            let by_way = WAYS.iter().map(|way| of(row.pass_at.get(*way), "1"));
            by_k.chain(by_way).collect()
        }));
        cells
    }

    fn is_of(&self, score: &ScoreRecord) -> bool {
        self.benchmark == score.benchmark
            && self.n_problems == score.n_problems
            && self.n_samples == score.n_samples
            && self.temperature.to_bits() == score.temperature.to_bits()
    }
}

impl BenchmarkRow {
    /// pass@k by plain sampling: what any server gets.
    pub(crate) fn plain(&self) -> Option<&BTreeMap<String, Interval>> {
        self.pass_at.get("plain")
    }
}

/// `@3 80.2`, at the largest k above 1.
fn best_k(by_k: &BTreeMap<String, Interval>) -> Option<String> {
    let ks = by_k.keys().filter_map(|k| k.parse::<u64>().ok());
    let k = ks.max().filter(|k| *k > 1)?;
    let mean = by_k.get(&k.to_string())?.mean;
    Some(format!("@{k} {:.1}", 100.0 * mean))
}

fn benchmarks(ledger: &[Record]) -> Vec<Benchmark> {
    let mut found: Vec<Benchmark> = Vec::new();
    for score in all_scores(ledger).filter(|score| is_finished(score)) {
        if !found.iter().any(|benchmark| benchmark.is_of(score)) {
            found.push(Benchmark {
                benchmark: score.benchmark.clone(),
                n_problems: score.n_problems,
                n_samples: score.n_samples,
                temperature: score.temperature,
                rows: Vec::new(),
            });
        }
    }
    for benchmark in &mut found {
        let rows = arms(ledger).into_iter();
        benchmark.rows = rows
            .filter_map(|arm| benchmark_row(arm, benchmark, ledger))
            .collect();
    }
    found
}

fn benchmark_row(arm: &str, benchmark: &Benchmark, ledger: &[Record]) -> Option<BenchmarkRow> {
    let after = format!("rlvr-{arm}");
    let pass_at: BTreeMap<String, BTreeMap<String, Interval>> = scores(arm, ledger)
        .filter(|score| benchmark.is_of(score))
        .map(|score| (score.decision.clone(), score.pass_at.clone()))
        .collect();
    let after_rlvr = scores(&after, ledger)
        .find(|score| benchmark.is_of(score) && score.decision == "plain")
        .map(|score| score.pass_at.clone())
        .unwrap_or_default();
    (!pass_at.is_empty() || !after_rlvr.is_empty()).then(|| BenchmarkRow {
        arm: arm.to_owned(),
        pass_at,
        after_rlvr,
    })
}

/// Text cells as columns, right-aligned.
pub(crate) fn aligned(cells: &[Vec<String>]) -> String {
    let width = |column: usize| {
        cells
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"));
        padded.collect::<Vec<_>>().join("  ")
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What stands where there is nothing.
pub(crate) fn dash() -> String {
    "–".to_owned()
}

/// A number with so many digits behind the point, where there is one.
pub(crate) fn digits(value: Option<f64>, n_digits: usize) -> String {
    value.map_or_else(dash, |value| format!("{value:.n_digits$}"))
}

fn cells_of(row: &Row) -> Vec<String> {
    // An arm that was given as a checkpoint has spent nothing here.
    let spent = |amount: f64| if amount > 0.0 { short(amount) } else { dash() };
    let iwae = row
        .bounds
        .iter()
        .filter(|(name, _)| name.starts_with("iwae"));
    let best_iwae = iwae.map(|(_, bits)| *bits).min_by(f64::total_cmp);
    vec![
        row.arm.clone(),
        spent(row.n_corpus_tokens as f64),
        spent(row.n_tokens_sampled as f64),
        spent(row.flops),
        digits(row.bits_per_byte, 4),
        digits(row.bounds.get("elbo").copied(), 4),
        digits(best_iwae, 4),
        digits(row.latents.get("think_rate").copied(), 2),
        digits(row.latents.get("persistence").copied(), 1),
        spent(row.wall_s.round()),
    ]
}

/// `41.2 [38.0, 44.5]`.
pub fn percent(interval: &Interval) -> String {
    let [mean, low, high] = [interval.mean, interval.low, interval.high].map(|v| 100.0 * v);
    if interval.has_no_width() {
        return format!("{mean:.1} [all alike]");
    }
    format!("{mean:.1} [{low:.1}, {high:.1}]")
}

fn row(arm: &str, ledger: &[Record], clock: &[ClockRecord]) -> Option<Row> {
    let stage = spent(arm, ledger);
    let found = held_out(arm, ledger);
    let curve = rlvr_scores(arm, ledger);
    let is_measured = scores(arm, ledger).next().is_some();
    if stage.is_none() && found.is_none() && curve.is_empty() && !is_measured {
        return None;
    }
    let held = |field: fn(&HeldOutRecord) -> &BTreeMap<String, f64>| {
        found.map(field).cloned().unwrap_or_default()
    };
    let times = clock.iter().filter(|record| record.stage == arm);
    Some(Row {
        arm: arm.to_owned(),
        n_corpus_tokens: stage.map_or(0, |stage| stage.n_corpus_tokens),
        n_tokens_sampled: stage.map_or(0, |stage| stage.n_tokens_sampled),
        flops: stage.map_or(0.0, |stage| stage.flops),
        wall_s: times.map(|record| record.wall_s).sum(),
        bits_per_byte: found.map(|found| found.bits_per_byte),
        bounds: held(|found| &found.bounds),
        latents: held(|found| &found.latents),
        rlvr_area: area(&curve),
    })
}

/// Area under pass@1 against updates, divided by the updates.
fn area(curve: &[&ScoreRecord]) -> Option<f64> {
    let point = |score: &&ScoreRecord| Some((score.position as f64, score.pass_at.get("1")?.mean));
    let (updates, means): (Vec<f64>, Vec<f64>) = curve.iter().filter_map(point).unzip();
    curves::area(&updates, &means)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(stage: &str, arm: &str, position: u64, mean: f64) -> Record {
        let interval = Interval {
            mean,
            low: mean - 0.1,
            high: mean + 0.1,
        };
        Record::Score(ScoreRecord {
            stage: stage.to_owned(),
            arm: arm.to_owned(),
            position,
            decision: "plain".to_owned(),
            n_problems: 10,
            n_samples: 1,
            temperature: 1.0,
            pass_at: BTreeMap::from([("1".to_owned(), interval)]),
            ..ScoreRecord::default()
        })
    }

    #[test]
    fn the_area_is_the_mean_height_of_trapezoids() {
        let ledger = [
            score("evaluate-ra3-testbed", "ra3", 0, 0.5),
            score("rlvr-ra3", "rlvr-ra3", 0, 0.4),
            score("rlvr-ra3", "rlvr-ra3", 10, 0.6),
            score("rlvr-ra3", "rlvr-ra3", 30, 0.75),
            score("evaluate-rlvr-ra3-testbed", "rlvr-ra3", 0, 0.8),
        ];
        let table = Table::new(&ledger, &[]);
        let row = &table.rows[0];
        // (10 · 0.5 + 20 · 0.675) / 30
        assert!((row.rlvr_area.unwrap() - 18.5 / 30.0).abs() < 1e-12);
        // Scores that RLVR takes on its way are of other samples: they stand elsewhere.
        assert_eq!(table.benchmarks.len(), 1);
        assert_eq!(table.benchmarks[0].rows[0].after_rlvr["1"].mean, 0.8);
        let text = table.to_text(false);
        assert!(
            text.contains("50.0 [40.0, 60.0]") && text.contains("80.0 [70.0, 90.0]"),
            "{text}"
        );
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths[0], widths[1], "{text}");
        assert!(widths.iter().all(|width| *width <= 80), "{text}");
    }
}
