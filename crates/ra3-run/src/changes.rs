//! Which settings of a run may still change: those that no finished stage has read.
//!
//! A stage reads the keys of its own sections and of those before it. So what is done stays what
//! the plan says, and a stage that failed may be tried with other settings of its own.

use std::collections::BTreeMap;

use crate::arm::Stage;
use crate::run_file::{BaseSection, RunFile, TokenizerSection, leaves, shown};

/// Keys that change no number that is recorded.
const FREE: [&str; 4] = [
    "directory",
    "checkpoint_every",
    "training.cache_mib",
    "evaluate.n_workers",
];

/// Kinds of stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Corpus,
    Base,
    Midtrain,
    Evaluate,
    Rlvr,
}

impl Kind {
    pub(crate) const fn of(stage: Stage) -> Self {
        match stage {
            Stage::Corpus => Self::Corpus,
            Stage::Base => Self::Base,
            Stage::Midtrain(_) => Self::Midtrain,
            Stage::Evaluate(_) => Self::Evaluate,
            Stage::Rlvr(_) => Self::Rlvr,
        }
    }
}

/// A key whose value is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// As `--set` takes it.
    pub(crate) key: String,
    /// What it was, and what it is: `a.b was 1 and is now 2`.
    pub(crate) text: String,
    /// The first kind of stage that reads it; `None` for one that changes nothing.
    pub(crate) reader: Option<Kind>,
}

/// What differs between two run files, in the order of the keys.
pub(crate) fn changes(old: &RunFile, new: &RunFile) -> Vec<Change> {
    let by_key = |file: &RunFile| -> BTreeMap<String, String> {
        let leaves = leaves(file).into_iter();
        leaves.map(|leaf| (leaf.path, shown(&leaf.value))).collect()
    };
    let (before, after) = (by_key(old), by_key(new));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let word = |value: Option<&String>| value.map_or_else(|| "not there".to_owned(), Clone::clone);
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change {
            key: key.clone(),
            text: format!(
                "{key} was {} and is now {}",
                word(before.get(key)),
                word(after.get(key))
            ),
            reader: reader(key, new),
        })
        .collect()
}

fn reader(key: &str, file: &RunFile) -> Option<Kind> {
    if FREE.contains(&key) {
        return None;
    }
    // A checkpoint that lends its tokenizer is read by the corpus already.
    let lends = matches!(
        (&file.tokenizer, &file.base),
        (TokenizerSection::Base {}, BaseSection::Checkpoint { .. })
    );
    Some(match key.split('.').next().unwrap_or_default() {
        "base" if !lends => Kind::Base,
        "training" => Kind::Base,
        "midtrain" => Kind::Midtrain,
        "evaluate" => Kind::Evaluate,
        "rlvr" => Kind::Rlvr,
        // The corpus and the tokenizer; the name, the seed and the threads, which every stage has.
        _ => Kind::Corpus,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run_file::parse;

    fn tiny(change: &str) -> RunFile {
        let text = include_str!("../../../runs/tiny.toml");
        parse(text, Path::new("tiny.toml"), &[change.to_owned()]).unwrap()
    }

    #[test]
    fn a_change_is_said_and_has_its_first_reader() {
        let cases = [
            ("seed=2", "seed was 1 and is now 2", Some(Kind::Corpus)),
            (
                "n_threads=3",
                "n_threads was 2 and is now 3",
                Some(Kind::Corpus),
            ),
            (
                "checkpoint_every=7",
                "checkpoint_every was 2 and is now 7",
                None,
            ),
            (
                "base.n_updates=7",
                "base.n_updates was 6 and is now 7",
                Some(Kind::Base),
            ),
            (
                "evaluate.alpha=0.25",
                "evaluate.alpha was 0.9 and is now 0.25",
                Some(Kind::Evaluate),
            ),
            (
                "rlvr.reward=share",
                "rlvr.reward was not there and is now \"share\"",
                Some(Kind::Rlvr),
            ),
        ];
        for (change, text, reader) in cases {
            let found = changes(&tiny("seed=1"), &tiny(change));
            assert_eq!(found.len(), 1, "{change}");
            assert_eq!((found[0].text.as_str(), found[0].reader), (text, reader));
        }
        assert!(changes(&tiny("seed=1"), &tiny("seed=1")).is_empty());
    }
}
