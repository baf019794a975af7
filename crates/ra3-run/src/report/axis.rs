//! Axes: round ticks, their labels, and where a value lies. Numbers for readers, nothing drawn.

/// What can be told apart on an axis.
const LARGEST: f64 = 1e100;
const SMALLEST: f64 = 1e-100;

/// A range with ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Where the ticks are, and what stands beside them.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A range that ends at ticks: the axis of heights.
    pub(super) fn rounded(range: (f64, f64)) -> Self {
        let (low, high) = widened(range);
        let step = step(high - low);
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        Self {
            low: first as f64 * step,
            high: last as f64 * step,
            ticks: ticks(first, last, step),
        }
    }

    /// A range that ends where the data end, with ticks inside: the axis of progress.
    pub(super) fn tight(range: (f64, f64)) -> Self {
        let (low, high) = widened(range);
        let step = step(high - low);
        // A tick on the border must not be lost to rounding.
        let slack = 1e-9;
        let first = (low / step - slack).ceil() as i64;
        let last = (high / step + slack).floor() as i64;
        Self {
            low,
            high,
            ticks: ticks(first, last, step),
        }
    }

    /// Named places at 0, 1, 2, …
    pub(super) fn named(names: &[String]) -> Self {
        let ticks = names.iter().enumerate();
        Self {
            low: -0.3,
            high: names.len() as f64 - 0.7,
            ticks: ticks.map(|(i, name)| (i as f64, name.clone())).collect(),
        }
    }

    /// The share of the axis below a value: 0 at its low end, 1 at its high end, and never far
    /// outside.
    pub(super) fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(-1.0, 2.0)
    }
}

/// The range of finite values; `None` where there is none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |found, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
}

/// A range in which something can be drawn, also where all values are the same, or so large that
/// their difference is no number.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let [low, high] = [low, high].map(|value| value.clamp(-LARGEST, LARGEST));
    let size = low.abs().max(high.abs());
    if high - low > (1e-9 * size).max(SMALLEST) {
        (low, high)
    } else if size < SMALLEST {
        (0.0, 1.0)
    } else {
        (low - 0.5 * size, high + 0.5 * size)
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that leaves at most six intervals.
fn step(span: f64) -> f64 {
    let rough = span / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|m| m * power);
    let slack = 1.0 - 1e-9;
    steps
        .into_iter()
        .find(|step| *step >= rough * slack)
        .unwrap_or(10.0 * power)
}

fn ticks(first: i64, last: i64, step: f64) -> Vec<(f64, String)> {
    let largest = first.abs().max(last.abs()) as f64 * step;
    let (unit, suffix) = unit(largest);
    let decimals = (-(step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
    (first..=last)
        .map(|i| {
            let value = i as f64 * step;
            let label = if i == 0 {
                "0".to_owned()
            } else {
                format!("{:.decimals$}{suffix}", value / unit)
            };
            (value, label)
        })
        .collect()
}

/// The unit that a number of this size is written in.
fn unit(size: f64) -> (f64, &'static str) {
    match size {
        size if size >= 1e15 => (1e15, "P"),
        size if size >= 1e12 => (1e12, "T"),
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    }
}

/// A number with four digits that count.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() || value.abs() > LARGEST {
        return format!("{value:.3e}");
    }
    let (unit, suffix) = unit(value.abs());
    let scaled = value / unit;
    if scaled.fract() == 0.0 {
        return format!("{scaled:.0}{suffix}");
    }
    let n_whole = scaled.abs().log10().floor().max(-4.0) as i32 + 1;
    let decimals = (4 - n_whole).max(0) as usize;
    format!("{scaled:.decimals$}{suffix}")
}

/// A whole number in groups of three digits.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            // A narrow space that does not break.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Seconds as a reader says them.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..100 => format!("{whole} s"),
        100..6000 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        labels.join(" ")
    }

    #[test]
    fn ticks_are_round() {
        let cases = [
            ((0.13, 0.87), "0 0.2 0.4 0.6 0.8 1.0"),
            ((0.0, 100.0), "0 20 40 60 80 100"),
            ((41.0, 43.0), "41.0 41.5 42.0 42.5 43.0"),
            ((-2.5, 1.0), "-3 -2 -1 0 1"),
            ((0.0, 80_952.0), "0 20k 40k 60k 80k 100k"),
            ((0.0, 1_500_000.0), "0 0.5M 1.0M 1.5M"),
            ((0.3961, 0.4459), "0.39 0.40 0.41 0.42 0.43 0.44 0.45"),
            ((0.0, 6.0), "0 1 2 3 4 5 6"),
        ];
        for (range, expected) in cases {
            assert_eq!(labels(&Axis::rounded(range)), expected, "{range:?}");
        }
        assert_eq!(labels(&Axis::tight((0.0, 899.0))), "0 200 400 600 800");
        assert_eq!(labels(&Axis::tight((7.0, 20.0))), "10 15 20");
    }

    #[test]
    fn every_axis_covers_its_range_with_few_ticks() {
        for low in [-1e6, -3.7, 0.0, 1e-7, 12.0, 4e8] {
            for span in [0.0, 1e-6, 0.3, 17.0, 5e5] {
                let range = (low, low + span);
                let (rounded, tight) = (Axis::rounded(range), Axis::tight(range));
                let n_ticks = rounded.ticks.len();
                assert!((2..=8).contains(&n_ticks), "{range:?}: {n_ticks} ticks");
                assert!(rounded.share(range.0) >= -1e-9 && rounded.share(range.1) <= 1.0 + 1e-9);
                for (value, _) in &tight.ticks {
                    assert!(
                        (-1e-6..=1.0 + 1e-6).contains(&tight.share(*value)),
                        "{range:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_single_value_lies_inside() {
        assert_eq!(Axis::rounded((3.0, 3.0)).share(3.0), 0.5);
        assert_eq!(Axis::tight((0.0, 0.0)).share(0.0), 0.0);
        let named = Axis::named(&["1".to_owned(), "4".to_owned()]);
        assert_eq!(labels(&named), "1 4");
        assert!(named.share(0.0) > 0.0 && named.share(1.0) < 1.0);
    }

    #[test]
    fn ranges_ignore_what_is_not_finite() {
        assert_eq!(range([f64::NAN].into_iter()), None);
        assert_eq!(
            range([2.0, f64::INFINITY, -1.0].into_iter()),
            Some((-1.0, 2.0))
        );
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [12.0, 0.0, 0.4017, 75.17, 0.000_123_4, 80_952.0, 1.2e6].map(number);
        let expected = [
            "12",
            "0",
            "0.4017",
            "75.17",
            "0.0001234",
            "80.95k",
            "1.200M",
        ];
        assert_eq!(numbers, expected);
        assert_eq!(grouped(675_372), "675\u{202f}372");
        assert_eq!(grouped(12), "12");
        let durations = [3.21, 42.4, 192.0, 7260.0].map(duration);
        assert_eq!(durations, ["3.2 s", "42 s", "3 min 12 s", "2 h 01 min"]);
    }
}
