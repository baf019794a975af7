//! Reading weights: one file or shards, mapped, tensor by tensor.
//!
//! Of a file no more than the tensor that is being read is resident, so loading needs the memory
//! of the model and of one tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::{CheckpointError, INDEX, WEIGHTS};
use crate::device::mapped::Mapped;
use crate::model::config::ModelConfig;
use crate::model::weights::{Layout, Tensor, Weights};

const NUMBERS_PER_TASK: usize = 1 << 16;

/// How weights stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InMemory {
    /// `f32`, to be trained.
    Wide,
    /// `bf16` where every tensor on disk is that, else `f32`.
    AsOnDisk,
}

/// The files of a checkpoint.
struct Files {
    /// What errors about the whole name.
    path: PathBuf,
    maps: Vec<(PathBuf, Mapped)>,
    /// Index into `maps` by tensor, where there is an index of shards.
    place: Option<BTreeMap<String, usize>>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads every tensor of the layout; a missing, extra or misshapen one is an error that names it.
pub(crate) fn load_weights(
    folder: &Path,
    config: &ModelConfig,
    in_memory: InMemory,
) -> Result<Weights, CheckpointError> {
    let files = open(folder)?;
    let layout = Layout::new(config);
    let parsed = files
        .maps
        .iter()
        .map(|(path, map)| parse(path, map))
        .collect::<Result<Vec<_>, _>>()?;
    check_names(&files, &parsed, &layout, config)?;
    let is_half = in_memory == InMemory::AsOnDisk
        && parsed
            .iter()
            .flat_map(SafeTensors::tensors)
            .all(|(_, view)| view.dtype() == Dtype::BF16);
    let mut weights = Weights::wide(layout, Vec::new());
    let n_params = weights.layout.n_params();
    if is_half {
        weights.halves = vec![bf16::ZERO; n_params];
    } else {
        weights.data = vec![0.0; n_params];
    }
    let Weights {
        layout,
        data,
        halves,
    } = &mut weights;
    for tensor in &layout.tensors {
        let (shard, view) = find(&files, &parsed, tensor)?;
        if is_half {
            copy_halves(&view, &mut halves[tensor.range.clone()]);
        } else {
            decode(&view, &mut data[tensor.range.clone()]).map_err(|dtype| {
                let reason = format!("tensor {} has type {dtype:?}", tensor.name);
                shape(&files.maps[shard].0, reason)
            })?;
        }
        files.maps[shard].1.forget(view.data());
    }
    Ok(weights)
}

fn shape(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Shape {
        path: path.to_owned(),
        reason,
    }
}

/// Maps the one file, or all that the index names.
fn open(folder: &Path) -> Result<Files, CheckpointError> {
    let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if single.exists() || !index.exists() {
        let map = map(&single)?;
        return Ok(Files {
            path: single.clone(),
            maps: vec![(single, map)],
            place: None,
        });
    }
    let bytes = std::fs::read(&index).map_err(|source| CheckpointError::Read {
        path: index.clone(),
        source,
    })?;
    let parsed: Index =
        serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Index {
            path: index.clone(),
            source,
        })?;
    let names: BTreeSet<&String> = parsed.weight_map.values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(shape(
            &index,
            format!("{name:?} is not a file of this folder"),
        ));
    }
    let maps = names
        .iter()
        .map(|name| Ok((folder.join(name), map(&folder.join(name))?)))
        .collect::<Result<Vec<_>, CheckpointError>>()?;
    let names: Vec<&String> = names.into_iter().collect();
    let place = parsed.weight_map.iter().map(|(tensor, name)| {
        let shard = names.binary_search(&name).expect("collected just now");
        (tensor.clone(), shard)
    });
    Ok(Files {
        path: index,
        place: Some(place.collect()),
        maps,
    })
}

pub(super) fn map(path: &Path) -> Result<Mapped, CheckpointError> {
    Mapped::open(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|source| CheckpointError::Damaged {
        path: path.to_owned(),
        source,
    })
}

fn find<'a>(
    files: &Files,
    parsed: &[SafeTensors<'a>],
    tensor: &Tensor,
) -> Result<(usize, TensorView<'a>), CheckpointError> {
    let name = &tensor.name;
    let missing = |path: &Path| shape(path, format!("tensor {name} is missing"));
    let shard = match &files.place {
        None => 0,
        Some(place) => *place.get(name).ok_or_else(|| missing(&files.path))?,
    };
    let path = &files.maps[shard].0;
    let view = parsed[shard].tensor(name).map_err(|_| missing(path))?;
    if view.shape() != tensor.shape {
        let (found, wanted) = (view.shape(), &tensor.shape);
        let reason = format!("tensor {name} is {found:?}, config.json says {wanted:?}");
        return Err(shape(path, reason));
    }
    Ok((shard, view))
}

/// Nothing may be there that is not part of the architecture.
fn check_names(
    files: &Files,
    parsed: &[SafeTensors<'_>],
    layout: &Layout,
    config: &ModelConfig,
) -> Result<(), CheckpointError> {
    let known: BTreeSet<&str> = layout.tensors.iter().map(|t| t.name.as_str()).collect();
    // Some writers keep a copy of the tied projection, older ones the rotary frequencies.
    let is_known = |name: &str| {
        known.contains(name)
            || (config.tie_word_embeddings && name == "lm_head.weight")
            || name.ends_with("rotary_emb.inv_freq")
    };
    for ((path, _), file) in files.maps.iter().zip(parsed) {
        if let Some(name) = file.names().into_iter().find(|name| !is_known(name)) {
            let reason = format!("tensor {name} is not part of this architecture");
            return Err(shape(path, reason));
        }
    }
    Ok(())
}

fn copy_halves(view: &TensorView<'_>, place: &mut [bf16]) {
    place
        .par_chunks_mut(NUMBERS_PER_TASK)
        .zip(view.data().par_chunks(2 * NUMBERS_PER_TASK))
        .for_each(|(place, bytes)| {
            for (w, b) in place.iter_mut().zip(bytes.chunks_exact(2)) {
                *w = bf16::from_le_bytes([b[0], b[1]]);
            }
        });
}

/// Widens a tensor's numbers; the error is a type that is none of the three.
pub(super) fn decode(view: &TensorView<'_>, place: &mut [f32]) -> Result<(), Dtype> {
    let (size, widen): (usize, fn(&[u8]) -> f32) = match view.dtype() {
        Dtype::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Dtype::BF16 => (2, |b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        Dtype::F16 => (2, |b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
        other => return Err(other),
    };
    place
        .par_chunks_mut(NUMBERS_PER_TASK)
        .zip(view.data().par_chunks(size * NUMBERS_PER_TASK))
        .for_each(|(place, bytes)| {
            for (w, b) in place.iter_mut().zip(bytes.chunks_exact(size)) {
                *w = widen(b);
            }
        });
    Ok(())
}
