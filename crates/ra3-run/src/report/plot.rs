//! Curves as SVG: axes, lines with the bands around them, phases behind them, a legend. Colours
//! are the page's; a line only says its class.

use std::fmt::Write;

use super::axis::{Axis, number, range};
use super::html::escape;

/// A point with the interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Point {
    /// A point without an interval.
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            low: y,
            high: y,
        }
    }

    fn is_finite(&self) -> bool {
        [self.x, self.y, self.low, self.high]
            .iter()
            .all(|value| value.is_finite())
    }
}

/// A line, in pieces where it was interrupted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Class that the page colours.
    pub(super) class: String,
    pub(super) pieces: Vec<Vec<Point>>,
}

impl Line {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.pieces.iter().flatten().filter(|p| p.is_finite())
    }
}

/// A named stretch of the horizontal axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// A figure with curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figure<'a> {
    pub(super) title: &'a str,
    /// What a reader has to know to read it right.
    pub(super) note: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) lines: Vec<Line>,
    /// Phases behind the lines.
    pub(super) spans: Vec<Span>,
    /// Names of the places 0, 1, 2, … where the horizontal axis is not a number.
    pub(super) x_names: Vec<String>,
}

pub(super) const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;

impl Figure<'_> {
    /// The figure with its caption; nothing where there are fewer than two points.
    pub(super) fn svg(&self) -> String {
        let points: Vec<&Point> = self.lines.iter().flat_map(Line::points).collect();
        let ends = self.spans.iter().flat_map(|span| [span.from, span.to]);
        let x = range(points.iter().map(|point| point.x).chain(ends));
        let y = range(points.iter().flat_map(|point| [point.low, point.high]));
        let (Some(x), Some(y), true) = (x, y, points.len() > 1) else {
            return String::new();
        };
        let place = Place {
            x: if self.x_names.is_empty() {
                Axis::tight(x)
            } else {
                Axis::named(&self.x_names)
            },
            y: Axis::rounded(y),
        };
        let mut svg = opening(self.title, self.note, HEIGHT);
        self.spans
            .iter()
            .for_each(|span| place.span(&mut svg, span));
        place.axes(&mut svg, self.x_label, self.y_label);
        self.lines
            .iter()
            .for_each(|line| place.band(&mut svg, line));
        self.lines
            .iter()
            .for_each(|line| place.curve(&mut svg, line));
        svg.push_str("</svg>");
        let names: Vec<(&str, &str)> = self
            .lines
            .iter()
            .map(|line| (line.name.as_str(), line.class.as_str()))
            .collect();
        svg.push_str(&legend(Swatch::Line, &names));
        svg.push_str("</figure>");
        svg
    }
}

/// The start of a figure, up to the inside of its drawing.
pub(super) fn opening(title: &str, note: &str, height: f64) -> String {
    let (title, note) = (escape(title), escape(note));
    let note = if note.is_empty() {
        note
    } else {
        format!("<small>{note}</small>")
    };
    format!(
        "<figure class=\"plot\"><figcaption>{title}{note}</figcaption><svg viewBox=\"0 0 {WIDTH} \
         {height:.0}\" role=\"img\" aria-label=\"{title}\">"
    )
}

/// What stands beside a name in a legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swatch {
    Line,
    Bar,
}

/// Names with a sample of their line or bar; nothing where all are unnamed.
pub(super) fn legend(swatch: Swatch, names: &[(&str, &str)]) -> String {
    let sample = |class: &str| match swatch {
        Swatch::Line => {
            format!("<line class=\"curve {class}\" x1=\"1\" x2=\"25\" y1=\"5\" y2=\"5\"/>")
        }
        Swatch::Bar => {
            format!("<rect class=\"bar {class}\" x=\"7\" width=\"16\" height=\"10\" rx=\"2\"/>")
        }
    };
    let entry = |(name, class): &(&str, &str)| {
        format!(
            "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\">{}</svg>{}</li>",
            sample(class),
            escape(name)
        )
    };
    let named = names.iter().filter(|(name, _)| !name.is_empty());
    let entries: String = named.map(entry).collect();
    if entries.is_empty() {
        return entries;
    }
    format!("<ul class=\"legend\">{entries}</ul>")
}

