//! Reading weights: one file or shards, mapped, tensor by tensor.
//!
//! Of a file no more than the tensor that is being read is resident, so loading needs the memory
//! of the model and of one tensor. Every number is finite, or the tensor is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::foreign::{missing_weights, pointer};
use super::{CheckpointError, INDEX, WEIGHTS};
use crate::device::allocator::filled;
use crate::device::mapped::Mapped;
use crate::model::config::ModelConfig;
use crate::model::weights::{Layout, Tensor, Weights};

const NUMBERS_PER_TASK: usize = 1 << 16;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

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

/// Reads every tensor of the layout; a missing, extra or misshapen one is an error that names it,
/// and so is one with a number that is not finite.
///
/// A head of its own beside a configuration that ties it to the embedding is read, and the
/// configuration says so afterwards; transformers does the same.
pub(crate) fn load_weights(
    folder: &Path,
    config: &mut ModelConfig,
    in_memory: InMemory,
) -> Result<Weights, CheckpointError> {
    let files = open(folder)?;
    let parsed = files
        .maps
        .iter()
        .map(|(path, map)| parse(path, map))
        .collect::<Result<Vec<_>, _>>()?;
    if config.tie_word_embeddings && has_own_head(&parsed) {
        config.tie_word_embeddings = false;
    }
    let layout = Layout::new(config);
    check_names(&files, &parsed, &layout, config)?;
    let is_half = in_memory == InMemory::AsOnDisk
        && parsed
            .iter()
            .flat_map(SafeTensors::tensors)
            .all(|(_, view)| view.dtype() == Dtype::BF16);
    // Every shape is that of a file before there is memory for it.
    for tensor in &layout.tensors {
        find(&files, &parsed, tensor, config)?;
    }
    let n_params = layout.n_params();
    let (mut data, mut halves) = (Vec::new(), Vec::new());
    if is_half {
        halves = filled(bf16::ZERO, n_params);
    } else {
        data = filled(0.0, n_params);
    }
    for tensor in &layout.tensors {
        let (shard, view) = find(&files, &parsed, tensor, config)?;
        let n_odd = if is_half {
            let place = &mut halves[tensor.range.clone()];
            copy_halves(&view, place);
            n_not_finite(place, bf16::is_finite)
        } else {
            let place = &mut data[tensor.range.clone()];
            decode(&view, place).map_err(|dtype| {
                let reason = format!(
                    "tensor {} has type {dtype:?}, only F32, BF16 and F16 are read: write the \
                     model anew without quantization",
                    tensor.name
                );
                shape(&files.maps[shard].0, reason)
            })?;
            n_not_finite(place, f32::is_finite)
        };
        if n_odd > 0 {
            let (name, n) = (&tensor.name, tensor.range.len());
            let reason = format!(
                "tensor {name} has {n_odd} of {n} numbers that are not finite (NaN or infinite): \
                 the model diverged or the file is damaged; take another checkpoint"
            );
            return Err(shape(&files.maps[shard].0, reason));
        }
        files.maps[shard].1.forget(view.data());
    }
    Ok(if is_half {
        Weights::half(layout, halves)
    } else {
        Weights::wide(layout, data)
    })
}

fn n_not_finite<T: Copy + Sync>(numbers: &[T], is_finite: fn(T) -> bool) -> usize {
    numbers
        .par_chunks(NUMBERS_PER_TASK)
        .map(|part| part.iter().filter(|number| !is_finite(**number)).count())
        .sum()
}

/// True if there is a head beside the embedding, with other numbers.
fn has_own_head(parsed: &[SafeTensors<'_>]) -> bool {
    let view = |name| parsed.iter().find_map(|file| file.tensor(name).ok());
    match (view(EMBEDDING), view(HEAD)) {
        (Some(embedding), Some(head)) => {
            (head.dtype(), head.shape()) != (embedding.dtype(), embedding.shape())
                || head.data() != embedding.data()
        }
        _ => false,
    }
}

fn shape(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Shape(path.to_owned(), reason)
}

/// Maps the one file, or all that the index names.
fn open(folder: &Path) -> Result<Files, CheckpointError> {
    let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if !single.exists()
        && !index.exists()
        && let Some(reason) = missing_weights(folder)
    {
        return Err(shape(folder, reason));
    }
    if single.exists() || !index.exists() {
        let map = map(&single)?;
        return Ok(Files {
            path: single.clone(),
            maps: vec![(single, map)],
            place: None,
        });
    }
    let bytes =
        std::fs::read(&index).map_err(|source| CheckpointError::Read(index.clone(), source))?;
    let parsed: Index = serde_json::from_slice(&bytes)
        .map_err(|source| CheckpointError::Index(index.clone(), source))?;
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
    let fail = |source| CheckpointError::Read(path.to_owned(), source);
    // A FIFO would hang.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(shape(path, "this is no file".to_owned()));
    }
    Mapped::open(path).map_err(fail)
}

pub(super) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    if let Some(reason) = pointer(bytes) {
        return Err(shape(path, reason));
    }
    SafeTensors::deserialize(bytes)
        .map_err(|source| CheckpointError::Damaged(path.to_owned(), source))
}

fn find<'a>(
    files: &Files,
    parsed: &[SafeTensors<'a>],
    tensor: &Tensor,
    config: &ModelConfig,
) -> Result<(usize, TensorView<'a>), CheckpointError> {
    let name = &tensor.name;
    let missing = |path: &Path| {
        let mut reason = format!("tensor {name} is missing");
        if name == HEAD {
            reason +=
                ": if the head is the embedding, tie_word_embeddings in config.json must say so";
        }
        shape(path, reason)
    };
    let in_shard = |name: &str| match &files.place {
        None => Some(0),
        Some(place) => place.get(name).copied(),
    };
    let mut stored = name.as_str();
    let is_there = |name: &str| in_shard(name).is_some_and(|i| parsed[i].tensor(name).is_ok());
    // Of two tied tensors, some writers keep the head.
    if config.tie_word_embeddings && stored == EMBEDDING && !is_there(EMBEDDING) && is_there(HEAD) {
        stored = HEAD;
    }
    let shard = in_shard(stored).ok_or_else(|| missing(&files.path))?;
    let path = &files.maps[shard].0;
    let view = parsed[shard].tensor(stored).map_err(|_| missing(path))?;
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
            || (config.tie_word_embeddings && name == HEAD)
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
