//! Frames: a header, a checksum, and columns of numbers.
//!
//! Header: magic u32, kind u16, flags u16 (0), sequence u64, bytes of the body u64, CRC-32 of the
//! body u32; all little-endian. Body: number of columns u32, then for each its type u32 and count
//! u64, then their numbers, one column after the other. `python/ra3_worker/wire.py` is the other
//! side.

use std::collections::VecDeque;
use std::io::{self, Read};

/// Of what is said and of who says it; changes with every change of either.
pub(crate) const PROTOCOL: u32 = 3;
const MAGIC: u32 = 0x3341_5452;
const HEADER_BYTES: usize = 28;
const COLUMN_BYTES: usize = 12;
pub(crate) const BYTES_MAX: u64 = 1 << 36;
/// Bytes that are made room for before they have come.
const AHEAD_BYTES: u64 = 1 << 20;

/// What a frame asks for, or what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Hello = 1,
    Load = 2,
    Save = 3,
    LoadState = 4,
    Copy = 5,
    Drop = 6,
    Freeze = 7,
    Reset = 8,
    Grow = 9,
    Restart = 10,
    RunBegin = 11,
    Moves = 12,
    RunEnd = 13,
    Score = 14,
    Update = 15,
    Rehearse = 16,
}

/// Kinds of what comes back.
pub(crate) const ANSWER: u16 = 32;
pub(crate) const ERROR: u16 = 33;
pub(crate) const PHASE: u16 = 34;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Stream(#[from] io::Error),
    #[error("{0}")]
    Nonsense(&'static str),
    /// A rank is no use any more.
    #[error("rank {rank} {reason}")]
    Rank { rank: u32, reason: String },
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Text(String),
    U32(Vec<u32>),
    F32(Vec<f32>),
    U64(Vec<u64>),
    F64(Vec<f64>),
}

impl Column {
    fn code_and_count(&self) -> (u32, usize) {
        match self {
            Self::Text(text) => (0, text.len()),
            Self::U32(numbers) => (1, numbers.len()),
            Self::F32(numbers) => (2, numbers.len()),
            Self::U64(numbers) => (3, numbers.len()),
            Self::F64(numbers) => (4, numbers.len()),
        }
    }

    fn write(&self, body: &mut Vec<u8>) {
        match self {
            Self::Text(text) => body.extend(text.as_bytes()),
            Self::U32(numbers) => body.extend(numbers.iter().flat_map(|n| n.to_le_bytes())),
            Self::F32(numbers) => body.extend(numbers.iter().flat_map(|n| n.to_le_bytes())),
            Self::U64(numbers) => body.extend(numbers.iter().flat_map(|n| n.to_le_bytes())),
            Self::F64(numbers) => body.extend(numbers.iter().flat_map(|n| n.to_le_bytes())),
        }
    }

    fn read(code: u32, bytes: &[u8]) -> Result<Self, WireError> {
        Ok(match code {
            0 => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            1 => Self::U32(numbers(bytes, u32::from_le_bytes)),
            2 => Self::F32(numbers(bytes, f32::from_le_bytes)),
            3 => Self::U64(numbers(bytes, u64::from_le_bytes)),
            4 => Self::F64(numbers(bytes, f64::from_le_bytes)),
            _ => return Err(WireError::Nonsense("a column has no known type")),
        })
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|b| number(*b))
        .collect()
}

/// A frame as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u16,
    pub(crate) sequence: u64,
    pub(crate) answer: Answer,
}

/// A frame as bytes.
pub(crate) fn encode(kind: u16, sequence: u64, columns: &[Column]) -> Vec<u8> {
    let mut body = (columns.len() as u32).to_le_bytes().to_vec();
    for column in columns {
        let (code, count) = column.code_and_count();
        body.extend(code.to_le_bytes());
        body.extend((count as u64).to_le_bytes());
    }
    columns.iter().for_each(|column| column.write(&mut body));
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend(MAGIC.to_le_bytes());
    frame.extend(kind.to_le_bytes());
    frame.extend([0, 0]);
    frame.extend(sequence.to_le_bytes());
    frame.extend((body.len() as u64).to_le_bytes());
    frame.extend(crc32fast::hash(&body).to_le_bytes());
    frame.extend(body);
    frame
}

/// Reads a frame, whose body has at most so many bytes.
pub(crate) fn read(stream: &mut impl Read, n_bytes_max: u64) -> Result<Frame, WireError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let mut rest = &header[..];
    let (magic, kind) = (take_u32(&mut rest)?, take_u32(&mut rest)? as u16);
    let (sequence, n_bytes) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
    if magic != MAGIC || n_bytes > n_bytes_max {
        return Err(WireError::Nonsense("what came is no frame"));
    }
    let mut body = Vec::with_capacity(n_bytes.min(AHEAD_BYTES) as usize);
    stream.take(n_bytes).read_to_end(&mut body)?;
    if body.len() as u64 != n_bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if crc32fast::hash(&body) != take_u32(&mut rest)? {
        let damaged = "a frame is damaged: its checksum is another";
        return Err(WireError::Nonsense(damaged));
    }
    Ok(Frame {
        kind,
        sequence,
        answer: Answer(columns(&body)?),
    })
}

