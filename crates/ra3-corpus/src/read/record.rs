//! One record: an object of which a few keys are read.
//!
//! The other keys may hold what they like. Python writes `NaN` and `Infinity`, which are no JSON,
//! and numbers beyond every float; they matter only where they are read.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::json_lines::Keys;
use super::{document, without_bom};
use crate::document::Document;

/// The document of a record.
pub(super) fn record(
    text: &str,
    keys: &Keys<'_>,
    place: impl Fn() -> String,
) -> Result<Document, String> {
    let text = without_bom(text);
    let found = read(text, keys)
        .or_else(|error| {
            // Only what is refused is looked at twice.
            let plain = with_numbers(text).ok_or(error)?;
            read(&plain, keys)
        })
        .map_err(|error| reason(text, &error))?;
    let text_of = |value: Option<Value>, key: &str| match value {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("there is no text under the key {key:?}")),
    };
    let name = match (keys.name, found.name) {
        (None, _) => place(),
        // Ids are often numbers.
        (Some(_), Some(Value::String(name))) => name,
        (Some(_), Some(Value::Number(number))) => number.to_string(),
        (Some(key), _) => return Err(format!("there is no name under the key {key:?}")),
    };
    let prefix = match keys.prefix {
        None => String::new(),
        Some(key) => text_of(found.prefix, key)?,
    };
    Ok(document(name, &prefix, &text_of(found.text, keys.text)?))
}

/// What stood under the keys that are read.
#[derive(Default)]
struct Found {
    text: Option<Value>,
    prefix: Option<Value>,
    name: Option<Value>,
}

fn read(text: &str, keys: &Keys<'_>) -> serde_json::Result<Found> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer.deserialize_any(Reader { keys })?;
    deserializer.end()?;
    Ok(found)
}

struct Reader<'a> {
    keys: &'a Keys<'a>,
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Found;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record: an object with keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        let keys = self.keys;
        while let Some(key) = map.next_key::<String>()? {
            // One key may serve twice.
            let is_text = key == keys.text;
            let is_prefix = Some(key.as_str()) == keys.prefix;
            let is_name = Some(key.as_str()) == keys.name;
            if !(is_text || is_prefix || is_name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            if is_text {
                found.text = Some(value.clone());
            }
            if is_prefix {
                found.prefix = Some(value.clone());
            }
            if is_name {
                found.name = Some(value);
            }
        }
        Ok(found)
    }
}

/// The text with Python's numbers that are none replaced by null; none where there are none.
fn with_numbers(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let (mut rest, mut is_changed) = (text, false);
    while let Some(char) = rest.chars().next() {
        let n = if char == '"' {
            string_length(rest)
        } else if let Some(name) = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|name| rest.starts_with(name))
        {
            plain += "null";
            is_changed = true;
            rest = &rest[name.len()..];
            continue;
        } else {
            char.len_utf8()
        };
        plain += &rest[..n];
        rest = &rest[n..];
    }
    is_changed.then_some(plain)
}

/// Bytes of the string that a text begins with, quotes included.
pub(super) fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn reason(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() && text.trim_start().starts_with('{') {
        return format!("{error}: a record ends with its line; write one record a line, or a list");
    }
    error.to_string()
}

/// The records of a JSON list, each as it is written; the error stands behind those before it.
pub(super) fn elements(list: &str) -> Vec<Result<&str, String>> {
    let mut found = Vec::new();
    let bytes = list.as_bytes();
    // Inside the list's own bracket.
    let (mut depth, mut at) = (0usize, 0);
    let mut start = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                start = start.or(Some(at));
                at += string_length(&list[at..]);
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > 1 {
                    start = start.or(Some(at));
                }
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    match start.take() {
                        Some(start) => found.push(Ok(&list[start..at])),
                        None if found.is_empty() => {}
                        None => found.push(Err("a record is missing after a comma".into())),
                    }
                    if !list[at + 1..].trim().is_empty() {
                        found.push(Err("there is something behind the end of the list".into()));
                    }
                    return found;
                }
            }
            b',' if depth == 1 => found.push(match start.take() {
                Some(start) => Ok(&list[start..at]),
                None => Err("a record is missing before a comma".to_owned()),
            }),
            byte if !byte.is_ascii_whitespace() => start = start.or(Some(at)),
            _ => {}
        }
        at += 1;
    }
    found.push(Err(
        "the list does not end: the file is cut short".to_owned()
    ));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: Keys<'_> = Keys {
        text: "code",
        prefix: None,
        name: None,
    };

    fn text_of(line: &str) -> Result<String, String> {
        record(line, &KEYS, String::new).map(|document| document.text)
    }

    #[test]
    fn keys_that_are_not_read_may_hold_anything() {
        for other in [
            "NaN",
            "-Infinity",
            "[Infinity, {\"a\": NaN}]",
            "1e999",
            "-1e999",
            "123456789012345678901234567890",
            "\"\\ud800\"",
            "\"NaN \\\" Infinity\"",
            &format!("{}1{}", "[".repeat(5000), "]".repeat(5000)),
        ] {
            let line =
                format!("\u{feff}{{\"a\": {other}, \"code\": \"x = NaN \\\"\", \"b\": {other}}}");
            assert_eq!(text_of(&line).unwrap(), "x = NaN \"", "{other}");
        }
        for wrong in ["NaN", "1e999", "\"\\ud800\"", "null"] {
            assert!(
                text_of(&format!("{{\"code\": {wrong}}}")).is_err(),
                "{wrong}"
            );
        }
        assert!(text_of("{\"code\": \"x\"} {}").is_err());
        assert_eq!(text_of("{\"code\": \"x\", \"code\": \"y\"}").unwrap(), "y");
    }

    proptest! {
        #[test]
        fn lists_are_cut_where_their_records_end(
            texts in prop::collection::vec(".*", 0..6),
            others in prop::collection::vec("[\\[\\]{}\",\\\\ a]*", 6),
            space in "[ \\n\\t\\r]*",
        ) {
            let records: Vec<String> = texts
                .iter()
                .zip(&others)
                .map(|(text, other)| {
                    serde_json::json!({"o": [other, {other: 1}], "code": text}).to_string()
                })
                .collect();
            let records = records.join(&format!("{space},{space}"));
            let list = format!("[{space}{records}{space}]{space}");
            let found: Vec<String> = elements(&list)
                .into_iter()
                .map(|element| text_of(element.unwrap()).unwrap())
                .collect();
            let expected: Vec<&str> = texts.iter().map(|text| without_bom(text)).collect();
            prop_assert_eq!(found, expected);
            // Cut anywhere, it ends with an error.
            let end = list.trim_end().len() - 1;
            let cut = (0..end).rev().find(|at| list.is_char_boundary(*at)).unwrap_or(0);
            prop_assert!(elements(&list[..cut]).last().unwrap().is_err());
        }
    }
}
