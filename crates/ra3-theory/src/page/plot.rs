//! A figure as SVG: linear or logarithmic axes, curves with bands, dashed theory, a marked point.

use std::fmt::Write;

use super::escape;
use crate::finding::{Curve, Figure, Point};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Colours of the page; a seventh curve begins again.
const N_COLOURS: usize = 6;

/// The figure with its legend.
pub(super) fn svg(figure: &Figure) -> String {
    let points = || figure.curves.iter().flat_map(|curve| &curve.points);
    let x = Axis::new(points().map(|p| p.x), figure.logarithmic.0);
    // The lower end of an interval may be below 0, where a logarithm has no place for it.
    let ends = points().flat_map(|p| [p.low, p.y, p.high]);
    let y = Axis::new(ends, figure.logarithmic.1);
    let at = |value_x: f64, value_y: f64| {
        (
            LEFT + x.share(value_x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y.share(value_y) * (HEIGHT - BOTTOM - TOP),
        )
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(&figure.title)
    );
    axes(&mut svg, figure, &x, &y);
    for (index, curve) in figure.curves.iter().enumerate() {
        draw(&mut svg, curve, index % N_COLOURS, &at);
    }
    if let Some((value_x, value_y)) = figure.mark {
        let (px, py) = at(value_x, value_y);
        let _ = write!(
            svg,
            "<circle class=\"mark\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"8\"><title>optimum\
             </title></circle>"
        );
    }
    svg.push_str("</svg>");
    legend(&mut svg, figure);
    svg
}

fn axes(svg: &mut String, figure: &Figure, x: &Axis, y: &Axis) {
    for (value, tick) in y.ticks() {
        let at = HEIGHT - BOTTOM - y.share(value) * (HEIGHT - BOTTOM - TOP);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text \
             class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{tick}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, tick) in x.ticks() {
        let _ = write!(
            svg,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{tick}</text>",
            LEFT + x.share(value) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text \
         class=\"axis\" text-anchor=\"middle\" transform=\"rotate(-90 12 {m:.1})\" x=\"12\" \
         y=\"{m:.1}\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(&figure.x_label),
        escape(&figure.y_label),
        m = (HEIGHT - BOTTOM) / 2.0
    );
}

fn draw(svg: &mut String, curve: &Curve, colour: usize, at: &dyn Fn(f64, f64) -> (f64, f64)) {
    let pair = |x: f64, y: f64| {
        let (px, py) = at(x, y);
        format!("{px:.1},{py:.1} ")
    };
    let points = &curve.points;
    if points.iter().any(|point| point.high > point.low) {
        let above: String = points.iter().map(|p| pair(p.x, p.high)).collect();
        let below: String = points.iter().rev().map(|p| pair(p.x, p.low)).collect();
        let _ = write!(
            svg,
            "<polygon class=\"band c{colour}\" points=\"{above}{below}\"/>"
        );
    }
    let path: String = points.iter().map(|p| pair(p.x, p.y)).collect();
    let style = if curve.is_theory { " theory" } else { "" };
    let _ = write!(
        svg,
        "<polyline class=\"curve{style} c{colour}\" points=\"{path}\"/>"
    );
    if curve.is_theory {
        return;
    }
    for Point { x, y, low, high } in points {
        let (px, py) = at(*x, *y);
        let _ = write!(
            svg,
            "<circle class=\"dot c{colour}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"><title>{}: {} \
             [{}, {}] at {}</title></circle>",
            escape(&curve.name),
            label(*y),
            label(*low),
            label(*high),
            label(*x)
        );
    }
}

fn legend(svg: &mut String, figure: &Figure) {
    svg.push_str("<div class=\"legend\">");
    for (index, curve) in figure.curves.iter().enumerate() {
        let style = if curve.is_theory { "theory" } else { "" };
        let _ = write!(
            svg,
            "<span class=\"c{}\"><i class=\"{style}\"></i><b>{}</b></span>",
            index % N_COLOURS,
            escape(&curve.name)
        );
    }
    svg.push_str("</div>");
}

/// A range, in logarithms where it is logarithmic.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, is_logarithmic: bool) -> Self {
        let usable = |value: &f64| value.is_finite() && (!is_logarithmic || *value > 0.0);
        let ends = values.filter(usable).fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(low, high): (f64, f64), value| (low.min(value), high.max(value)),
        );
        let (low, high) = if is_logarithmic {
            (ends.0.log10(), ends.1.log10())
        } else {
            ends
        };
        let margin = 0.04 * (high - low).max(0.1);
        Self {
            low: low - margin,
            high: high + margin,
            is_logarithmic,
        }
    }

    /// Where a value stands, from 0 to 1; what is out of range stands at the edge.
    fn share(&self, value: f64) -> f64 {
        let value = if self.is_logarithmic {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Round values in range, with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = if self.is_logarithmic {
            let powers = self.low.floor() as i32..=self.high.ceil() as i32;
            // A wide range has room for powers of ten only.
            let digits: &[f64] = if self.high - self.low > 3.0 {
                &[1.0]
            } else {
                &[1.0, 2.0, 5.0]
            };
            let of_power = |power: i32| digits.iter().map(move |d| d * 10f64.powi(power));
            powers.flat_map(of_power).collect()
        } else {
            let rough = (self.high - self.low) / 5.0;
            let power = 10f64.powf(rough.log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
            let step = steps
                .into_iter()
                .find(|step| *step >= rough)
                .unwrap_or(power);
            let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
            (first as i64..=last as i64)
                .map(|i| i as f64 * step)
                .collect()
        };
        let is_inside = |value: &f64| {
            let place = if self.is_logarithmic {
                value.log10()
            } else {
                *value
            };
            (self.low..=self.high).contains(&place)
        };
        let inside = values.into_iter().filter(is_inside);
        inside.map(|value| (value, label(value))).collect()
    }
}

/// A number with as many digits as a reader needs.
fn label(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if size >= 10.0 || value.fract().abs() < 1e-12 {
        format!("{value:.0}")
    } else if size >= 0.095 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_its_powers() {
        let axis = Axis::new([1.0, 100.0].into_iter(), true);
        let ticks: Vec<f64> = axis.ticks().into_iter().map(|(value, _)| value).collect();
        assert!(ticks.contains(&1.0) && ticks.contains(&10.0) && ticks.contains(&100.0));
        assert!((axis.share(10.0) - 0.5).abs() < 1e-12);
        assert_eq!(axis.share(0.0), 0.0, "below every power");
    }

    #[test]
    fn a_linear_axis_is_round() {
        let axis = Axis::new([0.13, 0.87].into_iter(), false);
        assert!(
            axis.ticks()
                .iter()
                .all(|(value, _)| (value * 10.0).fract().abs() < 1e-9
                    || (value * 10.0).fract().abs() > 1.0 - 1e-9)
        );
    }
}
