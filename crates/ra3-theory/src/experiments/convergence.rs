//! Sweeps of value iteration against the duration τ of options and the size of the set.
//!
//! On a ring without end every option runs exactly τ steps. Sweeps stop where the largest error is
//! at most ε times the largest value.

use ra3_page::{Axis, Figure as Chart, Series};

use crate::experiments::watching::families;
use crate::experiments::{Settings, column, mean};
use crate::families::Family;
use crate::families::ring::{options, ring};
use crate::finding::{Check, Figure, Finding, Fit, measured, theory};
use crate::option::OptionModel;
use crate::smdp::Smdp;
use crate::statistics::{estimate, exponent};

const DURATIONS: [usize; 6] = [1, 2, 4, 8, 16, 32];
const SIZES: [usize; 5] = [2, 4, 8, 16, 32];
/// The size while τ varies, and τ while the size does.
const SIZE: usize = 4;
const DURATION: usize = 4;
const N_STATES: usize = 30;
const DISCOUNT: f64 = 0.98;
const EPSILON: f64 = 1e-3;

/// Sweeps to tolerance, and the largest ratio of an error to what the contraction allows.
fn sweeps(n_options: usize, n_steps: usize, seed: ra3::seed::Seed) -> (f64, f64) {
    let mdp = ring(N_STATES, DISCOUNT, seed.child("ring"));
    let courses = options(n_options, n_steps, seed.child("options"));
    let models: Vec<OptionModel> = courses.iter().map(|course| course.model(&mdp)).collect();
    let smdp = Smdp::new(&mdp, models.iter().collect());
    let optimal = smdp.optimal();
    let top = optimal.iter().copied().fold(0.0, f64::max);
    let errors = smdp.value_iteration(&optimal, EPSILON * top);
    let rate = DISCOUNT.powi(n_steps as i32);
    let ratio = |(sweep, error): (usize, &f64)| error / (errors[0] * rate.powi(sweep as i32));
    let worst = errors
        .iter()
        .enumerate()
        .skip(1)
        .map(ratio)
        .fold(0.0, f64::max);
    ((errors.len() - 1) as f64, worst)
}

/// `log(1/ε) / (1 − γ^τ)`.
fn reading_of_theorem(n_steps: usize) -> f64 {
    (1.0 / EPSILON).ln() / (1.0 - DISCOUNT.powi(n_steps as i32))
}

/// Runs the experiment.
pub fn run(settings: &Settings) -> Finding {
    let by_duration =
        settings.by_seed("durations", |seed| DURATIONS.map(|t| sweeps(SIZE, t, seed)));
    let by_size = settings.by_seed("sizes", |seed| SIZES.map(|n| sweeps(n, DURATION, seed)));
    let counts = column(&by_duration, |seed| {
        seed.iter().map(|found| found.0).collect()
    });
    let size_counts = column(&by_size, |seed| seed.iter().map(|found| found.0).collect());
    let (durations, sizes) = (DURATIONS.map(|t| t as f64), SIZES.map(|n| n as f64));
    let horizons = DURATIONS.map(|t| 1.0 / (1.0 - DISCOUNT.powi(t as i32)));
    let all = by_duration.iter().flatten().chain(by_size.iter().flatten());
    let worst = all.map(|found| found.1).fold(0.0, f64::max);
    let exact = |t: usize| (EPSILON.ln() / (t as f64 * DISCOUNT.ln())).ceil();
    let curves = vec![
        measured("measured", &durations, &counts),
        theory(
            "log(1/ε) / log(1/γ^τ)",
            DURATIONS.map(|t| (t as f64, exact(t))).into_iter(),
        ),
        theory(
            "log(1/ε) / (1 − γ^τ)",
            DURATIONS
                .map(|t| (t as f64, reading_of_theorem(t)))
                .into_iter(),
        ),
    ];
    let figures = vec![
        figure(
            "sweeps-against-duration",
            "τ, primitive steps of an option",
            curves,
            READING_TAU,
        ),
        figure(
            "sweeps-against-options",
            "|Ẑ|, options",
            vec![
                measured(format!("measured, τ = {DURATION}"), &sizes, &size_counts),
                theory(
                    "log(1/ε) / (1 − γ^τ)",
                    sizes.map(|n| (n, reading_of_theorem(DURATION))).into_iter(),
                ),
            ],
            READING_SIZE,
        ),
    ];
    let what = "sweeps of value iteration against";
    Finding {
        figures,
        fits: vec![
            Fit::new(
                format!("{what} 1/(1 − γ^τ)"),
                exponent(&horizons, &counts),
                Some(1.0),
            ),
            Fit::new(
                format!("{what} |Ẑ|"),
                exponent(&sizes, &size_counts),
                Some(0.0),
            ),
        ],
        checks: std::iter::once(Check {
            what: "value iteration never converges slower than γ^τ".to_owned(),
            measured: format!("largest error ÷ allowed error {worst:.9}"),
            held: worst <= 1.0 + 1e-9,
        })
        .chain(beside_primitives(settings))
        .collect(),
    }
}

