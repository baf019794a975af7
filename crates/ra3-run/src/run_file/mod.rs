//! The run file: what was written, key by key; a flat list of sections.
//!
//! Strict TOML: an unknown key is an error that names the nearest known one. There are no
//! defaults for anything that changes results; what it all means is decided in [`crate::plan`].

mod read;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

/// The documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusSection {
    /// Share of the documents that are held out, by file.
    pub held_out_share: f64,
    /// A document shares this many consecutive words with an evaluation problem: it is dropped.
    pub decontaminate_n_words: usize,
    /// Documents are near duplicates from this Jaccard similarity on.
    pub near_duplicate_similarity: f64,
    /// Longest document in bytes.
    pub n_bytes_max: usize,
    /// Longest rationale that a comment may become, in tokens.
    pub rationale_tokens_max: usize,
    /// Longest document in tokens; a longer one is dropped.
    pub document_tokens_max: usize,
    /// What becomes of a file or record that cannot be read.
    #[serde(default)]
    pub on_unreadable: UnreadableName,
    /// Python source from elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSection>,
    /// The generated programs.
    pub testbed: Option<TestbedSection>,
}

/// What becomes of a file or record that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableName {
    /// The stage ends with an error that names it.
    #[default]
    Stop,
    /// It is counted as dropped.
    Drop,
}

/// A place that documents come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSection {
    /// The standard library of the Python that is found on the machine.
    PythonStandardLibrary {
        /// The interpreter.
        python: PathBuf,
        /// At most so many files, in order of their paths.
        n_files_max: usize,
    },
    /// Every `*.py` below a folder.
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// JSON lines, plain or compressed (`.gz`, `.zst`).
    JsonLines {
        /// The file, or a folder of them.
        path: PathBuf,
        /// The key of the text.
        text_key: String,
        /// The key of what is given before the text.
        prefix_key: Option<String>,
        /// The key of the document's name.
        name_key: Option<String>,
    },
    /// Parquet.
    Parquet {
        /// The file, or a folder of them.
        path: PathBuf,
        /// The column of the text.
        column: String,
    },
}

/// The generated programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestbedSection {
    /// Training documents.
    pub n_documents: usize,
    /// Share of the training documents that carry comments.
    pub comment_share: f64,
    /// Problems for RLVR.
    pub n_train_problems: usize,
    /// Problems for evaluation, of compositions that no document contains.
    pub n_held_out_problems: usize,
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSection {
    /// Trained on the corpus.
    Train {
        /// Size of the vocabulary, markers included.
        n_vocabulary: usize,
    },
    /// A `tokenizer.json`; the markers are added where they are missing.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The one of the base checkpoint.
    Base {},
}

/// Where the base model comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BaseSection {
    /// Trained from scratch on the corpus.
    Pretrain {
        /// The architecture.
        model: ModelSection,
        /// Updates.
        n_updates: u64,
        /// Documents of an update.
        batch_documents: usize,
        /// The step size.
        schedule: ScheduleSection,
    },
    /// A checkpoint folder in Hugging Face layout.
    Checkpoint {
        /// The folder.
        path: PathBuf,
    },
}

/// A transformer's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// The family.
    pub architecture: ArchitectureName,
    /// Width.
    pub hidden_size: usize,
    /// Width of the SwiGLU.
    pub intermediate_size: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_key_value_heads: usize,
    /// Longest sequence.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Standard deviation of random weights; small models learn to copy with `1 / √hidden_size`.
    pub initializer_range: f32,
    /// The projection to the vocabulary is the embedding.
    pub tie_embeddings: bool,
    /// Precision of finished models on disk.
    pub precision_on_disk: PrecisionName,
}

/// Precision of numbers on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionName {
    /// `f32`.
    Float32,
    /// `bf16`.
    Bfloat16,
}

/// A family of architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchitectureName {
    /// Biases on q, k and v.
    Qwen2,
    /// No biases.
    Llama,
}

/// The optimizer and its micro-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSection {
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest norm of the gradient.
    pub clip_norm: f32,
    /// Loss weight of a prefix's token (a problem statement), where a line's is 1.
    pub prefix_weight: f32,
    /// Unique tokens that are live at once.
    pub micro_batch_tokens: usize,
    /// Activations are computed again in the backward pass, layer by layer.
    pub recompute: bool,
    /// Bytes of the key and value cache.
    pub cache_mib: usize,
}

/// A schedule of step sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSection {
    /// One step size.
    Constant {
        /// The step size.
        peak: f32,
        /// Updates of linear warm-up.
        warmup: u64,
    },
    /// Linear warm-up, then a half cosine down to a share of the peak.
    Cosine {
        /// The largest step size.
        peak: f32,
        /// Updates of linear warm-up.
        warmup: u64,
        /// Share of the peak at the end.
        floor_share: f32,
    },
    /// Warm-up, stable, then a linear decay.
    WarmupStableDecay {
        /// The largest step size.
        peak: f32,
        /// Updates of linear warm-up.
        warmup: u64,
        /// Updates of the decay at the end.
        decay: u64,
        /// Share of the peak at the end.
        floor_share: f32,
    },
}

/// Mid-training, both arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MidtrainSection {
    /// Documents of a supervised update, both arms.
    pub batch_documents: usize,
    /// Step size of NTP, cold start and M-step.
    pub supervised_peak: f32,
    /// Updates of linear warm-up of each supervised phase.
    pub warmup: u64,
    /// NTP also runs at RA3's compute.
    pub ntp_at_ra3_compute: bool,
    /// RA3.
    pub ra3: Ra3Section,
}

