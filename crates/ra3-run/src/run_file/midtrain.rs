//! Sections of the run file: supervised updates, and RA3.

use ra3::settings::{EStepConfig, MStepConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Supervised updates: NTP, cold start and M-step.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisedSection {
    /// Documents of an update.
    pub batch_documents: usize,
    /// The documents of NTP; those of the cold start are `ra3.cold_start_documents`.
    pub ntp_documents: DocumentChoice,
    /// The largest step size; 0 moves nothing.
    pub peak: f32,
    /// Updates of linear warm-up; where there are fewer updates, the peak is not reached.
    pub warmup: u64,
    /// Share of the peak at which the step size ends: it falls along a half cosine over all
    /// supervised updates of an arm (RA3's are those of its cold start and its M-steps).
    pub floor_share: f32,
}

impl Default for SupervisedSection {
    fn default() -> Self {
        Self {
            batch_documents: 32,
            ntp_documents: DocumentChoice::All,
            peak: 2e-5,
            warmup: 10,
            floor_share: 0.1,
        }
    }
}

/// RA3's loop. What a comparison leaves out is a count of 0.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ra3Section {
    /// Updates on the corpus' own comments as latents; 0 for no cold start.
    pub cold_start_updates: u64,
    /// The documents of the cold start.
    pub cold_start_documents: DocumentChoice,
    /// Share of a cold start batch that is drawn among all documents for its lines alone: of these
    /// decisions and rationales are not learnt. It keeps a model from learning the few documents
    /// with comments by heart.
    pub cold_start_lines_share: f32,
    /// Rounds of E-step and M-step; 0 leaves the cold start alone.
    pub rounds: u64,
    /// Rounds at the beginning without an E-step: latents are chosen among draws there, and the
    /// search begins from a model whose rationales help more often than they harm.
    pub selection_rounds: u64,
    /// E-step updates of each other round; 0 searches for nothing.
    pub e_updates: u64,
    /// Documents annotated in a round, over and over where there are fewer; 0 only without M-step.
    pub annotate_documents: usize,
    /// M-step updates of a round; 0 for no M-step.
    pub m_updates: u64,
    /// Whether the optimizer's moments start anew with each phase.
    pub moments: MomentsName,
    /// The search for latents.
    pub e_step: EStepConfig,
    /// The choice of the M-step's data.
    pub m_step: MStepConfig,
}

impl Default for Ra3Section {
    fn default() -> Self {
        Self {
            cold_start_updates: 100,
            cold_start_documents: DocumentChoice::All,
            cold_start_lines_share: 0.0,
            rounds: 2,
            selection_rounds: 0,
            e_updates: 20,
            annotate_documents: 1280,
            m_updates: 40,
            moments: MomentsName::Shared,
            e_step: EStepConfig::default(),
            m_step: MStepConfig::default(),
        }
    }
}

/// Which documents are learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentChoice {
    /// All: after a cold start on them the model thinks as often as the corpus has comments.
    All,
    /// Those with comments: where they are rare the model still thinks often, and the E-step finds
    /// out where it pays. All, where none has any.
    WithComments,
}

/// Whether the optimizer's moments start anew with each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentsName {
    /// One set of moments goes through cold start, E-steps and M-steps.
    Shared,
    /// Each phase of each round begins with none.
    ByPhase,
}
