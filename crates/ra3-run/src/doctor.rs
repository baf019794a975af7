//! `ra3 doctor`: what a checkpoint is, whether its parts agree, and what it can do on this machine.
//!
//! It loads the model, scores a document, continues it, and, if asked, takes one training step;
//! nothing is written. [`torch`] compares the second engine with the native one.

pub mod torch;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use ra3::model::Shape;
use ra3::policy::{Episode, Example, Move, Objective, Observation, SampleRule, TokenId};
use ra3::seed::Seed;
use ra3_lm::TrainSettings;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::memory::{RunMemory, UpdateMemory};
use ra3_records::clock::peak_rss_mib;
use ra3_text::chat_template::{Chat, message};
use ra3_text::tokenizer::Tokenizer;
use serde::Serialize;

use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::free_memory::free_bytes;
use crate::model::{Loaded, folder_of};
use crate::on_disk::read_text;

/// Scored where no document is given.
const DOCUMENT: &str = include_str!("doctor/document.py");
const N_CONTINUED: usize = 32;
const MIB: usize = 1 << 20;

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// The document to score; a small program of our own without one.
    pub document: Option<PathBuf>,
    /// Tokens of a training step; none is taken without.
    pub train_tokens: Option<usize>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checkup {
    /// Where the model lies.
    pub folder: PathBuf,
    /// `architectures` of its `config.json`.
    pub architecture: String,
    /// Number of parameters.
    pub n_params: u64,
    /// Precision on disk, and in memory when it is run.
    pub precision: [Precision; 2],
    /// Longest sequence.
    pub context: usize,
    /// Base of the rotary frequencies and what is done to them.
    pub rope: String,
    /// The projection to the vocabulary is the embedding.
    pub is_tied: bool,
    /// Rows of the embedding on disk.
    pub n_rows: usize,
    /// Tokens of the tokenizer with the markers.
    pub n_tokens: usize,
    /// What is put before a text; nothing for many models.
    pub begin: String,
    /// What ends a text.
    pub ends: Vec<String>,
    /// A greeting as the chat template renders it.
    pub chat: Option<String>,
    /// Of the document that was scored.
    pub bits_per_byte: f64,
    /// Tokens a second: reading, and writing one after the other.
    pub tokens_per_second: [f64; 2],
    /// What running it was estimated to need.
    pub run_mib: usize,
    /// What a training step needs with activations kept, and computed again.
    pub train_mib: [usize; 2],
    /// What this machine has left.
    pub available_mib: Option<usize>,
    /// Peak of this process after running.
    pub peak_mib: u64,
    /// The training step, if one was asked for.
    pub train_step: Option<TrainStep>,
    /// What a user should know before relying on it.
    pub warnings: Vec<String>,
}

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainStep {
    /// Tokens of its batch.
    pub n_tokens: usize,
    /// Seconds, the second time (the first makes the optimizer's moments).
    pub seconds: f64,
    /// Loss before each of two steps.
    pub loss: [f64; 2],
    /// What it was estimated to need.
    pub estimated_mib: usize,
    /// Peak of this process.
    pub peak_mib: u64,
}

/// Examines a model.
///
/// # Errors
/// The model cannot be found or loaded, or a step fails.
pub fn examine(
    name: &Path,
    examination: &Examination,
    watcher: &mut Watcher<'_>,
) -> Result<Checkup> {
    let folder = folder_of(name, watcher)?;
    let on_disk = ModelConfig::load(&folder.join("config.json"))?;
    watcher(Event::Note(format!("loading {}", folder.display())));
    let model = Loaded::load(&folder, watcher)?;
    let text = text_of(examination)?;
    watcher(Event::Note(
        "scoring a document and continuing it".to_owned(),
    ));
    let reading = read(&model, &text)?;
    let mut checkup = describe(&model, &on_disk, &reading);
    drop(model);
    if let Some(n_tokens) = examination.train_tokens {
        watcher(Event::Note(format!(
            "two training steps of {n_tokens} tokens"
        )));
        checkup.train_step = Some(train_step(&folder, &on_disk, n_tokens)?);
    }
    Ok(checkup)
}

