//! A comparison as a page: its tables, and RLVR's curves with their bands.

use ra3_page::{Figure, Point, document, escape, figures};

use super::text::{Titled, tables};
use super::{ComparedCurve, Comparison};
use crate::arms::series;
use crate::page::STYLE;

pub(super) fn page(comparison: &Comparison) -> String {
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let title = format!("{}: seeds {}", comparison.name, seeds.join(", "));
    let table = |table: &Titled| {
        let title = escape(&table.title).replace('\n', "<br>");
        format!("<h3>{title}</h3>{}", ra3_page::table(&table.cells))
    };
    let tables: Vec<String> = tables(comparison).iter().map(table).collect();
    let tables = tables.concat();
    let body = format!(
        "<header><p>ra3 comparison</p><h1>{}</h1><p>Intervals are 95 % over seeds and \
         problems.</p></header>\n<main><section>{}{tables}</section></main>",
        escape(&title),
        figures(&curves(&comparison.curves)),
    );
    document(&format!("{title} – ra3"), STYLE, &body, "")
}

/// A figure for each variation.
fn curves(all: &[ComparedCurve]) -> String {
    let mut variations: Vec<&str> = all.iter().map(|curve| curve.variation.as_str()).collect();
    variations.dedup();
    let arms: Vec<&str> = {
        let mut arms: Vec<&str> = Vec::new();
        for curve in all {
            if !arms.contains(&curve.arm.as_str()) {
                arms.push(&curve.arm);
            }
        }
        arms
    };
    let figure = |variation: &&str| {
        let of = all.iter().filter(|curve| curve.variation == *variation);
        Figure {
            title: format!("Held-out pass@1 against updates of RLVR {variation}"),
            note: "means over seeds; bands: 95 % over seeds".to_owned(),
            x: "update".into(),
            y: "held-out pass@1, %".into(),
            series: of
                .map(|curve| series(&curve.arm, &arms, points(curve)))
                .collect(),
            ..Figure::default()
        }
        .html()
    };
    variations.iter().map(figure).collect()
}

fn points(curve: &ComparedCurve) -> Vec<Point> {
    let point = |(place, (x, y)): (usize, (&f64, &f64))| {
        let band = curve.band.get(place);
        Point {
            x: *x,
            y: 100.0 * y,
            low: 100.0 * band.map_or(*y, |band| band.low),
            high: 100.0 * band.map_or(*y, |band| band.high),
        }
    };
    let means = curve.updates.iter().zip(&curve.mean);
    means.enumerate().map(point).collect()
}
