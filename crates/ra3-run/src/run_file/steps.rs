//! Where something stands in a run file: by the names and places on the way there, and by line.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A step on the way from the root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To a key of a table.
    Key(String),
    /// To a place of a list.
    Place(usize),
}

/// The way from the root to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps(pub(super) Vec<Step>);

impl Steps {
    /// A key further.
    pub(super) fn key(&self, name: &str) -> Self {
        self.and(Step::Key(name.to_owned()))
    }

    /// A place further.
    pub(super) fn place(&self, place: usize) -> Self {
        self.and(Step::Place(place))
    }

    /// True if the other is there or further down.
    pub(super) fn is_on_the_way_to(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// True if there is a value in the table.
    pub(super) fn lead_to_something(&self, table: &Table) -> bool {
        let mut steps = self.0.iter();
        let Some(Step::Key(first)) = steps.next() else {
            return true;
        };
        let found = steps.try_fold(table.get(first), |value, step| {
            Some(match step {
                Step::Key(name) => value?.get(name.as_str()),
                Step::Place(place) => value?.get(*place),
            })
        });
        found.flatten().is_some()
    }

    fn and(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) => {
                    let dot = if place == 0 { "" } else { "." };
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !name.is_empty() && name.chars().all(is_plain) {
                        write!(formatter, "{dot}{name}")?;
                    } else {
                        write!(formatter, "{dot}{}", Value::String(name.clone()))?;
                    }
                }
                Step::Place(place) => write!(formatter, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// A text of TOML with the lines of what stands in it.
pub(super) struct Lines<'text> {
    text: &'text str,
    root: Option<Spanned<DeTable<'text>>>,
}

impl<'text> Lines<'text> {
    /// Of a text; of one that is no TOML every line is the first.
    pub(super) fn of(text: &'text str) -> Self {
        Self {
            text,
            root: DeTable::parse(text).ok(),
        }
    }

    /// The line, counted from 1, of a key, or of the nearest table above it that is there.
    pub(super) fn line(&self, steps: &Steps) -> usize {
        let mut at = 0;
        let Some(root) = &self.root else {
            return 1;
        };
        let mut table = Some(root.get_ref());
        let mut list = None;
        for step in &steps.0 {
            let found = match step {
                Step::Key(name) => table
                    .and_then(|table| table.get_key_value(name.as_str()))
                    .map(|(key, value)| (key.span().start, value)),
                Step::Place(place) => list
                    .and_then(|list: &toml::de::DeArray<'_>| list.get(*place))
                    .map(|value| (value.span().start, value)),
            };
            let Some((start, value)) = found else {
                break;
            };
            at = start;
            table = value.get_ref().as_table();
            list = value.get_ref().as_array();
        }
        line_at(self.text, at)
    }

    /// Every value that is no table and no list of tables, with where it stands.
    pub(super) fn values(&self) -> Vec<(Steps, Range<usize>)> {
        let mut found = Vec::new();
        if let Some(root) = &self.root {
            of_table(root.get_ref(), &Steps::default(), &mut found);
        }
        found
    }
}

fn of_table(table: &DeTable<'_>, steps: &Steps, into: &mut Vec<(Steps, Range<usize>)>) {
    for (name, value) in table {
        of_value(value, &steps.key(name.get_ref()), into);
    }
}

fn of_value(value: &Spanned<DeValue<'_>>, steps: &Steps, into: &mut Vec<(Steps, Range<usize>)>) {
    match value.get_ref() {
        DeValue::Table(table) => of_table(table, steps, into),
        DeValue::Array(values) if values.iter().any(|value| value.get_ref().is_table()) => {
            for (place, value) in values.iter().enumerate() {
                of_value(value, &steps.place(place), into);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => into.push((steps.clone(), value.span())),
    }
}

/// The line, counted from 1, of a byte.
pub(super) fn line_at(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    before.split(|byte| *byte == b'\n').count()
}
