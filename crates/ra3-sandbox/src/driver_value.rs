//! Values as a driver sends them, read within bounds: what comes over the channel may be a hostile
//! program's, and takes no more of this process's time and memory than a driver's would.

use crate::value::Value;

/// To read an integer takes a time that grows with the square of its digits: most squares, of
/// thousands of digits, in one value.
const SQUARES_MAX: f64 = 50_000.0;

impl Value {
    /// A value as a driver writes it; `None` for anything else.
    pub(crate) fn of_driver(content: &[u8]) -> Option<Self> {
        // Where a tag comes last, all before it is kept twice, in thirty times the memory.
        let value: Self = tags_come_first(content)
            .then(|| serde_json::from_slice(content).ok())
            .flatten()?;
        (value.is_well_formed() && value.squares() <= SQUARES_MAX).then_some(value)
    }

    /// Of the digits of all integers inside, in thousands.
    fn squares(&self) -> f64 {
        let sum = |items: &[Self]| items.iter().map(Self::squares).sum();
        match self {
            Self::Int(digits) => (digits.len() as f64 / 1000.0).powi(2),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => sum(items),
            Self::Dict(pairs) => pairs
                .iter()
                .map(|(key, value)| key.squares() + value.squares())
                .sum(),
            Self::Derived(_, value) => value.squares(),
            Self::None
            | Self::Bool(_)
            | Self::Float(_)
            | Self::Complex(..)
            | Self::Str(_)
            | Self::Surrogates(_)
            | Self::Bytes(_)
            | Self::Digest(_)
            | Self::Opaque(_) => 0.0,
        }
    }
}

/// True if every object of a JSON text begins with its tag, as a driver's do.
fn tags_come_first(content: &[u8]) -> bool {
    let (mut is_text, mut is_escaped) = (false, false);
    content.iter().enumerate().all(|(at, byte)| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' if !is_text => return content[at + 1..].starts_with(b"\"t\":"),
            _ => {}
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> Value {
        Value::Int(value.to_string())
    }

    #[test]
    fn what_no_driver_writes_is_not_read() {
        let read = |text: &str| Value::of_driver(text.as_bytes());
        let one = r#"{"t":"int","v":"1"}"#;
        assert_eq!(read(one), Some(int(1)));
        assert_eq!(
            read(&format!(
                r#"{{"t":"list","v":[{one},{{"t":"str","v":"{{\""}}]}}"#
            )),
            Some(Value::List(vec![int(1), Value::Str("{\"".to_owned())]))
        );
        for text in [
            r#"{"v":"1","t":"int"}"#,
            r#"{ "t":"int","v":"1"}"#,
            &format!(r#"{{"t":"list","v":[{one},{{"v":"1","t":"int"}}]}}"#),
            &format!(r#"{{"t":"int","v":"{}"}}"#, "1".repeat(50_001)),
            &format!(
                r#"{{"t":"list","v":[{}]}}"#,
                vec![format!(r#"{{"t":"int","v":"{}"}}"#, "1".repeat(50_000)); 21].join(",")
            ),
            "{",
            "[1]",
        ] {
            assert_eq!(read(text), None, "{text:.60}");
        }
    }
}
