//! The nouns of the method: a trajectory of line-actions, the latents before its lines, and the
//! interleaved token sequence that a model is trained on.
//!
//! Everything is token ids: a line's ids are cut once, and nothing is decoded and encoded again.

use crate::policy::TokenId;

/// The token ids that structure an interleaved sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markers {
    /// `<act>`: keep the latent.
    pub act: TokenId,
    /// `<think>`: switch to the rationale that follows.
    pub think: TokenId,
    /// `</think>`: the end of a rationale.
    pub close: TokenId,
    /// End of document. It is an action of its own, the last of every complete trajectory.
    pub end: TokenId,
}

/// A line-action: the ids of one line up to and including the token that ends with its newline,
/// or the single id [`Markers::end`].
pub type Line = Vec<TokenId>;

/// A document of expert code: a prefix `s_0` and the expert's lines `a_0 … a_{T-1}`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Trajectory {
    /// `s_0`: never empty (a document without a prefix starts with a begin or end marker).
    pub prefix: Vec<TokenId>,
    /// `a_0 … a_{T-1}`.
    pub lines: Vec<Line>,
}

impl Trajectory {
    /// Number of tokens of prefix and lines.
    pub fn n_tokens(&self) -> usize {
        self.prefix.len() + self.lines.iter().map(Vec::len).sum::<usize>()
    }
}

/// What is decided before a line: `z_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Latent {
    /// `<act>`: `z_t = z_{t-1}`.
    Keep,
    /// `<think> rationale </think>`.
    Switch {
        /// The rationale's ids, without its markers.
        rationale: Vec<TokenId>,
        /// True if `</think>` was forced at the length limit: it then carries no gradient.
        forced_close: bool,
    },
}

impl Latent {
    /// True for a switch.
    pub fn is_think(&self) -> bool {
        matches!(self, Self::Switch { .. })
    }

    /// True for a switch whose `</think>` was forced.
    pub fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::Switch {
                forced_close: true,
                ..
            }
        )
    }

    /// Tokens of the latent, markers included.
    pub fn n_tokens(&self) -> usize {
        match self {
            Self::Keep => 1,
            Self::Switch { rationale, .. } => rationale.len() + 2,
        }
    }

    /// Appends the latent's tokens, markers included.
    pub fn write(&self, markers: &Markers, tokens: &mut Vec<TokenId>) {
        match self {
            Self::Keep => tokens.push(markers.act),
            Self::Switch { rationale, .. } => {
                tokens.push(markers.think);
                tokens.extend_from_slice(rationale);
                tokens.push(markers.close);
            }
        }
    }
}

/// A trajectory with the latent before each of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Annotated {
    /// The document.
    pub trajectory: Trajectory,
    /// One a line; `None` where there was nothing to decide and nothing is written.
    pub latents: Vec<Option<Latent>>,
}

impl Annotated {
    /// True if a rationale stands before one of its lines.
    pub fn has_rationale(&self) -> bool {
        self.latents.iter().flatten().any(Latent::is_think)
    }
}

/// A document of the corpus, with its own comments as latents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The code without the comments that became latents, and those latents.
    pub annotated: Annotated,
    /// Tokens of the document as it stands in the corpus, comments included: the *corpus tokens* of
    /// every budget, the same whatever a method makes of the document.
    pub n_corpus_tokens: u64,
}

impl Document {
    /// The code alone.
    pub fn trajectory(self) -> Trajectory {
        self.annotated.trajectory
    }
}
