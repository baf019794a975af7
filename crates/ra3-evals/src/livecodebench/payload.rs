//! The private tests' wrapping: base64 of zlib of a pickle of one text.
//!
//! Nothing is unpickled: a pickle is a program, and data are not to be run. Only the operations
//! that a text, or a dictionary of one text, is written with are read; any other is refused.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Bytes that a payload may unfold to.
const BYTES_MAX: u64 = 1 << 30;

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is no base64.
    #[error("no base64")]
    Base64,
    /// It does not unpack.
    #[error("not packed by zlib, or more than a gigabyte")]
    Zlib,
    /// It is no pickle of a text, from this byte on.
    #[error("byte {0} of its pickle is not what a text is written with")]
    Pickle(usize),
}

/// The text in a payload; of a dictionary with one key the text under it.
///
/// # Errors
/// It is not wrapped so.
pub fn text(payload: &str) -> Result<String, PayloadError> {
    let packed = BASE64_STANDARD
        .decode(payload.trim())
        .map_err(|_| PayloadError::Base64)?;
    let mut bytes = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(packed.as_slice()).take(BYTES_MAX + 1);
    let n_bytes = reader
        .read_to_end(&mut bytes)
        .map_err(|_| PayloadError::Zlib)?;
    if n_bytes as u64 > BYTES_MAX {
        return Err(PayloadError::Zlib);
    }
    text_of_pickle(&bytes)
}

/// The operations of `pickletools` that are read.
mod operation {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const SHORT_TEXT: u8 = 0x8c;
    pub(super) const TEXT: u8 = b'X';
    pub(super) const LONG_TEXT: u8 = 0x8d;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const PUT: u8 = b'q';
    pub(super) const LONG_PUT: u8 = b'r';
    pub(super) const EMPTY_DICTIONARY: u8 = b'}';
    pub(super) const SET_ITEM: u8 = b's';
    pub(super) const STOP: u8 = b'.';
}

/// The text that a pickle holds.
///
/// # Errors
/// It holds something else, or is cut short.
pub fn text_of_pickle(bytes: &[u8]) -> Result<String, PayloadError> {
    let mut reader = Reader { bytes, at: 0 };
    let mut texts: Vec<String> = Vec::new();
    let mut has_dictionary = false;
    let mut is_set = false;
    loop {
        let at = reader.at;
        let refused = PayloadError::Pickle(at);
        let operation = reader.take(1)?[0];
        match operation {
            operation::PROTO | operation::PUT => drop(reader.take(1)?),
            operation::FRAME => drop(reader.take(8)?),
            operation::LONG_PUT => drop(reader.take(4)?),
            operation::MEMOIZE => {}
            operation::SHORT_TEXT => texts.push(reader.text(1)?),
            operation::TEXT => texts.push(reader.text(4)?),
            operation::LONG_TEXT => texts.push(reader.text(8)?),
            operation::EMPTY_DICTIONARY if !has_dictionary && texts.is_empty() => {
                has_dictionary = true;
            }
            operation::SET_ITEM if has_dictionary && !is_set && texts.len() == 2 => is_set = true,
            operation::STOP if reader.at == bytes.len() => {
                let is_whole = if has_dictionary {
                    is_set
                } else {
                    texts.len() == 1
                };
                let last = texts.pop().filter(|_| is_whole && texts.len() <= 1);
                return last.ok_or(refused);
            }
            _ => return Err(refused),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], PayloadError> {
        let end = self
            .at
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PayloadError::Pickle(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self, n_length_bytes: usize) -> Result<String, PayloadError> {
        let at = self.at;
        let mut length = [0u8; 8];
        length[..n_length_bytes].copy_from_slice(self.take(n_length_bytes)?);
        let length = usize::try_from(u64::from_le_bytes(length));
        let bytes = self.take(length.map_err(|_| PayloadError::Pickle(at))?)?;
        let text = std::str::from_utf8(bytes).map_err(|_| PayloadError::Pickle(at))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pickles_by_hand() {
        // pickle.dumps("[1]", protocol=4), pickle.dumps("[1]", protocol=2) and of {"k": "v"}.
        let of_text = b"\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00\x8c\x03[1]\x94.";
        assert_eq!(text_of_pickle(of_text).as_deref(), Ok("[1]"));
        let old = b"\x80\x02X\x03\x00\x00\x00[1]q\x00.";
        assert_eq!(text_of_pickle(old).as_deref(), Ok("[1]"));
        let dictionary = b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x94\x8c\x01k\x94\x8c\x01v\x94s.";
        assert_eq!(text_of_pickle(dictionary).as_deref(), Ok("v"));
    }

    #[test]
    fn programs_are_refused() {
        // pickle.dumps of os.system("id"), as __reduce__ has it.
        let program =
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R.";
        assert_eq!(text_of_pickle(program), Err(PayloadError::Pickle(19)));
        for (pickle, at) in [
            (b"cos\nsystem\n".as_slice(), 0),
            (b"\x80\x04", 2),
            (b"\x80\x04.", 2),
            (b"\x80\x04}s.", 3),
            (b"\x80\x04\x8c\x05abc.", 4),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", 9),
            (b"\x8c\x01a.more", 3),
            (b"\x8c\x01a\x8c\x01b.", 6),
            (b"\x8c\x02\xff\xfe.", 1),
        ] {
            let found = text_of_pickle(pickle);
            assert_eq!(found, Err(PayloadError::Pickle(at)), "{pickle:?}");
        }
        assert_eq!(text("!"), Err(PayloadError::Base64));
        assert_eq!(text("AAAA"), Err(PayloadError::Zlib));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>, payload: String) {
            let _ = text_of_pickle(&bytes);
            let _ = text(&payload);
        }
    }
}
