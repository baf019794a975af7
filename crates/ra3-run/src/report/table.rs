//! The table of arms: what each cost and what it bought.

use std::collections::BTreeMap;

use serde::Serialize;

use super::differences::{Difference, differences};
use crate::arm::Arm;
use crate::clock::ClockRecord;
use crate::ledger::{HeldOutRecord, Interval, Record, ScoreRecord, StageRecord};
use ra3_page::number as short;

/// One arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub arm: String,
    /// Corpus tokens of mid-training.
    pub n_corpus_tokens: u64,
    /// Tokens sampled in mid-training.
    pub n_tokens_sampled: u64,
    /// FLOPs of mid-training.
    #[serde(serialize_with = "crate::number::serialize")]
    pub flops: f64,
    /// Wall seconds of mid-training.
    pub wall_s: f64,
    /// Bits per byte on held-out documents, without latents.
    #[serde(serialize_with = "crate::number::option::serialize")]
    pub bits_per_byte: Option<f64>,
    /// Upper bounds on bits per byte with latents, by name.
    #[serde(serialize_with = "crate::number::map::serialize")]
    pub bounds: BTreeMap<String, f64>,
    /// Figures about the latents, by name.
    #[serde(serialize_with = "crate::number::map::serialize")]
    pub latents: BTreeMap<String, f64>,
    /// pass@k by `decision` and `k`.
    pub pass_at: BTreeMap<String, BTreeMap<String, Interval>>,
    /// pass@1 after RLVR.
    pub rlvr: Option<Interval>,
    /// Mean held-out pass@1 over the updates of RLVR (area under the curve, trapezoids).
    #[serde(serialize_with = "crate::number::option::serialize")]
    pub rlvr_area: Option<f64>,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Arms that the run has, in their order.
    pub rows: Vec<Row>,
    /// Arms against each other, paired over problems.
    pub differences: Vec<Difference>,
}

impl Table {
    pub(crate) fn new(ledger: &[Record], clock: &[ClockRecord]) -> Self {
        let rows = Arm::ALL
            .iter()
            .filter_map(|arm| row(arm.name(), ledger, clock))
            .collect();
        Self {
            rows,
            differences: differences(ledger),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a table has only plain fields")
    }

    /// As aligned columns, and the differences below them.
    pub fn to_text(&self) -> String {
        let mut text = aligned(&self.cells());
        if !self.differences.is_empty() {
            text += "\ndifference of pass@1, paired over problems [95 %]\n";
            text += &aligned(&self.difference_cells());
        }
        text
    }

    /// The differences as text cells, without a header.
    pub(crate) fn difference_cells(&self) -> Vec<Vec<String>> {
        let cells = self.differences.iter().map(Difference::cells);
        cells.map(|cells| cells.to_vec()).collect()
    }

    /// Header and rows as text cells.
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
            "lines/latent",
            "choices",
            "pass@1 [95 %]",
            "pass@k",
            "RLVR pass@1 [95 %]",
            "RLVR area",
            "seconds",
        ];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        cells.extend(self.rows.iter().map(cells_of));
        cells
    }
}

fn aligned(cells: &[Vec<String>]) -> String {
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

impl Row {
    /// pass@k by plain sampling: what any server gets.
    pub(crate) fn plain(&self) -> Option<&BTreeMap<String, Interval>> {
        self.pass_at.get("plain")
    }
}

fn cells_of(row: &Row) -> Vec<String> {
    let dash = || "–".to_owned();
    // An arm that was given as a checkpoint has spent nothing here.
    let spent = |amount: f64| if amount > 0.0 { short(amount) } else { dash() };
    let number = |value: Option<f64>, digits| value.map_or_else(dash, |v| format!("{v:.digits$}"));
    let plain = row.plain();
    let best_k = plain.and_then(|by_k| {
        let k = by_k
            .keys()
            .filter_map(|k| k.parse::<u64>().ok())
            .max()
            .filter(|k| *k > 1)?;
        Some(format!(
            "@{k} {:.1}",
            100.0 * by_k.get(&k.to_string())?.mean
        ))
    });
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
        number(row.bits_per_byte, 4),
        number(row.bounds.get("elbo").copied(), 4),
        number(best_iwae, 4),
        number(row.latents.get("think_rate").copied(), 2),
        number(row.latents.get("persistence").copied(), 1),
        choices(row).unwrap_or_else(dash),
        plain
            .and_then(|by_k| by_k.get("1"))
            .map_or_else(dash, percent),
        best_k.unwrap_or_else(dash),
        row.rlvr.as_ref().map_or_else(dash, percent),
        number(row.rlvr_area.map(|area| 100.0 * area), 1),
        spent(row.wall_s.round()),
    ]
}

/// Effective choices of the next line with every decision an act, and given the drawn latents.
fn choices(row: &Row) -> Option<String> {
    let (before, after) = (row.latents.get("choices_act")?, row.latents.get("choices")?);
    let number = |choices: &f64| match choices {
        choices if *choices < 1e4 => format!("{choices:.2}"),
        choices => format!("{choices:.1e}"),
    };
    Some(format!("{} → {}", number(before), number(after)))
}

