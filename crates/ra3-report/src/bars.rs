//! Bars as a table: a row for each bar with its name, its length, its whisker where there is an
//! interval, and its value. The page's style draws them; no script is needed.

use std::fmt::Write;

use ra3_page::{caption, duration, escape, grouped};

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// Its name in its group; empty for a bar that its group names.
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
    /// Shares in percent, of 100.
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

impl Chart<'_> {
    /// The chart; nothing where no bar has a length.
    pub(super) fn html(&self) -> String {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let finite = bars.map(|bar| bar.value).filter(|value| value.is_finite());
        let Some(highest) = finite.reduce(f64::max) else {
            return String::new();
        };
        let full = match self.unit {
            Unit::Percent => 100.0,
            Unit::Count | Unit::Seconds => highest,
        };
        let rows: String = self.groups.iter().map(|g| self.group(g, full)).collect();
        format!(
            "<figure class=\"plot\">{}<table class=\"bars\">{rows}</table></figure>",
            caption(self.title, self.note)
        )
    }

    fn group(&self, group: &Group, full: f64) -> String {
        let mut rows = String::from("<tbody>");
        for (i, bar) in group.bars.iter().enumerate() {
            rows.push_str("<tr>");
            if i == 0 {
                let (n_rows, name) = (group.bars.len(), escape(&group.name));
                let _ = write!(
                    rows,
                    "<th scope=\"rowgroup\" rowspan=\"{n_rows}\">{name}</th>"
                );
            }
            rows.push_str(&self.bar(bar, full));
            rows.push_str("</tr>");
        }
        rows + "</tbody>"
    }

    fn bar(&self, bar: &Bar, full: f64) -> String {
        let (name, class) = (escape(&bar.name), escape(&bar.class));
        let mut value = self.unit.text(bar.value);
        let mut drawn = String::new();
        if bar.value.is_finite() {
            let _ = write!(
                drawn,
                "<i class=\"bar {class}\" style=\"width:{:.2}%\"></i>",
                percent_of(full, bar.value)
            );
        }
        if let Some((low, high)) = bar.interval {
            let _ = write!(
                value,
                " [{}, {}]",
                self.unit.text(low),
                self.unit.text(high)
            );
            if low.is_finite() && low <= high && high.is_finite() {
                let (from, to) = (percent_of(full, low), percent_of(full, high));
                let _ = write!(
                    drawn,
                    "<i class=\"whisker\" style=\"left:{from:.2}%;width:{:.2}%\"></i>",
                    to - from
                );
            }
        }
        format!("<td>{name}</td><td class=\"track\">{drawn}</td><td>{value}</td>")
    }
}

/// The share of the longest possible bar; within it, whatever a broken record says.
fn percent_of(full: f64, value: f64) -> f64 {
    if full > 0.0 {
        100.0 * (value / full).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name of a group, its one value and that value's interval.
    type Single = (&'static str, f64, Option<(f64, f64)>);

    fn chart(unit: Unit, bars: &[Single]) -> Chart<'static> {
        let group = |(name, value, interval): &Single| Group {
            name: (*name).to_owned(),
            bars: vec![Bar {
                name: "RA3".to_owned(),
                class: "ra3".to_owned(),
                value: *value,
                interval: *interval,
            }],
        };
        Chart {
            title: "pass@1",
            note: "",
            unit,
            groups: bars.iter().map(group).collect(),
        }
    }

    #[test]
    fn bars_have_the_length_of_their_values() {
        let bars = [("order", 50.0, None), ("days", 25.0, Some((20.0, 30.0)))];
        let html = chart(Unit::Percent, &bars).html();
        for part in [
            "\"bar ra3\" style=\"width:50.00%\"></i></td><td>50.0</td>",
            "\"bar ra3\" style=\"width:25.00%\"",
            "\"whisker\" style=\"left:20.00%;width:10.00%\"></i></td><td>25.0 [20.0, 30.0]</td>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        // Counts have no end but the highest.
        let html = chart(Unit::Count, &[("a", 3.0, None), ("b", 12.0, None)]).html();
        assert!(html.contains("width:25.00%") && html.contains("width:100.00%"));
    }

    #[test]
    fn hostile_names_and_broken_values_are_tamed() {
        let html = chart(Unit::Percent, &[("<b>a", 1e300, Some((f64::NAN, 1.0)))]).html();
        assert!(!html.contains("<b>") && !html.contains("whisker"), "{html}");
        assert!(html.contains("width:100.00%"), "{html}");
        let none = chart(Unit::Count, &[("a", 0.0, None)]).html();
        assert!(none.contains("width:0.00%"), "{none}");
        assert!(
            chart(Unit::Percent, &[("a", f64::NAN, None)])
                .html()
                .is_empty()
        );
        assert!(chart(Unit::Percent, &[]).html().is_empty());
    }
}