/// Where values lie in the drawing.
struct Place {
    x: Axis,
    y: Axis,
}

impl Place {
    fn px(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - BOTTOM - TOP)
    }

    fn axes(&self, svg: &mut String, x_label: &str, y_label: &str) {
        let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y.ticks {
            let at = self.py(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                at + 4.0,
            );
        }
        for (value, label) in &self.x.ticks {
            let (at, label) = (self.px(*value), escape(label));
            let _ = write!(
                svg,
                "<line class=\"notch\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{base}\" y2=\"{:.1}\"/>\
                 <text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                base + 4.0,
                base + 17.0,
            );
        }
        let (middle, centre) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, base));
        let _ = write!(
            svg,
            "<text class=\"axis middle\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text><text class=\"axis \
             middle\" transform=\"rotate(-90 13 {centre:.1})\" x=\"13\" \
             y=\"{centre:.1}\">{}</text>",
            HEIGHT - 8.0,
            escape(x_label),
            escape(y_label),
        );
    }

    fn span(&self, svg: &mut String, span: &Span) {
        let name = escape(&span.name);
        let (from, to) = (self.px(span.from), self.px(span.to));
        let _ = write!(
            svg,
            "<rect class=\"span {name}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
             height=\"{:.1}\"><title>{}</title></rect>",
            (to - from).max(0.0),
            HEIGHT - BOTTOM - TOP,
            name.replace('_', " "),
        );
    }

    fn band(&self, svg: &mut String, line: &Line) {
        for piece in &line.pieces {
            let points = || piece.iter().filter(|point| point.is_finite());
            if points().any(|point| point.high > point.low) {
                let at = |x: f64, y: f64| format!("{:.1},{:.1} ", self.px(x), self.py(y));
                let above: String = points().map(|p| at(p.x, p.high)).collect();
                let below: Vec<String> = points().map(|p| at(p.x, p.low)).collect();
                let below: String = below.into_iter().rev().collect();
                let _ = write!(
                    svg,
                    "<polygon class=\"band {}\" points=\"{above}{below}\"/>",
                    line.class
                );
            }
        }
    }

    fn curve(&self, svg: &mut String, line: &Line) {
        let class = &line.class;
        for piece in &line.pieces {
            let at = |p: &Point| format!("{:.1},{:.1} ", self.px(p.x), self.py(p.y));
            let points: String = piece.iter().filter(|p| p.is_finite()).map(at).collect();
            let _ = write!(
                svg,
                "<polyline class=\"curve {class}\" points=\"{points}\"/>"
            );
        }
        // Few points are shown; many are only felt by the pointer.
        let dot = if line.points().count() <= 30 {
            "dot"
        } else {
            "touch"
        };
        for point in line.points() {
            let (x, y) = (self.px(point.x), self.py(point.y));
            let _ = write!(
                svg,
                "<circle class=\"{dot} {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{}\
                 </title></circle>",
                escape(&self.tooltip(line, point)),
            );
        }
    }

    fn tooltip(&self, line: &Line, point: &Point) -> String {
        let named = self.x.ticks.iter().find(|(value, _)| *value == point.x);
        let x = named.map_or_else(|| number(point.x), |(_, label)| label.clone());
        let interval = if point.high > point.low {
            format!(" [{}, {}]", number(point.low), number(point.high))
        } else {
            String::new()
        };
        let name = if line.name.is_empty() {
            &line.class
        } else {
            &line.name
        };
        format!("{name}: {}{interval} at {x}", number(point.y))
    }
}

