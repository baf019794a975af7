//! Bars as SVG: groups of horizontal bars with their values, and whiskers where there is an
//! interval.

use std::fmt::Write;

use super::axis::{Axis, duration, grouped, range};
use super::html::escape;
use super::plot::{Swatch, WIDTH, legend, opening};

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// Its name in the legend; empty for a bar that its group names.
    pub(super) name: String,
    /// Class that the page colours.
    pub(super) class: String,
    pub(super) value: f64,
    /// Ends of the whisker.
    pub(super) interval: Option<(f64, f64)>,
}

/// Bars under one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Shares in percent, on an axis from 0 to 100.
    Percent,
    /// Whole numbers.
    Count,
    /// Durations.
    Seconds,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{value:.1}"),
            Self::Count => grouped(value as u64),
            Self::Seconds => duration(value),
        }
    }
}

/// Bars with their caption.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What a reader has to know to read it right.
    pub(super) note: &'a str,
    pub(super) unit: Unit,
    pub(super) groups: Vec<Group>,
}

const LEFT: f64 = 150.0;
const RIGHT: f64 = 74.0;
const TOP: f64 = 8.0;
const BAR: f64 = 13.0;
const GAP: f64 = 2.0;
const GROUP_GAP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// Letters of a name that fit beside its bars.
const NAME_LETTERS_MAX: usize = 21;

impl Chart<'_> {
    /// The chart; nothing where there is no bar.
    pub(super) fn svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let ends = bars().flat_map(|bar| [bar.value, bar.interval.map_or(0.0, |(_, high)| high)]);
        let Some((_, high)) = range(ends) else {
            return String::new();
        };
        let axis = match self.unit {
            Unit::Percent => Axis::rounded((0.0, 100.0)),
            Unit::Count | Unit::Seconds => Axis::rounded((0.0, high)),
        };
        let heights = self
            .groups
            .iter()
            .map(|group| group_height(group) + GROUP_GAP);
        let floor = TOP + heights.sum::<f64>();
        let mut svg = opening(self.title, self.note, floor + BOTTOM);
        if self.unit != Unit::Seconds {
            self.ticks(&mut svg, &axis, floor);
        }
        let mut top = TOP;
        for group in &self.groups {
            self.group(&mut svg, &axis, group, top);
            top += group_height(group) + GROUP_GAP;
        }
        svg.push_str("</svg>");
        let mut names: Vec<(&str, &str)> = Vec::new();
        for bar in bars() {
            let entry = (bar.name.as_str(), bar.class.as_str());
            if !names.contains(&entry) {
                names.push(entry);
            }
        }
        svg.push_str(&legend(Swatch::Bar, &names));
        svg.push_str("</figure>");
        svg
    }

    fn ticks(&self, svg: &mut String, axis: &Axis, floor: f64) {
        for (value, label) in &axis.ticks {
            let at = px(axis, *value);
            let percent = if self.unit == Unit::Percent { " %" } else { "" };
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{floor:.1}\"/>\
                 <text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}{percent}</text>",
                floor + 16.0,
            );
        }
    }

    fn group(&self, svg: &mut String, axis: &Axis, group: &Group, top: f64) {
        let _ = write!(
            svg,
            "<text class=\"name end\" x=\"{:.1}\" y=\"{:.1}\">{}<title>{}</title></text>",
            LEFT - 10.0,
            top + group_height(group) / 2.0 + 4.0,
            escape(&shortened(&group.name)),
            escape(&group.name),
        );
        for (i, bar) in group.bars.iter().enumerate() {
            self.bar(svg, axis, bar, &group.name, top + i as f64 * (BAR + GAP));
        }
    }

    fn bar(&self, svg: &mut String, axis: &Axis, bar: &Bar, group: &str, top: f64) {
        if !bar.value.is_finite() {
            return;
        }
        let (from, to) = (px(axis, 0.0), px(axis, bar.value));
        let value = self.unit.text(bar.value);
        let whisker = bar.interval.map_or_else(String::new, |(low, high)| {
            format!(" [{}, {}]", self.unit.text(low), self.unit.text(high))
        });
        let _ = write!(
            svg,
            "<rect class=\"bar {}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"{BAR}\" rx=\"2\"><title>{}: {value}{whisker}</title></rect>",
            bar.class,
            (to - from).max(0.5),
            escape(format!("{group} {}", bar.name).trim()),
        );
        let middle = top + BAR / 2.0;
        let mut end = to;
        let is_drawn = |(low, high): &(f64, f64)| low.is_finite() && high.is_finite();
        if let Some((low, high)) = bar.interval.filter(is_drawn) {
            let (from, to) = (px(axis, low), px(axis, high));
            let _ = write!(
                svg,
                "<path class=\"whisker\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} \
                 {:.1}v6M{to:.1} {:.1}v6\"/>",
                middle - 3.0,
                middle - 3.0,
            );
            end = end.max(to);
        }
        let _ = write!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
            end + 5.0,
            middle + 3.5,
        );
    }
}

fn group_height(group: &Group) -> f64 {
    group.bars.len() as f64 * (BAR + GAP) - GAP
}

fn px(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS_MAX {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME_LETTERS_MAX - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(groups: Vec<Group>) -> Chart<'static> {
        Chart {
            title: "pass@1",
            note: "",
            unit: Unit::Percent,
            groups,
        }
    }

    fn group(name: &str, value: f64, interval: Option<(f64, f64)>) -> Group {
        let bar = Bar {
            name: "RA3".to_owned(),
            class: "ra3".to_owned(),
            value,
            interval,
        };
        Group {
            name: name.to_owned(),
            bars: vec![bar],
        }
    }

    #[test]
    fn bars_have_the_length_of_their_values() {
        let groups = vec![
            group("order", 50.0, None),
            group("days", 25.0, Some((20.0, 30.0))),
        ];
        let svg = chart(groups).svg();
        // 560 less the margins is 336.
        assert!(
            svg.contains("width=\"168.0\"") && svg.contains("width=\"84.0\""),
            "{svg}"
        );
        assert_eq!(svg.matches("class=\"whisker\"").count(), 1);
        assert!(svg.contains("days RA3: 25.0 [20.0, 30.0]"), "{svg}");
        assert_eq!(svg.matches("<li>").count(), 1, "one name, one entry");
    }

    #[test]
    fn long_and_hostile_names_are_tamed() {
        let svg = chart(vec![group("<b>a rather long family name", 1.0, None)]).svg();
        assert!(!svg.contains("<b>"), "{svg}");
        assert!(svg.contains('…'));
    }

    #[test]
    fn no_bars_is_no_chart() {
        assert!(chart(vec![]).svg().is_empty());
    }
}
