//! The JSON schema of a run file: sections, keys, meanings and defaults from the types and their
//! doc comments, ranges from [`KEYS`]. Editors read it by the line `#:schema` of a run file.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::allowed::{Allowed, Bound, as_written};
use super::{OWN, RunFile, key};

/// A default that is no value: what the machine has.
pub(super) const DEFAULT_IN_WORDS: &str = "x-default";

/// The JSON schema (draft 7).
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let generator = settings.into_generator();
    let mut schema = generator.into_root_schema_for::<RunFile>().to_value();
    tidy(&mut schema, "");
    add_own_settings(&mut schema);
    schema["title"] = json!("ra3 run file");
    schema
}

/// The schema as a file.
pub fn schema_text() -> String {
    let text = serde_json::to_string_pretty(&schema()).expect("a schema is made of JSON's types");
    text + "\n"
}

/// Gives a part of the schema the range of its key, and takes out what TOML does not have.
fn tidy(schema: &mut Value, path: &str) {
    take_out_null(schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if object.contains_key(DEFAULT_IN_WORDS) || !has_a_default_of_its_own(object) {
        object.remove("default");
    }
    if let Some(default) = object.get_mut("default") {
        round(default);
    }
    if let Some(variants) = object.get_mut("oneOf").and_then(Value::as_array_mut) {
        variants.iter_mut().for_each(|variant| tidy(variant, path));
    }
    if let Some(fields) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, field) in fields {
            let dot = if path.is_empty() { "" } else { "." };
            tidy(field, &format!("{path}{dot}{name}"));
        }
    }
    if let Some(items) = object.get_mut("items") {
        tidy(items, path);
    } else if let Some(key) = key(path)
        && !object.contains_key("const")
    {
        put_range(object, key.allowed);
    }
}

/// What may be left out has the schema of what is there.
fn take_out_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    let Some(Value::Array(variants)) = schema.as_object_mut().and_then(|all| all.remove("anyOf"))
    else {
        return;
    };
    let there = variants
        .into_iter()
        .find(|variant| variant["type"] != "null");
    if let Some(Value::Object(there)) = there {
        for (name, value) in there {
            schema
                .as_object_mut()
                .map(|all| all.entry(name).or_insert(value));
        }
    }
}

/// False for a table or list of tables, whose keys have theirs.
fn has_a_default_of_its_own(object: &Map<String, Value>) -> bool {
    let is_table = |schema: &Map<String, Value>| {
        schema.contains_key("properties") || schema.contains_key("additionalProperties")
    };
    let items = object.get("items").and_then(Value::as_object);
    !is_table(object)
        && !items.is_some_and(|items| is_table(items) || items.contains_key("oneOf"))
        && object.get("default") != Some(&Value::Null)
}

/// Numbers with the digits that stand in the source.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            *value = json!(as_written(number.as_f64().unwrap_or_default()));
        }
        Value::Object(object) => object.values_mut().for_each(round),
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn put_range(object: &mut Map<String, Value>, allowed: Allowed) {
    let names = object.remove("oneOf");
    for name in ["enum", "format", "minimum", "maximum"] {
        object.remove(name);
    }
    let range = match allowed {
        Allowed::Whole(low, high) if high >= i64::MAX as u64 => {
            json!({"type": "integer", "minimum": low})
        }
        Allowed::Whole(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Allowed::Real(low, high) => {
            let mut range = Map::from_iter([("type".to_owned(), json!("number"))]);
            let ends = [
                (low, "minimum", "exclusiveMinimum"),
                (high, "maximum", "exclusiveMaximum"),
            ];
            for (end, closed, open) in ends {
                let (name, x) = match end {
                    Bound::Closed(x) => (closed, x),
                    Bound::Open(x) => (open, x),
                };
                // JSON has no infinity.
                if x.is_finite() {
                    range.insert(name.to_owned(), json!(x));
                }
            }
            Value::Object(range)
        }
        Allowed::Text(n_max) => json!({"type": "string", "minLength": 1, "maxLength": n_max}),
        Allowed::Path => json!({"type": "string", "minLength": 1}),
        Allowed::Flag => json!({"type": "boolean"}),
        Allowed::OneOf(allowed) => {
            let is_allowed = |variant: &Value| {
                variant["const"]
                    .as_str()
                    .is_some_and(|name| allowed.contains(&name))
            };
            match names {
                Some(Value::Array(variants)) if variants.iter().any(is_allowed) => {
                    let left: Vec<Value> = variants.into_iter().filter(is_allowed).collect();
                    json!({"oneOf": left})
                }
                _ => json!({"type": "string", "enum": allowed}),
            }
        }
    };
    if let Value::Object(range) = range {
        object.extend(range);
    }
}

/// What an arm may have otherwise than the file: the same sections, where nothing has to be there.
fn add_own_settings(schema: &mut Value) {
    let sections = OWN.map(|name| {
        let mut section = schema["properties"][name].clone();
        make_partial(&mut section);
        (name.to_owned(), section)
    });
    let set = &mut schema["properties"]["arms"]["items"]["properties"]["set"];
    set["additionalProperties"] = json!(false);
    set["properties"] = Value::Object(Map::from_iter(sections));
}

fn make_partial(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("required");
    object.remove("default");
    let variants = object.get_mut("oneOf").and_then(Value::as_array_mut);
    if let Some(variants) = variants.filter(|all| all.iter().all(|one| one["type"] == "object")) {
        // Which of them it is may stand in the file, and not here.
        variants.iter_mut().for_each(make_partial);
        let variants = object.remove("oneOf");
        object.insert("anyOf".to_owned(), variants.unwrap_or_default());
    }
    if let Some(fields) = object.get_mut("properties").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(make_partial);
    }
}
