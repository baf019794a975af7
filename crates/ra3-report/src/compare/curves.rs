//! RLVR's curves over seeds: bands, areas, plateaus, and how soon one reaches another's.

use ra3_records::ledger::Interval;
use ra3_statistics::curves::{area, band, mean_curve, plateau, updates_to_reach};
use ra3_statistics::over_seeds;
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
    /// Mean height of the curve by seed.
    pub areas: Vec<f64>,
    /// Their mean, with its interval over seeds.
    pub area: Option<Interval>,
    /// Where the mean curve ends: the mean of its last quarter.
    pub plateau: Option<f64>,
    /// Updates after which the mean curve is at the plateau of the arm that it is compared with.
    pub updates_to_plateau_of_other: Option<f64>,
}

pub(super) fn curves(
    runs: &[RunRecords],
    arms: &[String],
    against: Option<&str>,
) -> Vec<ComparedCurve> {
    let mut found = Vec::new();
    for variation in variations(runs) {
        let level = against.and_then(|arm| {
            let (_, values) = curves_by_seed(runs, variation, arm);
            (!values.is_empty()).then(|| mean_curve(&values))
        });
        let level = level.and_then(|curve| plateau(&curve));
        for arm in arms {
            let (updates, values) = curves_by_seed(runs, variation, arm);
            if !values.is_empty() {
                found.push(curve(variation, arm, updates, &values, level));
            }
        }
    }
    found
}

fn curve(
    variation: &str,
    arm: &str,
    updates: Vec<f64>,
    values: &[Vec<f64>],
    level: Option<f64>,
) -> ComparedCurve {
    let mean = mean_curve(values);
    let areas: Vec<f64> = values
        .iter()
        .filter_map(|row| area(&updates, row))
        .collect();
    let band = band(values).unwrap_or_default();
    let share = |found| Interval::from(found).within(0.0, 1.0);
    ComparedCurve {
        variation: variation.to_owned(),
        arm: arm.to_owned(),
        band: band.into_iter().map(share).collect(),
        area: over_seeds::interval(&areas).map(share),
        areas,
        plateau: plateau(&mean),
        updates_to_plateau_of_other: level
            .and_then(|level| updates_to_reach(&updates, &mean, level)),
        updates,
        mean,
    }
}