/// The document's text.
fn text_of(examination: &Examination) -> Result<String> {
    let text = match &examination.document {
        None => DOCUMENT.to_owned(),
        Some(path) => read_text(path)?,
    };
    ensure!(
        !text.is_empty(),
        "the document is empty: there is nothing to score"
    );
    Ok(text)
}

/// The first tokens of a document, each of which is scored, and the number of those before it.
fn document(tokenizer: &Tokenizer, text: &str, n_tokens_max: usize) -> (Example, usize) {
    // A document is no prompt: like those of a corpus, it stands behind something in any case.
    let begin = tokenizer.encode_prompt("");
    let n_begin = begin.len();
    let mut tokens = [begin, tokenizer.encode(text)].concat();
    tokens.truncate(n_tokens_max.max(n_begin));
    let mut weights = vec![1.0; tokens.len()];
    weights[..n_begin.max(1)].fill(0.0);
    let document = Example::plain(tokens, weights);
    (document, n_begin)
}

fn rate(n: usize, seconds: f64) -> f64 {
    n as f64 / seconds.max(1e-9)
}

/// How the model read and wrote.
struct Reading {
    bits_per_byte: f64,
    tokens_per_second: [f64; 2],
}

/// Takes a prompt and a first token, then writes on.
struct Writer {
    prompt: Vec<TokenId>,
    n_written: usize,
    has_begun: bool,
    began: Instant,
    seconds: f64,
}

impl Writer {
    fn new(prompt: Vec<TokenId>) -> Self {
        Self {
            prompt,
            n_written: 0,
            has_begun: false,
            began: Instant::now(),
            seconds: 0.0,
        }
    }
}

impl Episode for Writer {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(self.prompt.clone()),
            // An engine may read the prompt with the first draw.
            Observation::Fed { .. } => Move::Sample(SampleRule::plain(0.0, 1)),
            Observation::Sampled { .. } if !self.has_begun => {
                self.has_begun = true;
                self.began = Instant::now();
                Move::Sample(SampleRule::plain(0.0, N_CONTINUED - 1))
            }
            Observation::Sampled { tokens, .. } => {
                self.n_written = tokens.len();
                self.seconds = self.began.elapsed().as_secs_f64();
                Move::Done
            }
        }
    }
}

fn read(model: &Loaded, text: &str) -> Result<Reading> {
    let n_max = model.lm.shape().n_context.saturating_sub(N_CONTINUED);
    let (document, n_begin) = document(&model.tokenizer, text, n_max);
    let tokens = document.tokens.clone();
    let n_bytes = model.tokenizer.decode(&tokens[n_begin..]).len();
    let began = Instant::now();
    let (logprobs, _) = model.lm.score(&[document])?;
    let seconds = began.elapsed().as_secs_f64();
    let n_read = tokens.len();
    let mut writer = Writer::new(tokens);
    model.lm.run(&mut [&mut writer], Seed::root(0))?;
    let logprob: f64 = logprobs[0].iter().map(|p| f64::from(*p)).sum();
    Ok(Reading {
        bits_per_byte: -logprob / std::f64::consts::LN_2 / n_bytes.max(1) as f64,
        tokens_per_second: [
            rate(n_read, seconds),
            rate(writer.n_written, writer.seconds),
        ],
    })
}

/// The configuration of a model as its weights are: they may have a head of their own.
fn as_loaded(on_disk: &ModelConfig, shape: &Shape) -> ModelConfig {
    ModelConfig {
        tie_word_embeddings: shape.is_tied,
        ..on_disk.clone()
    }
}

