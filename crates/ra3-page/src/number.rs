//! Numbers for readers: short, grouped, and seconds as time.

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
pub fn number(value: f64) -> String {
    if !value.is_finite() || value.abs() > 1e100 {
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
pub fn grouped(value: u64) -> String {
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
pub fn duration(seconds: f64) -> String {
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
