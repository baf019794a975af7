//! `ra3 doctor --engine torch`: what PyTorch is here, how far from the native engine it computes on
//! a model, and how fast both are.
//!
//! Each engine scores a document, continues it, runs it forward and backward, takes one update from
//! it and scores it again. The models are in memory one after the other; nothing is written.
//! Of several processes each has a part of the document, so that all of them work.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use ra3::model::Model;
use ra3::policy::{Example, Objective, TokenId};
use ra3::seed::Seed;
use ra3_lm::config::ModelConfig;
use ra3_text::tokenizer::Tokenizer;
use ra3_torch::About;
use serde::Serialize;

use super::{Examination, N_CONTINUED, Writer, document, rate, text_of};
use crate::engine::Engines;
use crate::event::{Event, Watcher};
use crate::model::folder_of;
use crate::run_file::{EngineSection, TorchSection, TrainingSection};

/// Tokens of the document where nothing is said.
const N_TOKENS: usize = 512;
/// What float32 scores may differ by, in nats.
const FAR: f64 = 1e-3;
const OBJECTIVE: Objective = Objective::likelihood(1e-5);

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TorchCheckup {
    /// Where the model lies.
    pub folder: PathBuf,
    /// Versions, the device, and the GPUs.
    pub about: About,
    /// Tokens of the document.
    pub n_tokens: usize,
    /// The largest difference between the log-probabilities of a token, in nats.
    pub largest_difference: f64,
    /// The same after an update.
    pub largest_difference_updated: f64,
    /// Norm of the gradient: by PyTorch, by the native engine.
    pub gradient_norm: [f64; 2],
    /// By PyTorch.
    pub torch: Speed,
    /// By the native engine.
    pub native: Speed,
    /// What a user should know before relying on it.
    pub warnings: Vec<String>,
}

/// Tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Scored, of one document.
    pub reads: f64,
    /// Written one after the other, in one row.
    pub writes: f64,
    /// Forward and backward, of one document.
    pub trains: f64,
}

/// Examines PyTorch on a model. `section` is that of a run file.
///
/// # Errors
/// The model cannot be found or loaded, there is no worker, or a pass fails.
pub fn examine(
    name: &Path,
    section: &TorchSection,
    examination: &Examination,
    watcher: &mut Watcher<'_>,
) -> Result<TorchCheckup> {
    let folder = folder_of(name, watcher)?;
    let path = folder.join("tokenizer.json");
    let tokenizer =
        Tokenizer::load(&path).with_context(|| format!("cannot load {}", path.display()))?;
    let n_context = ModelConfig::load(&folder.join("config.json"))?.max_position_embeddings;
    let n_max = examination.train_tokens.unwrap_or(N_TOKENS);
    let n_max = n_max.min(n_context.saturating_sub(N_CONTINUED));
    let (document, _) = document(&tokenizer, &text_of(examination)?, n_max);
    let n_tokens = document.tokens.len();
    let parts = parts_of(&document, section.processes);
    let log = tempfile::tempdir().context("a folder for the worker's log")?;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let training = TrainingSection {
        micro_batch_tokens: n_max,
        ..TrainingSection::default()
    };
    let seed = Seed::root(0);
    let engine = |section: EngineSection| {
        Engines::new(&section, seed, n_threads, log.path()).engine(&training)
    };
    let torch = engine(EngineSection::Torch(section.clone()));
    watcher(Event::Note("starting PyTorch".to_owned()));
    let about = torch.start()?.context("engine.kind is not \"torch\"")?;
    watcher(Event::Note("the native engine".to_owned()));
    let native = passes(
        &mut *engine(EngineSection::Native {}).load(&folder)?,
        &parts,
    )?;
    watcher(Event::Note(format!("PyTorch on {}", about.device)));
    let found = passes(&mut *torch.load(&folder)?, &parts)?;
    let largest_difference = largest_difference(&found.scores, &native.scores);
    let is_exact = section.dtype.n_bytes() == 4;
    let mut warnings = Vec::new();
    if is_exact && (largest_difference > FAR || largest_difference.is_nan()) {
        warnings.push(format!(
            "scores in float32 should differ by less than {FAR} nats: one of the engines computes \
             something else here"
        ));
    }
    Ok(TorchCheckup {
        folder,
        about,
        n_tokens,
        largest_difference,
        largest_difference_updated: self::largest_difference(&found.updated, &native.updated),
        gradient_norm: [found.gradient_norm, native.gradient_norm],
        torch: found.speed,
        native: native.speed,
        warnings,
    })
}

