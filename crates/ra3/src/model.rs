//! What a run asks of a model beside the seam: its shape, its files, and tokens that are added.
//!
//! An engine comes into the project by implementing [`Policy`] and this. The method itself asks for
//! a [`Policy`] alone.

use std::error::Error;
use std::path::Path;

use crate::policy::{Example, Objective, Policy, PolicyError, TokenId};
use crate::seed::Seed;

/// Why a model could not be read or written; it names the file.
pub type ModelError = Box<dyn Error + Send + Sync>;

/// What is known of a model without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of its vocabulary.
    pub n_vocabulary: usize,
    /// Tokens of its context.
    pub n_context: usize,
    /// Its parameters.
    pub n_params: usize,
    /// Those of them that every token is multiplied with, the projection to the vocabulary
    /// included: a token of training costs six times as many FLOPs.
    pub n_matmul_params: usize,
    /// Ends of text that its configuration names.
    pub stop_ids: Vec<TokenId>,
    /// True if the projection to the vocabulary is the embedding.
    pub is_tied: bool,
    /// True if its weights are kept at half the memory, to be run and not trained.
    pub is_half: bool,
}

/// What of a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A finished model, in the precision that its configuration names.
    Finished,
    /// The weights to the bit: a snapshot that a continued run compares with.
    Weights,
    /// The weights to the bit and the optimizer's state: what a continued run trains.
    State,
}

/// A language model of some engine.
pub trait Model: Policy {
    /// Its shape.
    fn shape(&self) -> Shape;

    /// Adds rows to the vocabulary, up to so many, near the mean of those that are there.
    fn grow_vocabulary(&mut self, n_vocabulary: usize, seed: Seed);

    /// Starts the rows of some tokens anew, as [`Self::grow_vocabulary`] starts added ones.
    fn restart_tokens(&mut self, tokens: &[TokenId], seed: Seed);

    /// Forgets the optimizer's state.
    fn reset_optimizer(&mut self);

    /// Forgets what training alone needs: the model is run and scored with from now on.
    fn freeze(&mut self);

    /// Runs a batch forward and backward and forgets the result: whether it fits is then known.
    ///
    /// # Errors
    /// As [`Policy::update`].
    fn rehearse(&self, batch: &[Example], objective: Objective) -> Result<(), PolicyError>;

    /// Writes the model into a folder in Hugging Face layout.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn save(&self, folder: &Path, saved: Saved) -> Result<(), ModelError>;

    /// Continues from what [`Self::save`] has written of a model of this shape.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not fit this model.
    fn load_state(&mut self, folder: &Path) -> Result<(), ModelError>;
}
