//! The page: every figure with how to read it, the fitted exponents, the checks. One file that
//! needs nothing else.

use std::fmt::Write;

use ra3_page::{Axis, Scale, Series, Stroke, document, escape, table};

use crate::experiments::Settings;
use crate::finding::{Curve, Figure, Finding};

const STYLE: &str = include_str!("page.css");
/// Colours of the page; a seventh curve begins again.
const N_COLOURS: usize = 6;

/// The whole page as HTML.
pub fn html(finding: &Finding, settings: &Settings) -> String {
    let mut body = format!(
        "<main><h1>RA3: the theory, run</h1><p>Mid-training \
         prunes the space of actions (pruning error) and makes reinforcement learning converge \
         faster on what is left (RL error). Here both are measured on tasks small enough to solve \
         exactly. Bands are 95 % intervals over {} seeds (at most 24 for learnt \
         options; root seed {}); dashed lines are theory. Definitions, \
         and where they are ours: <code>docs/theory.md</code>.</p>",
        settings.n_seeds, settings.seed
    );
    for figure in &finding.figures {
        let _ = write!(
            body,
            "<section id=\"{}\"><h2>{}</h2>{}<p>{}</p></section>",
            figure.id,
            escape(&figure.title),
            chart(figure).html(),
            escape(&figure.reading)
        );
    }
    let _ = write!(
        body,
        "<section><h2>Fitted exponents</h2>{}</section><section><h2>Checks</h2>{}</section></main>",
        fits(finding),
        checks(finding)
    );
    document("RA3: the theory, run", STYLE, &body, "")
}

fn chart(figure: &Figure) -> ra3_page::Figure {
    let axis = |label: &str, is_logarithmic| Axis {
        label: label.to_owned(),
        scale: if is_logarithmic {
            Scale::Log10
        } else {
            Scale::Linear
        },
    };
    let series = |(index, curve): (usize, &Curve)| Series {
        name: curve.name.clone(),
        colour: format!("c{}", index % N_COLOURS),
        stroke: if curve.is_theory {
            Stroke::Dashed
        } else {
            Stroke::Solid
        },
        is_reference: curve.is_theory,
        points: curve.points.clone(),
    };
    ra3_page::Figure {
        title: figure.title.clone(),
        x: axis(&figure.x_label, figure.logarithmic.0),
        y: axis(&figure.y_label, figure.logarithmic.1),
        series: figure.curves.iter().enumerate().map(series).collect(),
        mark: figure.mark,
        ..ra3_page::Figure::default()
    }
}

fn fits(finding: &Finding) -> String {
    let mut cells = vec![["fitted", "exponent ± 95 %", "theory"].map(str::to_owned)];
    cells.extend(finding.fits.iter().map(|fit| {
        let exponent = format!("{:+.3} ± {:.3}", fit.exponent, fit.half_width);
        let theory = fit.theory.map_or("–".to_owned(), |t| format!("{t:+.2}"));
        [fit.what.clone(), exponent, theory]
    }));
    table(&cells)
}

fn checks(finding: &Finding) -> String {
    let mut cells = vec![["statement", "measured", "held"].map(str::to_owned)];
    cells.extend(finding.checks.iter().map(|check| {
        let held = if check.held { "yes" } else { "NO" };
        [check.what.clone(), check.measured.clone(), held.to_owned()]
    }));
    table(&cells)
}
