//! JSON as Python's `json` module reads and writes it, to and from values.
//!
//! Integers of any length stay integers, `NaN` and `Infinity` are numbers, lone surrogates are
//! kept. Single numbers and texts are `serde_json`'s, which knows none of these as values.
//! Not done here: what a record means, and numbers beyond Python's own reading of them.

use std::fmt;

use ra3_sandbox::value::Value;
use serde::de::{Deserialize, Deserializer, IgnoredAny, Visitor};

/// Nesting that is followed.
const DEPTH_MAX: usize = 200;

/// Where and why a text is no JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: expected {expected}")]
pub struct JsonError {
    /// The byte, from 0.
    pub at: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// Reads one JSON value.
///
/// # Errors
/// The text is no JSON, or nested too deeply.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.error("the end"));
    }
    Ok(value)
}

/// Writes a value in ASCII, as `json.dumps` does: tuples as lists. What JSON has no form for is
/// written as text: sets, bytes, complex numbers, keys that are no strings.
pub fn write(value: &Value) -> String {
    let join = |items: &[Value]| items.iter().map(write).collect::<Vec<_>>().join(", ");
    match value {
        Value::None => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(digits) => digits.clone(),
        Value::Float(_) => match value.as_f64() {
            Some(number) if number.is_finite() => format!("{number:?}"),
            Some(number) if number == f64::INFINITY => "Infinity".to_owned(),
            Some(number) if number == f64::NEG_INFINITY => "-Infinity".to_owned(),
            _ => "NaN".to_owned(),
        },
        Value::Str(text) => quote(text),
        Value::List(items) | Value::Tuple(items) => format!("[{}]", join(items)),
        Value::Dict(pairs) => {
            let pair = |(key, value): &(Value, Value)| {
                let key = match key {
                    Value::Str(text) => quote(text),
                    other => quote(&other.display(usize::MAX)),
                };
                format!("{key}: {}", write(value))
            };
            format!(
                "{{{}}}",
                pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Derived(_, value) => write(value),
        Value::Complex(..)
        | Value::Surrogates(_)
        | Value::Bytes(_)
        | Value::Set(_)
        | Value::Digest(_)
        | Value::Opaque(_) => quote(&value.display(usize::MAX)),
    }
}

/// A dictionary.
pub fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Dict(pairs.map(|(key, value)| (text(key), value)).into())
}

/// A text.
pub fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// The entry of a dictionary with this key.
pub fn field<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let Value::Dict(pairs) = value else {
        return None;
    };
    let is_key = |name: &Value| matches!(name, Value::Str(name) if name == key);
    pairs
        .iter()
        .find(|(name, _)| is_key(name))
        .map(|(_, value)| value)
}

/// The string under this key.
pub fn text_field(value: &Value, key: &str) -> Option<String> {
    text_of(field(value, key)?)
}

