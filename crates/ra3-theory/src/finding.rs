//! What an experiment hands back: figures with curves, fitted exponents, and checks. As JSON lines
//! each point, fit and check is one record.

use ra3_page::{Figure as Chart, Point, Series, Stroke};
use serde::Serialize;
use serde_json::{Value, json};

use crate::statistics::{Estimate, estimate};

/// A figure of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Short name in records and links.
    pub id: &'static str,
    /// The curves, theory's as references; the page gives them colours.
    pub chart: Chart,
    /// How to read it, and what it shows, in sentences.
    pub reading: &'static str,
}

/// A measured curve: at each of `xs`, the values of all seeds, `[seed][point]`, with 95 % intervals
/// over them.
pub(crate) fn measured(name: impl Into<String>, xs: &[f64], by_seed: &[Vec<f64>]) -> Series {
    let point = |(index, x): (usize, &f64)| {
        let values: Vec<f64> = by_seed.iter().map(|values| values[index]).collect();
        let Estimate { mean, half_width } = estimate(&values);
        Point {
            x: *x,
            y: mean,
            low: mean - half_width,
            high: mean + half_width,
        }
    };
    Series {
        name: name.into(),
        points: xs.iter().enumerate().map(point).collect(),
        ..Series::default()
    }
}

/// A curve of exact values.
pub(crate) fn theory(
    name: impl Into<String>,
    points: impl IntoIterator<Item = (f64, f64)>,
) -> Series {
    Series {
        name: name.into(),
        stroke: Stroke::Dashed,
        is_reference: true,
        points: points.into_iter().map(|(x, y)| Point::new(x, y)).collect(),
        ..Series::default()
    }
}

/// A fitted exponent beside the theory's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// What was fitted: `y ∝ x^a` in words.
    pub what: String,
    /// The exponent over seeds.
    pub exponent: f64,
    /// Half the width of its 95 % interval.
    pub half_width: f64,
    /// What the theory says; `None` where it is silent.
    pub theory: Option<f64>,
}

impl Fit {
    /// A fit from its estimate.
    pub fn new(what: impl Into<String>, found: Estimate, theory: Option<f64>) -> Self {
        Self {
            what: what.into(),
            exponent: found.mean,
            half_width: found.half_width,
            theory,
        }
    }
}

/// A statement that is a theorem, or that a reader expects to hold, and whether it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The statement.
    pub what: String,
    /// What was measured, in words.
    pub measured: String,
    /// True if it held.
    pub held: bool,
}

/// All that one experiment found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// Figures in reading order.
    pub figures: Vec<Figure>,
    /// Fitted exponents.
    pub fits: Vec<Fit>,
    /// Statements.
    pub checks: Vec<Check>,
}

impl Finding {
    /// Appends another experiment's.
    pub fn extend(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.fits.extend(other.fits);
        self.checks.extend(other.checks);
    }

    /// One record a point, fit and check.
    pub fn records(&self) -> Vec<Value> {
        let points = self.figures.iter().flat_map(|figure| {
            let curves = figure.chart.series.iter();
            curves.flat_map(|curve| curve.points.iter().map(|p| point(figure.id, curve, p)))
        });
        let fits = self.fits.iter().map(|fit| json!({ "fit": fit }));
        let checks = self.checks.iter().map(|check| json!({ "check": check }));
        points.chain(fits).chain(checks).collect()
    }

    /// The fitted exponents and the checks as a table for a terminal.
    pub fn to_text(&self) -> String {
        let width = |text: &str| text.chars().count();
        let widest = self.fits.iter().map(|fit| width(&fit.what)).max();
        let widest = widest.unwrap_or(0);
        let mut text = format!("{:<widest$}  exponent ± 95 %   theory\n", "fitted");
        for fit in &self.fits {
            let theory = fit.theory.map_or("–".to_owned(), |t| format!("{t:+.2}"));
            text.push_str(&format!(
                "{:<widest$}  {:>+8.3} ± {:<5.3}  {theory:>6}\n",
                fit.what, fit.exponent, fit.half_width
            ));
        }
        text.push('\n');
        for check in &self.checks {
            let mark = if check.held { "held  " } else { "failed" };
            text.push_str(&format!("{mark}  {}: {}\n", check.what, check.measured));
        }
        text
    }
}

fn point(figure: &str, curve: &Series, point: &Point) -> Value {
    json!({
        "figure": figure,
        "curve": curve.name,
        "theory": curve.is_reference,
        "x": point.x,
        "y": point.y,
        "low": point.low,
        "high": point.high,
    })
}
