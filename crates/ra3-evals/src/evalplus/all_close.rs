//! numpy's `allclose` on values, without numpy: `|o − e| ≤ a + r·|e|` after broadcasting.
//!
//! Infinities are close to themselves, NaN to nothing. What numpy would make an array of objects or
//! of text of is close to nothing. Integers beyond 64 bits are such objects.

use ra3_sandbox::value::Value;

/// `rtol` of EvalPlus.
const RELATIVE: f64 = 1e-7;

/// An array: its shape, and its numbers in order.
#[derive(Debug)]
struct Array {
    shape: Vec<usize>,
    numbers: Vec<(f64, f64)>,
}

/// True if `out` is close to `expected`.
pub(crate) fn all_close(out: &Value, expected: &Value, absolute: f64) -> bool {
    match (array(out), array(expected)) {
        (Some(out), Some(expected)) => close(&out, &expected, absolute),
        _ => false,
    }
}

fn array(value: &Value) -> Option<Array> {
    let items = match value {
        Value::List(items) | Value::Tuple(items) => items,
        Value::Derived(_, inner) if matches!(**inner, Value::List(_) | Value::Tuple(_)) => {
            return array(inner);
        }
        Value::Int(digits) if digits.parse::<i64>().is_err() => return None,
        number => {
            let numbers = vec![number.as_complex()?];
            return Some(Array {
                shape: Vec::new(),
                numbers,
            });
        }
    };
    let parts = items.iter().map(array).collect::<Option<Vec<_>>>()?;
    let inner = parts.first().map_or(Vec::new(), |part| part.shape.clone());
    // Lists of several lengths make no array.
    if parts.iter().any(|part| part.shape != inner) {
        return None;
    }
    Some(Array {
        shape: [vec![items.len()], inner].concat(),
        numbers: parts.into_iter().flat_map(|part| part.numbers).collect(),
    })
}

fn close(out: &Array, expected: &Array, absolute: f64) -> bool {
    let n_axes = out.shape.len().max(expected.shape.len());
    let pad = |shape: &[usize]| [vec![1; n_axes - shape.len()], shape.to_vec()].concat();
    let (a, b) = (pad(&out.shape), pad(&expected.shape));
    let Some(shape) = a
        .iter()
        .zip(&b)
        .map(|(&m, &n)| match (m, n) {
            (m, n) if m == n => Some(m),
            (1, n) | (n, 1) => Some(n),
            _ => None,
        })
        .collect::<Option<Vec<usize>>>()
    else {
        return false;
    };
    let n_numbers: usize = shape.iter().product();
    // Where the number stands that a place of the common shape shows.
    let place = |mut index: usize, own: &[usize]| {
        let (mut at, mut stride) = (0, 1);
        for (&size, &own) in shape.iter().zip(own).rev() {
            if own > 1 {
                at += (index % size) * stride;
            }
            index /= size;
            stride *= own;
        }
        at
    };
    (0..n_numbers).all(|index| {
        let (o, e) = (
            out.numbers[place(index, &a)],
            expected.numbers[place(index, &b)],
        );
        let distance = (o.0 - e.0).hypot(o.1 - e.1);
        o == e
            || (e.0.is_finite()
                && e.1.is_finite()
                && distance <= absolute + RELATIVE * e.0.hypot(e.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    /// Each line as `numpy.allclose(out, expected, rtol=1e-7, atol=1e-6)` of numpy 2.4 has it.
    #[test]
    fn closeness_is_numpys() {
        for (out, expected, is_close) in [
            ("1.0000001", "1.0", true),
            ("1.00001", "1.0", false),
            ("100000.001", "100000.0", true),
            ("[1, 2]", "[1.0, 2.0000001]", true),
            ("[[1.0], [1.0]]", "[1.0, 1.0]", true),
            ("[1.0, 2.0]", "[1.0]", false),
            ("[1.0, 1.0, 1.0]", "[1.0, 1.0]", false),
            ("[[1.0], 1.0]", "[1.0, 1.0]", false),
            ("[]", "[1.0]", true),
            ("[]", "[1.0, 2.0]", false),
            ("Infinity", "Infinity", true),
            ("Infinity", "-Infinity", false),
            ("1.0", "Infinity", false),
            ("NaN", "NaN", false),
            ("\"1\"", "1.0", false),
            ("null", "1.0", false),
            ("true", "1.0", true),
            ("[[1.0, 2.0], [1.0, 2.0]]", "[[1.0, 2.0]]", true),
        ] {
            let (left, right) = (parse(out).unwrap(), parse(expected).unwrap());
            assert_eq!(all_close(&left, &right, 1e-6), is_close, "{out} {expected}");
        }
    }
}
