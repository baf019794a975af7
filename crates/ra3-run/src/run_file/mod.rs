//! The run file: what was written, key by key.
//!
//! Strict TOML: an unknown key is an error that names the nearest known one. There are no
//! defaults for anything that changes results; what it all means is decided in [`crate::plan`].
//! What each key may be stands in [`KEYS`].

mod allowed;
mod corpus;
mod keys;
mod measure;
mod midtrain;
mod model;
mod read;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use allowed::{Allowed, Bound, Key, Leaf, NotAllowed, check, key, leaves, shown};
pub use corpus::{CorpusSection, TestbedSection, TokenizerSection};
pub use keys::KEYS;
pub use measure::{
    ConfinementName, EvaluateSection, ProblemSetName, ProblemsSection, RewardName, RlvrSection,
};
pub use midtrain::{
    AblationName, EStepSection, MStepSection, MidtrainSection, MomentsName, Ra3Section, ScorerName,
};
pub use model::{ArchitectureName, BaseSection, ModelSection, TrainingSection};
pub use read::{RunFileError, load, parse};

/// A run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Name of the experiment.
    pub name: String,
    /// Root of the tree of seeds.
    pub seed: u64,
    /// The run directory, relative to the working directory.
    pub directory: PathBuf,
    /// Threads of the engine; a part of what makes the bits.
    pub n_threads: usize,
    /// Updates between two checkpoints.
    pub checkpoint_every: u64,
    /// The documents.
    pub corpus: CorpusSection,
    /// The tokenizer.
    pub tokenizer: TokenizerSection,
    /// Where the base model comes from.
    pub base: BaseSection,
    /// The optimizer and its micro-batches, for every stage.
    pub training: TrainingSection,
    /// Mid-training, both arms.
    pub midtrain: Option<MidtrainSection>,
    /// What is measured of every arm.
    pub evaluate: Option<EvaluateSection>,
    /// RLVR from every arm.
    pub rlvr: Option<RlvrSection>,
}
