//! What cutting source files into lines costs with tokenizers of the Qwen and the Llama 3 kind.
//!
//! ```text
//! cargo run --release -p ra3-run --example line_cost
//! ```
//!
//! For each division a byte-level BPE is trained on the standard library of the Python at hand.
//! Held-out files are encoded whole and line by line; then two small models, alike but for the
//! encoding, are trained on the same files, and their bits per byte on the held-out files compared.
//! It prints the table of `docs/checkpoints.md`. It measures small models: a large one has learnt
//! its own encoding, and what it loses at first is not measured here.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::path::PathBuf;

use anyhow::Result;
use ra3::policy::{Example, Objective, Policy, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3_corpus::read::{OnError, Source, read};
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};
use ra3_text::tokenizer::Tokenizer;

const DIVISIONS: [(&str, &str); 3] = [
    // For comparison: the oldest byte-level division, in which white space runs over newlines.
    (
        "GPT-2",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    (
        "Qwen 2.5 and 3",
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
    ),
    (
        "Llama 3",
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
    ),
];
const N_VOCABULARY: usize = 4096;
const N_FILES: usize = 400;
/// One file in so many is held out.
const HELD_OUT_EVERY: usize = 20;
const SEEDS: [u64; 3] = [1, 2, 3];
const CONTEXT: usize = 256;
const N_UPDATES: u64 = 200;
const BATCH: usize = 8;

struct Encoded {
    train: Vec<Vec<TokenId>>,
    held_out: Vec<Vec<TokenId>>,
}

fn main() -> Result<()> {
    let source = Source::PythonStandardLibrary {
        python: PathBuf::from("python3"),
        n_files_max: Some(N_FILES),
    };
    let texts: Vec<String> = read(&source, OnError::Drop)?
        .documents
        .into_iter()
        .map(|document| document.text)
        .filter(|text| !text.trim().is_empty())
        .collect();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (index, text) in texts.into_iter().enumerate() {
        let side = if index % HELD_OUT_EVERY == 0 {
            &mut held_out
        } else {
            &mut train
        };
        side.push(text);
    }
    let n_bytes: usize = held_out.iter().map(String::len).sum();
    println!(
        "{} files to train on, {} held out ({n_bytes} bytes)",
        train.len(),
        held_out.len()
    );
    println!(
        "| division | files with other ids | tokens a line, whole | by lines | more \
         | bits/byte, whole | by lines | difference by seed |\n|---|---|---|---|---|---|---|---|"
    );
    for (name, pattern) in DIVISIONS {
        println!(
            "| {name} | {} |",
            compare(pattern, &train, &held_out, n_bytes)?
        );
    }
    Ok(())
}

/// The cells of a division's row.
fn compare(pattern: &str, train: &[String], held_out: &[String], n_bytes: usize) -> Result<String> {
    let tokenizer = Tokenizer::train_like(train, N_VOCABULARY, pattern)?;
    let encode = |by_lines: bool| {
        let one = |text: &String| {
            if by_lines {
                tokenizer.encode(text)
            } else {
                tokenizer.encode_whole(text)
            }
        };
        Encoded {
            train: train.iter().map(one).collect(),
            held_out: held_out.iter().map(one).collect(),
        }
    };
    let (whole, by_lines) = (encode(false), encode(true));
    let n_lines: usize = held_out.iter().map(|text| text.lines().count()).sum();
    let tokens_a_line = |encoded: &Encoded| {
        encoded.held_out.iter().map(Vec::len).sum::<usize>() as f64 / n_lines as f64
    };
    let bits = |encoded: &Encoded| -> Result<Vec<f64>> {
        let of_seed = |seed: &u64| bits_per_byte(encoded, &tokenizer, n_bytes, *seed);
        SEEDS.iter().map(of_seed).collect()
    };
    let both = |encoded: &Encoded| [&encoded.train[..], &encoded.held_out].concat();
    let (all_whole, all_cut) = (both(&whole), both(&by_lines));
    let n_other = all_whole
        .iter()
        .zip(&all_cut)
        .filter(|(a, b)| a != b)
        .count();
    let (n_whole, n_cut) = (tokens_a_line(&whole), tokens_a_line(&by_lines));
    let counts = format!(
        "{n_other} of {} | {n_whole:.3} | {n_cut:.3} | {:+.2} %",
        all_whole.len(),
        100.0 * (n_cut / n_whole - 1.0),
    );
    if n_other == 0 {
        return Ok(format!("{counts} | none: the ids are the same | | "));
    }
    let (a, b) = (bits(&whole)?, bits(&by_lines)?);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let pairs = a.iter().zip(&b);
    let differences: Vec<String> = pairs.map(|(a, b)| format!("{:+.4}", b - a)).collect();
    Ok(format!(
        "{counts} | {:.4} | {:.4} | {}",
        mean(&a),
        mean(&b),
        differences.join(" "),
    ))
}

/// Trains a model on an encoding; its bits per byte on the held-out files.
fn bits_per_byte(
    encoded: &Encoded,
    tokenizer: &Tokenizer,
    n_bytes: usize,
    seed: u64,
) -> Result<f64> {
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: CONTEXT,
        initializer_range: 0.06,
        ..ModelConfig::new(Architecture::Qwen2)
    };
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: 8192,
        recompute: false,
        cache_bytes_max: 256 << 20,
        recorded_bytes_max: 0,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let seed = Seed::root(seed);
    let mut lm = Lm::random(config, settings, seed.child("weights"));
    let begin = tokenizer.begin();
    let pieces = windows(&encoded.train, begin);
    for update in 0..N_UPDATES {
        let order = ra3::schedule::batch(pieces.len(), BATCH, update, seed.child("batches"));
        let batch: Vec<Example> = order.iter().map(|index| example(&pieces[*index])).collect();
        let n: usize = batch.iter().map(|example| example.tokens.len() - 1).sum();
        let batch: Vec<Example> = batch
            .into_iter()
            .map(|b| scaled(b, 1.0 / n as f32))
            .collect();
        let objective = Objective {
            surrogate: Surrogate::LogLikelihood,
            learning_rate: 3e-3 * (1.0 - update as f32 / N_UPDATES as f32).max(0.05),
        };
        lm.update(&batch, objective)?;
    }
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 0.0,
    };
    let mut nats = 0.0;
    for batch in windows(&encoded.held_out, begin).chunks(64) {
        let batch: Vec<Example> = batch.iter().map(|tokens| example(tokens)).collect();
        nats += lm.gradient(&batch, objective)?.0.loss;
    }
    Ok(nats / std::f64::consts::LN_2 / n_bytes as f64)
}

/// Files cut to the context; each window begins anew.
fn windows(files: &[Vec<TokenId>], begin: TokenId) -> Vec<Vec<TokenId>> {
    files
        .iter()
        .flat_map(|file| file.chunks(CONTEXT - 1))
        .map(|window| [&[begin], window].concat())
        .collect()
}

fn example(tokens: &[TokenId]) -> Example {
    let mut weights = vec![1.0; tokens.len()];
    weights[0] = 0.0;
    Example {
        tokens: tokens.to_vec(),
        weights,
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    }
}

fn scaled(example: Example, scale: f32) -> Example {
    Example {
        weights: example.weights.iter().map(|w| w * scale).collect(),
        ..example
    }
}