/// The strings of the list under this key.
pub fn texts_field(value: &Value, key: &str) -> Option<Vec<String>> {
    match field(value, key)? {
        Value::List(items) => items.iter().map(text_of).collect(),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone()),
        _ => None,
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('"') => quoted.push_str("\\\""),
            Some('\\') => quoted.push_str("\\\\"),
            Some('\n') => quoted.push_str("\\n"),
            Some(plain @ ' '..='~') => quoted.push(plain),
            _ => quoted.push_str(&format!("\\u{unit:04x}")),
        }
    }
    quoted.push('"');
    quoted
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, expected: &'static str) -> JsonError {
        JsonError {
            at: self.at,
            expected,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(self.error(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.error("less nesting"));
        }
        self.skip_space();
        let words = [
            ("null", Value::None),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::float(f64::NAN)),
            ("Infinity", Value::float(f64::INFINITY)),
            ("-Infinity", Value::float(f64::NEG_INFINITY)),
        ];
        match self.peek() {
            Some(b'[') => {
                let items = self.each(b']', "`,` or `]`", |reader| reader.value(depth + 1));
                items.map(Value::List)
            }
            Some(b'{') => {
                let pairs = self.each(b'}', "`,` or `}`", |reader| reader.pair(depth + 1));
                pairs.map(Value::Dict)
            }
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') if !self.text[self.at..].starts_with("-I") => self.number(),
            _ => {
                let found = words
                    .into_iter()
                    .find(|(word, _)| self.text[self.at..].starts_with(word));
                let (word, value) = found.ok_or_else(|| self.error("a value"))?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    /// What stands between brackets, with commas between.
    fn each<T>(
        &mut self,
        close: u8,
        expected: &'static str,
        item: impl Fn(&mut Self) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        while self.peek() != Some(close) {
            if !items.is_empty() {
                self.take(b',', expected)?;
            }
            items.push(item(self)?);
            self.skip_space();
        }
        self.at += 1;
        Ok(items)
    }

    fn pair(&mut self, depth: usize) -> Result<(Value, Value), JsonError> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.error("a key"));
        }
        let key = self.string()?;
        self.take(b':', "`:`")?;
        Ok((key, self.value(depth)?))
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let text = &rest[..rest.bytes().take_while(is_part).count()];
        let is_number = serde_json::from_str::<IgnoredAny>(text).is_ok();
        let is_whole = text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit());
        let value = match text {
            _ if !is_number => None,
            "-0" => Some(Value::Int("0".to_owned())),
            _ if is_whole => Some(Value::Int(text.to_owned())),
            _ => text.parse().ok().map(Value::float),
        };
        let value = value.ok_or_else(|| self.error("a number"))?;
        self.at += text.len();
        Ok(value)
    }

    /// A text, or its bytes where half a pair of surrogates stands alone.
    fn string(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        // The first quote begins it.
        let mut is_escaped = true;
        let end = rest.bytes().position(|byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        });
        let token = end.map(|end| &rest[..=end]);
        let token = token.ok_or_else(|| self.error("a text that ends"))?;
        let Bytes(bytes) =
            serde_json::from_str(token).map_err(|_| self.error("a text with whole escapes"))?;
        self.at += token.len();
        Ok(String::from_utf8(bytes).map_or_else(|error| surrogates(error.as_bytes()), Value::Str))
    }
}

/// Bytes as Python's `surrogatepass` has them.
fn surrogates(bytes: &[u8]) -> Value {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Value::Surrogates(hex.concat())
}

/// The bytes of a JSON text, in which lone surrogates have three.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_by_hand() {
        let int = |digits: &str| Value::Int(digits.to_owned());
        for (text, value) in [
            ("[1, -0, 123456789012345678901234567890]", {
                Value::List(vec![
                    int("1"),
                    int("0"),
                    int("123456789012345678901234567890"),
                ])
            }),
            (" 1.5e1 ", Value::float(15.0)),
            ("-Infinity", Value::float(f64::NEG_INFINITY)),
            (
                r#""a\n\"\u00e9\ud83d\ude00/\/""#,
                Value::Str("a\n\"é😀//".to_owned()),
            ),
            (r#""é\ud83d""#, Value::Surrogates("c3a9eda0bd".to_owned())),
            ("{\"a\": {}}", {
                let inner = Value::Dict(Vec::new());
                Value::Dict(vec![(Value::Str("a".to_owned()), inner)])
            }),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for text in [
            "", "[1", "[1,]", "01", "-01", "-", "1.", "1.e5", ".5", "+1", "1e", "1e+", "1.5.1",
            "--1", "1-1", "nul", "\"a", "\"\\x\"", "1 2", "{1: 2}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "\\PC*", number: f64, whole: i64) {
            let value = Value::List(vec![
                Value::Str(text),
                Value::float(number),
                Value::Int(whole.to_string()),
                Value::None,
            ]);
            prop_assert_eq!(parse(&write(&value)), Ok(value));
        }

        #[test]
        fn any_code_units_are_read(units in prop::collection::vec(prop_oneof![
            0u16.., 0xd7fe_u16..0xe002
        ], 0..9)) {
            let escapes: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let found = parse(&format!("\"{}\"", escapes.concat())).unwrap();
            // Python's `surrogatepass`.
            let bytes = char::decode_utf16(units.iter().copied()).flat_map(|unit| match unit {
                Ok(character) => character.to_string().into_bytes(),
                Err(lone) => {
                    let unit = lone.unpaired_surrogate();
                    let tail = |shift: u16| (0x80 | ((unit >> shift) & 0x3f)) as u8;
                    vec![0xe0 | (unit >> 12) as u8, tail(6), tail(0)]
                }
            });
            let hex: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
            let lone = |_| Value::Surrogates(hex.concat());
            let wanted = String::from_utf16(&units).map_or_else(lone, Value::Str);
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "[\\[\\]{}\",:0-9eE.+\\-u\\\\ dtrfalsn😀]*") {
            let _ = parse(&text);
        }
    }
}
