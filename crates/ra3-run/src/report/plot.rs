//! Curves as SVG: lines, bands, ticks, a legend. Colours are the page's.

use std::fmt::Write;

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
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Class that the page colours.
    pub(super) class: String,
    pub(super) points: Vec<Point>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

/// A figure with its caption; nothing where there is nothing to draw.
pub(super) fn figure(title: &str, x_label: &str, y_label: &str, lines: &[Line]) -> String {
    let finite = |p: &&Point| p.x.is_finite() && p.low.is_finite() && p.high.is_finite();
    let points: Vec<&Point> = lines
        .iter()
        .flat_map(|l| &l.points)
        .filter(finite)
        .collect();
    if points.len() < 2 {
        return String::new();
    }
    let bounds = |values: &dyn Fn(&Point) -> [f64; 2]| {
        let all = points.iter().flat_map(|point| values(point));
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        })
    };
    let x = Axis::new(bounds(&|p| [p.x, p.x]));
    let y = Axis::new(bounds(&|p| [p.low, p.high]));
    let mut svg = format!(
        "<figure class=\"plot\"><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    let (px, py) = (
        |v: f64| LEFT + x.share(v) * (WIDTH - LEFT - RIGHT),
        |v: f64| HEIGHT - BOTTOM - y.share(v) * (HEIGHT - BOTTOM - TOP),
    );
    for tick in &y.ticks {
        let at = py(*tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text \
             class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            label(*tick)
        );
    }
    for tick in &x.ticks {
        let _ = write!(
            svg,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            px(*tick),
            HEIGHT - BOTTOM + 16.0,
            label(*tick)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{x_label}</text><text \
         class=\"axis\" text-anchor=\"middle\" transform=\"rotate(-90 12 {m:.1})\" x=\"12\" \
         y=\"{m:.1}\">{y_label}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        m = (HEIGHT - BOTTOM) / 2.0
    );
    lines.iter().for_each(|line| draw(&mut svg, line, &px, &py));
    svg.push_str("</svg>");
    legend(&mut svg, lines);
    svg.push_str("</figure>");
    svg
}

fn draw(svg: &mut String, line: &Line, px: &dyn Fn(f64) -> f64, py: &dyn Fn(f64) -> f64) {
    let at = |x: f64, y: f64| format!("{:.1},{:.1} ", px(x), py(y));
    let class = &line.class;
    if line.points.iter().any(|point| point.high > point.low) {
        let above: String = line.points.iter().map(|p| at(p.x, p.high)).collect();
        let below: String = line.points.iter().rev().map(|p| at(p.x, p.low)).collect();
        let _ = write!(
            svg,
            "<polygon class=\"band {class}\" points=\"{above}{below}\"/>"
        );
    }
    let path: String = line.points.iter().map(|p| at(p.x, p.y)).collect();
    let _ = write!(svg, "<polyline class=\"curve {class}\" points=\"{path}\"/>");
    if line.points.len() <= 40 {
        for point in &line.points {
            let _ = write!(
                svg,
                "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {} at \
                 {}</title></circle>",
                px(point.x),
                py(point.y),
                line.name,
                label(point.y),
                label(point.x)
            );
        }
    }
}

fn legend(svg: &mut String, lines: &[Line]) {
    svg.push_str("<div class=\"legend\">");
    for line in lines {
        let _ = write!(
            svg,
            "<span><i class=\"{}\"></i>{}</span>",
            line.class, line.name
        );
    }
    svg.push_str("</div>");
}

/// A range with round ticks.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new((low, high): (f64, f64)) -> Self {
        let (low, high) = if high - low < 1e-12 {
            (low - 0.5, high + 0.5)
        } else {
            (low, high)
        };
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .iter()
            .map(|m| m * power)
            .find(|s| *s >= rough);
        let step = step.unwrap_or(power);
        let first = (low / step).floor() as i64;
        let last = (high / step).ceil() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step).collect();
        Self {
            low: first as f64 * step,
            high: last as f64 * step,
            ticks,
        }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A number with as many digits as a reader needs.
fn label(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if size >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        let axis = Axis::new((0.13, 0.87));
        assert_eq!(axis.ticks.len(), 6);
        assert!(axis.ticks[0] <= 0.13 && axis.ticks[5] >= 0.87);
        assert!((axis.ticks[1] - axis.ticks[0] - 0.2).abs() < 1e-12);
        assert!((Axis::new((3.0, 3.0)).share(3.0) - 0.5).abs() < 1e-9);
        assert_eq!(
            [1_200_000.0, 25_000.0, 12.0, 0.5].map(label),
            ["1.2M", "25k", "12", "0.50"]
        );
    }

    #[test]
    fn a_figure_has_its_lines_and_an_empty_one_is_nothing() {
        let line = Line {
            name: "ra3".to_owned(),
            class: "ra3".to_owned(),
            points: vec![
                Point::new(0.0, 1.0),
                Point {
                    x: 1.0,
                    y: 2.0,
                    low: 1.5,
                    high: 2.5,
                },
            ],
        };
        let svg = figure("t", "x", "y", std::slice::from_ref(&line));
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert_eq!(svg.matches("<polygon").count(), 1);
        assert!(figure("t", "x", "y", &[]).is_empty());
    }
}
