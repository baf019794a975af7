//! A comparison as text cells: for a terminal, and for the page's tables.

use std::collections::{BTreeMap, BTreeSet};

use ra3_records::ledger::{Interval, PlanRecord};

use super::scores::{ComparedBenchmark, ComparedScore, HeldOutText};
use super::variations::title;
use super::{ComparedCurve, Comparison, Level};
use crate::table::{aligned, dash, percent};

/// A table with its title; the first row is its head.
pub(super) struct Titled {
    pub(super) title: String,
    pub(super) cells: Vec<Vec<String>>,
}

pub(super) fn text(comparison: &Comparison) -> String {
    let tables = tables(comparison);
    let texts = tables
        .iter()
        .map(|table| format!("{}\n{}", table.title, aligned(&table.cells)));
    texts.collect::<Vec<_>>().join("\n\n")
}

/// All tables: scores before and after RLVR, curves, bits per byte; a part for each variation.
pub(super) fn tables(comparison: &Comparison) -> Vec<Titled> {
    let mut found = Vec::new();
    let against = comparison.against.as_deref();
    for benchmark in &comparison.benchmarks {
        for variation in variations(benchmark.rows.iter().map(|row| &row.variation)) {
            found.push(of_benchmark(benchmark, variation, against));
        }
    }
    found.extend(of_plans(comparison));
    for variation in variations(comparison.curves.iter().map(|curve| &curve.variation)) {
        found.extend(of_curves(&comparison.curves, variation, against));
    }
    for variation in variations(comparison.held_out.iter().map(|row| &row.variation)) {
        found.push(of_held_out(&comparison.held_out, variation));
    }
    let is_numbered = |(name, settings): (&String, _)| *name != title(settings);
    if comparison.settings.iter().any(is_numbered) {
        found.push(of_settings(comparison));
    }
    found
}

fn variations<'a>(all: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for variation in all {
        if !found.contains(&variation.as_str()) {
            found.push(variation);
        }
    }
    found
}

fn titled(title: String, variation: &str) -> String {
    if variation.is_empty() {
        title
    } else {
        format!("{title}\n{variation}")
    }
}

fn of_benchmark(benchmark: &ComparedBenchmark, variation: &str, against: Option<&str>) -> Titled {
    let when = if benchmark.is_after_rlvr {
        ", after RLVR"
    } else {
        ""
    };
    let title = format!(
        "{}{when}: {} problems, {} samples each at temperature {:.1}",
        benchmark.benchmark, benchmark.n_problems, benchmark.n_samples, benchmark.temperature
    );
    let mut head = ["arm", "by seed", "pass@1 [95 %]"]
        .map(str::to_owned)
        .to_vec();
    head.extend(against.map(|arm| format!("less {arm} [95 %]")));
    let rows = benchmark.rows.iter();
    let rows = rows.filter(|row| row.variation == variation).map(|row| {
        let mut cells = vec![
            row.arm.clone(),
            listed(
                row.by_seed
                    .iter()
                    .map(|share| format!("{:.1}", 100.0 * share)),
            ),
            percent(&row.pass_at_1),
        ];
        if against.is_some() {
            cells.push(row.difference.as_ref().map_or_else(dash, signed));
        }
        cells
    });
    Titled {
        title: titled(title, variation),
        cells: std::iter::once(head).chain(rows).collect(),
    }
}

/// Programs with a plan of their own, before RLVR and after it; of which problems and with which
/// settings, where there are several.
fn of_plans(comparison: &Comparison) -> Option<Titled> {
    let benchmarks = &comparison.benchmarks;
    let is_several = benchmarks
        .iter()
        .any(|it| it.benchmark != benchmarks[0].benchmark);
    let rows = benchmarks
        .iter()
        .flat_map(|it| it.rows.iter().map(move |row| (it, row)))
        .filter(|(_, row)| !row.plans.is_empty());
    let is_varied = rows.clone().any(|(_, row)| !row.variation.is_empty());
    let cells_of = |(benchmark, row): (&ComparedBenchmark, &ComparedScore)| {
        let arm = if is_several {
            format!("{}, {}", row.arm, benchmark.benchmark)
        } else {
            row.arm.clone()
        };
        let when = if benchmark.is_after_rlvr {
            "after RLVR"
        } else {
            "before RLVR"
        };
        let all: PlanRecord = row.plans.values().copied().sum();
        [arm, when.to_owned()]
            .into_iter()
            .chain(is_varied.then(|| row.variation.clone()))
            .chain(all.cells())
            .collect()
    };
    let head = ["arm", "when"].into_iter();
    let head = head.chain(is_varied.then_some("settings"));
    let head = head.chain(PlanRecord::HEAD).map(str::to_owned).collect();
    let cells: Vec<Vec<String>> = std::iter::once(head).chain(rows.map(cells_of)).collect();
    (cells.len() > 1).then(|| Titled {
        title: "programs that say what they will do, in a rationale or a comment".to_owned(),
        cells,
    })
}

