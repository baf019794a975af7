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
pub struct Annotated {
    /// The document.
    pub trajectory: Trajectory,
    /// One a line; `None` where there was nothing to decide and nothing is written.
    pub latents: Vec<Option<Latent>>,
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

/// How latents are used in a set of annotated trajectories.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatentStats {
    /// Share of lines with a switch.
    pub think_rate: f64,
    /// Mean lines that a latent stays in force: the effective shortening of the horizon. The lines
    /// before a document's first switch count as one latent, the empty one.
    pub persistence: f64,
    /// Mean tokens of a rationale.
    pub rationale_tokens: f64,
}

impl LatentStats {
    /// Counts over trajectories.
    pub fn of<'a>(annotated: impl Iterator<Item = &'a Annotated>) -> Self {
        let (mut n_lines, mut n_thinks, mut n_tokens, mut n_empty) = (0usize, 0usize, 0usize, 0);
        for document in annotated {
            n_lines += document.latents.len();
            let first = document.latents.first();
            n_empty +=
                usize::from(first.is_some_and(|z| !z.as_ref().is_some_and(Latent::is_think)));
            for latent in document.latents.iter().flatten() {
                if let Latent::Switch { rationale, .. } = latent {
                    n_thinks += 1;
                    n_tokens += rationale.len();
                }
            }
        }
        Self {
            think_rate: n_thinks as f64 / n_lines.max(1) as f64,
            persistence: n_lines as f64 / (n_thinks + n_empty).max(1) as f64,
            rationale_tokens: n_tokens as f64 / n_thinks.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(latents: &[Latent]) -> Annotated {
        Annotated {
            trajectory: Trajectory {
                prefix: vec![0],
                lines: vec![vec![1]; latents.len()],
            },
            latents: latents.iter().cloned().map(Some).collect(),
        }
    }

    #[test]
    fn latents_are_counted_by_hand() {
        let think = |n: usize| Latent::Switch {
            rationale: vec![1; n],
            forced_close: false,
        };
        let keep = Latent::Keep;
        let first = document(&[think(3), keep.clone(), keep.clone(), think(1)]);
        let second = document(&[keep.clone(), keep.clone()]);
        let stats = LatentStats::of([&first, &second].into_iter());
        // Two switches in six lines; three latents, of which one is the second document's empty
        // one.
        assert_eq!(stats.think_rate, 2.0 / 6.0);
        assert_eq!(stats.persistence, 2.0);
        assert_eq!(stats.rationale_tokens, 2.0);
        // Documents without a switch do not run together.
        let silent = LatentStats::of([&second, &second].into_iter());
        assert_eq!((silent.think_rate, silent.persistence), (0.0, 2.0));
    }
}
