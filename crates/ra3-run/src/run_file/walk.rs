//! All faults of a run file's table, found along the shape of run files.

use toml::{Table, Value};

use super::nearest::{is_symbol, nearest};
use super::setting::{own_fields, shape};
use super::shape::{Field, Kind, Shape};
use super::steps::{Step, Steps};
use super::{Allowed, KEYS, Key, OWN, merged, shown};

/// A fault, where it is in the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// The way to the key, be it there or missing.
    pub(super) steps: Steps,
    /// What is wrong and what to do.
    pub(super) message: String,
}

/// Every fault of a run file.
pub(super) fn findings(file: &Table) -> Vec<Finding> {
    let mut walk = Walk {
        file,
        found: Vec::new(),
    };
    walk.table(
        &Steps::default(),
        file,
        &Shape::of_run_file().iter().collect::<Vec<_>>(),
        None,
    );
    walk.own_settings();
    walk.found
}

struct Walk<'file> {
    file: &'file Table,
    found: Vec<Finding>,
}

impl Walk<'_> {
    fn fault(&mut self, steps: Steps, message: impl FnOnce(&Steps) -> String) {
        let message = message(&steps);
        self.found.push(Finding { steps, message });
    }

    /// `kinds`: of a table with a kind, which it is and which there are.
    fn table(
        &mut self,
        at: &Steps,
        table: &Table,
        fields: &[&Field],
        kinds: Option<(&str, &[Kind])>,
    ) {
        for (name, value) in table {
            let steps = at.key(name);
            match fields.iter().find(|field| field.name == *name) {
                Some(field) => self.value(&steps, value, &field.shape),
                None if kinds.is_some() && name == "kind" => {}
                None => self.unknown(steps, name, fields, kinds),
            }
        }
        for field in fields.iter().filter(|field| field.is_required) {
            if !table.contains_key(&field.name) {
                let wanted = wanted(&field.shape, &section(&at.key(&field.name)));
                self.fault(at.key(&field.name), |steps| {
                    format!("{steps} is missing: it is {wanted}")
                });
            }
        }
    }

    fn value(&mut self, at: &Steps, value: &Value, shape: &Shape) {
        match (shape, value) {
            (Shape::Leaf(key, _), _) => self.leaf(at, value, key),
            (Shape::Table(fields), Value::Table(table)) => {
                self.table(at, table, &fields.iter().collect::<Vec<_>>(), None);
            }
            (Shape::Kinds(key, kinds), Value::Table(table)) => self.kinds(at, table, key, kinds),
            (Shape::OneOf(fields), Value::Table(table)) => {
                self.table(at, table, &fields.iter().collect::<Vec<_>>(), None);
                let is_known = |name: &&String| fields.iter().any(|field| field.name == **name);
                let n_known = table.keys().filter(is_known).count();
                if n_known > 1 || table.is_empty() {
                    let wanted = wanted(shape, "");
                    self.fault(at.clone(), |steps| {
                        format!("{steps} has {n_known} keys: it is {wanted}")
                    });
                }
            }
            (Shape::List(of), Value::Array(values)) => {
                for (place, value) in values.iter().enumerate() {
                    self.value(&at.place(place), value, of);
                }
            }
            (Shape::Own, Value::Table(_)) => {}
            (Shape::Varied, Value::Table(table)) => self.varied(at, table),
            (
                Shape::Table(_)
                | Shape::Kinds(..)
                | Shape::OneOf(_)
                | Shape::List(_)
                | Shape::Own
                | Shape::Varied,
                _,
            ) => {
                let (is, wanted) = (what(value), wanted(shape, &section(at)));
                self.fault(at.clone(), |steps| format!("{steps} {is}: it is {wanted}"));
            }
        }
    }

    fn leaf(&mut self, at: &Steps, value: &Value, key: &Key) {
        if key.allowed.admits(value) {
            return;
        }
        let meant = match (key.allowed, value) {
            (Allowed::OneOf(names), Value::String(name)) => nearest(name, names.iter().copied()),
            _ => None,
        };
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
        let (is, allowed) = (what(value), key.allowed);
        self.fault(at.clone(), |steps| {
            format!("{steps} {is}: allowed is {allowed}{meant}")
        });
    }

    fn kinds(&mut self, at: &Steps, table: &Table, key: &Key, kinds: &[Kind]) {
        let kind = table.get("kind");
        if kind.is_none() {
            let allowed = key.allowed;
            self.fault(at.key("kind"), |steps| {
                format!("{steps} is missing: it is {allowed}")
            });
        }
        let known =
            kind.and_then(|name| kinds.iter().find(|kind| name.as_str() == Some(&kind.name)));
        if let Some(known) = known {
            let fields: Vec<&Field> = known.fields.iter().collect();
            self.table(at, table, &fields, Some((&known.name, kinds)));
            return;
        }
        if let Some(kind) = kind {
            self.leaf(&at.key("kind"), kind, key);
        }
        // What must be there is not known; what may be there is a key of some kind.
        let optional = |field: &Field| Field {
            is_required: false,
            ..field.clone()
        };
        let fields: Vec<Field> = kinds
            .iter()
            .flat_map(|kind| &kind.fields)
            .map(optional)
            .collect();
        self.table(
            at,
            table,
            &fields.iter().collect::<Vec<_>>(),
            Some(("", kinds)),
        );
    }

    fn unknown(
        &mut self,
        steps: Steps,
        name: &str,
        fields: &[&Field],
        kinds: Option<(&str, &[Kind])>,
    ) {
        let (kind, kinds) = kinds.unwrap_or_default();
        let has_it = |kind: &&Kind| kind.fields.iter().any(|field| field.name == name);
        let of: Vec<String> = kinds
            .iter()
            .filter(has_it)
            .map(|kind| format!("{:?}", kind.name))
            .collect();
        if !of.is_empty() {
            self.fault(steps, |steps| {
                format!(
                    "{steps}: kind = {kind:?} has no such key, as kind = {} has: take out one or \
                     the other",
                    of.join(" or ")
                )
            });
            return;
        }
        let hint = hint(name, &steps, fields);
        self.fault(steps, |steps| {
            format!("{steps}: there is no such key: {hint}")
        });
    }

    /// What an arm has otherwise, with the file's settings under it.
    fn own_settings(&mut self) {
        let arms = self.file.get("arms").and_then(Value::as_array);
        let known = own_fields();
        let of_file: Vec<Steps> = self
            .found
            .iter()
            .map(|finding| finding.steps.clone())
            .collect();
        for (place, arm) in arms.into_iter().flatten().enumerate() {
            let Some(set) = arm.get("set").and_then(Value::as_table) else {
                continue;
            };
            let at = Steps::default().key("arms").place(place).key("set");
            let is_own = |name: &&String| OWN.contains(&name.as_str());
            for name in set.keys().filter(|name| !is_own(name)) {
                self.fault(at.key(name), |steps| {
                    format!(
                        "{steps}: an arm has keys of {} of its own, and no others",
                        OWN.join(", ")
                    )
                });
            }
            let own = |table: &Table| -> Table {
                let own = table.iter().filter(|(name, _)| is_own(name));
                own.map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            };
            let mut walk = Walk {
                file: self.file,
                found: Vec::new(),
            };
            walk.table(
                &Steps::default(),
                &merged(&own(self.file), &own(set)),
                &known,
                None,
            );
            for finding in walk.found {
                // What is wrong without the arm too is the file's, unless the arm says it again.
                let is_said = finding.steps.lead_to_something(set);
                if is_said || !of_file.contains(&finding.steps) {
                    let steps = Steps(at.0.iter().chain(&finding.steps.0).cloned().collect());
                    let message = format!("{at}.{}", finding.message);
                    self.found.push(Finding { steps, message });
                }
            }
        }
    }

    fn varied(&mut self, at: &Steps, varied: &Table) {
        for (path, values) in varied {
            let steps = at.key(path);
            let Some(shape) = shape(self.file, path) else {
                let names = KEYS.iter().map(|key| key.path);
                let meant = nearest(path, names);
                let meant =
                    meant.map_or_else(String::new, |name| format!(": did you mean {name:?}?"));
                self.fault(steps, |steps| {
                    format!("{steps}: there is no key {path:?}{meant}")
                });
                continue;
            };
            match values {
                Value::Array(values) => {
                    for (place, value) in values.iter().enumerate() {
                        self.value(&steps.place(place), value, shape);
                    }
                }
                other => {
                    let is = what(other);
                    self.fault(steps, |steps| {
                        format!("{steps} {is}: it is the list of values that the key takes in turn")
                    });
                }
            }
        }
    }
}