/// At most `n_max` points: neighbours are averaged, and the interval is then the middle 80 % of
/// them, so that a noisy curve of thousands of updates can be read.
pub(super) fn thinned(points: &[Point], n_max: usize) -> Vec<Point> {
    if points.len() <= n_max {
        return points.to_vec();
    }
    // One number that is none must not take its neighbours with it.
    let points: Vec<Point> = points.iter().copied().filter(Point::is_finite).collect();
    let per_chunk = points.len().div_ceil(n_max);
    points.chunks(per_chunk.max(1)).map(middle).collect()
}

fn middle(points: &[Point]) -> Point {
    let n = points.len() as f64;
    let mut heights: Vec<f64> = points.iter().map(|point| point.y).collect();
    heights.sort_by(f64::total_cmp);
    let quantile = |share: f64| heights[((heights.len() - 1) as f64 * share).round() as usize];
    let y = heights.iter().sum::<f64>() / n;
    Point {
        x: points.iter().map(|point| point.x).sum::<f64>() / n,
        y,
        // A skewed chunk can have its mean outside its middle.
        low: quantile(0.1).min(y),
        high: quantile(0.9).max(y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pieces: Vec<Vec<Point>>) -> Line {
        Line {
            name: "RA3".to_owned(),
            class: "ra3".to_owned(),
            pieces,
        }
    }

    fn figure(lines: Vec<Line>) -> Figure<'static> {
        Figure {
            title: "pass@1 < 1",
            x_label: "updates",
            y_label: "%",
            lines,
            ..Figure::default()
        }
    }

    fn interval(x: f64, y: f64) -> Point {
        Point {
            low: y - 0.5,
            high: y + 0.5,
            ..Point::new(x, y)
        }
    }

    #[test]
    fn a_figure_draws_each_piece_and_its_band() {
        let pieces = vec![
            vec![Point::new(0.0, 1.0), Point::new(1.0, 2.0)],
            vec![interval(2.0, 3.0), interval(3.0, 3.0)],
        ];
        let svg = figure(vec![line(pieces)]).svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<polygon").count(), 1);
        assert_eq!(svg.matches("<circle class=\"dot ra3\"").count(), 4);
        assert!(svg.contains("RA3: 3 [2.500, 3.500] at 2"), "{svg}");
        assert!(svg.contains("pass@1 &lt; 1") && svg.contains("class=\"legend\""));
    }

    #[test]
    fn corners_lie_where_the_axes_say() {
        let svg = figure(vec![line(vec![vec![
            Point::new(0.0, 0.0),
            Point::new(6.0, 6.0),
        ]])])
        .svg();
        // Left and bottom margin; width less right margin, top margin.
        assert!(svg.contains("points=\"60.0,246.0 544.0,14.0 \""), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        assert!(figure(vec![]).svg().is_empty());
        assert!(
            figure(vec![line(vec![vec![Point::new(0.0, 1.0)]])])
                .svg()
                .is_empty()
        );
        let broken = vec![Point::new(0.0, f64::NAN), Point::new(1.0, f64::INFINITY)];
        assert!(figure(vec![line(vec![broken])]).svg().is_empty());
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let points = vec![
            Point::new(0.0, 1.0),
            Point::new(1.0, f64::NAN),
            Point::new(2.0, 2.0),
        ];
        let svg = figure(vec![line(vec![points])]).svg();
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn thinning_keeps_means_and_the_middle() {
        let points: Vec<Point> = (0..22)
            .map(|i| Point::new(f64::from(i), f64::from(i % 11)))
            .collect();
        let thin = thinned(&points, 2);
        let expected = Point {
            x: 5.0,
            y: 5.0,
            low: 1.0,
            high: 9.0,
        };
        assert_eq!(thin[0], expected);
        assert_eq!(
            thin[1],
            Point {
                x: 16.0,
                ..expected
            }
        );
        assert_eq!(thinned(&points, 22), points);
    }
}