/// Tasks with a goal, where options are added to the primitive actions. The rate of the set is then
/// `γ` as before, and the bound promises nothing.
fn beside_primitives(settings: &Settings) -> Vec<Check> {
    let by_seed = settings.by_seed("beside primitives", |seed| {
        families(seed)
            .iter()
            .map(|family| [false, true].map(|adds| mean_sweeps(family, adds)))
            .collect::<Vec<_>>()
    });
    let of = |family: usize, adds: usize| {
        estimate(
            &by_seed
                .iter()
                .map(|seed| seed[family][adds])
                .collect::<Vec<_>>(),
        )
    };
    let one = |(index, family): (usize, &str)| {
        let (plain, added) = (of(index, 0), of(index, 1));
        Check {
            what: format!("{family}: options beside primitive actions save sweeps"),
            measured: format!("{:.1} sweeps without, {:.1} with", plain.mean, added.mean),
            held: added.mean < plain.mean,
        }
    };
    ["chain", "rooms", "program"]
        .into_iter()
        .enumerate()
        .map(one)
        .collect()
}

/// Sweeps to tolerance, the mean over the tasks of a family.
fn mean_sweeps(family: &Family, adds_options: bool) -> f64 {
    let mut courses = family.primitives();
    if adds_options {
        courses.extend(family.options.iter().cloned());
    }
    let all: Vec<usize> = (0..courses.len()).collect();
    let modelled = family.with(courses);
    let sweeps = |task: usize| {
        let smdp = modelled.smdp(task, &all);
        let optimal = smdp.optimal();
        let top = optimal.iter().copied().fold(0.0, f64::max);
        (smdp.value_iteration(&optimal, EPSILON * top).len() - 1) as f64
    };
    mean(&(0..family.tasks.len()).map(sweeps).collect::<Vec<_>>())
}

const READING_TAU: &str = "\
    Longer options need fewer sweeps. The measured count lies on the exact rate log(1/ε) / \
    log(1/γ^τ); the theorem's form log(1/ε) / (1 − γ^τ) is above it everywhere, by little for \
    short options and by a factor for long ones. A sweep costs the same whatever τ is: only \
    the model of an option is dearer, once. Every reward here is positive and the task never \
    ends, so the rate is attained and seeds do not differ; on tasks with a goal (see the \
    checks) values are exact as soon as the goal has been seen from everywhere, far sooner \
    than any rate says, and options help even beside primitive actions, where the rate stays \
    γ.";
const READING_SIZE: &str = "\
    The number of sweeps hardly depends on how many options there are, though each sweep costs \
    in proportion to them.";

fn figure(id: &'static str, x_label: &str, curves: Vec<Series>, reading: &'static str) -> Figure {
    Figure {
        id,
        chart: Chart {
            title: format!("Value iteration against {x_label} (γ = {DISCOUNT}, ε = {EPSILON})"),
            x: Axis::log10(x_label),
            y: Axis::log10("sweeps until the largest error is ε"),
            series: curves,
            ..Chart::default()
        },
        reading,
    }
}