/// So many parts of a document, each a sequence of its own, whose weights are those of an update.
fn parts_of(document: &Example, n_parts: usize) -> Vec<Example> {
    // A part has a token to begin with, and one to score.
    let n_each = document.tokens.len().div_ceil(n_parts).max(2);
    let part = |(tokens, weights): (&[TokenId], &[f32])| {
        let mut weights = weights.to_vec();
        weights[0] = 0.0;
        Example::plain(tokens.to_vec(), weights)
    };
    let cut = document.tokens.chunks(n_each);
    let mut parts: Vec<Example> = cut.zip(document.weights.chunks(n_each)).map(part).collect();
    // Weights of an update are normalised.
    let weights = || parts.iter().flat_map(|part| &part.weights);
    let n_targets = weights().filter(|weight| **weight != 0.0).count().max(1);
    for weight in parts.iter_mut().flat_map(|part| &mut part.weights) {
        *weight /= n_targets as f32;
    }
    parts
}

/// What an engine made of a document.
struct Passes {
    scores: Vec<f32>,
    gradient_norm: f64,
    updated: Vec<f32>,
    speed: Speed,
}

fn passes(lm: &mut dyn Model, batch: &[Example]) -> Result<Passes> {
    let tokens: Vec<TokenId> = batch.iter().flat_map(|part| part.tokens.clone()).collect();
    let n = tokens.len();
    let score = |lm: &dyn Model| -> Result<(Vec<f32>, f64)> {
        let began = Instant::now();
        let (scores, _) = lm.score(batch)?;
        Ok((scores.concat(), rate(n, began.elapsed().as_secs_f64())))
    };
    // The first passes of a device are slow.
    score(lm)?;
    let (scores, reads) = score(lm)?;
    let mut writer = Writer::new(tokens);
    lm.run(&mut [&mut writer], Seed::root(0))?;
    lm.rehearse(batch, OBJECTIVE)?;
    let began = Instant::now();
    lm.rehearse(batch, OBJECTIVE)?;
    let trains = rate(n, began.elapsed().as_secs_f64());
    let gradient_norm = lm.update(batch, OBJECTIVE)?.gradient_norm;
    Ok(Passes {
        scores,
        gradient_norm,
        updated: score(lm)?.0,
        speed: Speed {
            reads,
            writes: rate(writer.n_written, writer.seconds),
            trains,
        },
    })
}

fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    // One that is no number is the largest.
    differences.fold(0.0, |most: f64, next| {
        let is_less = next <= most || most.is_nan();
        if is_less { most } else { next }
    })
}

impl TorchCheckup {
    /// For a reader.
    pub fn to_text(&self) -> String {
        let about = &self.about;
        let gpu = |gpu: &ra3_torch::Gpu| {
            let ra3_torch::Gpu {
                name,
                memory_mib,
                free_mib,
            } = gpu;
            format!("{name}, {memory_mib} MiB, {free_mib} free")
        };
        let gpus: Vec<String> = about.gpus.iter().map(gpu).collect();
        let speed = |speed: &Speed| {
            format!(
                "reads {:.0} tokens/s, writes {:.1}, trains {:.0}",
                speed.reads, speed.writes, speed.trains
            )
        };
        let [found, expected] = self.gradient_norm;
        let rows = [
            ("folder", self.folder.display().to_string()),
            ("engine", about.to_string()),
            (
                "GPUs",
                if gpus.is_empty() {
                    "none".to_owned()
                } else {
                    gpus.join("; ")
                },
            ),
            (
                "forward",
                format!(
                    "log-probabilities of {} tokens ≤ {:.1e} nats from the native engine's",
                    self.n_tokens, self.largest_difference
                ),
            ),
            (
                "backward",
                format!("norm {found:.6} and natively {expected:.6}"),
            ),
            (
                "after an update",
                format!("≤ {:.1e} nats", self.largest_difference_updated),
            ),
            ("torch", speed(&self.torch)),
            ("native", speed(&self.native)),
        ];
        let notes = self.warnings.iter().map(|text| ("note", text.clone()));
        let mut text = String::new();
        for (name, value) in rows.into_iter().chain(notes) {
            let _ = writeln!(text, "{name:<15} {value}");
        }
        text
    }
}
