//! A Python value as the driver sends it, and Python's equality between such values.

use serde::{Deserialize, Serialize};

use crate::float::{hex_float, parse_hex_float, python_float};
use crate::marshal::{bytes_of, hex_of};

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
    /// Real and imaginary part, each as a float.
    Complex(String, String),
    /// A string.
    Str(String),
    /// A string with lone surrogates: its bytes in hexadecimal, by the codec `surrogatepass`.
    Surrogates(String),
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
    /// A value of a class that inherits its equality from a built-in type: the class's name, and
    /// the value as that type.
    Derived(String, Box<Value>),
    /// What is too large to be sent: the same text for equal values.
    Digest(String),
    /// Anything else; equal to nothing.
    Opaque(String),
}

/// Decimal digits of the longest integer that is well formed: more than a driver sends.
const N_DIGITS_MAX: usize = 50_000;

impl Value {
    /// Python's `==`: numbers by value whatever their type, containers of one type by items.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Derived(a, x), Self::Derived(b, y)) if a == b => derived_equal(a, x, y),
            (Self::Derived(_, x), y) | (y, Self::Derived(_, x)) => x.equals(y),
            // The common cases, which need no conversion.
            (Self::Int(a), Self::Int(b)) | (Self::Str(a), Self::Str(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => same_items(a, b),
            (Self::Set(a), Self::Set(b)) => same_collection(a, b, Self::equals),
            (Self::Dict(a), Self::Dict(b)) => {
                same_collection(a, b, |(k, v), (l, w)| k.equals(l) && v.equals(w))
            }
            (Self::Opaque(_), _) | (_, Self::Opaque(_)) => false,
            _ => match (self.number(), other.number()) {
                (Some((a, i)), Some((b, j))) => a.equals(&b) && i == j,
                _ => self == other,
            },
        }
    }

    /// Real and imaginary part.
    fn number(&self) -> Option<(Number, f64)> {
        match self {
            Self::Bool(value) => Some((Number::Int(u8::from(*value).to_string()), 0.0)),
            Self::Int(digits) => Some((Number::Int(digits.clone()), 0.0)),
            Self::Float(hex) => Some((Number::Float(parse_hex_float(hex)?), 0.0)),
            Self::Complex(real, imaginary) => Some((
                Number::Float(parse_hex_float(real)?),
                parse_hex_float(imaginary)?,
            )),
            _ => None,
        }
    }

    /// True if every text inside is of the form that its type has: what a hostile program sends
    /// in a driver's name may be anything.
    pub fn is_well_formed(&self) -> bool {
        let is_hex = |text: &str| {
            text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let is_float = |text: &str| parse_hex_float(text).is_some();
        match self {
            Self::None | Self::Bool(_) | Self::Str(_) | Self::Digest(_) | Self::Opaque(_) => true,
            Self::Derived(_, value) => value.is_well_formed(),
            Self::Int(digits) => {
                let digits = digits.strip_prefix('-').unwrap_or(digits);
                let is_padded = digits.len() > 1 && digits.starts_with('0');
                let has_length = (1..=N_DIGITS_MAX).contains(&digits.len());
                has_length && !is_padded && digits.bytes().all(|b| b.is_ascii_digit())
            }
            Self::Float(hex) => is_float(hex),
            Self::Complex(real, imaginary) => is_float(real) && is_float(imaginary),
            Self::Bytes(hex) | Self::Surrogates(hex) => is_hex(hex),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                items.iter().all(Self::is_well_formed)
            }
            Self::Dict(pairs) => pairs
                .iter()
                .all(|(key, value)| key.is_well_formed() && value.is_well_formed()),
        }
    }