/// What was meant by an unknown key, or where one of this name is.
fn hint(name: &str, steps: &Steps, fields: &[&Field]) -> String {
    let symbol = |field: &&&Field| match &field.shape {
        Shape::Leaf(key, _) => key.symbol,
        Shape::List(of) => match of.as_ref() {
            Shape::Leaf(key, _) => key.symbol,
            _ => None,
        },
        _ => None,
    };
    let of_symbol = fields
        .iter()
        .find(|field| symbol(field).is_some_and(|symbol| is_symbol(name, symbol)));
    let names = || fields.iter().map(|field| field.name.as_str());
    let meant = of_symbol
        .map(|field| field.name.as_str())
        .or_else(|| nearest(name, names()));
    if let Some(meant) = meant {
        return format!("did you mean `{meant}`?");
    }
    let elsewhere: Vec<&str> = KEYS
        .iter()
        .filter(|key| key.path.rsplit('.').next() == Some(name))
        .map(|key| key.path)
        .collect();
    if !elsewhere.is_empty() && elsewhere.len() <= 3 {
        return format!("it is a key elsewhere, {}", elsewhere.join(", "));
    }
    if names().count() <= 8 {
        return format!("the keys are {}", names().collect::<Vec<_>>().join(", "));
    }
    let table = section(&Steps(steps.0[..steps.0.len() - 1].to_vec()));
    format!(
        "`{}` lists the keys",
        format!("ra3 explain {table}").trim_end()
    )
}

