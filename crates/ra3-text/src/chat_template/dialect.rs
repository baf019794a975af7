//! What chat templates expect of their engine: the settings of transformers, its functions, and
//! methods of Python's values.

use chrono::NaiveDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json;

/// An engine without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("Jinja's own delimiters are legal");
    environment.set_syntax(syntax);
    // Templates write text, not HTML, whatever their files are called.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_filter("indent", indent);
    let to_json = |value: &Value, options: Kwargs| json::to_json(value, &options);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise);
    environment
}

/// `strftime_now` at a time.
pub(super) fn clock(now: NaiveDateTime) -> Value {
    Value::from_function(move |format: &str| {
        use std::fmt::Write;
        let mut text = String::new();
        match write!(text, "{}", now.format(format)) {
            Ok(()) => Ok(text),
            Err(_) => Err(invalid(format!("`{format}` is no format of a date"))),
        }
    })
}

/// The source that the engine takes: line ends as Jinja reads them, and the blocks that mark the
/// assistant's words for training as blocks that do nothing.
pub(super) fn translate(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = String::new();
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        text.push_str(before);
        let name_at = tag.find(|c: char| !c.is_whitespace() && c != '-' && c != '+');
        let (space, name) = tag.split_at(name_at.unwrap_or(0));
        text.push_str(space);
        rest = name;
        for (python, ours) in [("generation", "with"), ("endgeneration", "endwith")] {
            let behind = name.strip_prefix(python);
            if let Some(behind) = behind.filter(|behind| behind.starts_with(['-', '+', '%', ' '])) {
                text.push_str(ours);
                rest = behind;
            }
        }
    }
    text + rest
}

fn raise(message: &str) -> Result<Value, Error> {
    Err(invalid(message.to_owned()))
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Methods of Python that the engine's own set lacks and templates use; the rest goes there.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            "partition" => {
                let (mark,): (&str,) = from_args(args)?;
                let (before, behind) = text.split_once(mark).unwrap_or((text, ""));
                let found = if text.contains(mark) { mark } else { "" };
                return Ok(tuple([before, found, behind]));
            }
            "rpartition" => {
                let (mark,): (&str,) = from_args(args)?;
                let (before, behind) = text.rsplit_once(mark).unwrap_or(("", text));
                let found = if text.contains(mark) { mark } else { "" };
                return Ok(tuple([before, found, behind]));
            }
            "split" | "rsplit" => return split(state, value, name == "rsplit", args),
            _ => {}
        }
    }
    unknown_method_callback(state, value, name, args)
}

/// `split` with its arguments also by name, and `rsplit`.
fn split(
    state: &mut State,
    value: &Value,
    is_from_right: bool,
    args: &[Value],
) -> Result<Value, Error> {
    let (mark, n_max, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let mark = mark.or(named.get("sep")?).unwrap_or(Value::from(()));
    let n_max = n_max.or(named.get("maxsplit")?).unwrap_or(-1);
    named.assert_all_used()?;
    // Without a limit the side does not matter.
    if !is_from_right || n_max < 0 {
        let n_max = (n_max >= 0).then_some(n_max);
        return unknown_method_callback(state, value, "split", &[mark, Value::from(n_max)]);
    }
    match (value.as_str(), mark.as_str()) {
        (Some(text), Some(mark)) if !mark.is_empty() => {
            let parts = text.rsplitn(n_max as usize + 1, mark);
            let mut parts: Vec<Value> = parts.map(Value::from).collect();
            parts.reverse();
            Ok(Value::from(parts))
        }
        _ => Err(invalid("rsplit with a limit needs a separator".to_owned())),
    }
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

/// Python's sequences have a length and items: text and maps too, and what is not defined.
fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    let has_items = matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::String);
    has_items || value.is_undefined()
}

/// Python cannot iterate over `None`, which the engine takes for something empty.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Jinja's filter; the engine's own drops a newline at the end.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands them over")]
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = width.or(named.get("width")?).unwrap_or(Value::from(4));
    let is_first = first.or(named.get("first")?).unwrap_or(false);
    let is_blank = blank.or(named.get("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let margin = match width.as_str() {
        Some(margin) => margin.to_owned(),
        None => " ".repeat(usize::try_from(width)?),
    };
    let indented = text.split('\n').enumerate().map(|(idx, line)| {
        let has_margin = if idx == 0 {
            is_first
        } else {
            is_blank || !line.is_empty()
        };
        let margin = if has_margin { margin.as_str() } else { "" };
        format!("{margin}{line}")
    });
    Ok(indented.collect::<Vec<_>>().join("\n"))
}

/// Floats as Python prints them; everything else is printed that way already.
fn print(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    match f64::try_from(value.clone()) {
        Ok(float) if is_float && float.is_finite() => output
            .write_str(&json::float_text(float))
            .map_err(Error::from),
        _ => escape_formatter(output, state, value),
    }
}
