//! The shape of a run file, read from its schema: what a table holds, by name. What is said about
//! a file (faults, the reference, `ra3 explain`, defaults) follows this and nothing else.

use std::sync::OnceLock;

use serde_json::Value;

use super::schema::{DEFAULT_IN_WORDS, schema};
use super::{KEYS, Key, key};

/// What may stand at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A value, with the meanings of its names where it is one of several.
    Leaf(&'static Key, Vec<(String, String)>),
    /// A table of these keys.
    Table(Vec<Field>),
    /// A table whose `kind` says which keys it has.
    Kinds(&'static Key, Vec<Kind>),
    /// A table of one of these keys.
    OneOf(Vec<Field>),
    /// A list.
    List(Box<Shape>),
    /// What an arm has otherwise than the file.
    Own,
    /// Keys of the file with lists of values.
    Varied,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// What it means.
    pub(super) meaning: String,
    /// What holds where it is not written, as the reference has it.
    pub(super) default: Option<String>,
    /// Whether it must be there.
    pub(super) is_required: bool,
    /// What may stand there.
    pub(super) shape: Shape,
}

/// A kind of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kind {
    /// Its name.
    pub(super) name: String,
    /// What it means.
    pub(super) meaning: String,
    /// Its keys besides `kind`.
    pub(super) fields: Vec<Field>,
}

impl Shape {
    /// That of a run file.
    pub(super) fn of_run_file() -> &'static [Field] {
        static SHAPE: OnceLock<Vec<Field>> = OnceLock::new();
        SHAPE.get_or_init(|| fields(&schema(), ""))
    }

    /// The keys of a table, those of all kinds; none of what is no table.
    pub(super) fn fields(&self) -> Vec<&Field> {
        match self {
            Self::Table(fields) | Self::OneOf(fields) => fields.iter().collect(),
            Self::Kinds(_, kinds) => kinds.iter().flat_map(|kind| &kind.fields).collect(),
            Self::List(of) => of.fields(),
            Self::Leaf(..) | Self::Own | Self::Varied => Vec::new(),
        }
    }

    /// True of a value, and of a list of values.
    pub(super) fn is_leaf(&self) -> bool {
        match self {
            Self::Leaf(..) => true,
            Self::List(of) => of.is_leaf(),
            Self::Table(_) | Self::Kinds(..) | Self::OneOf(_) | Self::Own | Self::Varied => false,
        }
    }
}

fn fields(schema: &Value, path: &str) -> Vec<Field> {
    let required = schema["required"].as_array();
    let properties = schema["properties"].as_object();
    let mut fields: Vec<Field> = properties
        .into_iter()
        .flatten()
        .filter(|(name, field)| !(*name == "kind" && field.get("const").is_some()))
        .map(|(name, field)| {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{name}");
            Field {
                name: name.clone(),
                meaning: text(field, "description"),
                default: default(field),
                is_required: required.is_some_and(|all| all.iter().any(|one| one == name)),
                shape: shape(field, &path),
            }
        })
        .collect();
    // A schema's keys are in the order of letters; the list has that of the sections.
    fields.sort_by_key(|field| {
        let path = if path.is_empty() {
            field.name.clone()
        } else {
            format!("{path}.{}", field.name)
        };
        place(&path)
    });
    fields
}

/// The place in the list of keys of a key, or of a section's first.
pub(super) fn place(path: &str) -> usize {
    let is_under = |key: &Key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    KEYS.iter().position(is_under).unwrap_or(KEYS.len())
}

fn shape(schema: &Value, path: &str) -> Shape {
    match path {
        "arms.set" => return Shape::Own,
        "study.vary" => return Shape::Varied,
        _ => {}
    }
    if let Some(items) = schema.get("items") {
        return Shape::List(Box::new(shape(items, path)));
    }
    let variants = schema["oneOf"].as_array();
    if let Some(key) = key(path) {
        let names = variants.into_iter().flatten();
        return Shape::Leaf(
            key,
            names
                .map(|one| (text(one, "const"), text(one, "description")))
                .collect(),
        );
    }
    let Some(variants) = variants else {
        return Shape::Table(fields(schema, path));
    };
    match key(&format!("{path}.kind")) {
        Some(key) => {
            let kind = |variant: &Value| Kind {
                name: text(&variant["properties"]["kind"], "const"),
                meaning: text(variant, "description"),
                fields: fields(variant, path),
            };
            Shape::Kinds(key, variants.iter().map(kind).collect())
        }
        None => Shape::OneOf(
            variants
                .iter()
                .flat_map(|one| {
                    let mut fields = fields(one, path);
                    for field in &mut fields {
                        field.meaning = text(one, "description");
                        field.is_required = false;
                    }
                    fields
                })
                .collect(),
        ),
    }
}

fn text(schema: &Value, name: &str) -> String {
    schema[name].as_str().unwrap_or_default().to_owned()
}

fn default(schema: &Value) -> Option<String> {
    if let Some(words) = schema[DEFAULT_IN_WORDS].as_str() {
        return Some(words.to_owned());
    }
    let value = schema.get("default")?;
    let value = toml::Value::try_from(value).ok()?;
    Some(match value.as_table() {
        Some(table) => {
            let mut pairs: Vec<_> = table.iter().collect();
            pairs.sort_by_key(|(name, _)| *name != "kind");
            let pairs = pairs.into_iter();
            let pairs = pairs.map(|(name, value)| format!("{name} = {}", super::shown(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        None => super::shown(&value),
    })
}