/// A value in a sentence behind its key.
fn what(value: &Value) -> String {
    const LENGTH_MAX: usize = 80;
    match value {
        Value::Table(_) => "is a table".to_owned(),
        Value::Array(_) => "is a list".to_owned(),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {
            let text = shown(value);
            if text.chars().count() <= LENGTH_MAX {
                return format!("= {text}");
            }
            format!("= {}…", text.chars().take(LENGTH_MAX).collect::<String>())
        }
    }
}

/// What has to stand in a table `name`.
fn wanted(shape: &Shape, name: &str) -> String {
    match shape {
        Shape::Leaf(key, _) => key.allowed.to_string(),
        Shape::Table(_) => "a table".to_owned(),
        Shape::Kinds(key, _) => format!("a table, whose kind is {}", key.allowed),
        Shape::OneOf(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("a table of one of the keys {}", names.join(", "))
        }
        Shape::List(of) if of.is_leaf() => format!("a list, each of it {}", wanted(of, name)),
        Shape::List(_) => format!("a list of tables, each under [[{name}]]"),
        Shape::Own => format!("a table of keys of {}", OWN.join(", ")),
        Shape::Varied => "a table of keys with lists of values".to_owned(),
    }
}

/// The table of a way: `corpus.sources`.
fn section(steps: &Steps) -> String {
    let names = steps.0.iter().filter_map(|step| match step {
        Step::Key(name) => Some(name.as_str()),
        Step::Place(_) => None,
    });
    names.collect::<Vec<_>>().join(".")
}
