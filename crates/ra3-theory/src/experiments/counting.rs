//! How many demonstrations prune every bad option, against `|Z|` and σ, beside the bounds of
//! [`crate::pruning`]. Corridors: three junctions, one good lane at each, all others bad.

use ra3_page::{Axis, Figure as Chart, Series};

use crate::draws::Draws;
use crate::experiments::{Settings, column};
use crate::families::corridors::{Layout, muddy_pool};
use crate::finding::{Check, Figure, Finding, Fit, measured, theory};
use crate::pruning::{Costs, Demonstration, bound};
use crate::statistics::{estimate, exponent};

const N_LANES: [usize; 5] = [2, 5, 16, 50, 134];
const N_JUNCTIONS: usize = 3;
const SIGMAS: [f64; 4] = [0.02, 0.05, 0.1, 0.2];
/// The σ while `|Z|` varies, and the index of the lanes while σ does.
const SIGMA: f64 = 0.1;
const LANES: usize = 2;
const N_TASKS: usize = 200;
const EPSILON: f64 = 0.1;
const DELTA: f64 = 0.1;
/// Runs of a seed, of which the (1 − δ)-quantile is taken.
const N_RUNS: usize = 40;

/// The waits of one seed and setting, sorted.
fn waits(n_lanes: usize, sigma: f64, kind: Demonstration, seed: ra3::seed::Seed) -> Vec<usize> {
    let layout = layout(n_lanes);
    let n_muddy = (sigma * N_TASKS as f64).round() as usize;
    let tasks = muddy_pool(&layout, N_TASKS, n_muddy, seed.child("pool"));
    let costs = Costs::in_corridors(&layout, &tasks, EPSILON);
    let bad = costs.bad(sigma);
    assert_eq!(bad.len(), N_JUNCTIONS * (n_lanes - 1), "one good lane each");
    let mut draws = Draws::new(seed.child("demonstrations"));
    let mut found: Vec<usize> = (0..N_RUNS)
        .map(|_| costs.wait(&bad, kind, &mut draws))
        .collect();
    found.sort_unstable();
    found
}

fn layout(n_lanes: usize) -> Layout {
    Layout {
        n_junctions: N_JUNCTIONS,
        n_lanes,
        n_steps: 4,
        discount: 0.97,
    }
}

/// The smallest number of demonstrations that succeeded in a share `1 − δ` of the runs.
fn quantile(sorted: &[usize]) -> f64 {
    let index = ((1.0 - DELTA) * sorted.len() as f64).ceil() as usize - 1;
    sorted[index] as f64
}

fn limit(kind: Demonstration, n_lanes: usize, sigma: f64) -> f64 {
    let layout = layout(n_lanes);
    let n_bad = N_JUNCTIONS * (n_lanes - 1);
    bound(kind, layout.n_options(), n_bad, DELTA, sigma)
}

fn name(kind: Demonstration) -> &'static str {
    match kind {
        Demonstration::WholeTask => "whole task",
        Demonstration::OneDecision => "one decision",
    }
}

const KINDS: [Demonstration; 2] = [Demonstration::OneDecision, Demonstration::WholeTask];

/// Runs the experiment.
pub fn run(settings: &Settings) -> Finding {
    let mut finding = Finding::default();
    finding.extend(against_options(settings));
    finding.extend(against_sigma(settings));
    finding
}

fn against_options(settings: &Settings) -> Finding {
    let sizes = N_LANES.map(|n| (N_JUNCTIONS * n) as f64);
    let mut finding = Finding::default();
    let (mut curves, mut shares) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let by_seed = settings.by_seed("counting", |seed| {
            N_LANES.map(|n| waits(n, SIGMA, kind, seed))
        });
        let needed = column(&by_seed, |seed| seed.iter().map(|w| quantile(w)).collect());
        curves.push(measured(name(kind), &sizes, &needed));
        let limits = N_LANES.map(|n| limit(kind, n, SIGMA));
        let points = sizes.into_iter().zip(limits);
        curves.push(theory(format!("bound, {}", name(kind)), points));
        // What is left of the growth once the logarithm of the theorem is divided out.
        let divided = column(&needed, |needed| {
            let logs = sizes.iter().map(|size| (size / DELTA).ln());
            needed.iter().zip(logs).map(|(n, log)| n / log).collect()
        });
        let theory = match kind {
            Demonstration::OneDecision => 1.0,
            Demonstration::WholeTask => 0.0,
        };
        finding.fits.push(Fit::new(
            format!("demonstrations / log(|Z|/δ) against |Z|, {}", name(kind)),
            exponent(&sizes, &divided),
            Some(theory),
        ));
        finding.checks.push(failures(kind, &by_seed));
        if kind == Demonstration::OneDecision {
            shares = success_curves(&by_seed);
        }
    }
    finding.figures.push(share_figure(shares));
    finding.figures.push(Figure {
        id: "demonstrations-against-options",
        chart: Chart {
            title: "Demonstrations needed against |Z|".to_owned(),
            x: Axis::log10("|Z|, options"),
            y: Axis::log10(&format!("demonstrations for probability {}", 1.0 - DELTA)),
            series: curves,
            ..Chart::default()
        },
        reading: "With one decision a demonstration, the count grows like |Z| log |Z|, as the \
                  theorem has it. A demonstration that shows all about a task needs no factor \
                  |Z|: the logarithm alone is left. The theorem's factor is thus the price of \
                  learning about one option at a time.",
    });
    finding
}

