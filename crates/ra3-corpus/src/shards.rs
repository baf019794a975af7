//! Trajectories on disk: one file of `u32`s, memory-mapped, with a checksum.
//!
//! ```text
//! magic (8 bytes) · blake3 of the rest (32) · n_documents (u64) · n_documents + 1 offsets (u64)
//! each document: name length, name bytes padded to 4 · annotated bytes ·
//!                prefix · plain lines · annotated lines · latents
//! ```
//!
//! A list of ids is its length and its ids; a latent is 0 for keep or 1 + the rationale's list.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use ra3::policy::TokenId;
use ra3::trajectory::{Annotated, Document, Latent, Trajectory};

use crate::error::CorpusError;
use crate::lines::Cut;

const MAGIC: &[u8; 8] = b"ra3shd01";
const HEADER: usize = 8 + 32;
const FILE: &str = "documents.shard";

/// Documents of one split, memory-mapped.
#[derive(Debug)]
pub struct Shards {
    path: PathBuf,
    map: Mmap,
    n_documents: usize,
}

/// A document as it lies in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Path or id.
    pub name: String,
    /// The two views.
    pub cut: Cut,
}

/// Writes a split into a folder; what was there before is replaced at once or not at all.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, documents: &[Stored]) -> Result<(), CorpusError> {
    let path = folder.join(FILE);
    let fail = |source| CorpusError::Write(path.clone(), source);
    std::fs::create_dir_all(folder).map_err(fail)?;
    let mut body = Vec::new();
    let mut offsets = Vec::with_capacity(documents.len() + 1);
    let first = (1 + documents.len() + 1) * 8;
    for document in documents {
        offsets.push((first + body.len()) as u64);
        encode(document, &mut body);
    }
    offsets.push((first + body.len()) as u64);
    let mut rest = (documents.len() as u64).to_le_bytes().to_vec();
    rest.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
    rest.extend(body);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(blake3::hash(&rest).as_bytes());
    bytes.extend(rest);
    ra3_files::write(&path, &bytes).map_err(|error| fail(error.source))
}

fn encode(document: &Stored, out: &mut Vec<u8>) {
    let mut put = |value: usize| out.extend((value as u32).to_le_bytes());
    put(document.name.len());
    let mut name = document.name.clone().into_bytes();
    name.resize(name.len().next_multiple_of(4), 0);
    out.extend(name);
    let Cut {
        plain,
        annotated,
        n_annotated_bytes,
    } = &document.cut;
    let mut put = |value: usize| out.extend((value as u32).to_le_bytes());
    put(*n_annotated_bytes);
    put_ids(&plain.prefix, out);
    for lines in [&plain.lines, &annotated.trajectory.lines] {
        out.extend((lines.len() as u32).to_le_bytes());
        lines.iter().for_each(|line| put_ids(line, out));
    }
    for latent in &annotated.latents {
        match latent {
            Some(Latent::Switch { rationale, .. }) => {
                out.extend(1u32.to_le_bytes());
                put_ids(rationale, out);
            }
            Some(Latent::Keep) | None => out.extend(0u32.to_le_bytes()),
        }
    }
}

