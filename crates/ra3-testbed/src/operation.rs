//! The table of operations that programs are composed of: how each is said, written and computed.
//!
//! In `code`, `_` stands for the value worked on, `#` for the operation's constant; element-wise
//! code is an expression in `x` (list elements) or `v` (dictionary values). Computing an operation
//! here and running its code in Python are two independent routes to the same answer; a test
//! compares them.

use crate::value::{Domain, Value};

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its name in compositions.
    pub(crate) name: &'static str,
    /// Ways to ask for it; `#` is the constant.
    pub(crate) commands: &'static [&'static str],
    /// The command as a noun ("sorting"), for descriptions that reorder steps; `#` as above.
    pub(crate) gerund: &'static str,
    /// The least and the greatest constant, for operations that take one.
    pub(crate) constants: Option<(i64, i64)>,
    pub(crate) action: Action,
}

/// How an operation is written and computed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// A new list, element by element.
    Each(&'static str, fn(i64, i64) -> i64),
    /// The elements that pass.
    Keep(&'static str, fn(i64, i64) -> bool),
    /// A list from a whole list.
    Numbers(&'static str, fn(&[i64], i64) -> Vec<i64>),
    /// A number from a list; ends a composition.
    NumbersEnd(&'static str, fn(&[i64], i64) -> i64),
    /// A text from a text.
    Text(&'static str, fn(&str, i64) -> String),
    /// A number from a text; ends a composition.
    TextEnd(&'static str, fn(&str, i64) -> i64),
    /// New values in a dictionary.
    EachValue(&'static str, fn(i64, i64) -> i64),
    /// The entries whose value passes.
    KeepValue(&'static str, fn(i64, i64) -> bool),
    /// A number from the values of a dictionary; ends a composition.
    TableEnd(&'static str, fn(&[i64], i64) -> i64),
}

impl Operation {
    pub(crate) fn domain(&self) -> Domain {
        match self.action {
            Action::Each(..) | Action::Keep(..) | Action::Numbers(..) | Action::NumbersEnd(..) => {
                Domain::Numbers
            }
            Action::Text(..) | Action::TextEnd(..) => Domain::Text,
            Action::EachValue(..) | Action::KeepValue(..) | Action::TableEnd(..) => Domain::Table,
        }
    }

    /// Whether nothing can be composed after it.
    pub(crate) fn ends(&self) -> bool {
        matches!(
            self.action,
            Action::NumbersEnd(..) | Action::TextEnd(..) | Action::TableEnd(..)
        )
    }

    /// The operation as one Python expression over `source`.
    pub(crate) fn expression(&self, source: &str, constant: &str) -> String {
        let fill = |code: &str| code.replace('#', constant).replace('_', source);
        match self.action {
            Action::Each(code, _) => format!("[{} for x in {source}]", fill(code)),
            Action::Keep(code, _) => format!("[x for x in {source} if {}]", fill(code)),
            Action::EachValue(code, _) => {
                format!("{{k: {} for k, v in {source}.items()}}", fill(code))
            }
            Action::KeepValue(code, _) => {
                format!("{{k: v for k, v in {source}.items() if {}}}", fill(code))
            }
            Action::Numbers(code, _)
            | Action::NumbersEnd(code, _)
            | Action::Text(code, _)
            | Action::TextEnd(code, _)
            | Action::TableEnd(code, _) => fill(code),
        }
    }

    /// What the operation makes of a value of its domain.
    pub(crate) fn apply(&self, value: &Value, constant: i64) -> Value {
        match (self.action, value) {
            (Action::Each(_, f), Value::Numbers(xs)) => {
                Value::Numbers(xs.iter().map(|x| f(*x, constant)).collect())
            }
            (Action::Keep(_, f), Value::Numbers(xs)) => {
                Value::Numbers(xs.iter().copied().filter(|x| f(*x, constant)).collect())
            }
            (Action::Numbers(_, f), Value::Numbers(xs)) => Value::Numbers(f(xs, constant)),
            (Action::NumbersEnd(_, f), Value::Numbers(xs)) => Value::Int(f(xs, constant)),
            (Action::Text(_, f), Value::Text(text)) => Value::Text(f(text, constant)),
            (Action::TextEnd(_, f), Value::Text(text)) => Value::Int(f(text, constant)),
            (Action::EachValue(_, f), Value::Table(entries)) => {
                let changed = entries.iter().map(|(k, v)| (k.clone(), f(*v, constant)));
                Value::Table(changed.collect())
            }
            (Action::KeepValue(_, f), Value::Table(entries)) => {
                let kept = entries.iter().filter(|(_, v)| f(*v, constant)).cloned();
                Value::Table(kept.collect())
            }
            (Action::TableEnd(_, f), Value::Table(entries)) => {
                let values: Vec<i64> = entries.iter().map(|(_, v)| *v).collect();
                Value::Int(f(&values, constant))
            }
            (action, value) => unreachable!("{action:?} does not take {value:?}"),
        }
    }
}