fn describe(model: &Loaded, on_disk: &ModelConfig, reading: &Reading) -> Checkup {
    let shape = model.lm.shape();
    let config = &as_loaded(on_disk, &shape);
    let name_of = |id: &TokenId| model.tokenizer.name_of(*id);
    let ends = &model.stops;
    let hello = Chat::new(vec![message("user", "Hello")]);
    let chat = match &model.template {
        Ok(None) => Ok(None),
        Ok(Some(template)) => {
            let text = template.render(&hello).map_err(anyhow::Error::from);
            text.map(Some).map_err(|error| format!("{error:#}"))
        }
        Err(error) => Err(format!("{error:#}")),
    };
    let train = |recompute| {
        let settings = training(512, recompute);
        UpdateMemory::of(config, &settings, 512).total() / MIB
    };
    let in_memory = if shape.is_half {
        Precision::Bfloat16
    } else {
        Precision::Float32
    };
    Checkup {
        folder: model.folder.clone(),
        architecture: format!("{:?}", config.architecture),
        n_params: shape.n_params as u64,
        precision: [on_disk.precision, in_memory],
        context: config.max_position_embeddings,
        rope: format!("base {}, {:?}", config.rope_theta, config.rope_scaling),
        is_tied: config.tie_word_embeddings,
        n_rows: on_disk.vocab_size,
        n_tokens: model.tokenizer.vocab_size(),
        begin: model.tokenizer.prompt_begin().iter().map(name_of).collect(),
        ends: ends.iter().map(name_of).collect(),
        warnings: warnings(model, on_disk, reading, chat.as_ref().err()),
        chat: chat.unwrap_or_default(),
        bits_per_byte: reading.bits_per_byte,
        tokens_per_second: reading.tokens_per_second,
        run_mib: RunMemory::of(config, in_memory, 512).total() / MIB,
        train_mib: [train(false), train(true)],
        available_mib: available_mib(),
        peak_mib: peak_rss_mib(),
        train_step: None,
    }
}

fn warnings(
    model: &Loaded,
    on_disk: &ModelConfig,
    reading: &Reading,
    template_error: Option<&String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let (rows, tokens) = (on_disk.vocab_size, model.tokenizer.vocab_size());
    if tokens > rows {
        found.push(format!(
            "the markers need {} rows that the embedding does not have; mid-training adds them",
            tokens - rows
        ));
    }
    let end = model.tokenizer.markers().end;
    if !on_disk.eos_token_ids.is_empty() && !on_disk.eos_token_ids.contains(&end) {
        found.push(format!(
            "config.json ends texts with {:?}, the tokenizer with {end}: all of them end a text",
            on_disk.eos_token_ids
        ));
    }
    if let Some(says) = model.tokenizer.contradicts_its_begin() {
        let puts = if says { "nothing" } else { "a token" };
        found.push(format!(
            "tokenizer_config.json says add_bos_token = {says}, and the post_processor of \
             tokenizer.json puts {puts} before a text: the second is done, as by transformers"
        ));
    }
    if model.lm.shape().is_tied != on_disk.tie_word_embeddings {
        found.push(
            "config.json ties the head to the embedding, and the weights have a head with other \
             numbers: it is used, as by transformers"
                .to_owned(),
        );
    }
    if let Some(error) = template_error {
        found.push(format!("the chat template cannot be used: {error}"));
    }
    if !reading.bits_per_byte.is_finite() {
        found.push("the document's likelihood is not finite: the weights are damaged".to_owned());
    } else if reading.bits_per_byte > 4.0 {
        found.push(format!(
            "{:.1} bits per byte on Python: the weights are random or of another tokenizer",
            reading.bits_per_byte
        ));
    }
    found
}

fn training(n_tokens: usize, recompute: bool) -> TrainSettings {
    TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: n_tokens,
        recompute,
        cache_bytes_max: 0,
        recorded_bytes_max: 0,
        compute: Precision::Float32,
        moments: Precision::Bfloat16,
        frozen: Precision::Bfloat16,
    }
}

