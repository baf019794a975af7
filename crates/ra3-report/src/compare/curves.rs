//! RLVR's curves over seeds: bands, areas, plateaus, and how soon one reaches another's.

use ra3_records::ledger::Interval;
use ra3_statistics::curves::{area, band, mean_curve, plateau, updates_to_reach};
use ra3_statistics::over_seeds;
use ra3_statistics::pass_at_k::Estimate;
use serde::Serialize;

use super::scores::curves_by_seed;
use super::{RunRecords, variations};

/// Held-out pass@1 of an arm while RLVR goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedCurve {
    /// What its settings have otherwise than others'.
    pub variation: String,
    /// The arm.
    pub arm: String,
    /// Updates at each point.
    pub updates: Vec<f64>,
    /// Mean over seeds at each point.
    pub mean: Vec<f64>,
    /// Its interval over seeds at each point; empty with one seed.
    pub band: Vec<Interval>,
    /// Mean height of the curve.
    pub area: Level,
    /// Where the curve ends: the mean of its last quarter.
    pub plateau: Level,
    /// Updates after which the mean curve is at the plateau of the mean curve of the arm that it is
    /// compared with.
    pub updates_to_plateau_of_other: Option<f64>,
}

/// One number of each seed's curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// The number, by seed.
    pub by_seed: Vec<f64>,
    /// Their mean, with its interval over seeds; none with one seed.
    pub mean: Option<Interval>,
    /// What it is more than the other arm's of the same seed.
    pub difference: Option<Interval>,
}

impl Level {
    fn new(figures: &BySeed, other: Option<&BySeed>) -> Self {
        let by_seed: Vec<f64> = figures.iter().map(|(_, figure)| *figure).collect();
        let difference = other.and_then(|other| {
            let differences = figures.iter().filter_map(|(seed, figure)| {
                let same = other.iter().find(|(of_other, _)| of_other == seed)?;
                Some(figure - same.1)
            });
            over_seeds::interval(&differences.collect::<Vec<_>>())
        });
        Self {
            mean: over_seeds::interval(&by_seed).map(share),
            difference: difference.map(Interval::from),
            by_seed,
        }
    }
}

/// A number of each seed.
type BySeed = Vec<(u64, f64)>;

/// What is asked of an arm's curves.
struct Figures {
    areas: BySeed,
    plateaus: BySeed,
    mean: Vec<f64>,
}

impl Figures {
    fn new(updates: &[f64], values: &[(u64, Vec<f64>)]) -> Self {
        let of = |figure: &dyn Fn(&[f64]) -> Option<f64>| -> BySeed {
            let figures = values.iter().map(|(seed, row)| Some((*seed, figure(row)?)));
            figures.flatten().collect()
        };
        Self {
            areas: of(&|row| area(updates, row)),
            plateaus: of(&plateau),
            mean: mean_curve(&rows(values)),
        }
    }
}

fn rows(values: &[(u64, Vec<f64>)]) -> Vec<Vec<f64>> {
    values.iter().map(|(_, row)| row.clone()).collect()
}

pub(super) fn curves(
    runs: &[RunRecords],
    arms: &[String],
    against: Option<&str>,
) -> Vec<ComparedCurve> {
    let mut found = Vec::new();
    for variation in variations(runs) {
        let of = |arm: &str| {
            let (updates, values) = curves_by_seed(runs, variation, arm);
            (!values.is_empty()).then_some((updates, values))
        };
        let other = against.and_then(of);
        let other = other.map(|(updates, values)| Figures::new(&updates, &values));
        for arm in arms {
            if let Some((updates, values)) = of(arm) {
                let is_other = Some(arm.as_str()) == against;
                found.push(curve(
                    variation,
                    arm,
                    updates,
                    &values,
                    other.as_ref(),
                    is_other,
                ));
            }
        }
    }
    found
}

fn curve(
    variation: &str,
    arm: &str,
    updates: Vec<f64>,
    values: &[(u64, Vec<f64>)],
    other: Option<&Figures>,
    is_other: bool,
) -> ComparedCurve {
    let figures = Figures::new(&updates, values);
    let level = other.and_then(|other| plateau(&other.mean));
    // An arm is not compared with itself, but it too has a time at which it is at its plateau.
    let other = other.filter(|_| !is_other);
    ComparedCurve {
        variation: variation.to_owned(),
        arm: arm.to_owned(),
        band: band(&rows(values))
            .unwrap_or_default()
            .into_iter()
            .map(share)
            .collect(),
        area: Level::new(&figures.areas, other.map(|other| &other.areas)),
        plateau: Level::new(&figures.plateaus, other.map(|other| &other.plateaus)),
        updates_to_plateau_of_other: level
            .and_then(|level| updates_to_reach(&updates, &figures.mean, level)),
        updates,
        mean: figures.mean,
    }
}

fn share(found: Estimate) -> Interval {
    Interval::from(found).within(0.0, 1.0)
}
