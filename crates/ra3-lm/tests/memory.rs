//! The estimate of an update's memory against what the process really took.
//!
//! One test alone in its process, since the peak is the process's; it is read where Linux says it.

use ra3::policy::{Example, Objective, Policy, Surrogate, TokenId};
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::memory::UpdateMemory;
use ra3_lm::{Lm, TrainSettings};

/// Peak resident memory so far.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Tokens of an update: so many that what the estimate leaves out, the packed operands of products,
/// is small beside them. They grow with the processor's caches.
const N_DOCUMENTS: usize = 24;
const N_TOKENS: usize = 256;

/// Peak of updates over what the process had, and the estimate. One token of so many is a target.
fn measure(recompute: bool, compute: Precision, of_targets: usize) -> Option<(usize, usize)> {
    let config = ModelConfig {
        vocab_size: 4096,
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: N_TOKENS,
        ..ModelConfig::new(Architecture::Qwen2)
    };
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: N_DOCUMENTS * N_TOKENS,
        recompute,
        cache_bytes_max: 0,
        recorded_bytes_max: 0,
        compute,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let document = |index: u64| {
        let weight = |i| {
            if i % of_targets == of_targets - 1 {
                1e-3
            } else {
                0.0
            }
        };
        let mut weights: Vec<f32> = (0..N_TOKENS).map(weight).collect();
        weights[0] = 0.0;
        let seed = Seed::root(index);
        Example {
            tokens: (0..N_TOKENS as u64)
                .map(|i| (seed.nth(i).uniform() * 4096.0) as TokenId)
                .collect(),
            weights,
            restrictions: Vec::new(),
            old_logprobs: Vec::new(),
        }
    };
    let batch: Vec<Example> = (0..N_DOCUMENTS as u64).map(document).collect();
    let estimate = UpdateMemory::of(&config, &settings, N_DOCUMENTS * N_TOKENS).total();
    let before = peak_bytes()?;
    let mut lm = Lm::random(config, settings, Seed::root(0));
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-3,
    };
    for _ in 0..2 {
        lm.update(&batch, objective).expect("a finite update");
    }
    Some((peak_bytes()? - before, estimate))
}

#[test]
fn the_estimate_is_within_a_fifth_of_the_peak() {
    // The smaller one first: the peak of a process never falls, and the first has almost none.
    // One thread: the allocator keeps what is freed with the thread that asked for it, and the next
    // measure is to find it there.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.expect("a thread");
    let mut taken = 0;
    // Where few rows have targets, the peak is no higher: the process has what it takes.
    for (recompute, compute, of_targets) in [
        (true, Precision::Float32, 1),
        (true, Precision::Float32, 4),
        (false, Precision::Float32, 1),
        (false, Precision::Bfloat16, 1),
        (false, Precision::Bfloat16, 4),
    ] {
        let measure = || measure(recompute, compute, of_targets);
        let Some((more, estimate)) = pool.install(measure) else {
            println!("skipped: this system does not say what a process takes");
            return;
        };
        taken += more;
        let case = format!("{recompute} {compute:?} {of_targets}");
        let what = format!("{case}: {taken} bytes, {estimate} estimated");
        println!("{what}");
        let ratio = taken as f64 / estimate as f64;
        assert!((0.8..1.2).contains(&ratio), "{what}");
    }
}
