//! A Python value as the driver sends it, and Python's equality between such values.

use serde::{Deserialize, Serialize};

/// A value of exactly a built-in type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "v", rename_all = "snake_case")]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer in decimal.
    Int(String),
    /// A float by `float.hex`, or `nan`, `inf`, `-inf`.
    Float(String),
    /// A string; surrogates are escaped.
    Str(String),
    /// Bytes in hexadecimal.
    Bytes(String),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A set or frozenset, in the order of its items' encodings.
    Set(Vec<Value>),
    /// A dictionary, in insertion order.
    Dict(Vec<(Value, Value)>),
    /// Anything else; equal to nothing.
    Opaque(String),
}

impl Value {
    /// Python's `==`: numbers by value whatever their type, containers of one type by items.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Self::Set(a), Self::Set(b)) => {
                a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| a.equals(b)))
            }
            (Self::Dict(a), Self::Dict(b)) => {
                let holds = |(key, value): &(Self, Self)| {
                    b.iter().any(|(k, v)| key.equals(k) && value.equals(v))
                };
                a.len() == b.len() && a.iter().all(holds)
            }
            (Self::Opaque(_), _) | (_, Self::Opaque(_)) => false,
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => a.equals(&b),
                _ => self == other,
            },
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Bool(value) => Some(Number::Int(u8::from(*value).to_string())),
            Self::Int(digits) => Some(Number::Int(digits.clone())),
            Self::Float(hex) => Some(Number::Float(parse_hex_float(hex)?)),
            _ => None,
        }
    }

    /// As Python would print it, cut at `n_chars_max`.
    pub fn display(&self, n_chars_max: usize) -> String {
        let text = self.repr();
        match text.char_indices().nth(n_chars_max) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    }

    fn repr(&self) -> String {
        let join = |items: &[Self]| items.iter().map(Self::repr).collect::<Vec<_>>().join(", ");
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
            Self::Int(digits) => digits.clone(),
            Self::Float(hex) => parse_hex_float(hex).map_or(hex.clone(), |f| format!("{f:?}")),
            Self::Str(text) => format!("{text:?}"),
            Self::Bytes(hex) => format!("bytes.fromhex({hex:?})"),
            Self::List(items) => format!("[{}]", join(items)),
            Self::Tuple(items) => format!("({})", join(items)),
            Self::Set(items) => format!("{{{}}}", join(items)),
            Self::Dict(items) => {
                let pair = |(k, v): &(Self, Self)| format!("{}: {}", k.repr(), v.repr());
                format!(
                    "{{{}}}",
                    items.iter().map(pair).collect::<Vec<_>>().join(", ")
                )
            }
            Self::Opaque(name) => format!("<{name}>"),
        }
    }
}

enum Number {
    Int(String),
    Float(f64),
}

impl Number {
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Int(a), Self::Float(b)) | (Self::Float(b), Self::Int(a)) => {
                // Exact: the float's integer value in decimal is the integer's text.
                b.fract() == 0.0 && format!("{:.0}", b + 0.0) == *a
            }
        }
    }
}

/// Reads Python's `float.hex`: `-0x1.8p+1`, `0x0.0p+0`, `inf`, `nan`.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (sign, rest) = text
        .strip_prefix('-')
        .map_or((1.0, text), |rest| (-1.0, rest));
    match rest {
        "inf" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = rest.strip_prefix("0x")?.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value = u64::from_str_radix(whole, 16).ok()? as f64;
    let mut scale = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    // Two steps, so that subnormal numbers do not vanish on the way.
    let exponent: i32 = exponent.parse().ok()?;
    Some(sign * value * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> Value {
        Value::Int(value.to_string())
    }

    #[test]
    fn equality_is_pythons() {
        let float = |text: &str| Value::Float(text.to_owned());
        assert!(int(1).equals(&Value::Bool(true)) && int(1).equals(&float("0x1.0000000000000p+0")));
        assert!(int(0).equals(&float("-0x0.0p+0")));
        assert!(!int(1).equals(&float("0x1.8000000000000p+0")));
        assert!(!float("nan").equals(&float("nan")));
        assert!(float("inf").equals(&float("inf")));
        assert!(!Value::List(vec![int(1)]).equals(&Value::Tuple(vec![int(1)])));
        let dict = |pairs: &[(i64, i64)]| {
            Value::Dict(pairs.iter().map(|(k, v)| (int(*k), int(*v))).collect())
        };
        assert!(dict(&[(1, 2), (3, 4)]).equals(&dict(&[(3, 4), (1, 2)])));
        assert!(!dict(&[(1, 2)]).equals(&dict(&[(1, 3)])));
        assert!(!Value::Opaque("A".into()).equals(&Value::Opaque("A".into())));
        assert!(!Value::Str("1".into()).equals(&int(1)));
    }

    #[test]
    fn hex_floats_by_hand() {
        for value in [0.5, -1.5, 0.1, 1e300, 5e-324, 12345.678] {
            // 0.1 = 0x1.999999999999ap-4 and so on, from the bits.
            let bits = f64::to_bits(value);
            let exponent = ((bits >> 52) & 0x7ff) as i32;
            let (lead, power) = if exponent == 0 {
                (0, -1022)
            } else {
                (1, exponent - 1023)
            };
            let sign = if value < 0.0 { "-" } else { "" };
            let text = format!("{sign}0x{lead}.{:013x}p{power:+}", bits & ((1 << 52) - 1));
            assert_eq!(parse_hex_float(&text), Some(value), "{text}");
        }
    }
}
