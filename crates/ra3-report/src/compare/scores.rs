//! Scores and bits per byte over seeds.

use std::collections::BTreeMap;

use ra3::seed::Seed;
use ra3_records::ledger::{Interval, PlanRecord, Record, ScoreRecord};
use ra3_statistics::over_seeds;
use serde::Serialize;

use super::{RunRecords, variations};
use crate::arms::{held_out as held_out_of, plain_scores as scores_of};

/// Scores of the same problems, samples and temperature, all before RLVR or all after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedBenchmark {
    /// What was asked.
    pub benchmark: String,
    /// Problems.
    pub n_problems: u64,
    /// Samples of each.
    pub n_samples: u64,
    /// Sampling temperature.
    #[serde(serialize_with = "ra3_records::number::serialize")]
    pub temperature: f64,
    /// Whether the models have been through RLVR.
    pub is_after_rlvr: bool,
    /// The models.
    pub rows: Vec<ComparedScore>,
}

/// A model's score over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedScore {
    /// What its settings have otherwise than others'.
    pub variation: String,
    /// The arm.
    pub arm: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// pass@1 of each seed.
    pub by_seed: Vec<f64>,
    /// pass@1, with its interval over seeds and problems.
    pub pass_at_1: Interval,
    /// What it is above the arm that it is compared with, paired over both.
    pub difference: Option<Interval>,
    /// Its programs with a plan of their own, of all seeds, by family.
    pub plans: BTreeMap<String, PlanRecord>,
}

/// Bits per byte of one form of the held-out documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOutText {
    /// Which text: figures of different texts do not compare.
    pub text: String,
    /// What its settings have otherwise than others'.
    pub variation: String,
    /// The arm.
    pub arm: String,
    /// Bits per byte of each seed, without latents.
    pub by_seed: Vec<f64>,
    /// Their mean, with its interval over seeds.
    pub bits_per_byte: Option<Interval>,
}

/// What makes scores comparable.
type Kind = (String, u64, u64, u64);

fn kind(score: &ScoreRecord) -> Kind {
    let temperature = score.temperature.to_bits();
    let benchmark = score.benchmark.clone();
    (benchmark, score.n_problems, score.n_samples, temperature)
}

pub(super) fn benchmarks(
    runs: &[RunRecords],
    arms: &[String],
    against: Option<&str>,
) -> Vec<ComparedBenchmark> {
    let mut found = Vec::new();
    for is_after_rlvr in [false, true] {
        let model = |arm: &str| {
            if is_after_rlvr {
                format!("rlvr-{arm}")
            } else {
                arm.to_owned()
            }
        };
        let mut kinds: Vec<Kind> = Vec::new();
        for run in runs {
            for arm in arms {
                for score in scores_of(&model(arm), &run.ledger) {
                    if !kinds.contains(&kind(score)) {
                        kinds.push(kind(score));
                    }
                }
            }
        }
        for kind in kinds {
            let select = Select {
                runs,
                kind: &kind,
                model: &model,
            };
            let (benchmark, n_problems, n_samples, temperature) = kind.clone();
            found.push(ComparedBenchmark {
                benchmark,
                n_problems,
                n_samples,
                temperature: f64::from_bits(temperature),
                is_after_rlvr,
                rows: select.rows(arms, against),
            });
        }
    }
    found
}

/// The scores of one kind.
struct Select<'a> {
    runs: &'a [RunRecords],
    kind: &'a Kind,
    model: &'a dyn Fn(&str) -> String,
}

