//! The page: every figure with how to read it, the fitted exponents, the checks. One file that
//! needs nothing else, neither script nor network.

mod plot;

use std::fmt::Write;

use crate::experiments::Settings;
use crate::finding::Finding;

const STYLE: &str = include_str!("style.css");

/// The whole page as HTML.
pub fn html(finding: &Finding, settings: &Settings) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>RA3: the theory, run</title>\
         <style>{STYLE}</style></head><body><main><h1>RA3: the theory, run</h1><p>Mid-training \
         prunes the space of actions (pruning error) and makes reinforcement learning converge \
         faster on what is left (RL error). Here both are measured on tasks small enough to solve \
         exactly. Bands are 95 % intervals over {} seeds (at most 24 for learnt \
         options; root seed {}); dashed lines are theory. Definitions, \
         and where they are ours: <code>docs/theory.md</code>.</p>",
        settings.n_seeds, settings.seed
    );
    for figure in &finding.figures {
        let _ = write!(
            page,
            "<section id=\"{}\"><h2>{}</h2>{}<p>{}</p></section>",
            figure.id,
            escape(&figure.title),
            plot::svg(figure),
            escape(&figure.reading)
        );
    }
    page.push_str(&tables(finding));
    page.push_str("</main></body></html>\n");
    page
}

fn tables(finding: &Finding) -> String {
    let mut text = "<section><h2>Fitted exponents</h2><div class=\"wide\"><table><tr><th>fitted\
                    </th><th>exponent ± 95 %</th><th>theory</th></tr>"
        .to_owned();
    for fit in &finding.fits {
        let theory = fit.theory.map_or("–".to_owned(), |t| format!("{t:+.2}"));
        let _ = write!(
            text,
            "<tr><td>{}</td><td>{:+.3} ± {:.3}</td><td>{theory}</td></tr>",
            escape(&fit.what),
            fit.exponent,
            fit.half_width
        );
    }
    text.push_str(
        "</table></div></section><section><h2>Checks</h2><div class=\"wide\"><table><tr><th>\
         statement</th><th>measured</th><th>held</th></tr>",
    );
    for check in &finding.checks {
        let _ = write!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&check.what),
            escape(&check.measured),
            if check.held { "yes" } else { "<b>no</b>" }
        );
    }
    text.push_str("</table></div></section>");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
