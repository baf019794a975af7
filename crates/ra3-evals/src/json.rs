//! JSON as Python's `json` module reads and writes it, to and from values.
//!
//! Integers of any length stay integers, `NaN` and `Infinity` are numbers, lone surrogates are
//! kept. Not done here: what a record means, and numbers beyond Python's own reading of them.

use ra3_sandbox::value::Value;

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
    match field(value, key) {
        Some(Value::Str(text)) => Some(text.clone()),
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
            Some(b'[') => self.list(depth),
            Some(b'{') => self.dictionary(depth),
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

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Value::List(items));
            }
            self.take(b',', "`,` or `]`")?;
        }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Dict(pairs));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key"));
            }
            let key = self.string()?;
            self.take(b':', "`:`")?;
            let value = self.value(depth + 1)?;
            pairs.push((key, value));
            self.skip_space();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return Ok(Value::Dict(pairs));
            }
            self.take(b',', "`,` or `}`")?;
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        let length = rest
            .bytes()
            .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .count();
        let text = &rest[..length];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_padded =
            digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_padded {
            None
        } else if is_whole {
            let is_zero = digits == "0";
            Some(Value::Int(if is_zero { digits } else { text }.to_owned()))
        } else if is_fractional(digits) {
            text.parse().ok().map(Value::float)
        } else {
            None
        };
        let value = value.ok_or_else(|| self.error("a number"))?;
        self.at += length;
        Ok(value)
    }

    /// Code units, because an escape is one, and half a pair may stand alone.
    fn string(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        let mut plain = String::new();
        let mut units: Option<Vec<u16>> = None;
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = rest.find(['"', '\\']) else {
                self.at = self.text.len();
                return Err(self.error("`\"`"));
            };
            let part = &rest[..stop];
            match &mut units {
                Some(units) => units.extend(part.encode_utf16()),
                None => plain.push_str(part),
            }
            self.at += stop + 1;
            if rest.as_bytes()[stop] == b'"' {
                return Ok(units.map_or_else(|| Value::Str(plain), |units| from_units(&units)));
            }
            let unit = self.escape()?;
            match (&mut units, char::from_u32(u32::from(unit))) {
                (None, Some(character)) => plain.push(character),
                (Some(units), _) => units.push(unit),
                (None, None) => {
                    let mut started: Vec<u16> = plain.encode_utf16().collect();
                    started.push(unit);
                    units = Some(started);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<u16, JsonError> {
        let letter = self.peek().ok_or_else(|| self.error("an escape"))?;
        let unit = match letter {
            b'"' | b'\\' | b'/' => u16::from(letter),
            b'n' => 0x0a,
            b't' => 0x09,
            b'r' => 0x0d,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let digits = self.text.get(self.at + 1..self.at + 5);
                let is_hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let unit = digits
                    .filter(is_hex)
                    .and_then(|d| u16::from_str_radix(d, 16).ok());
                let unit = unit.ok_or_else(|| self.error("four hexadecimal digits"))?;
                self.at += 4;
                unit
            }
            _ => return Err(self.error("an escape")),
        };
        self.at += 1;
        Ok(unit)
    }
}

/// Digits, then a point with digits, an exponent with digits, or both.
fn is_fractional(text: &str) -> bool {
    let are_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let is_exponent = |text: &str| are_digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    are_digits(whole) && fraction.is_none_or(are_digits) && exponent.is_none_or(is_exponent)
}

/// A string, or its bytes as `surrogatepass` has them where half a pair stands alone.
fn from_units(units: &[u16]) -> Value {
    if let Ok(text) = String::from_utf16(units) {
        return Value::Str(text);
    }
    let mut hex = String::new();
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(character) => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).bytes();
                bytes.for_each(|byte| hex.push_str(&format!("{byte:02x}")));
            }
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                let bytes = [
                    0xe0 | (unit >> 12),
                    0x80 | ((unit >> 6) & 0x3f),
                    0x80 | (unit & 0x3f),
                ];
                bytes
                    .iter()
                    .for_each(|byte| hex.push_str(&format!("{byte:02x}")));
            }
        }
    }
    Value::Surrogates(hex)
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
        fn no_text_breaks_the_reader(text in "[\\[\\]{}\",:0-9eE.+\\-u\\\\ dtrfalsn😀]*") {
            let _ = parse(&text);
        }
    }
}