    /// True if something inside cannot be written as an expression: it is not of a built-in type,
    /// or too large.
    pub fn has_opaque(&self) -> bool {
        match self {
            Self::Opaque(_) | Self::Digest(_) => true,
            Self::Derived(_, value) => value.has_opaque(),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                items.iter().any(Self::has_opaque)
            }
            Self::Dict(pairs) => pairs
                .iter()
                .any(|(key, value)| key.has_opaque() || value.has_opaque()),
            Self::None
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Complex(..)
            | Self::Str(_)
            | Self::Surrogates(_)
            | Self::Bytes(_) => false,
        }
    }

    /// A Python expression for a well-formed value without opaque parts, in one line.
    pub fn to_python(&self) -> String {
        let join = |items: &[Self]| {
            items
                .iter()
                .map(Self::to_python)
                .collect::<Vec<_>>()
                .join(",")
        };
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
            Self::Int(digits) => digits.clone(),
            Self::Float(hex) => python_float(hex),
            Self::Complex(real, imaginary) => {
                format!(
                    "complex({},{})",
                    python_float(real),
                    python_float(imaginary)
                )
            }
            // A JSON string is a Python string.
            Self::Str(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Surrogates(hex) => {
                format!("bytes.fromhex('{hex}').decode('utf-8','surrogatepass')")
            }
            Self::Bytes(hex) => format!("bytes.fromhex('{hex}')"),
            Self::List(items) => format!("[{}]", join(items)),
            Self::Tuple(items) if items.is_empty() => "()".to_owned(),
            Self::Tuple(items) => format!("({},)", join(items)),
            Self::Set(items) => format!("set([{}])", join(items)),
            Self::Dict(pairs) => {
                let pair = |(key, value): &(Self, Self)| {
                    format!("{}:{}", key.to_python(), value.to_python())
                };
                format!(
                    "{{{}}}",
                    pairs.iter().map(pair).collect::<Vec<_>>().join(",")
                )
            }
            Self::Derived(_, value) => value.to_python(),
            Self::Opaque(_) | Self::Digest(_) => unreachable!("it has no expression"),
        }
    }

    /// The items of a list, tuple or set; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => items,
            _ => &[],
        }
    }

    /// A float as [`Self::Float`] has it.
    pub fn float(value: f64) -> Self {
        Self::Float(hex_float(value))
    }

    /// A complex number as [`Self::Complex`] has it.
    pub fn complex(real: f64, imaginary: f64) -> Self {
        Self::Complex(hex_float(real), hex_float(imaginary))
    }

    /// Bytes as [`Self::Bytes`] has them.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(hex_of(bytes))
    }

    /// The bytes of a [`Self::Bytes`] or a [`Self::Surrogates`].
    pub fn as_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(hex) | Self::Surrogates(hex) => Some(bytes_of(hex)),
            _ => None,
        }
    }

    /// Real and imaginary part of any number, rounded.
    pub fn as_complex(&self) -> Option<(f64, f64)> {
        match self {
            Self::Complex(real, imaginary) => {
                Some((parse_hex_float(real)?, parse_hex_float(imaginary)?))
            }
            other => Some((other.as_f64()?, 0.0)),
        }
    }

    /// The number that a [`Self::Float`], an [`Self::Int`] or a [`Self::Bool`] is, rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Int(digits) => digits.parse().ok(),
            Self::Float(hex) => parse_hex_float(hex),
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
            Self::Complex(real, imaginary) => {
                let part = |hex: &String| parse_hex_float(hex).unwrap_or(f64::NAN);
                format!("complex({:?}, {:?})", part(real), part(imaginary))
            }
            Self::Str(text) => format!("{text:?}"),
            Self::Surrogates(hex) => format!("<surrogates {hex}>"),
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
            Self::Derived(name, value) => format!("{}({})", name.escape_debug(), value.repr()),
            Self::Digest(text) => format!("<large {}>", text.escape_debug()),
            Self::Opaque(name) => format!("<{}>", name.escape_debug()),
        }
    }
}

/// Equal in any order: each of one has an equal of its own in the other. Those at the same place
/// are tried first.
fn same_collection<T>(a: &[T], b: &[T], equals: impl Fn(&T, &T) -> bool) -> bool {
    let n = b.len();
    let mut is_taken = vec![false; n];
    let mut take = |(at, item): (usize, &T)| {
        let places = (at..n).chain(0..at.min(n));
        let found = places
            .into_iter()
            .find(|place| !is_taken[*place] && equals(item, &b[*place]));
        found.map(|place| is_taken[place] = true).is_some()
    };
    a.len() == n && a.iter().enumerate().all(&mut take)
}

/// Equal item by item.
fn same_items(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
}

