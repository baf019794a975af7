//! Bytes of a file, decompressed by what they begin with; the name only says that it is wanted.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};

use flate2::bufread::GzDecoder;

/// `--long=31`: the longest window that `zstd` writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// What is not read, by its first bytes.
const REFUSED: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PAR1", "Parquet"),
];

/// Opens a stream of plain bytes.
pub(super) fn open(file: &File) -> Result<Box<dyn BufRead + '_>> {
    let mut file = BufReader::new(file);
    let start = file.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(BufReader::new(Gzip::new(file))));
    }
    // Frames that hold no data, such as those of `pzstd`, are numbered 0x184D2A50 to 0x184D2A5F.
    let is_skippable = start.len() > 4 && start[1..4] == *b"\x2a\x4d\x18" && start[0] >> 4 == 5;
    if start.starts_with(ZSTD) || is_skippable {
        let mut decoder = zstd::Decoder::with_buffer(file)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        return Ok(Box::new(BufReader::new(decoder)));
    }
    if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        let reason = format!("{name} is not read here: write it as plain text, gzip or zstd");
        return Err(Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(Box::new(file))
}

/// Members one after the other, as `cat a.gz b.gz` makes them, and the zeros that tapes and block
/// devices put behind. Anything else behind is damage.
struct Gzip<R: BufRead> {
    /// None only while one member is exchanged for the next.
    member: Option<GzDecoder<R>>,
    is_at_end: bool,
}

impl<R: BufRead> Gzip<R> {
    fn new(reader: R) -> Self {
        Self {
            member: Some(GzDecoder::new(reader)),
            is_at_end: false,
        }
    }

    /// Goes on to the next member; false if there is none.
    fn advance(&mut self) -> Result<bool> {
        let member = self.member.take().expect("it is put back below");
        let mut reader = member.into_inner();
        loop {
            let buffer = reader.fill_buf()?;
            let n_zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            let (n, first) = (buffer.len(), buffer.get(n_zeros).copied());
            if n > 0 && first.is_none() {
                reader.consume(n);
                continue;
            }
            reader.consume(n_zeros);
            self.member = Some(GzDecoder::new(reader));
            return match first {
                None => Ok(false),
                Some(byte) if byte == GZIP[0] => Ok(true),
                Some(_) => {
                    let reason = "there is something behind the end of the compressed data";
                    Err(Error::new(ErrorKind::InvalidData, reason))
                }
            };
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while !self.is_at_end && !buffer.is_empty() {
            let member = self.member.as_mut().expect("it is put back by `advance`");
            let n = member.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.is_at_end = !self.advance()?;
        }
        Ok(0)
    }
}
