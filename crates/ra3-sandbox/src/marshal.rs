//! Python's marshal format, version 2: values as the interpreter itself writes and reads them, a
//! hundred times as fast as a driver in Python could.
//!
//! Written are all values that have an expression; read are those of plain types alone, each mark
//! of the format checked. No code objects, no references, no sets or bytes: those come as JSON.

use num_bigint::{BigInt, BigUint, Sign};

use crate::value::Value;

/// The driver's `DEPTH_MAX`.
const DEPTH_MAX: usize = 40;
/// The driver's `PLAIN_BYTES`: no integer of this length is too long to be sent.
const BYTES_MAX: usize = 20_000;
/// Bits of a digit of a long integer.
const DIGIT_BITS: u32 = 15;

/// Arguments of one call, as they travel to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments(Vec<u8>);

impl Arguments {
    /// Of a tuple, one item an argument, without opaque parts.
    pub fn of(arguments: &[Value]) -> Self {
        let mut bytes = Vec::new();
        write_items(b'(', arguments, &mut bytes);
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value as a program sends it that returns the same: to tell that one is right without reading
/// it. Others may be equal too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedValue(Vec<u8>);

impl EncodedValue {
    /// Of a value that is equal to itself and travels in this form.
    pub fn of(value: &Value) -> Option<Self> {
        let mut bytes = Vec::new();
        (is_plain(value)).then(|| write(value, &mut bytes));
        (1..=BYTES_MAX)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    pub(crate) fn is(&self, content: &[u8]) -> bool {
        self.0 == content
    }
}

/// Dictionaries are left out, whose order does not matter, and numbers that are none.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Str(_) => true,
        Value::Float(_) => value.as_f64().is_some_and(|number| !number.is_nan()),
        Value::List(items) | Value::Tuple(items) => items.iter().all(is_plain),
        Value::Complex(..)
        | Value::Surrogates(_)
        | Value::Bytes(_)
        | Value::Set(_)
        | Value::Dict(_)
        | Value::Derived(..)
        | Value::Digest(_)
        | Value::Opaque(_) => false,
    }
}

/// Messages to drivers and zygotes, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn tuple(&mut self, n_items: usize) {
        self.0.push(b'(');
        write_length(n_items, &mut self.0);
    }

    pub(crate) fn list(&mut self, n_items: usize) {
        self.0.push(b'[');
        write_length(n_items, &mut self.0);
    }

    /// Keys and values follow, and [`Self::end_of_dictionary`].
    pub(crate) fn dictionary(&mut self) {
        self.0.push(b'{');
    }

    pub(crate) fn end_of_dictionary(&mut self) {
        self.0.push(b'0');
    }

    pub(crate) fn none(&mut self) {
        self.0.push(b'N');
    }

    pub(crate) fn text(&mut self, text: &str) {
        write_bytes(b'u', text.as_bytes(), &mut self.0);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        write_bytes(b's', bytes, &mut self.0);
    }

    pub(crate) fn int(&mut self, number: i64) {
        write_int(&number.to_string(), &mut self.0);
    }

    pub(crate) fn float(&mut self, number: f64) {
        self.0.push(b'g');
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn value(&mut self, value: &Value) {
        write(value, &mut self.0);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(value) => out.push(if *value { b'T' } else { b'F' }),
        Value::Int(digits) => write_int(digits, out),
        Value::Float(_) => {
            out.push(b'g');
            write_float(value, out);
        }
        Value::Complex(real, imaginary) => {
            out.push(b'y');
            write_float(&Value::Float(real.clone()), out);
            write_float(&Value::Float(imaginary.clone()), out);
        }
        Value::Str(text) => write_bytes(b'u', text.as_bytes(), out),
        Value::Surrogates(hex) => write_bytes(b'u', &bytes_of(hex), out),
        Value::Bytes(hex) => write_bytes(b's', &bytes_of(hex), out),
        Value::List(items) => write_items(b'[', items, out),
        Value::Tuple(items) => write_items(b'(', items, out),
        Value::Set(items) => write_items(b'<', items, out),
        Value::Dict(pairs) => {
            out.push(b'{');
            for (key, value) in pairs {
                write(key, out);
                write(value, out);
            }
            out.push(b'0');
        }
        Value::Derived(_, value) => write(value, out),
        Value::Opaque(_) | Value::Digest(_) => unreachable!("it has no expression"),
    }
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    let length = i32::try_from(length).expect("a value of data is smaller");
    out.extend(length.to_le_bytes());
}