fn put_ids(ids: &[TokenId], out: &mut Vec<u8>) {
    out.extend((ids.len() as u32).to_le_bytes());
    out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

impl Shards {
    /// Opens a split and checks it as a whole.
    ///
    /// # Errors
    /// The file is missing, cut short, changed, or of another version.
    #[expect(
        unsafe_code,
        reason = "a memory map; the checksum is checked before anything is read"
    )]
    pub fn open(folder: &Path) -> Result<Self, CorpusError> {
        let path = folder.join(FILE);
        let read = |source| CorpusError::Read(path.clone(), source);
        let bad = |reason: &str| CorpusError::Shard(path.clone(), reason.to_owned());
        let file = File::open(&path).map_err(read)?;
        // SAFETY: the file is ours; it is replaced by renaming and never changed in place.
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        if map.len() < HEADER + 16 || &map[..8] != MAGIC {
            return Err(bad("it is no shard of this version"));
        }
        if blake3::hash(&map[HEADER..]).as_bytes() != &map[8..HEADER] {
            return Err(bad("its checksum does not match"));
        }
        let n = u64::from_le_bytes(map[HEADER..HEADER + 8].try_into().expect("eight bytes"));
        Ok(Self {
            n_documents: n as usize,
            path,
            map,
        })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.n_documents
    }

    /// True without documents.
    pub fn is_empty(&self) -> bool {
        self.n_documents == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plain view: comments are lines.
    pub fn trajectory(&self, index: usize) -> Trajectory {
        self.stored(index).cut.plain
    }

    /// The annotated view: comments are latents; counted as the document stands in the corpus.
    pub fn document(&self, index: usize) -> Document {
        let cut = self.stored(index).cut;
        Document {
            n_corpus_tokens: cut.plain.n_tokens() as u64,
            annotated: cut.annotated,
        }
    }

    /// A whole document.
    pub fn stored(&self, index: usize) -> Stored {
        assert!(
            index < self.n_documents,
            "document {index} of {}",
            self.n_documents
        );
        let at = HEADER + 8 + index * 8;
        let offset = u64::from_le_bytes(self.map[at..at + 8].try_into().expect("eight bytes"));
        let mut reader = Reader {
            bytes: &self.map[HEADER + offset as usize..],
        };
        let n_name = reader.number();
        let name = String::from_utf8_lossy(&reader.bytes[..n_name]).into_owned();
        reader.bytes = &reader.bytes[n_name.next_multiple_of(4)..];
        let n_annotated_bytes = reader.number();
        let prefix = reader.ids();
        let plain = Trajectory {
            prefix: prefix.clone(),
            lines: reader.lines(),
        };
        let trajectory = Trajectory {
            prefix,
            lines: reader.lines(),
        };
        let latents = trajectory
            .lines
            .iter()
            .map(|_| Some(reader.latent()))
            .collect();
        let annotated = Annotated {
            trajectory,
            latents,
        };
        Stored {
            name,
            cut: Cut {
                plain,
                annotated,
                n_annotated_bytes,
            },
        }
    }
}

/// Reads a document whose checksum was right.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn number(&mut self) -> usize {
        let (first, rest) = self.bytes.split_at(4);
        self.bytes = rest;
        u32::from_le_bytes(first.try_into().expect("four bytes")) as usize
    }

    fn ids(&mut self) -> Vec<TokenId> {
        let n = self.number();
        (0..n).map(|_| self.number() as TokenId).collect()
    }

    fn lines(&mut self) -> Vec<Vec<TokenId>> {
        let n = self.number();
        (0..n).map(|_| self.ids()).collect()
    }

    fn latent(&mut self) -> Latent {
        match self.number() {
            0 => Latent::Keep,
            _ => Latent::Switch {
                rationale: self.ids(),
                forced_close: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str) -> Stored {
        let trajectory = Trajectory {
            prefix: vec![1, 2],
            lines: vec![vec![3, 4], vec![5], vec![0]],
        };
        let switch = Latent::Switch {
            rationale: vec![7, 8],
            forced_close: false,
        };
        let latents = vec![Some(Latent::Keep), Some(switch), Some(Latent::Keep)];
        let annotated = Annotated {
            trajectory: trajectory.clone(),
            latents,
        };
        let cut = Cut {
            plain: trajectory,
            annotated,
            n_annotated_bytes: 17,
        };
        Stored {
            name: name.to_owned(),
            cut,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let documents = [stored("a"), stored("src/naïve.py")];
        write(dir.path(), &documents).unwrap();
        let shards = Shards::open(dir.path()).unwrap();
        assert_eq!(shards.len(), 2);
        assert_eq!([shards.stored(0), shards.stored(1)], documents);
    }

    #[test]
    fn damage_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[stored("a"), stored("b")]).unwrap();
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let error = Shards::open(dir.path()).unwrap_err().to_string();
            assert!(
                error.contains("documents.shard") && error.contains("build"),
                "{error}"
            );
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Shards::open(dir.path()).is_err());
        std::fs::write(&path, b"").unwrap();
        assert!(Shards::open(dir.path()).is_err());
    }
}
