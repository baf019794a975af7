//! How many values a delta-encoded page says that it holds: the library takes room for them
//! before it reads one.
//! Not done here: decoding.

use parquet::basic::Encoding;
use parquet::errors::ParquetError;

use crate::damaged;

/// Holds the values of a page, which follow its levels, to the number of its header.
///
/// # Errors
/// They say that they are more than `n_values`, or end before they should.
pub(crate) fn check(encoding: Encoding, values: &[u8], n_values: u32) -> Result<(), ParquetError> {
    let n_sequences = match encoding {
        // The lengths of the texts.
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // How much each shares with the one before it, and the lengths of what it does not.
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => 0,
    };
    let mut rest = values;
    for _ in 0..n_sequences {
        skip_integers(&mut rest, u64::from(n_values))
            .ok_or_else(|| damaged(format!("its lengths are not those of {n_values} values")))?;
    }
    Ok(())
}

/// Passes over one sequence of DELTA_BINARY_PACKED integers, or `None` if it is damaged.
fn skip_integers(data: &mut &[u8], n_values: u64) -> Option<()> {
    let n_block = varint(data)?;
    let n_mini_blocks = varint(data)?;
    let n_integers = varint(data)?;
    let _first = varint(data)?;
    let n_mini_block = n_block.checked_div(n_mini_blocks)?;
    if n_integers > n_values || n_mini_block == 0 || n_mini_block % 32 != 0 {
        return None;
    }
    let mut n_left = n_integers.saturating_sub(1);
    while n_left > 0 {
        let _smallest = varint(data)?;
        for bit_width in data.split_off(..usize::try_from(n_mini_blocks).ok()?)? {
            if n_left == 0 {
                break;
            }
            let n_bytes = u64::from(*bit_width).checked_mul(n_mini_block / 8)?;
            data.split_off(..usize::try_from(n_bytes).ok()?)?;
            n_left = n_left.saturating_sub(n_mini_block);
        }
    }
    Some(())
}

/// The next integer of seven bits a byte, the lowest first.
fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *data.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of 128 in four mini-blocks: `n` integers, of which the first mini-block has `width`
    /// bits each.
    fn integers(n: u8, width: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, 1, 4, n, 0];
        if n > 1 {
            bytes.extend([0, width, 9, 9, 9]);
            bytes.extend(vec![0xff; usize::from(width) * 4]);
        }
        bytes
    }

    #[test]
    fn a_page_is_held_to_its_number_of_values() {
        let one = Encoding::DELTA_LENGTH_BYTE_ARRAY;
        let two = Encoding::DELTA_BYTE_ARRAY;
        let both = [integers(3, 5), integers(3, 2)].concat();
        let second_larger = [integers(3, 5), integers(4, 2)].concat();
        // 2^62 values in a page of three: four times that is more than there is memory.
        let huge = [&[0x80, 1, 4][..], &[0x80; 8], &[0x40, 0]].concat();
        let no_end = [0x80; 12];
        let cases: &[(Encoding, &[u8], u32, bool)] = &[
            (one, &integers(0, 0), 0, true),
            (one, &integers(1, 0), 1, true),
            (one, &integers(3, 5), 3, true),
            (one, &integers(3, 5), 4, true),
            (one, &integers(3, 5), 2, false),
            (one, &integers(3, 5)[..29], 3, false),
            (two, &both, 3, true),
            (two, &second_larger, 3, false),
            (two, &integers(3, 5), 3, false),
            (one, &huge, 3, false),
            (one, &no_end, 3, false),
            (one, &[], 3, false),
            (one, &[0x80, 1, 0, 3, 0], 3, false),
            (one, &[0, 4, 3, 0], 3, false),
            (one, &[16, 1, 3, 0, 0, 0], 3, false),
            (Encoding::PLAIN, &huge, 3, true),
        ];
        for (encoding, values, n_values, is_whole) in cases {
            let checked = check(*encoding, values, *n_values);
            assert_eq!(
                checked.is_ok(),
                *is_whole,
                "{encoding} {values:?} {n_values}"
            );
        }
    }
}
