//! Python values as the generator sees them, printed as Python literals.
//!
//! Only what the testbed's functions take and return. Integers stay far inside 64 bits, so
//! Python's unbounded integers and ours agree.

use std::fmt;

use crate::draw::Draw;

/// What a function of the testbed takes or gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Int(i64),
    Flag(bool),
    Text(String),
    Numbers(Vec<i64>),
    Table(Vec<(String, i64)>),
}

/// The kinds of argument that programs are written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    Numbers,
    Text,
    Table,
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(out, "{value}"),
            Self::Flag(value) => out.write_str(if *value { "True" } else { "False" }),
            Self::Text(text) => out.write_str(&quoted(text)),
            Self::Numbers(values) => write!(out, "[{}]", joined(values.iter())),
            Self::Table(entries) => {
                let items = entries.iter().map(|(k, v)| format!("{}: {v}", quoted(k)));
                write!(out, "{{{}}}", joined(items))
            }
        }
    }
}

/// The texts drawn here hold neither quotes nor backslashes.
pub(crate) fn quoted(text: &str) -> String {
    assert!(
        !text.contains(['\'', '\\', '\n']),
        "a text that needs escapes: {text}"
    );
    format!("'{text}'")
}

fn joined<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Inputs for one problem: the empty value first, then drawn ones.
pub(crate) fn draw_inputs(domain: Domain, draw: &mut Draw) -> Vec<Value> {
    const WORDS: [&str; 8] = [
        "apple", "Banana", "cat", "Dog", "echo", "Fig", "garage", "hot",
    ];
    match domain {
        Domain::Numbers => {
            let mut inputs = vec![Value::Numbers(Vec::new())];
            for n in [1, 4, 6, 8] {
                inputs.push(Value::Numbers(
                    (0..n).map(|_| draw.between(-4, 12)).collect(),
                ));
            }
            inputs
        }
        Domain::Text => {
            let mut inputs = vec![Value::Text(String::new())];
            for n in [1, 2, 3, 4] {
                let words: Vec<&str> = (0..n).map(|_| draw.pick(&WORDS)).collect();
                inputs.push(Value::Text(words.join(" ")));
            }
            inputs
        }
        Domain::Table => {
            let mut inputs = vec![Value::Table(Vec::new())];
            for n in [1, 3, 5, 6] {
                let keys = draw.sample(&["a", "b", "c", "d", "e", "f", "g"], n);
                let entry = |key: &str| (key.to_owned(), draw.between(-4, 12));
                inputs.push(Value::Table(keys.into_iter().map(entry).collect()));
            }
            inputs
        }
    }
}

/// An input on which an operation with another digit as its constant gives another result: every
/// digit occurs, and `constant` once more often than the rest.
pub(crate) fn probe(domain: Domain, constant: i64, draw: &mut Draw) -> Value {
    let mut left: Vec<i64> = (0..=10).chain([constant]).collect();
    let numbers: Vec<i64> = (0..12)
        .map(|_| left.swap_remove(draw.below(left.len())))
        .collect();
    match domain {
        Domain::Numbers => Value::Numbers(numbers),
        Domain::Text => Value::Text("Grand apple tart".to_owned()),
        Domain::Table => {
            let keys = ('a'..='l').map(String::from);
            Value::Table(keys.zip(numbers).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_python_literals() {
        let table = Value::Table(vec![("a".into(), 1), ("b".into(), -2)]);
        let cases = [
            (Value::Int(-3), "-3"),
            (Value::Flag(true), "True"),
            (Value::Text("a b".into()), "'a b'"),
            (Value::Numbers(vec![1, 2]), "[1, 2]"),
            (table, "{'a': 1, 'b': -2}"),
        ];
        for (value, literal) in cases {
            assert_eq!(value.to_string(), literal);
        }
    }
}
