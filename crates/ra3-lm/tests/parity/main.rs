//! The engine against transformers, side by side: every family and feature at reduced width, both
//! ways. It prints the table of `docs/checkpoints.md`:
//!
//! ```text
//! pip install torch==2.15.0 transformers==5.23.0
//! RA3_PYTHON=python3 cargo test --release -p ra3-lm --test parity -- --nocapture
//! ```
//!
//! Without those packages it says that it is skipped; `tests/golden.rs` needs none.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ra3::model::Model;
use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, SampleRule, Surrogate, TokenId,
};
use ra3::seed::Seed;
use ra3_lm::config::Precision;
use ra3_lm::{Lm, TrainSettings};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

const LENGTHS: [usize; 6] = [1, 63, 64, 65, 200, 700];
const LOGITS_MAX: f32 = 1e-4;
const LOSS_MAX: f32 = 1e-5;
const GRADIENT_MAX: f32 = 1e-3;

const SETTINGS: TrainSettings = TrainSettings {
    weight_decay: 0.0,
    clip_norm: 1.0,
    n_tokens_micro: 4096,
    recompute: false,
    cache_bytes_max: 256 << 20,
    recorded_bytes_max: 1 << 28,
    compute: ra3_lm::config::Precision::Float32,
    moments: ra3_lm::config::Precision::Float32,
    frozen: ra3_lm::config::Precision::Float32,
};

#[derive(Deserialize)]
struct Case {
    shows: String,
    dtype: Precision,
}

/// The largest differences of a case.
struct Found {
    logits: f32,
    /// Of a `bf16` checkpoint: transformers' `bf16` logits against its `f32` ones.
    logits_of_peer: Option<f32>,
    loss: Option<f32>,
    gradient: Option<f32>,
    greedy: bool,
}

/// The interpreter that has the packages.
fn python() -> Option<String> {
    let python = std::env::var("RA3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let packages = Command::new(&python)
        .args(["-c", "import torch, transformers, safetensors"])
        .output()
        .ok()?;
    packages.status.success().then_some(python)
}

fn peer(python: &str, what: &str, folder: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/peer.py");
    let output = Command::new(python)
        .arg(script)
        .arg(what)
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    let quads = bytes.chunks_exact(4);
    quads
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn tokens(file: &SafeTensors<'_>, name: &str) -> Vec<TokenId> {
    floats(file, name).into_iter().map(f32::to_bits).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .fold(0.0, |top, (a, b)| top.max((a - b).abs()))
}

/// Feeds a prompt and continues it greedily.
struct Greedy {
    prompt: Vec<TokenId>,
    n: usize,
    tokens: Vec<TokenId>,
}

impl Episode for Greedy {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(self.prompt.clone()),
            Observation::Fed { .. } => Move::Sample(SampleRule::plain(0.0, self.n)),
            Observation::Sampled { tokens, .. } => {
                self.tokens = tokens.to_vec();
                Move::Done
            }
        }
    }
}

fn greedy(lm: &Lm, prompt: &[TokenId], n: usize) -> Vec<TokenId> {
    let mut row = Greedy {
        prompt: prompt.to_vec(),
        n,
        tokens: Vec::new(),
    };
    lm.run(&mut [&mut row], Seed::root(0)).unwrap();
    row.tokens
}

fn compare(folder: &Path, case: &Case) -> Found {
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let document = tokens(&reference, "tokens");
    let lm = Lm::load_to_run(folder, SETTINGS).unwrap();
    let whole = floats(&reference, "logits");
    let mut logits = largest_difference(&lm.logits(&document).unwrap(), &whole);
    for length in LENGTHS {
        let found = lm.logits(&document[..length]).unwrap();
        let expected = floats(&reference, &format!("logits.{length}"));
        let last = &found[found.len() - expected.len()..];
        logits = logits.max(largest_difference(last, &expected));
    }
    let expected = tokens(&reference, "greedy");
    let is_wide = case.dtype == Precision::Float32;
    let trained = is_wide.then(|| compare_gradients(&lm, &reference, document.clone()));
    Found {
        logits,
        logits_of_peer: (!is_wide)
            .then(|| largest_difference(&floats(&reference, "logits.own"), &whole)),
        loss: trained.map(|(loss, _)| loss),
        gradient: trained.map(|(_, gradient)| gradient),
        greedy: greedy(&lm, &document[..65], expected.len()) == expected,
    }
}