/// RA3's loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ra3Section {
    /// Updates on the corpus' own comments as latents.
    pub cold_start_updates: u64,
    /// Rounds of E-step and M-step.
    pub rounds: u64,
    /// E-step updates of a round.
    pub e_updates: u64,
    /// Documents annotated in a round.
    pub annotate_documents: usize,
    /// M-step updates of a round.
    pub m_updates: u64,
    /// The parts of the method that are left out.
    pub ablation: AblationName,
    /// The search for latents.
    pub e_step: EStepSection,
    /// The choice of the M-step's data.
    pub m_step: MStepSection,
}

/// A named ablation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AblationName {
    /// The whole method.
    None,
    /// A think at every line (as LaTRO and RLP do).
    ThinkEveryLine,
    /// E-step only.
    NoEm,
    /// Cold start and M-step only (as TPT does).
    NoRl,
    /// Rationales of random tokens.
    RandomLatents,
}

/// The search for latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EStepSection {
    /// Documents of an update.
    pub batch_documents: usize,
    /// Rollouts of a document.
    pub group_size: usize,
    /// Longest rationale in tokens.
    pub rationale_tokens_max: usize,
    /// Lines whose reward counts for a decision; 0 for all to the end.
    pub horizon: usize,
    /// Discount of a line.
    pub discount: f32,
    /// What a switch costs.
    pub penalty: PenaltySection,
    /// Who scores the lines.
    pub scorer: ScorerName,
    /// What is subtracted from a return.
    pub baseline: BaselineName,
    /// Step size.
    pub learning_rate: f32,
    /// Temperature of the rollouts.
    pub temperature: f32,
    /// Updates on one batch of rollouts; above 1 the surrogate is clipped.
    pub updates_per_batch: usize,
    /// Clip range of the surrogate.
    pub clip: f32,
    /// Probability with which a rollout's decision is forced to think.
    pub think_floor: f32,
}

/// What a switch costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PenaltySection {
    /// A constant in nats; `inf` forbids thinking.
    SwitchCost {
        /// The cost.
        nats: f32,
    },
    /// The exact KL term of the bound.
    ExactKl {
        /// Prior probability of keeping the latent.
        alpha: f32,
    },
}

/// Who scores the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScorerName {
    /// The model as it is.
    Live,
    /// The model at the start of the E-step.
    Frozen,
}

/// What is subtracted from a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineName {
    /// The mean of the other rollouts at the same line.
    LeaveOneOut,
    /// The mean of all rollouts at the same line.
    GroupMean,
    /// Nothing.
    None,
}

/// The choice of the M-step's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MStepSection {
    /// Which of the drawn annotations are kept.
    pub choose: ChooseSection,
    /// Share of the data that keeps the corpus' own comments as latents.
    pub corpus_latents_share: f32,
    /// Loss weight of a line's token.
    pub line_weight: f32,
    /// Loss weight of a decision.
    pub decision_weight: f32,
    /// Loss weight of a rationale's token.
    pub rationale_weight: f32,
}

/// Which of the drawn annotations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChooseSection {
    /// One draw from q.
    Sample {},
    /// The best of a group by return.
    BestOf {
        /// Draws.
        group_size: usize,
    },
    /// All of a group, weighted by importance.
    ImportanceWeights {
        /// Draws.
        group_size: usize,
    },
}

/// What is measured of every arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSection {
    /// Samples of each problem.
    pub n_samples: usize,
    /// Sampling temperature of the programs.
    pub temperature: f32,
    /// The k of pass@k.
    pub pass_at: Vec<usize>,
    /// Held-out documents for bits per byte and bounds.
    pub n_documents: usize,
    /// The K of IWAE_K.
    pub iwae: Vec<usize>,
    /// Prior probability of keeping the latent, for the bounds.
    pub alpha: f32,
    /// Longest program in tokens, rationales included.
    pub program_tokens_max: usize,
    /// The table of pass@1 by forced decision is made too.
    pub decision_table: bool,
    /// Processes that grade.
    pub n_workers: usize,
    /// What must hold of the sandbox.
    pub confinement: ConfinementName,
}

/// What must hold of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfinementName {
    /// Refuse to run unless the kernel confines the program.
    Require,
    /// Take what the kernel offers, and record it.
    BestEffort,
    /// Limits only.
    Off,
}

/// RLVR from every arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlvrSection {
    /// Updates.
    pub n_updates: u64,
    /// Problems of an update.
    pub batch_problems: usize,
    /// Programs of a problem.
    pub group_size: usize,
    /// Step size.
    pub learning_rate: f32,
    /// Updates of linear warm-up.
    pub warmup: u64,
    /// Sampling temperature.
    pub temperature: f32,
    /// How rewards become advantages.
    pub advantage: AdvantageName,
    /// Groups whose programs all got the same reward are left out.
    pub drop_groups_without_signal: bool,
    /// Updates between two scores on the held-out problems.
    pub evaluate_every: u64,
    /// Samples of each problem in such a score.
    pub evaluate_samples: usize,
}

/// How rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageName {
    /// `(R − mean) / std`.
    Grpo,
    /// `R − mean`, constant length normaliser.
    DrGrpo,
    /// Leave-one-out.
    Rloo,
    /// GRPO with token-level normalisation and clip-higher.
    Dapo,
}