fn write_bytes(mark: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    write_length(bytes.len(), out);
    out.extend(bytes);
}

fn write_items(mark: u8, items: &[Value], out: &mut Vec<u8>) {
    out.push(mark);
    write_length(items.len(), out);
    for item in items {
        write(item, out);
    }
}

fn write_float(value: &Value, out: &mut Vec<u8>) {
    let number = value.as_f64().expect("a float of a value is well formed");
    out.extend(number.to_le_bytes());
}

fn write_int(digits: &str, out: &mut Vec<u8>) {
    if let Ok(small) = digits.parse::<i32>() {
        out.push(b'i');
        out.extend(small.to_le_bytes());
        return;
    }
    let number: BigInt = digits.parse().expect("an integer of a value is decimal");
    let bits = number.magnitude().bits();
    let bytes = number.magnitude().to_bytes_le();
    let n_digits = i32::try_from(bits.div_ceil(DIGIT_BITS.into())).expect("it was read as text");
    out.push(b'l');
    let is_negative = number.sign() == Sign::Minus;
    out.extend(if is_negative { -n_digits } else { n_digits }.to_le_bytes());
    let bit = |at: u32| {
        bytes
            .get(at as usize / 8)
            .map_or(0, |byte| byte >> (at % 8) & 1)
    };
    for digit in 0..n_digits.unsigned_abs() {
        let value = (0..DIGIT_BITS).map(|i| u16::from(bit(digit * DIGIT_BITS + i)) << i);
        out.extend(value.sum::<u16>().to_le_bytes());
    }
}

pub(crate) fn hex_of(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The bytes of a text in hexadecimal.
pub(crate) fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Reads a value of plain types; `None` if it is anything else, or nested too deeply.
pub fn read(bytes: &[u8]) -> Option<Value> {
    if bytes.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader { bytes };
    let value = reader.value(0)?;
    reader.bytes.is_empty().then_some(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self, n_bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n_bytes)?;
        self.bytes = rest;
        Some(taken)
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length that the rest may have.
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.i32()?).ok()?;
        (length <= self.bytes.len()).then_some(length)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        // Before it goes deeper: the stack is this process's own.
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match *self.take(1)?.first()? {
            b'N' => Value::None,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            b'i' => Value::Int(self.i32()?.to_string()),
            b'l' => self.long()?,
            b'g' => Value::float(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            b'u' => self.text()?,
            b'[' => Value::List(self.items(depth + 1)?),
            b'(' => Value::Tuple(self.items(depth + 1)?),
            b'{' => Value::Dict(self.pairs(depth + 1)?),
            _ => return None,
        })
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Value>> {
        (0..self.length()?).map(|_| self.value(depth)).collect()
    }

    fn pairs(&mut self, depth: usize) -> Option<Vec<(Value, Value)>> {
        let mut pairs = Vec::new();
        while *self.bytes.first()? != b'0' {
            pairs.push((self.value(depth)?, self.value(depth)?));
        }
        self.take(1)?;
        Some(pairs)
    }

    fn text(&mut self) -> Option<Value> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => Value::Str(text.to_owned()),
            Err(_) => Value::Surrogates(hex_of(bytes)),
        })
    }

    fn long(&mut self) -> Option<Value> {
        let n_digits = self.i32()?;
        let bytes = self.take(2 * n_digits.unsigned_abs() as usize)?;
        // The last digit that the format has is the first that is read.
        let mut digits = Vec::new();
        for digit in bytes.chunks_exact(2).rev() {
            let digit = u16::from_le_bytes(digit.try_into().ok()?);
            if digit >> DIGIT_BITS != 0 {
                return None;
            }
            digits.push(digit);
        }
        let magnitude = BigUint::new(words(&digits));
        let sign = if n_digits < 0 {
            Sign::Minus
        } else {
            Sign::Plus
        };
        Some(Value::Int(
            BigInt::from_biguint(sign, magnitude).to_string(),
        ))
    }
}

