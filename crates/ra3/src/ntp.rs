//! Next-token prediction: the baseline, and what pretraining is.

use crate::interleave::{normalise, plain};
use crate::policy::{Example, Objective, Policy, PolicyError, Surrogate, UpdateStats};
use crate::trajectory::Trajectory;

/// One update on plain documents: the loss is the mean of `− log p` over all tokens but the first.
///
/// # Errors
/// As [`Policy::update`].
pub fn update(
    policy: &mut dyn Policy,
    batch: &[Trajectory],
    learning_rate: f32,
) -> Result<UpdateStats, PolicyError> {
    let mut examples: Vec<Example> = batch
        .iter()
        .map(|trajectory| plain(trajectory, 1.0))
        .collect();
    normalise(&mut examples);
    policy.update(
        &examples,
        Objective {
            surrogate: Surrogate::LogLikelihood,
            learning_rate,
        },
    )
}