/// The mean height of RLVR's curves, and where they end.
fn of_curves(curves: &[ComparedCurve], variation: &str, against: Option<&str>) -> [Titled; 2] {
    let curves = || curves.iter().filter(|curve| curve.variation == variation);
    let of = |title: &str, level: fn(&ComparedCurve) -> &Level| {
        let mut head = ["arm", "by seed", "pass@1 [95 %]"]
            .map(str::to_owned)
            .to_vec();
        head.extend(against.map(|arm| format!("less {arm} [95 %]")));
        let rows = curves().map(|curve| {
            let level = level(curve);
            let shares = level
                .by_seed
                .iter()
                .map(|share| format!("{:.1}", 100.0 * share));
            let mut cells = vec![
                curve.arm.clone(),
                listed(shares),
                level.mean.as_ref().map_or_else(dash, percent),
            ];
            if against.is_some() {
                cells.push(level.difference.as_ref().map_or_else(dash, signed));
            }
            cells
        });
        Titled {
            title: titled(
                format!("RLVR: held-out pass@1 over its updates, {title}"),
                variation,
            ),
            cells: std::iter::once(head).chain(rows).collect(),
        }
    };
    let mut ends = of("the last quarter", |curve| &curve.plateau);
    if let Some(arm) = against {
        ends.cells[0].push(format!("updates to {arm}'s"));
        for (cells, curve) in ends.cells[1..].iter_mut().zip(curves()) {
            let updates = curve.updates_to_plateau_of_other;
            cells.push(updates.map_or_else(|| "never".to_owned(), |n| format!("{n:.0}")));
        }
    }
    [of("mean height", |curve| &curve.area), ends]
}

fn of_held_out(all: &[HeldOutText], variation: &str) -> Titled {
    let head = ["arm", "text", "by seed", "bits per byte [95 %]"].map(str::to_owned);
    let rows = all.iter().filter(|row| row.variation == variation);
    let rows = rows.map(|row| {
        let interval = row.bits_per_byte.as_ref();
        vec![
            row.arm.clone(),
            row.text.clone(),
            listed(row.by_seed.iter().map(|bits| format!("{bits:.4}"))),
            interval.map_or_else(dash, |found| {
                format!("{:.4} [{:.4}, {:.4}]", found.mean, found.low, found.high)
            }),
        ]
    });
    let title = "held-out documents, without latents (figures of different texts do not compare)";
    Titled {
        title: titled(title.to_owned(), variation),
        cells: std::iter::once(head.to_vec()).chain(rows).collect(),
    }
}

/// A row a setting that differs, a column a variation.
fn of_settings(comparison: &Comparison) -> Titled {
    let variations: Vec<_> = comparison.settings.iter().collect();
    let keys: BTreeSet<&String> = variations
        .iter()
        .flat_map(|(_, settings)| settings.keys())
        .collect();
    let head = variations.iter().map(|(name, _)| (*name).clone());
    let head = std::iter::once("setting".to_owned()).chain(head).collect();
    let row = |key: &String| {
        let of = |(_, settings): &(_, &BTreeMap<String, String>)| {
            settings.get(key).cloned().unwrap_or_else(dash)
        };
        let values = variations.iter().map(of);
        std::iter::once(key.clone()).chain(values).collect()
    };
    Titled {
        title: "settings that differ".to_owned(),
        cells: std::iter::once(head)
            .chain(keys.into_iter().map(row))
            .collect(),
    }
}

/// A difference in points: `+4.2 [-1.0, +9.0]`.
fn signed(interval: &Interval) -> String {
    let [mean, low, high] = [interval.mean, interval.low, interval.high].map(|v| 100.0 * v);
    if interval.has_no_width() {
        return format!("{mean:+.1} [all alike]");
    }
    format!("{mean:+.1} [{low:+.1}, {high:+.1}]")
}

fn listed(numbers: impl Iterator<Item = String>) -> String {
    numbers.collect::<Vec<_>>().join(" ")
}