/// Digits of 15 bits, the highest first, as words of 32, the lowest first.
fn words(digits: &[u16]) -> Vec<u32> {
    let (mut words, mut word, mut n_bits) = (Vec::new(), 0u64, 0);
    for digit in digits.iter().rev() {
        word |= u64::from(*digit) << n_bits;
        n_bits += DIGIT_BITS;
        if n_bits >= u32::BITS {
            words.push(word as u32);
            word >>= u32::BITS;
            n_bits -= u32::BITS;
        }
    }
    words.push(word as u32);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(digits: &str) -> Value {
        Value::Int(digits.to_owned())
    }

    /// Values, and what `marshal.dumps(value, 2).hex()` of CPython 3.11 printed for them.
    fn table() -> Vec<(Value, &'static str)> {
        let text = |text: &str| Value::Str(text.to_owned());
        vec![
            (Value::None, "4e"),
            (Value::Bool(true), "54"),
            (int("-1"), "69ffffffff"),
            (int("2147483647"), "69ffffff7f"),
            (int("2147483648"), "6c03000000000000000200"),
            (int("-2147483649"), "6cfdffffff010000000200"),
            (
                int("1000000000000000000000"),
                "6c050000000000403d17374d2e6303",
            ),
            (Value::float(-0.5), "67000000000000e0bf"),
            (text("a\u{e9}"), "750300000061c3a9"),
            (Value::Surrogates("eda080".to_owned()), "7503000000eda080"),
            (Value::List(vec![]), "5b00000000"),
            (
                Value::Tuple(vec![int("1"), Value::List(vec![Value::Bool(false)])]),
                "280200000069010000005b0100000046",
            ),
            (
                Value::Dict(vec![(text("k"), Value::None)]),
                "7b75010000006b4e30",
            ),
        ]
    }

    #[test]
    fn values_are_written_and_read_as_cpython_does() {
        for (value, hex) in table() {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            assert_eq!(hex_of(&bytes), hex, "{value:?}");
            assert_eq!(read(&bytes), Some(value));
        }
    }

    #[test]
    fn what_is_no_plain_value_is_not_read() {
        let bad = [
            "",
            "4e4e",
            "6901",
            "5bffffffff",
            "5b01000000",
            "5b0000000100",
            "30",
            "7b4e30",
            "73010000006b",
            "3c00000000",
            "6c01000000ff",
            "6c010000000080",
            "6c00000080",
            "2e",
            "7201000000",
            "63",
            "7501000000",
        ];
        for hex in bad {
            assert_eq!(read(&bytes_of(hex)), None, "{hex}");
        }
        let deep = |n: usize| bytes_of(&format!("{}{}", "5b01000000".repeat(n), "4e"));
        assert!(read(&deep(40)).is_some() && read(&deep(41)).is_none());
        assert_eq!(read(&vec![b'{'; BYTES_MAX]), None);
        assert_eq!(read(&bytes_of(&"5b01000000".repeat(BYTES_MAX / 5))), None);
        let long = |n: usize| bytes_of(&format!("75{:02x}4e0000{}", n, "61".repeat(n | 0x4e00)));
        assert!(read(&long(0x1b)).is_some());
        assert_eq!(read(&long(0x1c)), None);
    }

    #[test]
    fn what_is_right_is_known_unread() {
        let plain = |value: &Value| EncodedValue::of(value).is_some();
        let nan = Value::float(f64::NAN);
        let nested = |value: &Value| Value::List(vec![int("1"), Value::Tuple(vec![value.clone()])]);
        for (value, hex) in table() {
            let has_form = !matches!(value, Value::Surrogates(_) | Value::Dict(_));
            assert_eq!(plain(&value), has_form, "{value:?}");
            assert_eq!(plain(&nested(&value)), has_form, "{value:?}");
            assert!(EncodedValue::of(&value).is_none_or(|plain| plain.is(&bytes_of(hex))));
        }
        assert!(!plain(&nan) && !plain(&nested(&nan)));
        assert!(!plain(&Value::Str("a".repeat(BYTES_MAX))));
    }
}
