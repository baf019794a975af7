//! The run file: what was written, key by key, and the defaults of what was not.
//!
//! Strict TOML: what is unknown, missing or out of its range is reported at once, with its line.
//! What it all means is decided in [`crate::plan`]; what each key may be stands in [`KEYS`], what
//! it means in the docs of its field. The schema, the reference and `ra3 explain` come from both.

mod allowed;
mod arm;
mod corpus;
mod defaults;
mod engine;
mod explain;
mod fault;
mod keys;
mod measure;
mod merge;
mod midtrain;
mod model;
mod nearest;
mod read;
mod reference;
mod schema;
mod setting;
mod shape;
mod steps;
mod study;
mod walk;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use allowed::{Allowed, Bound, Key, Leaf, check, key, leaves, shown};
pub use arm::{ArmSection, BASE, Budget, MethodName};
pub use corpus::{CorpusSection, TestbedSection, TokenizerSection};
pub use defaults::{defaulted, marked};
pub use engine::{DeviceName, EngineSection, LoraSection, LoraTarget, Sharding, TorchSection};
pub use explain::{Entry, Explanation, Meaning, Section, explain, sections};
pub use fault::{Fault, Faults, Origin};
pub use keys::KEYS;
pub use measure::{
    EvaluateSection, GradingSection, HeldOutSection, ProblemSetName, ProblemsSection, RlvrSection,
};
pub(crate) use merge::merged;
pub use midtrain::{DocumentChoice, MomentsName, Ra3Section, SupervisedSection};
pub use model::{ArchitectureName, BaseSection, ModelSection, TrainingSection};
pub use read::{RunFileError, load, parse, written};
pub use reference::reference;
pub use schema::{schema, schema_text};
pub(crate) use setting::{keys_of, put, settings};
pub use study::StudySection;

/// Sections that an arm may have otherwise than the file.
pub(crate) const OWN: [&str; 4] = ["training", "supervised", "ra3", "rlvr"];

/// A run file.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Title of the report and of the models' cards. It is no path: `a/b` is a name.
    pub name: String,
    /// Root of the tree of seeds; the corpus has one of its own.
    #[serde(default = "one")]
    pub seed: u64,
    /// The run directory: empty, missing, or this run's.
    pub directory: PathBuf,
    /// A folder of finished stages that several runs share; those of the run directory alone
    /// where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// Threads of the engine. Changes no bit of the native one's.
    #[schemars(extend("x-default" = "the number of cores"))]
    #[serde(default = "n_cores")]
    pub n_threads: usize,
    /// Updates between two commits. Changes no bit.
    #[serde(default = "ten")]
    pub checkpoint_every: u64,
    /// What runs and trains models.
    #[serde(default)]
    pub engine: EngineSection,
    /// The documents.
    #[serde(default)]
    pub corpus: CorpusSection,
    /// The tokenizer.
    #[serde(default)]
    pub tokenizer: TokenizerSection,
    /// Where the base model comes from.
    pub base: BaseSection,
    /// The optimizer and its micro-batches, for every stage.
    #[serde(default)]
    pub training: TrainingSection,
    /// Supervised updates of every arm: NTP, cold start and M-step.
    #[serde(default)]
    pub supervised: SupervisedSection,
    /// RA3.
    #[serde(default)]
    pub ra3: Ra3Section,
    /// The models that are compared; base, RA3 and NTP on RA3's corpus tokens where none is named.
    #[serde(default = "arm::comparison")]
    pub arms: Vec<ArmSection>,
    /// What is measured of every arm on held-out documents.
    #[serde(default)]
    pub held_out: HeldOutSection,
    /// What is measured of every arm on problems; the testbed's where it has some and nothing is
    /// said.
    pub evaluate: Option<Vec<EvaluateSection>>,
    /// RLVR from every arm; none where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rlvr: Option<RlvrSection>,
    /// How programs are graded.
    #[serde(default)]
    pub grading: GradingSection,
    /// The same over seeds and settings, by `ra3 study`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<StudySection>,
}

/// One of some names, as it is written.
pub(crate) fn name_of(name: &impl Serialize) -> String {
    let name = toml::Value::try_from(name).expect("a name is a text");
    name.as_str().expect("a name is a text").to_owned()
}

const fn one() -> u64 {
    1
}

const fn ten() -> u64 {
    10
}

fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