/// Differences of the loss and of the gradients, each relative to its tensor's largest number.
fn compare_gradients(lm: &Lm, reference: &SafeTensors<'_>, document: Vec<TokenId>) -> (f32, f32) {
    let n = document.len();
    let mut weights = vec![1.0 / (n - 1) as f32; n];
    weights[0] = 0.0;
    let example = Example {
        tokens: document,
        weights,
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    };
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 0.0,
    };
    let (stats, gradient) = lm.gradient(&[example], objective).unwrap();
    let loss = stats.loss as f32 - floats(reference, "loss")[0];
    let relative = lm.weights().layout.tensors.iter().map(|tensor| {
        let expected = floats(reference, &format!("grad.{}", tensor.name));
        let size = expected.iter().fold(0f32, |top, g| top.max(g.abs()));
        largest_difference(&gradient[tensor.range.clone()], &expected) / size
    });
    (loss.abs(), relative.fold(0.0, f32::max))
}

/// Grows the vocabulary, writes shards, and the logits that transformers should find in them.
fn export(folder: &Path) {
    let mut lm = Lm::load(folder, SETTINGS).unwrap();
    let vocabulary = (lm.config().vocab_size + 3).next_multiple_of(64);
    lm.grow_vocabulary(vocabulary, Seed::root(1));
    lm.set_precision_on_disk(Precision::Float32);
    let exported = folder.join("exported");
    lm.save_sharded(&exported, 8 << 20).unwrap();
    let n = vocabulary as TokenId;
    let document: Vec<TokenId> = (0..90).map(|i| (n - 1).wrapping_sub(i * i) % n).collect();
    let bytes =
        |numbers: Vec<f32>| -> Vec<u8> { numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let logits = bytes(lm.logits(&document).unwrap());
    let ids: Vec<u8> = document.iter().flat_map(|id| id.to_le_bytes()).collect();
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).unwrap();
    let tensors = [
        ("tokens", view(Dtype::I32, vec![90], &ids[..])),
        ("logits", view(Dtype::F32, vec![90, vocabulary], &logits)),
    ];
    safetensors::serialize_to_file(tensors, None, &exported.join("logits.st")).unwrap();
}

#[test]
fn the_engine_equals_transformers_both_ways() {
    let Some(python) = python() else {
        println!("skipped: no Python with torch and transformers; set RA3_PYTHON");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    peer(&python, "make", root.path());
    let text = std::fs::read_to_string(root.path().join("cases.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    let mut found = BTreeMap::new();
    for (name, case) in &cases {
        found.insert(name, compare(&root.path().join(name), case));
        export(&root.path().join(name));
    }
    let back = peer(&python, "check", root.path());
    let back: BTreeMap<String, f32> = serde_json::from_str(&back).unwrap();
    println!("| case | shows | logits | loss | gradients | greedy | written, read back |");
    println!("|---|---|---|---|---|---|---|");
    let number = |x: Option<f32>| x.map_or("–".to_owned(), |x| format!("{x:.0e}"));
    for (name, case) in &cases {
        let Found {
            logits,
            logits_of_peer,
            loss,
            gradient,
            greedy,
        } = &found[name];
        let own = logits_of_peer.map_or(String::new(), |x| format!(" (its bf16: {x:.0e})"));
        println!(
            "| {name} | {} | {logits:.0e}{own} | {} | {} | {} | {:.0e} |",
            case.shows,
            number(*loss),
            number(*gradient),
            if *greedy { "same" } else { "differ" },
            back[name]
        );
    }
    for (name, found) in &found {
        // A bf16 checkpoint is computed with in f32: the same bound holds.
        assert!(
            found.logits < LOGITS_MAX && back[*name] < LOGITS_MAX,
            "{name}"
        );
        assert!(found.loss.unwrap_or(0.0) < LOSS_MAX, "{name}");
        assert!(found.gradient.unwrap_or(0.0) < GRADIENT_MAX, "{name}");
        assert!(found.greedy, "{name}: another continuation");
    }
}
