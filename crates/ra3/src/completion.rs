//! A program that was written for a prompt, with the markers that are deleted before it is run. It
//! neither samples nor grades.

use crate::interleave::strip;
use crate::policy::TokenId;
use crate::trace::Trace;
use crate::trajectory::Markers;

/// A program that was written for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Prompt and program, token by token.
    pub trace: Trace,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// True if the program ended with an end of text, not at a limit.
    pub ended: bool,
    /// What is deleted.
    pub markers: Option<Markers>,
}

impl Completion {
    /// A prompt for which nothing is written yet.
    pub(crate) fn begin(prompt: &[TokenId], markers: Option<Markers>) -> Self {
        let mut trace = Trace::default();
        trace.force(prompt);
        Self {
            trace,
            n_prompt: prompt.len(),
            ended: false,
            markers,
        }
    }

    /// Appends a line that was sampled, and whose latent begins at `start`; any of `stops` at its
    /// end ends the program.
    pub(crate) fn end_line(
        &mut self,
        start: usize,
        tokens: &[TokenId],
        logprobs: &[f32],
        stops: &[TokenId],
    ) {
        let write = |trace: &mut Trace| trace.draw(tokens, logprobs);
        self.trace.end_line(start, write);
        self.ended = tokens.last().is_some_and(|token| stops.contains(token));
    }

    /// The program as the model wrote it, markers included, without the end of text.
    pub fn raw(&self) -> &[TokenId] {
        let end = self.trace.tokens.len() - usize::from(self.ended);
        &self.trace.tokens[self.n_prompt..end]
    }

    /// The program without decisions and rationales.
    pub fn program(&self) -> Vec<TokenId> {
        match &self.markers {
            Some(markers) => strip(self.raw(), markers),
            None => self.raw().to_vec(),
        }
    }

    /// Number of tokens that were written, the end of text included.
    pub fn n_written(&self) -> usize {
        self.trace.tokens.len() - self.n_prompt
    }
}