/// The share of all runs that fail at the bound, which the union bound keeps to δ.
fn failures(kind: Demonstration, by_seed: &[[Vec<usize>; N_LANES.len()]]) -> Check {
    let share = |seed: &[Vec<usize>; N_LANES.len()]| {
        let failed = seed.iter().zip(N_LANES).map(|(waits, n_lanes)| {
            let limit = limit(kind, n_lanes, SIGMA).ceil();
            waits.iter().filter(|wait| **wait as f64 > limit).count()
        });
        failed.sum::<usize>() as f64 / (N_RUNS * N_LANES.len()) as f64
    };
    let found = estimate(&by_seed.iter().map(share).collect::<Vec<_>>());
    Check {
        what: format!(
            "at most δ = {DELTA} of runs fail at the bound, {}",
            name(kind)
        ),
        measured: format!("{:.3} ± {:.3}", found.mean, found.half_width),
        held: found.mean - found.half_width <= DELTA,
    }
}

fn success_curves(by_seed: &[[Vec<usize>; N_LANES.len()]]) -> Vec<Series> {
    let xs: Vec<f64> = (1..=24).map(|i| f64::from(i) / 16.0).collect();
    (0..N_LANES.len())
        .map(|index| {
            let limit = limit(Demonstration::OneDecision, N_LANES[index], SIGMA);
            let shares = column(by_seed, |seed| {
                let done = |x: &f64| {
                    seed[index]
                        .iter()
                        .filter(|w| **w as f64 <= x * limit)
                        .count()
                };
                xs.iter().map(|x| done(x) as f64 / N_RUNS as f64).collect()
            });
            measured(
                format!("|Z| = {}", N_JUNCTIONS * N_LANES[index]),
                &xs,
                &shares,
            )
        })
        .collect()
}

fn share_figure(mut curves: Vec<Series>) -> Figure {
    let ends = [(1.0 / 16.0, 1.0 - DELTA), (1.5, 1.0 - DELTA)];
    curves.push(theory("1 − δ", ends));
    Figure {
        id: "probability-pruned",
        chart: Chart {
            title: format!("Probability that every bad option is pruned (σ = {SIGMA})"),
            x: "demonstrations ÷ bound |Z| log(B/δ) / σ".into(),
            y: "share of runs".into(),
            series: curves,
            ..Chart::default()
        },
        reading: "One decision a demonstration. Divided by the bound, the curves of sets of 6 to \
                  402 options pass 1 − δ at nearly the same place, close to 1: the bound has the \
                  right growth and almost the right constant. The larger the set, the sharper the \
                  rise.",
    }
}

fn against_sigma(settings: &Settings) -> Finding {
    let n_lanes = N_LANES[LANES];
    let mut finding = Finding::default();
    let mut curves = Vec::new();
    for kind in KINDS {
        let needed = settings.by_seed("counting sigma", |seed| {
            SIGMAS
                .map(|sigma| quantile(&waits(n_lanes, sigma, kind, seed)))
                .to_vec()
        });
        curves.push(measured(name(kind), &SIGMAS, &needed));
        let limits = SIGMAS.map(|sigma| (sigma, limit(kind, n_lanes, sigma)));
        let title = format!("bound, {}", name(kind));
        curves.push(theory(title, limits));
        finding.fits.push(Fit::new(
            format!("demonstrations against σ, {}", name(kind)),
            exponent(&SIGMAS, &needed),
            Some(-1.0),
        ));
    }
    finding.figures.push(Figure {
        id: "demonstrations-against-sigma",
        chart: Chart {
            title: format!(
                "Demonstrations needed against σ (|Z| = {})",
                N_JUNCTIONS * n_lanes
            ),
            x: Axis::log10("σ, share of tasks on which a bad option costs more than ε"),
            y: Axis::log10(&format!("demonstrations for probability {}", 1.0 - DELTA)),
            series: curves,
            ..Chart::default()
        },
        reading: "An option that does harm on few tasks takes long to be found out: the count \
                  grows like 1/σ. At large σ it grows a little faster than that, because \
                  log(1/(1 − σ)) exceeds σ when each demonstration can show all options.",
    });
    finding
}
