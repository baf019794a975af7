//! Writing weights: one file, or shards above a size; tensor by tensor.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use ra3_files::WriteError;
use safetensors::tensor::{Dtype, View};

use super::{CONFIG, CheckpointError, INDEX, WEIGHTS};
use crate::model::config::{ModelConfig, Precision};
use crate::model::weights::{Tensor, Weights};

/// Size above which a checkpoint is cut into shards, as transformers has long cut it.
pub const SHARD_BYTES_MAX: usize = 5_000_000_000;

/// A tensor that becomes bytes when it is written.
struct Encoded<'a> {
    weights: &'a Weights,
    tensor: &'a Tensor,
    precision: Precision,
}

impl View for Encoded<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::Float32 => Dtype::F32,
            Precision::Bfloat16 => Dtype::BF16,
            Precision::Float16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.weights.vector(&self.tensor.range);
        let numbers = numbers.iter();
        Cow::Owned(match self.precision {
            Precision::Float32 => numbers.flat_map(|w| w.to_le_bytes()).collect(),
            Precision::Bfloat16 => numbers
                .flat_map(|w| bf16::from_f32(*w).to_le_bytes())
                .collect(),
            Precision::Float16 => numbers
                .flat_map(|w| f16::from_f32(*w).to_le_bytes())
                .collect(),
        })
    }

    fn data_len(&self) -> usize {
        self.tensor.range.len() * self.precision.n_bytes()
    }
}

/// Writes `config.json` and the weights. Numbers that the precision cannot hold are refused: they
/// would come back as infinite.
pub(crate) fn save_weights(
    folder: &Path,
    config: &ModelConfig,
    weights: &Weights,
    shard_bytes_max: usize,
) -> Result<(), CheckpointError> {
    let tensors = &weights.layout.tensors;
    if config.precision == Precision::Float16
        && let Some(tensor) = tensors.iter().find(|tensor| !fits_half(weights, tensor))
    {
        return Err(CheckpointError::Shape(
            folder.to_owned(),
            format!(
                "tensor {} has numbers beyond float16: write bfloat16 or float32",
                tensor.name
            ),
        ));
    }
    std::fs::create_dir_all(folder)
        .map_err(|source| CheckpointError::Write(folder.to_owned(), source))?;
    let json = serde_json::to_vec_pretty(&config.to_json()).expect("JSON is written as JSON");
    write(&folder.join(CONFIG), &json)?;
    let encoded = |tensor| Encoded {
        weights,
        tensor,
        precision: config.precision,
    };
    let shards = shards(tensors, config.precision.n_bytes(), shard_bytes_max);
    if shards.len() == 1 {
        let views = tensors.iter().map(|t| (t.name.as_str(), encoded(t)));
        return write_tensors(&folder.join(WEIGHTS), views);
    }
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        let tensors = &tensors[shard.clone()];
        let views = tensors.iter().map(|t| (t.name.as_str(), encoded(t)));
        write_tensors(&folder.join(&name), views)?;
        weight_map.extend(tensors.iter().map(|t| (&t.name, name.clone())));
    }
    let total_size = weights.layout.n_params() * config.precision.n_bytes();
    let index = serde_json::json!({
        "metadata": {"total_size": total_size},
        "weight_map": weight_map,
    });
    let json = serde_json::to_vec_pretty(&index).expect("JSON is written as JSON");
    write(&folder.join(INDEX), &json)
}

fn fits_half(weights: &Weights, tensor: &Tensor) -> bool {
    let numbers = weights.vector(&tensor.range);
    numbers
        .iter()
        .all(|number| f16::from_f32(*number).is_finite())
}

/// Consecutive tensors of at most so many bytes together; a larger one is alone.
fn shards(tensors: &[Tensor], number_bytes: usize, n_bytes_max: usize) -> Vec<Range<usize>> {
    let (mut shards, mut start, mut n_bytes) = (Vec::new(), 0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        let size = tensor.range.len() * number_bytes;
        if n_bytes > 0 && n_bytes + size > n_bytes_max {
            shards.push(start..index);
            (start, n_bytes) = (index, 0);
        }
        n_bytes += size;
    }
    shards.push(start..tensors.len());
    shards
}

pub(super) fn write_tensors<'a, V: View>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, V)>,
) -> Result<(), CheckpointError> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    ra3_files::write_with(path, |file| {
        safetensors::serialize_to_file(tensors, Some(metadata), file)
    })
    .map_err(failed)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    ra3_files::write(path, bytes).map_err(failed)
}

fn failed(error: WriteError) -> CheckpointError {
    CheckpointError::Write(error.path, error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_what_fits_and_at_least_one() {
        let mut end = 0;
        let tensors: Vec<Tensor> = [3, 4, 20, 1, 1]
            .iter()
            .map(|n| {
                end += n;
                Tensor {
                    name: String::new(),
                    shape: vec![*n],
                    range: end - n..end,
                }
            })
            .collect();
        assert_eq!(shards(&tensors, 2, 14), [0..2, 2..3, 3..5]);
        assert_eq!(shards(&tensors, 2, 100).len(), 1);
    }
}
