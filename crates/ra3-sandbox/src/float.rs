//! Floats as Python's `float.hex` has them: no digit is lost on the way.

/// A Python expression for a float: the shortest decimal that is read back as the same number.
pub(crate) fn python_float(hex: &str) -> String {
    match parse_hex_float(hex) {
        Some(value) if value.is_finite() => format!("{value:?}"),
        _ => format!("float('{hex}')"),
    }
}

/// Python's `float.hex`, with all digits.
pub(crate) fn hex_float(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (lead, exponent) = match ((bits >> 52) & 0x7ff) as i32 {
        0 if fraction == 0 => return format!("{sign}0x0.0p+0"),
        0 => (0, -1022),
        biased => (1, biased - 1023),
    };
    format!("{sign}0x{lead}.{fraction:013x}p{exponent:+}")
}

/// Reads Python's `float.hex`: `-0x1.8p+1`, `0x0.0p+0`, `inf`, `nan`.
pub(crate) fn parse_hex_float(text: &str) -> Option<f64> {
    let (sign, rest) = text
        .strip_prefix('-')
        .map_or((1.0, text), |rest| (-1.0, rest));
    match rest {
        "inf" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = rest.strip_prefix("0x")?.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value = u64::from_str_radix(whole, 16).ok()? as f64;
    let mut scale = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    // Two steps, so that subnormal numbers do not vanish on the way.
    let exponent: i32 = exponent.parse().ok()?;
    Some(sign * value * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_floats_by_hand() {
        // 0.1 = 0x1.999999999999ap-4 and so on, as CPython prints them.
        for (value, text) in [
            (0.1, "0x1.999999999999ap-4"),
            (-1.5, "-0x1.8000000000000p+0"),
            (1e300, "0x1.7e43c8800759cp+996"),
            (5e-324, "0x0.0000000000001p-1022"),
            (0.0, "0x0.0p+0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(parse_hex_float(text), Some(value), "{text}");
            assert_eq!(hex_float(value), text);
        }
        assert_eq!(python_float("-0x1.8p+0"), "-1.5");
    }
}
