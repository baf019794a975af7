//! One AdamW step on 8 documents of 256 tokens: the job `train` of a plain PyTorch loop.
//!
//! ```text
//! cargo bench -p ra3-lm --bench train_step -- S 7    # size, runs; one JSON line
//! ```
//!
//! Bound: a step does `6 · tokens · matrix parameters` FLOPs and the attention on top (at size S
//! 6 · 2048 · 5.4M = 67 GFLOP and 5 GFLOP); a core with AVX-512 sustains 220 to 240 GFLOP/s in the
//! products, so two cores cannot be faster than 0.16 s. `flops_share` is the share of that reached
//! with `RA3_PEAK_GFLOPS` (of all cores; 480 where unset). It measures no scoring and no sampling.

use std::time::Instant;

use ra3::model::Model;
use ra3::policy::{Example, Objective, Policy, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig};
use ra3_lm::{Lm, TrainSettings};

const N_DOCUMENTS: usize = 8;
const N_TOKENS: usize = 256;

/// Hidden, layers, heads, key heads, intermediate, vocabulary.
const SIZES: [(&str, [usize; 6]); 4] = [
    ("XS", [192, 4, 4, 2, 512, 2048]),
    ("S", [256, 6, 4, 2, 704, 4096]),
    ("M", [512, 8, 8, 2, 1408, 8192]),
    ("L", [1024, 12, 16, 4, 2816, 16384]),
];

fn config(size: &str) -> ModelConfig {
    let (_, shape) = SIZES
        .iter()
        .find(|(name, _)| *name == size)
        .expect("the size is one of XS, S, M and L");
    let [
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        intermediate_size,
        vocab_size,
    ] = *shape;
    ModelConfig {
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        max_position_embeddings: 4096,
        ..ModelConfig::new(Architecture::Qwen2)
    }
}

fn batch(n_vocabulary: usize) -> Vec<Example> {
    let weight = 1.0 / (N_DOCUMENTS * (N_TOKENS - 1)) as f32;
    let document = |index: usize| {
        let seed = Seed::root(index as u64);
        let draw = |i: usize| (seed.nth(i as u64).uniform() * n_vocabulary as f64) as TokenId;
        let mut weights = vec![weight; N_TOKENS];
        weights[0] = 0.0;
        Example {
            tokens: (0..N_TOKENS).map(draw).collect(),
            weights,
            restrictions: Vec::new(),
            old_logprobs: Vec::new(),
        }
    };
    (0..N_DOCUMENTS).map(document).collect()
}

/// Peak resident memory of this process in MiB; 0 where the system does not say.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[expect(
    clippy::print_stdout,
    reason = "the result is one line on standard output"
)]
fn main() {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let size = arguments.first().map_or("S", String::as_str);
    let n_runs = arguments
        .get(1)
        .map_or(7, |n| n.parse().expect("the number of runs is a number"));
    let settings = TrainSettings {
        weight_decay: 0.01,
        clip_norm: 1.0,
        n_tokens_micro: N_DOCUMENTS * N_TOKENS,
        recompute: arguments.get(2).is_some_and(|word| word == "recompute"),
        cache_bytes_max: 0,
        moments: ra3_lm::config::Precision::Float32,
        frozen: ra3_lm::config::Precision::Float32,
    };
    let mut lm = Lm::random(config(size), settings, Seed::root(0));
    let batch = batch(lm.config().vocab_size);
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-4,
    };
    let mut step = || {
        let start = Instant::now();
        let stats = lm.update(&batch, objective).expect("random tokens train");
        (start.elapsed().as_secs_f64(), stats)
    };
    let flops = step().1.work.flops;
    let mut seconds: Vec<f64> = (0..n_runs).map(|_| step().0).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[n_runs / 2];
    let peak: f64 = std::env::var("RA3_PEAK_GFLOPS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(480.0);
    let line = serde_json::json!({
        "job": "train", "size": size, "dtype": "f32", "params": lm.shape().n_params,
        "tokens": N_DOCUMENTS * N_TOKENS, "threads": rayon::current_num_threads(),
        "seconds": median, "min": seconds[0], "max": seconds[n_runs - 1],
        "tokens_per_s": ((N_DOCUMENTS * N_TOKENS) as f64 / median).round(),
        "gflops": (flops / 1e9 / median).round(), "flops_share": flops / 1e9 / median / peak,
        "peak_rss_mib": peak_memory_mib(),
    });
    println!("{line}");
}