impl Select<'_> {
    fn rows(&self, arms: &[String], against: Option<&str>) -> Vec<ComparedScore> {
        let mut rows = Vec::new();
        for variation in variations(self.runs) {
            for arm in arms {
                rows.extend(self.row(variation, arm, against));
            }
        }
        rows
    }

    /// Seeds, and the share of right samples by seed and problem.
    fn values(&self, variation: &str, arm: &str) -> (Vec<u64>, Vec<Vec<f64>>) {
        let of_run = |run: &RunRecords| {
            let model = (self.model)(arm);
            let mut scores = scores_of(&model, &run.ledger);
            let score = scores.find(|score| kind(score) == *self.kind)?;
            let n = score.n_samples.max(1) as f64;
            let shares = score.n_right.iter().map(|right| *right as f64 / n);
            Some((run.seed, shares.collect()))
        };
        let runs = self.runs.iter();
        runs.filter(|run| run.variation == variation)
            .filter_map(of_run)
            .unzip()
    }

    fn plans(&self, variation: &str, arm: &str) -> BTreeMap<String, PlanRecord> {
        let model = (self.model)(arm);
        let mut found: BTreeMap<String, PlanRecord> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.variation == variation) {
            let scores = scores_of(&model, &run.ledger);
            for score in scores.filter(|score| kind(score) == *self.kind) {
                for (family, plans) in &score.plans {
                    *found.entry(family.clone()).or_default() += *plans;
                }
            }
        }
        found
    }

    fn row(&self, variation: &str, arm: &str, against: Option<&str>) -> Option<ComparedScore> {
        let (seeds, values) = self.values(variation, arm);
        if seeds.is_empty() {
            return None;
        }
        let draws = Seed::root(0).child("bootstrap");
        let other = against.filter(|other| *other != arm);
        let difference = other.and_then(|other| {
            let (other_seeds, other) = self.values(variation, other);
            let paired = other_seeds == seeds;
            let found = paired.then(|| over_seeds::difference(&values, &other, draws));
            found.map(|found| Interval::from(found).within(-1.0, 1.0))
        });
        let mean = |row: &Vec<f64>| row.iter().sum::<f64>() / row.len().max(1) as f64;
        Some(ComparedScore {
            variation: variation.to_owned(),
            arm: arm.to_owned(),
            by_seed: values.iter().map(mean).collect(),
            pass_at_1: Interval::from(over_seeds::estimate(&values, draws)).within(0.0, 1.0),
            difference,
            plans: self.plans(variation, arm),
            seeds,
        })
    }
}

pub(super) fn held_out(runs: &[RunRecords], arms: &[String]) -> Vec<HeldOutText> {
    let mut found = Vec::new();
    for variation in variations(runs) {
        for arm in arms {
            let of = runs.iter().filter(|run| run.variation == variation);
            let records = of.filter_map(|run| held_out_of(arm, &run.ledger));
            let records: Vec<_> = records.collect();
            let Some(first) = records.first() else {
                continue;
            };
            let by_seed: Vec<f64> = records.iter().map(|record| record.bits_per_byte).collect();
            found.push(HeldOutText {
                text: first.text.clone(),
                variation: variation.to_owned(),
                arm: arm.clone(),
                bits_per_byte: over_seeds::interval(&by_seed).map(Interval::from),
                by_seed,
            });
        }
    }
    found
}

/// The scores that RLVR takes on its way, with their seed; those of as many points as the first.
pub(super) fn curves_by_seed(
    runs: &[RunRecords],
    variation: &str,
    arm: &str,
) -> (Vec<f64>, Vec<(u64, Vec<f64>)>) {
    let stage = format!("rlvr-{arm}");
    let (mut updates, mut values): (Vec<f64>, Vec<(u64, Vec<f64>)>) = Default::default();
    for run in runs.iter().filter(|run| run.variation == variation) {
        let points = run.ledger.iter().filter_map(|record| match record {
            Record::Score(score) if score.stage == stage => {
                Some((score.position as f64, score.pass_at.get("1")?.mean))
            }
            _ => None,
        });
        let (positions, means): (Vec<f64>, Vec<f64>) = points.unzip();
        if updates.is_empty() {
            updates = positions;
            values.push((run.seed, means));
        } else if positions == updates {
            values.push((run.seed, means));
        }
    }
    values.retain(|(_, row)| !row.is_empty());
    (updates, values)
}
