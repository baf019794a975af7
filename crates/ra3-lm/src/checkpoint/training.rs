//! A model in training: exact weights, and the optimizer's moments.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::read::{decode, map, parse};
use super::write::write_tensors;
use super::{CheckpointError, SHARD_BYTES_MAX, TRAINING, save_weights};
use crate::model::config::{ModelConfig, Precision};
use crate::model::weights::Weights;
use crate::train::adamw::{AdamW, Moments};

pub(crate) fn save_training(
    folder: &Path,
    config: &ModelConfig,
    weights: &Weights,
    optimizer: Option<&AdamW>,
) -> Result<(), CheckpointError> {
    let exact = ModelConfig {
        precision: Precision::Float32,
        ..config.clone()
    };
    save_weights(folder, &exact, weights, SHARD_BYTES_MAX)?;
    let Some(optimizer) = optimizer else {
        return Ok(());
    };
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let [first, second] = [0, 1].map(|which| bytes(&optimizer.moments.to_wide(which)));
    let n_steps = optimizer.n_steps.to_le_bytes();
    let view = |dtype, n, bytes| {
        TensorView::new(dtype, vec![n], bytes).expect("one element for each size of type")
    };
    let n = first.len() / size_of::<f32>();
    let tensors = [
        ("first", view(Dtype::F32, n, &first[..])),
        ("second", view(Dtype::F32, n, &second)),
        ("n_steps", view(Dtype::U64, 1, &n_steps)),
    ];
    write_tensors(&folder.join(TRAINING), tensors.into_iter())
}

pub(crate) fn load_optimizer(
    folder: &Path,
    n_params: usize,
    precision: Precision,
) -> Result<Option<AdamW>, CheckpointError> {
    let path = folder.join(TRAINING);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = map(&path)?;
    let file = parse(&path, &bytes)?;
    let shape = |reason: &str| CheckpointError::Shape(path.clone(), reason.to_owned());
    let mut both = [vec![0.0; n_params], vec![0.0; n_params]];
    for (name, place) in ["first", "second"].into_iter().zip(&mut both) {
        let view = file
            .tensor(name)
            .map_err(|_| shape("a moment is missing"))?;
        if view.shape() != [n_params] {
            return Err(shape("the moments are of another model"));
        }
        decode(&view, place).map_err(|_| shape("the moments are not f32"))?;
    }
    let view = file
        .tensor("n_steps")
        .map_err(|_| shape("n_steps is missing"))?;
    let n_steps = view
        .data()
        .try_into()
        .map_err(|_| shape("n_steps is not one u64"))?;
    Ok(Some(AdamW {
        n_steps: u64::from_le_bytes(n_steps),
        moments: Moments::from_wide(both, precision),
    }))
}
