//! Checkpoint folders in Hugging Face layout: `config.json`, `model.safetensors` and, for a model
//! in training, `training_state.safetensors`.
//!
//! Files are written under a temporary name and renamed. Sharded checkpoints are not read.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::model::config::ModelConfig;
use crate::model::weights::{Layout, Weights};
use crate::train::adamw::AdamW;

const WEIGHTS: &str = "model.safetensors";
const TRAINING: &str = "training_state.safetensors";

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `config.json` is not one of a known architecture.
    #[error("{path} is not the configuration of a Qwen2 or Llama model")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file contradicts itself or `config.json`.
    #[error("{path}: {reason}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// A file is no safetensors file, or is cut short.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: safetensors::SafeTensorError,
    },
}

/// Reads every tensor of the layout; a missing, extra or misshapen one is an error that names it.
pub(crate) fn load_weights(
    folder: &Path,
    config: &ModelConfig,
) -> Result<Weights, CheckpointError> {
    let path = folder.join(WEIGHTS);
    let layout = Layout::new(config);
    let bytes = read(&path)?;
    let file = parse(&path, &bytes)?;
    let mut data = vec![0.0; layout.n_params()];
    let shape = |reason| CheckpointError::Shape {
        path: path.clone(),
        reason,
    };
    for tensor in &layout.tensors {
        let view = file
            .tensor(&tensor.name)
            .map_err(|_| shape(format!("tensor {} is missing", tensor.name)))?;
        if view.shape() != tensor.shape {
            let (name, found, wanted) = (&tensor.name, view.shape(), &tensor.shape);
            return Err(shape(format!(
                "tensor {name} is {found:?}, config.json says {wanted:?}"
            )));
        }
        decode(&view, &mut data[tensor.range.clone()])
            .map_err(|dtype| shape(format!("tensor {} has type {dtype:?}", tensor.name)))?;
    }
    // Some writers keep a copy of the tied projection.
    let known = |name: &str| {
        layout.tensors.iter().any(|tensor| tensor.name == name)
            || (config.tie_word_embeddings && name == "lm_head.weight")
    };
    match file.names().into_iter().find(|name| !known(name)) {
        Some(name) => Err(shape(format!(
            "tensor {name} is not part of this architecture"
        ))),
        None => Ok(Weights { layout, data }),
    }
}

pub(crate) fn save_weights(
    folder: &Path,
    config: &ModelConfig,
    weights: &Weights,
) -> Result<(), CheckpointError> {
    create(folder)?;
    let json = serde_json::to_vec_pretty(config).expect("a configuration has only plain fields");
    write(&folder.join("config.json"), &json)?;
    let in_bf16 = config.torch_dtype == "bfloat16";
    let (dtype, encoded): (_, Vec<u8>) = if in_bf16 {
        (
            Dtype::BF16,
            weights
                .data
                .iter()
                .flat_map(|w| bf16::from_f32(*w).to_le_bytes())
                .collect(),
        )
    } else {
        (
            Dtype::F32,
            weights.data.iter().flat_map(|w| w.to_le_bytes()).collect(),
        )
    };
    let size = encoded.len() / weights.data.len().max(1);
    let tensors: Vec<(String, TensorView<'_>)> = weights
        .layout
        .tensors
        .iter()
        .map(|tensor| {
            let bytes = &encoded[tensor.range.start * size..tensor.range.end * size];
            let view = TensorView::new(dtype, tensor.shape.clone(), bytes)
                .expect("the layout's shapes fill its ranges");
            (tensor.name.clone(), view)
        })
        .collect();
    write_tensors(&folder.join(WEIGHTS), tensors)
}

pub(crate) fn save_training(
    folder: &Path,
    config: &ModelConfig,
    weights: &Weights,
    optimizer: Option<&AdamW>,
) -> Result<(), CheckpointError> {
    let exact = ModelConfig {
        torch_dtype: "float32".to_owned(),
        ..config.clone()
    };
    save_weights(folder, &exact, weights)?;
    let Some(optimizer) = optimizer else {
        return Ok(());
    };
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (first, second) = (bytes(&optimizer.first), bytes(&optimizer.second));
    let n_steps = optimizer.n_steps.to_le_bytes();
    let view = |dtype, n, bytes| {
        TensorView::new(dtype, vec![n], bytes).expect("one element for each size of type")
    };
    let n = optimizer.first.len();
    let tensors = vec![
        ("first".to_owned(), view(Dtype::F32, n, &first)),
        ("second".to_owned(), view(Dtype::F32, n, &second)),
        ("n_steps".to_owned(), view(Dtype::U64, 1, &n_steps)),
    ];
    write_tensors(&folder.join(TRAINING), tensors)
}

pub(crate) fn load_optimizer(
    folder: &Path,
    n_params: usize,
) -> Result<Option<AdamW>, CheckpointError> {
    let path = folder.join(TRAINING);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(&path)?;
    let file = parse(&path, &bytes)?;
    let shape = |reason: &str| CheckpointError::Shape {
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let mut adam = AdamW::new(n_params);
    for (name, place) in [("first", &mut adam.first), ("second", &mut adam.second)] {
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
    adam.n_steps = u64::from_le_bytes(n_steps);
    Ok(Some(adam))
}

fn decode(view: &TensorView<'_>, place: &mut [f32]) -> Result<(), Dtype> {
    let bytes = view.data();
    let quads = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut pairs = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype() {
        Dtype::F32 => place
            .iter_mut()
            .zip(quads)
            .for_each(|(w, value)| *w = value),
        Dtype::BF16 => place
            .iter_mut()
            .zip(&mut pairs)
            .for_each(|(w, b)| *w = bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => {
            place
                .iter_mut()
                .zip(&mut pairs)
                .for_each(|(w, b)| *w = f16::from_le_bytes(b).to_f32());
        }
        other => return Err(other),
    }
    Ok(())
}

fn read(path: &Path) -> Result<Cow<'static, [u8]>, CheckpointError> {
    std::fs::read(path)
        .map(Cow::Owned)
        .map_err(|source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        })
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(bytes).map_err(|source| CheckpointError::Damaged {
        path: path.to_owned(),
        source,
    })
}

fn create(folder: &Path) -> Result<(), CheckpointError> {
    std::fs::create_dir_all(folder).map_err(|source| CheckpointError::Write {
        path: folder.to_owned(),
        source,
    })
}

fn write_tensors(
    path: &Path,
    tensors: Vec<(String, TensorView<'_>)>,
) -> Result<(), CheckpointError> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|source| {
        CheckpointError::Damaged {
            path: path.to_owned(),
            source,
        }
    })?;
    write(path, &bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = path.with_extension("writing");
    let done = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    done.map_err(|source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    })
}
