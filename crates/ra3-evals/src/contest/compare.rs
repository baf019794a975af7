//! Whether what a program printed is what was expected, where no checker says so.
//!
//! LiveCodeBench's comparison (`lcb_runner/evaluation/testing_util.py`): as many lines, and each
//! line equal as text or, token by token, as decimal numbers of exact value. The case of
//! letters may be ignored.

/// True if the output is right; where the case of letters is ignored, `Yes` is `YES`.
pub fn accepts(output: &str, expected: &str, ignores_case: bool) -> bool {
    let (outputs, expecteds) = (stripped_lines(output), stripped_lines(expected));
    let mut lines = outputs.iter().zip(&expecteds);
    outputs.len() == expecteds.len()
        && lines.all(|(output, expected)| accepts_line(output, expected, ignores_case))
}

fn accepts_line(output: &str, expected: &str, ignores_case: bool) -> bool {
    let is_same_word =
        |output: &str, expected: &str| ignores_case && output.eq_ignore_ascii_case(expected);
    if output == expected || is_same_word(output, expected) {
        return true;
    }
    // All tokens of both lines must be numbers, but where the case of letters is ignored.
    let (outputs, expecteds) = (tokens(output), tokens(expected));
    let mut pairs = outputs.iter().zip(&expecteds);
    outputs.len() == expecteds.len()
        && pairs.all(|(output, expected)| {
            is_same_word(output, expected) || is_same_number(output, expected)
        })
}

/// As `==` of two `Decimal`s has it: what is not a number is equal to nothing.
fn is_same_number(output: &str, expected: &str) -> bool {
    let output = Decimal::parse(output).filter(|output| *output != Decimal::NotANumber);
    output.is_some() && output == Decimal::parse(expected)
}

/// What Python's `str.strip` and `str.split` take for white space.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn stripped_lines(text: &str) -> Vec<&str> {
    let lines = text.trim_matches(is_space).split('\n');
    lines.map(|line| line.trim_matches(is_space)).collect()
}

fn tokens(line: &str) -> Vec<&str> {
    let parts = line.split(is_space);
    parts.filter(|part| !part.is_empty()).collect()
}

/// A number as Python's `decimal.Decimal` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decimal {
    /// `0.digits × 10^exponent`, without zeros at either end; zero has no digits, no sign and no
    /// exponent.
    Finite {
        is_negative: bool,
        digits: String,
        exponent: i64,
    },
    Infinite {
        is_negative: bool,
    },
    NotANumber,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        // Underscores may stand anywhere but make no number by themselves.
        let text = text.replace('_', "").to_ascii_lowercase();
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        if rest == "inf" || rest == "infinity" {
            return Some(Self::Infinite { is_negative });
        }
        let payload = rest
            .strip_prefix("snan")
            .or_else(|| rest.strip_prefix("nan"));
        if payload.is_some_and(|payload| payload.bytes().all(|byte| byte.is_ascii_digit())) {
            return Some(Self::NotANumber);
        }
        let (mantissa, exponent) = match rest.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let n_zeros = digits.bytes().take_while(|byte| *byte == b'0').count();
        let significant = digits[n_zeros..].trim_end_matches('0');
        let is_zero = significant.is_empty();
        let point = (whole.len() as i64 - n_zeros as i64).checked_add(exponent)?;
        Some(Self::Finite {
            is_negative: is_negative && !is_zero,
            digits: significant.to_owned(),
            exponent: if is_zero { 0 } else { point },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_by_hand() {
        for (output, expected, is_right) in [
            ("1\n2\n", "1\n2", true),
            ("  1 \n 2\n\n", "1\n2\n", true),
            ("1 2", "1\n2", false),
            ("1\n\n2", "1\n2", false),
            ("a  b", "a b", false),
            ("1  2", "1 2", true),
            ("1.0", "1", true),
            ("1.00e2 -0", "100 0", true),
            ("0.1", "0.10000000000000001", false),
            ("50000000000000000", "50000000000000001", false),
            ("x 1.0", "x 1", false),
            ("YES", "Yes", false),
            ("nan", "nan", true),
            ("nan 1", "nan 1.0", false),
            ("inf", "Infinity", true),
            ("-inf", "inf", false),
            ("1_000", "1000", true),
            ("+5", "5.", true),
            (".5", "0.5", true),
            (".", "0", false),
            ("1e5e", "100000", false),
            ("\u{1c}7\u{1f}", "7", true),
            ("", "", true),
            ("", "0", false),
        ] {
            let found = accepts(output, expected, false);
            assert_eq!(found, is_right, "{output:?} for {expected:?}");
        }
    }

    #[test]
    fn case_may_be_ignored() {
        assert!(accepts("yEs\nno 3", "YES\nNO 3.0", true));
        assert!(!accepts("yes", "no", true));
        assert!(!accepts("YES", "yes", false));
    }
}
