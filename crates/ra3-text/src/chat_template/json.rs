//! JSON as Python's `json.dumps` writes it: separators with spaces, Python's floats, and by default
//! no escapes but those that JSON needs.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// The `tojson` filter of transformers: JSON's characters stay as they are, also `<` and `&`.
pub(super) fn to_json(value: &Value, options: &Kwargs) -> Result<String, Error> {
    let style = Style::new(options)?;
    options.assert_all_used()?;
    let mut text = String::new();
    write(&mut text, value, &style, 0)?;
    Ok(text)
}

struct Style {
    /// One level's indentation; lines are broken if there is one.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Style {
    fn new(options: &Kwargs) -> Result<Self, Error> {
        let indent: Option<Value> = options.get("indent")?;
        let indent = indent.filter(|value| !value.is_none()).map(|value| {
            let width = value.as_usize().unwrap_or(0);
            value
                .as_str()
                .map_or_else(|| " ".repeat(width), str::to_owned)
        });
        let separators: Option<(String, String)> = match options.get("separators")? {
            None => None,
            Some(pair) => {
                let pair: Value = pair;
                let at = |idx: usize| pair.get_item_by_index(idx).map(|text| text.to_string());
                Some((at(0)?, at(1)?))
            }
        };
        let default = if indent.is_some() { "," } else { ", " };
        let (item_separator, key_separator) =
            separators.unwrap_or_else(|| (default.to_owned(), ": ".to_owned()));
        Ok(Self {
            indent,
            item_separator,
            key_separator,
            ensure_ascii: options
                .get::<Option<bool>>("ensure_ascii")?
                .unwrap_or(false),
            sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        })
    }

    fn break_line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }
}

fn write(text: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool if value.is_true() => text.push_str("true"),
        ValueKind::Bool => text.push_str("false"),
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::String => write_string(text, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(text, ('[', ']'), &items, style, depth, |text, item| {
                write(text, item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            write_items(text, ('{', '}'), &keys, style, depth, |text, key| {
                match key.kind() {
                    ValueKind::String => {
                        write_string(text, key.as_str().unwrap_or_default(), style);
                    }
                    _ => write_string(text, &scalar(key)?, style),
                }
                text.push_str(&style.key_separator);
                write(text, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => {
            let reason = format!("{kind} cannot be written as JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    }
    Ok(())
}

fn write_items(
    text: &mut String,
    (open, close): (char, char),
    items: &[Value],
    style: &Style,
    depth: usize,
    mut write_item: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    text.push(open);
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            text.push_str(&style.item_separator);
        }
        style.break_line(text, depth + 1);
        write_item(text, item)?;
    }
    if !items.is_empty() {
        style.break_line(text, depth);
    }
    text.push(close);
    Ok(())
}

/// A key that is no text is written as its JSON would be.
fn scalar(key: &Value) -> Result<String, Error> {
    to_json(key, &Kwargs::from_iter::<[(&str, Value); 0]>([]))
}

fn write_string(text: &mut String, string: &str, style: &Style) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            c if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if style.ensure_ascii && c > '~' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() && float.is_nan() => "NaN".to_owned(),
        Ok(float) if !value.is_integer() && float.is_infinite() => {
            let sign = if float < 0.0 { "-" } else { "" };
            format!("{sign}Infinity")
        }
        Ok(float) if !value.is_integer() => float_text(float),
        _ => value.to_string(),
    }
}

/// A finite float as Python's `repr`: the shortest digits that read back, with an exponent below
/// 1e-4 and from 1e16 on.
pub(super) fn float_text(float: f64) -> String {
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').expect("the format writes an e");
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

#[cfg(test)]
mod tests {
    use super::float_text;

    #[test]
    fn floats_are_those_of_python() {
        for (float, text) in [
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e300, "-2.5e+300"),
        ] {
            assert_eq!(float_text(float), text);
        }
    }
}
