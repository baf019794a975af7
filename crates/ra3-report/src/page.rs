//! The page: its sections in order, and the viewer's data and script, in one file.

use std::fmt::Write;

use ra3_page::{document, embedded, escape, figures};
use ra3_records::samples::Sample;

use super::arms::arms;
use super::table::{Benchmark, Table};
use super::{ReportInputs, curves, facts, held_out, programs};

pub(crate) const STYLE: &str = include_str!("style.css");
const VIEWER: &str = include_str!("viewer.js");
const VIEWER_HTML: &str = include_str!("viewer.html");

/// The whole page as HTML.
pub(super) fn page(inputs: &ReportInputs<'_>) -> String {
    let name = escape(&inputs.name);
    let table = Table::new(inputs.ledger, inputs.clock);
    let sections = sections(inputs, &table);
    let (mut links, mut body) = (String::new(), String::new());
    for (id, title, content) in &sections {
        let _ = write!(links, "<a href=\"#{id}\">{title}</a>");
        let content = if content.is_empty() {
            "<p class=\"none\">Not in this run.</p>"
        } else {
            content
        };
        let _ = writeln!(
            body,
            "<section id=\"{id}\" aria-label=\"{title}\"><h2>{title}</h2>{content}</section>"
        );
    }
    let body = format!(
        "<header><p>ra3 report</p><h1>{name}</h1><p>{}</p><nav \
         aria-label=\"Sections\">{links}</nav></header>\n<main>{body}</main>",
        escape(&lead(inputs, &table)),
    );
    let viewer = format!(
        "<script type=\"application/json\" id=\"arm-names\">{}</script>\n\
         <script type=\"application/json\" id=\"samples\">{}</script>\n\
         <script>\n{VIEWER}</script>",
        embedded(&arms(inputs.ledger)),
        embedded(&best_first(inputs.samples)),
    );
    document(&format!("{} – ra3", inputs.name), STYLE, &body, &viewer)
}

/// Id, title and content of every section; empty content is said to be missing.
fn sections(inputs: &ReportInputs<'_>, table: &Table) -> [(&'static str, &'static str, String); 9] {
    let arms = if table.rows.is_empty() {
        String::new()
    } else {
        let scores = table.benchmarks.iter().map(|benchmark| {
            format!("<h3>{}</h3>", escape(&benchmark.title()))
                + &ra3_page::table(&benchmark.cells())
                + &figures(&programs::headline(benchmark, inputs.ledger))
        });
        ra3_page::table(&table.cells()) + &scores.collect::<String>() + &differences(table)
    };
    let viewer = if inputs.samples.is_empty() {
        String::new()
    } else {
        VIEWER_HTML.to_owned()
    };
    [
        ("arms", "Arms", arms),
        ("rlvr", "RLVR", figures(&curves::rlvr(inputs.ledger))),
        (
            "families",
            "Programs by family and decision",
            programs::families(inputs.ledger),
        ),
        (
            "held-out",
            "Held-out documents",
            held_out::section(inputs.ledger),
        ),
        ("browse", "Documents and programs", viewer),
        (
            "training",
            "Mid-training",
            figures(&curves::training(inputs.ledger)),
        ),
        ("corpus", "Corpus", facts::corpus(inputs.ledger)),
        (
            "stages",
            "Stages",
            facts::costs(inputs.ledger, inputs.clock),
        ),
        (
            "environment",
            "Environment and plan",
            facts::environment(&inputs.environment) + &facts::plan(&inputs.plan_toml),
        ),
    ]
}

/// The samples with the documents first whose latents gain most: they show what a latent is for.
fn best_first(samples: &[Sample]) -> Vec<&Sample> {
    let gain = |sample: &Sample| match sample {
        Sample::Document(document) => {
            let lines = document.lines.iter();
            lines.map(|line| line.logprob - line.logprob_act).sum()
        }
        Sample::Program(_) => f64::NEG_INFINITY,
    };
    let mut ordered: Vec<&Sample> = samples.iter().collect();
    ordered.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    ordered
}

/// Arms against each other.
fn differences(table: &Table) -> String {
    if table.differences.is_empty() {
        return String::new();
    }
    let head = [
        "arms",
        "when",
        "difference of pass@1, paired over problems [95 %]",
    ];
    let which = (table.benchmarks.len() > 1).then_some("problems");
    let head = which.into_iter().chain(head).map(str::to_owned).collect();
    let mut cells = vec![head];
    cells.extend(table.difference_cells());
    ra3_page::table(&cells)
}

/// What was measured, in a line.
fn lead(inputs: &ReportInputs<'_>, table: &Table) -> String {
    let unfinished = (!inputs.is_finished).then(|| "This run is not finished".to_owned());
    let titles = table.benchmarks.iter().map(Benchmark::title);
    unfinished
        .into_iter()
        .chain(titles)
        .collect::<Vec<_>>()
        .join("; ")
}
