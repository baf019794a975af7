//! Whether what a program printed is what was expected, where no checker says so.
//!
//! LiveCodeBench's comparison (`lcb_runner/evaluation/testing_util.py`): as many lines, and each
//! line equal as text or, token by token, as decimal numbers of exact value. Two things may be
//! eased: numbers up to a tolerance, and the case of letters.

/// What is eased.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Numbers are right up to this, absolutely or relatively; `None` is exactly.
    pub tolerance: Option<f64>,
    /// `Yes` is `YES`.
    pub ignores_case: bool,
}

impl Comparison {
    /// True if the output is right.
    pub fn accepts(self, output: &str, expected: &str) -> bool {
        let (output, expected) = (stripped_lines(output), stripped_lines(expected));
        output.len() == expected.len()
            && output
                .iter()
                .zip(&expected)
                .all(|(output, expected)| self.accepts_line(output, expected))
    }

    fn accepts_line(self, output: &str, expected: &str) -> bool {
        if output == expected || (self.ignores_case && is_same_word(output, expected)) {
            return true;
        }
        let (outputs, expecteds) = (tokens(output), tokens(expected));
        outputs.len() == expecteds.len()
            && outputs
                .iter()
                .zip(&expecteds)
                .all(|(output, expected)| self.accepts_token(output, expected))
    }

    fn accepts_token(self, output: &str, expected: &str) -> bool {
        if self.ignores_case && is_same_word(output, expected) {
            return true;
        }
        // All tokens of both lines must be numbers, but for the tolerant comparisons.
        let is_eased = self.tolerance.is_some() || self.ignores_case;
        if is_eased && output == expected {
            return true;
        }
        let exact = match (Decimal::parse(output), Decimal::parse(expected)) {
            (Some(output), Some(expected)) => output.equals(&expected),
            _ => return false,
        };
        exact
            || self.tolerance.is_some_and(|tolerance| {
                let numbers = (output.parse::<f64>(), expected.parse::<f64>());
                matches!(numbers, (Ok(a), Ok(b)) if a.is_finite() && b.is_finite()
                    && (a - b).abs() <= tolerance * b.abs().max(1.0))
            })
    }
}

fn is_same_word(output: &str, expected: &str) -> bool {
    output.eq_ignore_ascii_case(expected)
}

/// What Python's `str.strip` and `str.split` take for white space.
fn is_space(character: char) -> bool {
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

    /// As `==` has it: what is not a number is equal to nothing.
    fn equals(&self, other: &Self) -> bool {
        *self != Self::NotANumber && self == other
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
            let found = Comparison::default().accepts(output, expected);
            assert_eq!(found, is_right, "{output:?} for {expected:?}");
        }
    }

    #[test]
    fn what_is_eased_is_eased() {
        let tolerant = Comparison {
            tolerance: Some(1e-6),
            ignores_case: false,
        };
        assert!(tolerant.accepts("0.3333334", "0.3333333333"));
        assert!(tolerant.accepts("1000000.5", "1000000"));
        assert!(!tolerant.accepts("0.33334", "0.3333333333"));
        assert!(tolerant.accepts("case 1.0000001", "case 1"));
        assert!(!tolerant.accepts("nan", "1"));
        assert!(!tolerant.accepts("YES", "yes"));
        let loose = Comparison {
            tolerance: None,
            ignores_case: true,
        };
        assert!(loose.accepts("yEs\nno 3", "YES\nNO 3.0"));
        assert!(!loose.accepts("yes", "no"));
    }
}