fn train_step(folder: &Path, on_disk: &ModelConfig, n_tokens: usize) -> Result<TrainStep> {
    let settings = training(n_tokens, true);
    let mut lm = Engine::Cpu(settings).load(folder)?;
    let shape = lm.shape();
    let config = as_loaded(on_disk, &shape);
    let vocabulary = shape.n_vocabulary as f64;
    let seed = Seed::root(0);
    let mut weights = vec![1.0 / n_tokens as f32; n_tokens];
    weights[0] = 0.0;
    let batch = [Example::plain(
        (0..n_tokens as u64)
            .map(|index| (seed.nth(index).uniform() * vocabulary) as TokenId)
            .collect(),
        weights,
    )];
    let objective = Objective::likelihood(1e-5);
    let first = lm.update(&batch, objective)?.loss;
    let began = Instant::now();
    let second = lm.update(&batch, objective)?.loss;
    Ok(TrainStep {
        n_tokens,
        seconds: began.elapsed().as_secs_f64(),
        loss: [first, second],
        estimated_mib: UpdateMemory::of(&config, &settings, n_tokens).total() / MIB,
        peak_mib: peak_rss_mib(),
    })
}

/// Memory that this process can still have, where Linux says it.
fn available_mib() -> Option<usize> {
    Some(free_bytes()? / MIB)
}

impl Checkup {
    /// For a reader.
    pub fn to_text(&self) -> String {
        let mut rows = self.what_it_is();
        rows.extend(self.what_it_does());
        rows.extend(self.warnings.iter().map(|text| ("note", text.clone())));
        let mut text = String::new();
        for (name, value) in rows {
            let _ = writeln!(text, "{name:<14} {value}");
        }
        text
    }

    fn what_it_is(&self) -> Vec<(&'static str, String)> {
        let [on_disk, in_memory] = self.precision;
        let tied = if self.is_tied { "tied" } else { "untied" };
        let chat = |chat: &String| format!("{chat:?}");
        vec![
            ("folder", self.folder.display().to_string()),
            ("architecture", self.architecture.clone()),
            ("parameters", format!("{:.2}M", self.n_params as f64 / 1e6)),
            (
                "precision",
                format!("{on_disk:?} on disk, {in_memory:?} in memory"),
            ),
            (
                "context",
                format!("{} tokens, rope {}", self.context, self.rope),
            ),
            (
                "vocabulary",
                format!(
                    "{} rows, {} tokens with the markers, {tied}",
                    self.n_rows, self.n_tokens
                ),
            ),
            (
                "begins with",
                if self.begin.is_empty() {
                    "nothing".to_owned()
                } else {
                    self.begin.clone()
                },
            ),
            ("ends with", self.ends.join("  ")),
            (
                "chat template",
                self.chat.as_ref().map_or("none".to_owned(), chat),
            ),
        ]
    }

    fn what_it_does(&self) -> Vec<(&'static str, String)> {
        let [reads, writes] = self.tokens_per_second;
        let [kept, recomputed] = self.train_mib;
        let available = self
            .available_mib
            .map_or(String::new(), |mib| format!("; {mib} are available"));
        let mut rows = vec![
            (
                "document",
                format!("{:.3} bits per byte", self.bits_per_byte),
            ),
            (
                "speed",
                format!("reads {reads:.0} tokens/s, writes {writes:.1} tokens/s"),
            ),
            (
                "to run",
                format!("{} MiB estimated, peak {} MiB", self.run_mib, self.peak_mib),
            ),
            (
                "to train",
                format!(
                    "{kept} MiB, {recomputed} with recomputation (512 tokens at once){available}"
                ),
            ),
        ];
        if let Some(step) = &self.train_step {
            let text = format!(
                "{} tokens in {:.1} s, loss {:.4} → {:.4}, {} MiB estimated, peak {} MiB",
                step.n_tokens,
                step.seconds,
                step.loss[0],
                step.loss[1],
                step.estimated_mib,
                step.peak_mib
            );
            rows.push(("training step", text));
        }
        rows
    }
}
