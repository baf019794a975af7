//! When an output is right: equality, EvalPlus's oracles for single tasks, and its tolerance.
//!
//! The tolerance is sticky, as there: an expected float raises a tolerance of 0 to 1e-6 for this
//! input and all that follow. Oracles see the arguments as they were before the call.

use ra3_sandbox::value::Value;

use crate::evalplus::all_close::all_close;
use crate::evalplus::arguments::items;
use crate::evalplus::data::{Benchmark, Rules, Task};

/// How a task's outputs are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oracle {
    /// Equal, or within the tolerance.
    Equal,
    /// Any output is right.
    Anything,
    /// Whether there is an output is what counts.
    Something,
    /// Equal as sets.
    Sets,
    /// 0 is right too.
    OrZero,
    /// The pyramid's surface by its perpendicular height is right too.
    OrSurface,
    /// The sum over digits that are padded with zeros is right too.
    OrDigits,
    /// A root of the polynomial.
    Root,
}

impl Oracle {
    pub(crate) fn of(benchmark: Benchmark, rules: Rules, task: &Task) -> Self {
        match (benchmark, task.entry_point.as_str()) {
            (Benchmark::HumanEval, "find_zero") => Self::Root,
            (Benchmark::Mbpp, "are_equivalent") => Self::Anything,
            (Benchmark::Mbpp, "sum_div") => Self::OrZero,
            (Benchmark::Mbpp, "surface_Area") => Self::OrSurface,
            (Benchmark::Mbpp, "digit_distance_nums") => Self::OrDigits,
            (Benchmark::Mbpp, "check_str" | "text_match_three" | "text_starta_endb") => {
                Self::Something
            }
            (
                Benchmark::Mbpp,
                "similar_elements"
                | "find_char_long"
                | "common_in_nested_lists"
                | "extract_singly"
                | "larg_nnum"
                | "intersection_array"
                | "find_dissimilar"
                | "Diff",
            ) if rules == Rules::Current => Self::Sets,
            (Benchmark::HumanEval | Benchmark::Mbpp, _) => Self::Equal,
        }
    }

    /// What is done to a candidate's output before it is sent.
    pub(crate) const fn conversion(self) -> Option<&'static str> {
        match self {
            Self::Anything => Some("lambda value: True"),
            Self::Something => {
                Some("lambda value: value if isinstance(value, bool) else value is not None")
            }
            // A pair, because the tolerance looks at the output itself.
            Self::Sets => Some("lambda value: (set(value), value)"),
            Self::Equal | Self::OrZero | Self::OrSurface | Self::OrDigits | Self::Root => None,
        }
    }

    /// The same for the output of the right program.
    pub(crate) const fn conversion_of_expected(self) -> Option<&'static str> {
        match self {
            Self::Something => Some("lambda value: value is not None"),
            Self::Equal
            | Self::Anything
            | Self::Sets
            | Self::OrZero
            | Self::OrSurface
            | Self::OrDigits
            | Self::Root => self.conversion(),
        }
    }

    /// True if an output that equals the expected one is right, whatever the arguments.
    pub(crate) const fn takes_equality(self) -> bool {
        match self {
            Self::Equal
            | Self::Anything
            | Self::Something
            | Self::OrZero
            | Self::OrSurface
            | Self::OrDigits => true,
            Self::Sets | Self::Root => false,
        }
    }

    /// True if the output is right.
    pub(crate) fn accepts(
        self,
        arguments: &Value,
        out: &Value,
        expected: &Value,
        tolerance: &mut f64,
    ) -> bool {
        let (out, expected, is_equal) = match (self, out, expected) {
            (Self::Sets, Value::Tuple(out), Value::Tuple(expected)) => {
                let ([out_set, out], [expected_set, expected]) =
                    (out.as_slice(), expected.as_slice())
                else {
                    return false;
                };
                (out, expected, out_set.equals(expected_set))
            }
            _ => (out, expected, out.equals(expected)),
        };
        let is_exact = match self {
            Self::Equal | Self::Sets | Self::Something | Self::Anything => is_equal,
            Self::OrZero => is_equal || out.equals(&Value::Int("0".to_owned())),
            Self::OrSurface => is_equal || is_surface(arguments, out, *tolerance) == Some(true),
            Self::OrDigits => is_equal || is_digit_distance(arguments, out) == Some(true),
            Self::Root => return is_root(arguments, out, *tolerance) == Some(true),
        };
        stick(expected, tolerance);
        is_exact || (*tolerance != 0.0 && is_close(out, expected, *tolerance))
    }
}

/// An expected float raises a tolerance of 0, for this input and all that follow.
pub(crate) fn stick(expected: &Value, tolerance: &mut f64) {
    if *tolerance == 0.0 && is_floats(expected) {
        *tolerance = 1e-6;
    }
}

fn is_floats(value: &Value) -> bool {
    match value {
        Value::Float(_) => true,
        Value::List(items) | Value::Tuple(items) => {
            !items.is_empty() && items.iter().all(|item| matches!(item, Value::Float(_)))
        }
        Value::Derived(_, inner) => is_floats(inner),
        _ => false,
    }
}

