//! Dropping documents that share a long run of words with an evaluation problem.
//!
//! Words are runs of letters and digits in lower case, so layout and punctuation do not hide a
//! copy. A problem shorter than the run counts as a whole.

use std::collections::BTreeSet;

use crate::document::Document;

/// Runs of words of evaluation problems.
#[derive(Clone, Debug, Default)]
pub struct Contamination {
    n_words: usize,
    runs: BTreeSet<u64>,
    whole: BTreeSet<u64>,
}

impl Contamination {
    /// Collects the runs of `n_words` words of the texts.
    pub fn new(texts: &[String], n_words: usize) -> Self {
        let mut found = Self {
            n_words: n_words.max(1),
            ..Self::default()
        };
        for text in texts {
            let words = words(text);
            if words.len() < found.n_words {
                found.whole.insert(hash(&words));
            }
            found.runs.extend(words.windows(found.n_words).map(hash));
        }
        found
    }

    /// True if the document shares a run with a problem, or is a short one.
    pub fn touches(&self, document: &Document) -> bool {
        let words = words(&document.whole());
        words
            .windows(self.n_words)
            .any(|run| self.runs.contains(&hash(run)))
            || self.whole.contains(&hash(&words))
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(word.as_bytes()).update(b"\0");
    }
    u64::from_le_bytes(
        hasher.finalize().as_bytes()[..8]
            .try_into()
            .expect("32 bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_run_is_found_through_layout_and_a_short_one_is_not() {
        let problem = "def add_all(xs):\n    \"\"\"Add all numbers of a list.\"\"\"\n".to_owned();
        let found = Contamination::new(&[problem, "x = 1".to_owned()], 6);
        let touches = |text: &str| {
            found.touches(&Document {
                text: text.to_owned(),
                ..Document::default()
            })
        };
        assert!(touches("y = 2\nDEF  add_all( xs ): '''Add, all numbers'''"));
        assert!(!touches("def add_all(xs): return sum(xs)"));
        assert!(touches("x=1\n"), "a short problem counts as a whole");
        assert!(!touches("x = 1\ny = 2\n"));
    }
}