/// Equality of two values of one class, both as their built-in types.
fn derived_equal(class: &str, a: &Value, b: &Value) -> bool {
    match (class, a, b) {
        ("OrderedDict", Value::Dict(a), Value::Dict(b)) => {
            let is_equal =
                |((k, v), (l, w)): (&(Value, Value), &(Value, Value))| k.equals(l) && v.equals(w);
            a.len() == b.len() && a.iter().zip(b).all(is_equal)
        }
        ("Counter", Value::Dict(a), Value::Dict(b)) => {
            // What was counted zero times is as good as missing.
            let zero = Value::Int("0".to_owned());
            let without_zeros = |pairs: &[(Value, Value)]| {
                let counted = pairs.iter().filter(|(_, count)| !count.equals(&zero));
                Value::Dict(counted.cloned().collect())
            };
            without_zeros(a).equals(&without_zeros(b))
        }
        _ => a.equals(b),
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
        let complex = |a: &str, b: &str| Value::Complex(a.to_owned(), b.to_owned());
        assert!(int(1).equals(&complex("0x1p+0", "0x0p+0")));
        assert!(!int(1).equals(&complex("0x1p+0", "0x1p+0")));
        assert!(complex("0x1p+0", "0x1p+0").equals(&complex("0x1.0p+0", "0x1.0p+0")));
    }

    #[test]
    fn derived_values_are_equal_as_their_classes_have_it() {
        let dict = |pairs: &[(i64, i64)]| {
            Value::Dict(pairs.iter().map(|(k, v)| (int(*k), int(*v))).collect())
        };
        let derived =
            |name: &str, pairs: &[(i64, i64)]| Value::Derived(name.into(), dict(pairs).into());
        let (a, b) = ([(1, 2), (3, 4)], [(3, 4), (1, 2)]);
        assert!(derived("Counter", &a).equals(&dict(&b)) && dict(&b).equals(&derived("X", &a)));
        assert!(derived("defaultdict", &a).equals(&derived("defaultdict", &b)));
        assert!(!derived("OrderedDict", &a).equals(&derived("OrderedDict", &b)));
        assert!(derived("Counter", &[(1, 2), (5, 0)]).equals(&derived("Counter", &[(1, 2)])));
        assert!(!derived("Counter", &[(1, 2), (5, 0)]).equals(&dict(&[(1, 2)])));
    }

    #[test]
    fn a_forged_double_does_not_stand_for_what_is_missing() {
        let right = Value::Dict(vec![(int(1), int(2)), (int(3), int(4))]);
        let forged = Value::Dict(vec![(int(1), int(2)), (int(1), int(2))]);
        assert!(!forged.equals(&right) && !right.equals(&forged));
        let right = Value::Set(vec![int(1), int(2)]);
        let forged = Value::Set(vec![int(1), int(1)]);
        assert!(!forged.equals(&right) && !right.equals(&forged));
        assert!(right.equals(&Value::Set(vec![int(2), int(1)])));
    }

    #[test]
    fn to_compare_what_is_nested_takes_no_longer_than_it_is() {
        let nested = |inner: i64| {
            (0..35).fold(int(inner), |value, _| {
                Value::Dict(vec![(int(0), Value::Set(vec![value]))])
            })
        };
        assert!(nested(1).equals(&nested(1)));
        assert!(!nested(1).equals(&nested(2)));
    }

    #[test]
    fn text_that_would_be_code_is_not_well_formed() {
        let text = |text: &str| text.to_owned();
        for good in [
            Value::Int(text("-10")),
            Value::Float(text("-0x1.8p-3")),
            Value::Float(text("nan")),
            Value::Bytes(text("00ff")),
            Value::Str(text("'); print('")),
            Value::Dict(vec![(int(0), Value::None)]),
        ] {
            assert!(good.is_well_formed(), "{good:?}");
        }
        for bad in [
            Value::Int(text("f()")),
            Value::Int(text("")),
            Value::Int(text("-")),
            Value::Int(text("01")),
            Value::Int(text("1_0")),
            Value::Int(text("٣")),
            Value::Float(text("0x1p+0'+'")),
            Value::Float(text("1.5")),
            Value::Complex(text("nan"), text("')")),
            Value::Bytes(text("0")),
            Value::Bytes(text("0g")),
            Value::Surrogates(text("')")),
            Value::List(vec![Value::Tuple(vec![Value::Int(text("f()"))])]),
            Value::Dict(vec![(int(0), Value::Set(vec![Value::Int(text("x"))]))]),
        ] {
            assert!(!bad.is_well_formed(), "{bad:?}");
        }
    }
}
