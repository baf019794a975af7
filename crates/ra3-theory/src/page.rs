//! The page: every figure with how to read it, the fitted exponents, the checks. One file that
//! needs nothing else.

use std::fmt::Write;

use ra3_page::{document, escape, table};

use crate::experiments::Settings;
use crate::finding::{Figure, Finding};

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
            escape(&figure.chart.title),
            chart(figure),
            escape(figure.reading)
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

fn chart(figure: &Figure) -> String {
    let mut chart = figure.chart.clone();
    for (index, curve) in chart.series.iter_mut().enumerate() {
        curve.colour = format!("c{}", index % N_COLOURS);
    }
    chart.html()
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