fn columns(body: &[u8]) -> Result<VecDeque<Column>, WireError> {
    let mut rest = body;
    let n_columns = take_u32(&mut rest)? as usize;
    let mut heads = take(&mut rest, n_columns.saturating_mul(COLUMN_BYTES))?;
    let mut columns = VecDeque::new();
    for _ in 0..n_columns {
        let (code, count) = (take_u32(&mut heads)?, take_u64(&mut heads)? as usize);
        let number_bytes = [1, 4, 4, 8, 8].get(code as usize).copied().unwrap_or(1);
        let bytes = take(&mut rest, count.saturating_mul(number_bytes))?;
        columns.push_back(Column::read(code, bytes)?);
    }
    Ok(columns)
}

const SHORT: WireError = WireError::Nonsense("a frame ends before its columns");

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], WireError> {
    let (taken, left) = rest.split_at_checked(n).ok_or(SHORT)?;
    *rest = left;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (taken, left) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = left;
    Ok(*taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, WireError> {
    take_array(rest).map(u32::from_le_bytes)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, WireError> {
    take_array(rest).map(u64::from_le_bytes)
}

/// A number that columns are made of.
pub(crate) trait Number: Copy {
    fn of(column: Column) -> Option<Vec<Self>>;
}

impl Number for u32 {
    fn of(column: Column) -> Option<Vec<Self>> {
        if let Column::U32(numbers) = column {
            Some(numbers)
        } else {
            None
        }
    }
}

impl Number for f32 {
    fn of(column: Column) -> Option<Vec<Self>> {
        if let Column::F32(numbers) = column {
            Some(numbers)
        } else {
            None
        }
    }
}

impl Number for u64 {
    fn of(column: Column) -> Option<Vec<Self>> {
        if let Column::U64(numbers) = column {
            Some(numbers)
        } else {
            None
        }
    }
}

impl Number for f64 {
    fn of(column: Column) -> Option<Vec<Self>> {
        if let Column::F64(numbers) = column {
            Some(numbers)
        } else {
            None
        }
    }
}

/// The columns of an answer, taken one after the other.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer(VecDeque<Column>);

impl Answer {
    /// The next column, of numbers.
    pub(crate) fn numbers<T: Number>(&mut self) -> Result<Vec<T>, WireError> {
        let next = self.0.pop_front().and_then(T::of);
        next.ok_or(WireError::Nonsense("an answer misses a column"))
    }

    /// The next column, which has to be of so many numbers.
    pub(crate) fn exactly<T: Number, const N: usize>(&mut self) -> Result<[T; N], WireError> {
        let numbers: Result<[T; N], _> = self.numbers()?.try_into();
        numbers.map_err(|_| WireError::Nonsense("an answer has another number of numbers"))
    }

    /// The next column, a text.
    pub(crate) fn text(&mut self) -> Result<String, WireError> {
        match self.0.pop_front() {
            Some(Column::Text(text)) => Ok(text),
            _ => Err(WireError::Nonsense("an answer misses a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column() -> impl Strategy<Value = Column> {
        prop_oneof![
            any::<String>().prop_map(Column::Text),
            prop::collection::vec(any::<u32>(), 0..9).prop_map(Column::U32),
            prop::collection::vec(-1e30f32..1e30, 0..9).prop_map(Column::F32),
            prop::collection::vec(any::<u64>(), 0..9).prop_map(Column::U64),
            prop::collection::vec(-1e30f64..1e30, 0..9).prop_map(Column::F64),
        ]
    }

    proptest! {
        #[test]
        fn frames_go_both_ways_and_damage_is_found(
            kind in any::<u16>(),
            sequence in any::<u64>(),
            columns in prop::collection::vec(column(), 0..5),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let bytes = encode(kind, sequence, &columns);
            let expected = Frame { kind, sequence, answer: Answer(columns.into()) };
            prop_assert_eq!(&read(&mut &bytes[..], BYTES_MAX).unwrap(), &expected);
            for n in 0..bytes.len() {
                prop_assert!(read(&mut &bytes[..n], BYTES_MAX).is_err());
            }
            // Kind and sequence have no checksum; who reads compares them with what was asked.
            let mut damaged = bytes.clone();
            let place = at.index(bytes.len());
            damaged[place] ^= flip;
            if !(4..16).contains(&place) {
                prop_assert!(read(&mut &damaged[..], BYTES_MAX).is_err());
            }
        }

        #[test]
        fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = columns(&body);
        }
    }
}
