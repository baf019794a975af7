//! The byte alphabet of byte-level BPE files: 256 letters, one for each byte.
//!
//! Printable bytes are their own letters, the others follow from U+0100 on in their order, so that
//! a space is `Ġ` and a newline `Ċ`.

use std::collections::HashMap;

/// The letter of each byte.
pub(super) fn letters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let is_printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let point = if is_printable { byte } else { next };
        next += usize::from(!is_printable);
        char::from_u32(point as u32).expect("a code point below U+0200")
    })
}

/// Letters to bytes.
#[derive(Debug)]
pub(super) struct Alphabet(HashMap<char, u8>);

impl Alphabet {
    pub(super) fn new() -> Self {
        Self(
            (0..=255)
                .map(|byte| (letters()[usize::from(byte)], byte))
                .collect(),
        )
    }

    /// The bytes that a token of the vocabulary stands for. A token with any letter outside the
    /// alphabet stands for itself, as in every decoder of such files.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        let bytes: Option<Vec<u8>> = token.chars().map(|c| self.0.get(&c).copied()).collect();
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn the_letters_are_those_of_the_library() {
        let mut ours = letters().to_vec();
        ours.sort_unstable();
        let mut theirs: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        assert_eq!(
            [letters()[0x20], letters()[0x0a], letters()[0x41]],
            ['Ġ', 'Ċ', 'A']
        );
        let alphabet = Alphabet::new();
        assert_eq!(alphabet.bytes("ĠaĊ"), b" a\n");
        assert_eq!(alphabet.bytes("é"), [0xe9]);
        assert_eq!(alphabet.bytes("Ġ→"), "Ġ→".as_bytes());
    }
}
