//! Exact and near duplicates: of each set of alike documents the first stays.
//!
//! Near duplicates by MinHash with banding (Broder 1997): documents that agree in one band of
//! hashes are candidates, and a candidate counts if the share of equal hashes, an unbiased
//! estimate of the Jaccard similarity of word 5-grams, reaches the threshold.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::document::Document;
use crate::filter::Rejected;

const N_BANDS: usize = 32;
const BAND_ROWS: usize = 4;
const N_HASHES: usize = N_BANDS * BAND_ROWS;
const SHINGLE_WORDS: usize = 5;

/// Judges every document against those before it.
pub fn judge_all(documents: &[Document], similarity: f64) -> Vec<Result<(), Rejected>> {
    let signatures: Vec<([u8; 32], Vec<u32>)> = documents
        .par_iter()
        .map(|document| {
            let text = document.whole();
            (
                *blake3::hash(normalised(&text).as_bytes()).as_bytes(),
                signature(&text),
            )
        })
        .collect();
    let mut exact = BTreeMap::new();
    let mut bands: BTreeMap<(usize, &[u32]), Vec<usize>> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(documents.len());
    for (index, (hash, own)) in signatures.iter().enumerate() {
        if exact.contains_key(hash) {
            verdicts.push(Err(Rejected::ExactDuplicate));
            continue;
        }
        let is_near = own.chunks(BAND_ROWS).enumerate().any(|band| {
            let candidates = bands.get(&band).map_or(&[][..], Vec::as_slice);
            candidates
                .iter()
                .any(|other| agreement(own, &signatures[*other].1) >= similarity)
        });
        if is_near {
            verdicts.push(Err(Rejected::NearDuplicate));
            continue;
        }
        exact.insert(hash, index);
        for band in own.chunks(BAND_ROWS).enumerate() {
            bands.entry(band).or_default().push(index);
        }
        verdicts.push(Ok(()));
    }
    verdicts
}

/// Without trailing white space and blank lines.
fn normalised(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// The smallest hash of all shingles under each of [`N_HASHES`] functions; empty for a text too
/// short to have a shingle, which is then nobody's near duplicate.
fn signature(text: &str) -> Vec<u32> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < SHINGLE_WORDS {
        return Vec::new();
    }
    let mut smallest = vec![u32::MAX; N_HASHES];
    for shingle in words.windows(SHINGLE_WORDS) {
        let mut hasher = blake3::Hasher::new();
        for word in shingle {
            hasher.update(word.as_bytes()).update(b" ");
        }
        let bytes = hasher.finalize();
        let seed = u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("32 bytes"));
        for (index, small) in smallest.iter_mut().enumerate() {
            // Multiply-shift by odd constants: pairwise nearly independent functions.
            let factor = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let hash = (seed ^ factor)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                .wrapping_mul(factor);
            *small = (*small).min((hash >> 32) as u32);
        }
    }
    smallest
}

fn agreement(a: &[u32], b: &[u32]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let n_equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    n_equal as f64 / N_HASHES as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: String) -> Document {
        Document {
            text,
            ..Document::default()
        }
    }

    fn words(from: usize, to: usize) -> String {
        (from..to)
            .map(|i| format!("word{i}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_first_of_alike_documents_stays() {
        let near = words(0, 400).replace("word200", "other");
        let documents = [
            words(0, 400),
            words(1000, 1400),
            format!("{}  \n\n", words(0, 400)),
            near,
            words(200, 600),
            "x".to_owned(),
            "y".to_owned(),
        ]
        .map(document);
        let verdicts = judge_all(&documents, 0.8);
        assert_eq!(verdicts[0], Ok(()));
        assert_eq!(verdicts[1], Ok(()));
        assert_eq!(verdicts[2], Err(Rejected::ExactDuplicate));
        assert_eq!(verdicts[3], Err(Rejected::NearDuplicate));
        assert_eq!(verdicts[4], Ok(()), "a third of the shingles is not near");
        assert_eq!(verdicts[5..], [Ok(()), Ok(())]);
    }

    #[test]
    fn agreement_estimates_the_jaccard_similarity() {
        // 396 shingles each, 196 shared: 196 / 596.
        let share = agreement(&signature(&words(0, 400)), &signature(&words(200, 600)));
        assert!((share - 196.0 / 596.0).abs() < 0.12, "{share}");
    }
}