/// `41.2 [38.0, 44.5]`.
pub(crate) fn percent(interval: &Interval) -> String {
    let [mean, low, high] = [interval.mean, interval.low, interval.high].map(|v| 100.0 * v);
    format!("{mean:.1} [{low:.1}, {high:.1}]")
}

fn row(arm: &str, ledger: &[Record], clock: &[ClockRecord]) -> Option<Row> {
    let stage = stage(arm, ledger);
    let held_out = ledger.iter().find_map(|record| match record {
        Record::HeldOut(found) if found.arm == arm => Some(found),
        _ => None,
    });
    let scores: Vec<&ScoreRecord> = scores(arm, ledger);
    if stage.is_none() && held_out.is_none() && scores.is_empty() {
        return None;
    }
    let curve = scores_of_stage(&format!("rlvr-{arm}"), ledger);
    let held = |field: fn(&HeldOutRecord) -> &BTreeMap<String, f64>| {
        held_out.map(field).cloned().unwrap_or_default()
    };
    Some(Row {
        arm: arm.to_owned(),
        n_corpus_tokens: stage.map_or(0, |stage| stage.n_corpus_tokens),
        n_tokens_sampled: stage.map_or(0, |stage| stage.n_tokens_sampled),
        flops: stage.map_or(0.0, |stage| stage.flops),
        wall_s: clock
            .iter()
            .filter(|c| c.stage == arm)
            .map(|c| c.wall_s)
            .sum(),
        bits_per_byte: held_out.map(|found| found.bits_per_byte),
        bounds: held(|found| &found.bounds),
        latents: held(|found| &found.latents),
        pass_at: scores
            .iter()
            .map(|s| (s.decision.clone(), s.pass_at.clone()))
            .collect(),
        rlvr: curve
            .last()
            .and_then(|score| score.pass_at.get("1"))
            .copied(),
        rlvr_area: area(&curve),
    })
}

fn stage<'a>(name: &str, ledger: &'a [Record]) -> Option<&'a StageRecord> {
    ledger.iter().find_map(|record| match record {
        Record::Stage(stage) if stage.stage == name => Some(stage),
        _ => None,
    })
}

/// Scores of a finished arm, one a decision rule.
pub(crate) fn scores<'a>(arm: &str, ledger: &'a [Record]) -> Vec<&'a ScoreRecord> {
    scores_of_stage(arm, ledger)
}

fn scores_of_stage<'a>(arm: &str, ledger: &'a [Record]) -> Vec<&'a ScoreRecord> {
    let of_arm = |record: &'a Record| match record {
        Record::Score(score) if score.arm == arm => Some(score),
        _ => None,
    };
    ledger.iter().filter_map(of_arm).collect()
}

/// Area under pass@1 against updates, divided by the updates.
fn area(curve: &[&ScoreRecord]) -> Option<f64> {
    let point = |s: &&ScoreRecord| Some((s.position as f64, s.pass_at.get("1")?.mean));
    let points: Vec<(f64, f64)> = curve.iter().filter_map(point).collect();
    let (first, last) = (points.first()?.0, points.last()?.0);
    let sum: f64 = points
        .windows(2)
        .map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0)
        .sum();
    (last > first).then(|| sum / (last - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(arm: &str, position: u64, mean: f64) -> Record {
        let interval = Interval {
            mean,
            low: mean - 0.1,
            high: mean + 0.1,
        };
        Record::Score(ScoreRecord {
            arm: arm.to_owned(),
            position,
            n_tokens_sampled: 0,
            decision: "plain".to_owned(),
            benchmark: String::new(),
            n_problems: 10,
            n_samples: 1,
            temperature: 1.0,
            pass_at: BTreeMap::from([("1".to_owned(), interval)]),
            by_family: BTreeMap::new(),
            n_right: Vec::new(),
            decided_lines: 0.0,
            verdicts: BTreeMap::new(),
        })
    }

    #[test]
    fn the_area_is_the_mean_height_of_trapezoids() {
        let ledger = [
            score("ra3", 0, 0.5),
            score("rlvr-ra3", 0, 0.4),
            score("rlvr-ra3", 10, 0.6),
            score("rlvr-ra3", 30, 0.8),
        ];
        let table = Table::new(&ledger, &[]);
        let row = &table.rows[0];
        // (10 · 0.5 + 20 · 0.7) / 30
        assert!((row.rlvr_area.unwrap() - 19.0 / 30.0).abs() < 1e-12);
        assert_eq!(row.rlvr.unwrap().mean, 0.8);
        let text = table.to_text();
        assert!(
            text.contains("50.0 [40.0, 60.0]") && text.contains("80.0 [70.0, 90.0]"),
            "{text}"
        );
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]));
    }
}