fn is_close(out: &Value, expected: &Value, tolerance: f64) -> bool {
    let is_one_length = match (out, expected) {
        (Value::List(out), Value::List(expected)) | (Value::Tuple(out), Value::Tuple(expected)) => {
            out.len() == expected.len()
        }
        _ => true,
    };
    kind(out) == kind(expected) && is_one_length && all_close(out, expected, tolerance)
}

/// A name for a value's type.
fn kind(value: &Value) -> &str {
    match value {
        Value::None => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Complex(..) => "complex",
        Value::Str(_) | Value::Surrogates(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Tuple(_) => "tuple",
        Value::Set(_) => "set",
        Value::Dict(_) => "dict",
        Value::Derived(name, _) | Value::Digest(name) | Value::Opaque(name) => name,
    }
}

/// Mbpp/581: base b and perpendicular height h give b² + 2·b·√((b/2)² + h²), rounded.
fn is_surface(arguments: &Value, out: &Value, tolerance: f64) -> Option<bool> {
    let [base, height] = items(arguments)? else {
        return None;
    };
    let (base, height) = (base.as_f64()?, height.as_f64()?);
    let slant = ((base / 2.0).powi(2) + height.powi(2)).sqrt();
    let surface = (base * base + 4.0 * (base * slant) / 2.0).round_ties_even();
    Some((out.as_f64()? - surface).abs() <= tolerance)
}

/// Mbpp/558: the sum of the differences of digits, the shorter number padded with zeros.
fn is_digit_distance(arguments: &Value, out: &Value) -> Option<bool> {
    let [Value::Int(a), Value::Int(b)] = items(arguments)? else {
        return None;
    };
    let width = a.len().max(b.len());
    let digits = |text: &str| -> Option<Vec<u32>> {
        let padded = format!("{text:0>width$}");
        padded.chars().map(|digit| digit.to_digit(10)).collect()
    };
    let distance: u32 = digits(a)?
        .iter()
        .zip(digits(b)?)
        .map(|(a, b)| a.abs_diff(b))
        .sum();
    Some(out.equals(&Value::Int(distance.to_string())))
}

/// HumanEval/32: the polynomial of these coefficients, lowest first, is about 0 at the output.
fn is_root(arguments: &Value, out: &Value, tolerance: f64) -> Option<bool> {
    let [coefficients] = items(arguments)? else {
        return None;
    };
    let x = out.as_f64()?;
    let mut sum = 0.0;
    for (power, coefficient) in items(coefficients)?.iter().enumerate() {
        let term = x.powf(power as f64);
        // `math.pow` raises where a finite number has no finite power.
        if x.is_finite() && !term.is_finite() {
            return None;
        }
        sum += coefficient.as_f64()? * term;
    }
    Some(sum.abs() <= tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn accepts(oracle: Oracle, input: &str, out: &str, expected: &str, tolerance: f64) -> bool {
        let Value::List(arguments) = parse(input).unwrap() else {
            panic!("{input}");
        };
        let (out, expected) = (parse(out).unwrap(), parse(expected).unwrap());
        let mut tolerance = tolerance;
        oracle.accepts(&Value::Tuple(arguments), &out, &expected, &mut tolerance)
    }

    #[test]
    fn oracles_by_hand() {
        assert!(accepts(Oracle::OrZero, "[5]", "0", "7", 0.0));
        assert!(accepts(Oracle::OrZero, "[5]", "7", "7", 0.0));
        assert!(!accepts(Oracle::OrZero, "[5]", "6", "7", 0.0));
        // 3² + 2·3·√(1.5² + 4²) = 9 + 6·4.272 = 34.63
        assert!(accepts(Oracle::OrSurface, "[3, 4]", "35", "33", 0.0));
        assert!(!accepts(Oracle::OrSurface, "[3, 4]", "34", "33", 0.0));
        // 023 and 123: 1 + 0 + 0.
        assert!(accepts(Oracle::OrDigits, "[23, 123]", "1", "9", 0.0));
        assert!(!accepts(Oracle::OrDigits, "[-23, 123]", "1", "9", 0.0));
        // (x − 1)(x − 2) = 2 − 3x + x²
        assert!(accepts(Oracle::Root, "[[2, -3, 1]]", "2.0", "1.0", 1e-4));
        assert!(!accepts(Oracle::Root, "[[2, -3, 1]]", "1.5", "1.0", 1e-4));
        assert!(!accepts(Oracle::Root, "[[2, -3, 1]]", "1e200", "1.0", 1e-4));
        assert!(!accepts(Oracle::Root, "[[2, -3, 1]]", "null", "1.0", 1e-4));
    }

    #[test]
    fn the_tolerance_sticks() {
        let mut tolerance = 0.0;
        let (one, near) = (parse("1").unwrap(), parse("[1, 1.0000001]").unwrap());
        let expected = parse("[1, 1.0]").unwrap();
        let arguments = Value::Tuple(Vec::new());
        let mut accepts = |out: &Value, expected: &Value| {
            Oracle::Equal.accepts(&arguments, out, expected, &mut tolerance)
        };
        assert!(!accepts(&near, &expected));
        assert!(accepts(&one, &Value::float(1.0)));
        assert!(accepts(&near, &expected));
        // An integer is no float, equal or not.
        assert!(!accepts(&parse("2").unwrap(), &Value::float(2.000_000_1)));
    }
}
