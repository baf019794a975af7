//! What a key of the run file may be: a range of numbers, a text, a name of a list. The rules of
//! single keys stand in [`super::keys`]; what holds between keys stands in [`crate::plan`].

use std::fmt;

use toml::Value;

use super::RunFile;
use super::explain::without_places;
use super::fault::{Fault, Faults, Origin};
use super::keys::KEYS;

/// A key and what it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Its path from the root, as `--set` takes it; the elements of a list share one.
    pub path: &'static str,
    /// Its values.
    pub allowed: Allowed,
    /// What its number counts.
    pub unit: Option<&'static str>,
    /// Its letter in the paper.
    pub symbol: Option<&'static str>,
}

/// The values of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// A whole number from the first to the second, both included.
    Whole(u64, u64),
    /// A number between two bounds.
    Real(Bound, Bound),
    /// One line that is not blank, of at most so many characters.
    Text(usize),
    /// A path, or a name on the Hub.
    Path,
    /// True or false.
    Flag,
    /// One of these names.
    OneOf(&'static [&'static str]),
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The number itself is allowed.
    Closed(f64),
    /// The number itself is not allowed.
    Open(f64),
}

impl Allowed {
    /// True if the value is of the key's type and in its range.
    pub fn admits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Whole(low, high), Value::Integer(n)) => {
                u64::try_from(*n).is_ok_and(|n| (low..=high).contains(&n))
            }
            (Self::Real(low, high), Value::Float(x)) => {
                let x = as_written(*x);
                low.is_below(x) && high.is_above(x)
            }
            (Self::Real(..), Value::Integer(n)) => self.admits(&Value::Float(*n as f64)),
            (Self::Text(n_max), Value::String(text)) => {
                !text.trim().is_empty()
                    && text.chars().count() <= n_max
                    && !text.contains(|c: char| c.is_control() || turns_text(c))
            }
            (Self::Path, Value::String(text)) => !text.trim().is_empty() && !text.contains('\0'),
            (Self::Flag, Value::Boolean(_)) => true,
            (Self::OneOf(names), Value::String(name)) => names.contains(&name.as_str()),
            (
                Self::Whole(..)
                | Self::Real(..)
                | Self::Text(_)
                | Self::Path
                | Self::Flag
                | Self::OneOf(_),
                _,
            ) => false,
        }
    }
}

/// The number that stood in the file: one of single precision, widened, has other digits.
pub(super) fn as_written(x: f64) -> f64 {
    if f64::from(x as f32) == x {
        (x as f32).to_string().parse().unwrap_or(x)
    } else {
        x
    }
}

/// Letters that change the direction of the text behind them, so that it reads otherwise.
const fn turns_text(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Bound {
    fn is_below(self, x: f64) -> bool {
        match self {
            Self::Closed(bound) => bound <= x,
            Self::Open(bound) => bound < x,
        }
    }

    fn is_above(self, x: f64) -> bool {
        match self {
            Self::Closed(bound) => x <= bound,
            Self::Open(bound) => x < bound,
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::Closed(bound) | Self::Open(bound) => bound,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(low, high) if *high >= i64::MAX as u64 => {
                write!(formatter, "a whole number from {low}")
            }
            Self::Whole(low, high) => write!(formatter, "a whole number from {low} to {high}"),
            Self::Real(low, high) => {
                let (open, close) = (
                    matches!(low, Bound::Open(_)),
                    matches!(high, Bound::Open(_)),
                );
                write!(
                    formatter,
                    "{}{}, {}{}",
                    if open { '(' } else { '[' },
                    low.number(),
                    high.number(),
                    if close { ')' } else { ']' }
                )
            }
            Self::Text(n_max) => write!(formatter, "one line of 1 to {n_max} characters"),
            Self::Path => formatter.write_str("a path"),
            Self::Flag => formatter.write_str("true or false"),
            Self::OneOf(names) => write!(formatter, "one of {}", names.join(", ")),
        }
    }
}

/// Compares every key of a run file with its range.
///
/// # Errors
/// All keys whose values are outside.
pub fn check(file: &RunFile) -> Result<(), Faults> {
    let mut faults = Vec::new();
    for leaf in leaves(file) {
        if let Some(key) = key(&leaf.path)
            && !key.allowed.admits(&leaf.value)
        {
            let (value, allowed) = (shown(&leaf.value), key.allowed);
            faults.push(Fault {
                origin: Origin::Settings,
                message: format!("{} = {value}: allowed is {allowed}", leaf.path),
                key: leaf.path,
            });
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Faults(faults))
    }
}

/// The rule of a key, whose path may have places in lists (`a.b[3].c`).
pub fn key(path: &str) -> Option<&'static Key> {
    let plain = without_places(path);
    KEYS.iter().find(|key| key.path == plain)
}

/// A value that is no table and no list, with its path.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// As `--set` takes it, with places in lists.
    pub path: String,
    /// What stands there.
    pub value: Value,
}

/// All values of a run file in order.
pub fn leaves(file: &RunFile) -> Vec<Leaf> {
    leaves_by(file, &|_, _| None)
}

/// [`leaves`] with some elements of lists under names: `name` takes the key of a list and a value
/// of it.
pub(super) fn leaves_by(file: &RunFile, name: &Naming<'_>) -> Vec<Leaf> {
    let value = Value::try_from(file).expect("a run file is made of TOML's types");
    let mut found = Vec::new();
    collect("", "", &value, name, &mut found);
    found
}

/// What an element of a list is called, by the list's key; nothing where its place has to do.
pub(super) type Naming<'a> = dyn Fn(&str, &Value) -> Option<String> + 'a;

fn collect(path: &str, key: &str, value: &Value, name: &Naming<'_>, into: &mut Vec<Leaf>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{dot}{key}"), key, value, name, into);
            }
        }
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                let path = match name(key, value) {
                    Some(name) => format!("{path}.{name}"),
                    None => format!("{path}[{place}]"),
                };
                collect(&path, "", value, name, into);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => into.push(Leaf {
            path: path.to_owned(),
            value: value.clone(),
        }),
    }
}

/// A value as it was written: a number of single precision with no more digits than it has.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Float(x) => format!("{:?}", as_written(*x)).replace("NaN", "nan"),
        Value::String(_)
        | Value::Integer(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number is compared as it stood in the file, whatever precision it was kept in.
    #[test]
    fn the_ends_of_ranges_are_allowed_where_they_are_said_to_be() {
        let mut n_ends = 0;
        for Key { path, allowed, .. } in KEYS {
            let Allowed::Real(low, high) = *allowed else {
                continue;
            };
            for end in [low, high] {
                let (x, is_allowed) = match end {
                    Bound::Closed(x) => (x, true),
                    Bound::Open(x) => (x, false),
                };
                for kept in [x, f64::from(x as f32)] {
                    assert_eq!(
                        allowed.admits(&Value::Float(kept)),
                        is_allowed,
                        "{path} = {kept}"
                    );
                }
                n_ends += 1;
            }
        }
        assert!(n_ends > 40, "{n_ends}");
    }
}
