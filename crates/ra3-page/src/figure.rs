//! A chart as data: what its axes and lines are, and no word of how they are drawn. `chart.js`
//! draws it; a table behind it says the same for readers without a script.

use serde::Serialize;

use super::{embedded, escape, number, table};

/// A point with the interval around it. What is not finite is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "[f64; 4]")]
pub struct Point {
    /// Position on the x axis.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Point {
    /// A point without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        let (low, high) = (y, y);
        Self { x, y, low, high }
    }

    /// A place where a line is interrupted.
    pub fn gap(x: f64) -> Self {
        Self::new(x, f64::NAN)
    }

    /// True if all its numbers are finite.
    pub fn is_finite(&self) -> bool {
        <[f64; 4]>::from(*self)
            .iter()
            .all(|value| value.is_finite())
    }

    /// `0.5 [0.4, 0.6]`.
    fn to_text(self) -> String {
        let y = number(self.y);
        if self.high > self.low {
            format!("{y} [{}, {}]", number(self.low), number(self.high))
        } else {
            y
        }
    }
}

impl From<Point> for [f64; 4] {
    fn from(point: Point) -> Self {
        [point.x, point.y, point.low, point.high]
    }
}

/// How a line is told from others, apart from its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stroke {
    /// Without interruption.
    #[default]
    Solid,
    /// In dashes.
    Dashed,
    /// In dots.
    Dotted,
}

/// A line with the band of its intervals.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The page's custom property that has its colour, without the dashes.
    pub colour: String,
    /// How it is drawn.
    pub stroke: Stroke,
    /// True for theory and for levels, whose points are no measurements and are not marked.
    pub is_reference: bool,
    /// Its points, by rising x.
    pub points: Vec<Point>,
}

/// How an axis grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In equal steps.
    #[default]
    Linear,
    /// In doublings.
    Log2,
    /// In powers of ten.
    Log10,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Axis {
    /// What it counts, and in which unit.
    pub label: String,
    /// How it grows.
    pub scale: Scale,
}

impl Axis {
    /// An axis that grows in powers of ten.
    pub fn log10(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Log10,
        }
    }
}

impl From<&str> for Axis {
    fn from(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
        }
    }
}

/// A named stretch of the x axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// Its name beside the position under the pointer.
    pub name: String,
    /// The page's custom property that has its colour; none where it is not shaded.
    pub colour: Option<&'static str>,
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
}

/// A chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// Title.
    pub title: String,
    /// What a reader has to know to read it right.
    pub note: String,
    /// What runs to the right.
    pub x: Axis,
    /// What runs upwards.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Stretches behind the lines.
    pub spans: Vec<Span>,
    /// A point to mark, such as an optimum.
    pub mark: Option<(f64, f64)>,
}

impl Figure {
    /// The figure with its caption, its data and the table of its values; nothing where there are
    /// fewer than two points.
    pub fn html(&self) -> String {
        let points = self.series.iter().flat_map(|series| &series.points);
        if points.filter(|point| point.is_finite()).count() < 2 {
            return String::new();
        }
        format!(
            "<figure class=\"plot\">{}<script type=\"application/json\" class=\"chart\">{}\
             </script><details><summary>values</summary>{}</details></figure>",
            caption(&self.title, &self.note),
            embedded(self),
            self.values()
        )
    }

    fn values(&self) -> String {
        let [x, y] = [&self.x, &self.y].map(|axis| axis.label.clone());
        let mut cells = vec![vec![String::new(), x, y]];
        for series in &self.series {
            let row = |point: &Point| vec![series.name.clone(), number(point.x), point.to_text()];
            let is_said = |point: &&Point| !point.y.is_nan();
            cells.extend(series.points.iter().filter(is_said).map(row));
        }
        table(&cells)
    }
}

/// The caption of a figure.
pub fn caption(title: &str, note: &str) -> String {
    let (title, mut note) = (escape(title), escape(note));
    if !note.is_empty() {
        note = format!("<small>{note}</small>");
    }
    format!("<figcaption>{title}{note}</figcaption>")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn figure(points: Vec<Point>) -> Figure {
        Figure {
            title: "pass@1 < 1".to_owned(),
            x: "update".into(),
            y: Axis::log10("%"),
            series: vec![Series {
                name: "</script>".to_owned(),
                colour: "ra3".to_owned(),
                stroke: Stroke::Dashed,
                is_reference: false,
                points,
            }],
            ..Figure::default()
        }
    }

    fn data(html: &str) -> Value {
        let (_, rest) = html.split_once("class=\"chart\">").expect("a chart");
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn a_figure_is_its_data_and_a_table_of_them() {
        let interval = Point {
            low: 2.5,
            high: 3.5,
            ..Point::new(2.0, 3.0)
        };
        let html = figure(vec![Point::new(0.0, 1.0), Point::gap(1.0), interval]).html();
        let expected = json!({
            "title": "pass@1 < 1",
            "note": "",
            "x": { "label": "update", "scale": "linear" },
            "y": { "label": "%", "scale": "log10" },
            "series": [{
                "name": "</script>",
                "colour": "ra3",
                "stroke": "dashed",
                "is_reference": false,
                "points": [
                    [0.0, 1.0, 1.0, 1.0],
                    [1.0, null, null, null],
                    [2.0, 3.0, 2.5, 3.5],
                ],
            }],
            "spans": [],
            "mark": null,
        });
        assert_eq!(data(&html), expected);
        assert!(
            html.contains("<td>2</td><td>3 [2.500, 3.500]</td>"),
            "{html}"
        );
        assert!(
            html.contains("pass@1 &lt; 1") && !html.contains("NaN"),
            "{html}"
        );
        assert_eq!(html.matches("</script>").count(), 1);
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        assert!(figure(vec![]).html().is_empty());
        assert!(figure(vec![Point::new(0.0, 1.0)]).html().is_empty());
        let broken = vec![Point::gap(0.0), Point::new(1.0, f64::INFINITY)];
        assert!(figure(broken).html().is_empty());
    }

    proptest! {
        #[test]
        fn every_number_arrives_or_is_a_gap(
            drawn in prop::collection::vec(any::<[u64; 4]>(), 0..9),
        ) {
            let point = |bits: &[u64; 4]| {
                let [x, y, low, high] = bits.map(f64::from_bits);
                Point { x, y, low, high }
            };
            let ends = [Point::new(0.0, 1.0), Point::new(1.0, 2.0)];
            let points: Vec<Point> = drawn.iter().map(point).chain(ends).collect();
            let data = data(&figure(points.clone()).html());
            let found = data["series"][0]["points"].as_array().unwrap();
            prop_assert_eq!(found.len(), points.len());
            for (found, point) in found.iter().zip(points) {
                let found: Vec<Option<f64>> =
                    found.as_array().unwrap().iter().map(Value::as_f64).collect();
                let expected = <[f64; 4]>::from(point);
                prop_assert_eq!(found, expected.map(|v| v.is_finite().then_some(v)));
            }
        }
    }
}
