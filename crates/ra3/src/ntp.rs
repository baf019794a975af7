//! Next-token prediction: the baseline, and what pretraining is.

use crate::interleave::{normalise, plain};
use crate::policy::{Example, Objective, Policy, PolicyError, UpdateStats};
use crate::trajectory::Trajectory;

/// One update on plain documents: the loss is the mean of `− log p` over the lines' tokens, and
/// over the prefixes' with their weight.
///
/// # Errors
/// As [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    batch: &[Trajectory],
    prefix_weight: f32,
    learning_rate: f32,
) -> Result<UpdateStats, PolicyError> {
    let mut examples: Vec<Example> = batch
        .iter()
        .map(|trajectory| plain(trajectory, prefix_weight))
        .collect();
    normalise(&mut examples);
    policy.update(&examples, Objective::likelihood(learning_rate))
}
