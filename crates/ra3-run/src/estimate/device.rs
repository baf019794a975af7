//! The memory of each device that PyTorch trains on, from a model's shape.
//!
//! With `P` parameters, `W` of them in the products of the layers and `V` in the vocabulary's
//! matrices, `n` processes, of which each has a part (`s = n`) or all (`s = 1`) of every tensor,
//! moments of `m` bytes, `L` layers and `R` rows that are live at once:
//!
//! ```text
//! weights    4 P / s, and 4 A of adapters
//! gradient   4 P / s, or 4 A
//! moments    2 m P / n, or 2 m A / n
//! beside     4 P / s for each copy that stands still
//! update     R (L k + k), or R (4 L d + 2 k) with recomputation; a mask of R² numbers; 512 rows of
//!            logits, their gradient and what is taken of them; 2 W in `bfloat16`; if s > 1 the
//!            vocabulary's matrices and two layers, and their gradient
//! drawing    the cache; what a sharded or adapted model is put together to: 4 P, or 2 P and 4 V
//! ```
//!
//! `k` is what a layer keeps of a row for the backward pass, in bytes, with `d`, `q`, `kv` and `ff`
//! the widths and `h` the heads; a test of the worker counts the same:
//!
//! ```text
//! float32    4 (6 d + 5 q + 4 ff + h + 2), and 4 (2 q + 2 kv + heads) where heads are normed
//! bfloat16   26 d + 10 q + 8 ff + 4 h + 8, and 6 (q + kv) + 4 heads
//! ```
//!
//! Left out: what the allocator loses, the libraries' own, and buffers of NCCL.

use anyhow::{Result, ensure};
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::weights::Layout;
use ra3_torch::About;
use serde::Serialize;

use super::Shapes;
use super::memory::{Update, updates};
use crate::plan::Plan;
use crate::run_file::{EngineSection, LoraSection, LoraTarget, Sharding};

/// Rows of a chunk of logits.
const CHUNK_ROWS: usize = 512;

/// What the largest update of a plan needs of each device, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceEstimate {
    /// Devices, of which each has a process.
    pub n_devices: usize,
    /// Weights of the model that is trained, and what adapts them.
    pub weights_mib: u64,
    /// Their gradient.
    pub gradient_mib: u64,
    /// The optimizer's moments.
    pub moments_mib: u64,
    /// Models beside it that stand still.
    pub beside_mib: u64,
    /// What an update has besides, at its peak.
    pub update_mib: u64,
    /// What drawing has besides.
    pub drawing_mib: u64,
    /// All of it at the peak.
    pub total_mib: u64,
}

/// Bytes of a device, as in [`DeviceEstimate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    weights: usize,
    gradient: usize,
    moments: usize,
    beside: usize,
    update: usize,
    drawing: usize,
}

impl Bytes {
    /// What there is without a single token.
    fn held(&self) -> usize {
        self.weights + self.gradient + self.moments + self.beside
    }

    /// Nothing draws while there is a gradient.
    fn total(&self) -> usize {
        let still = self.weights + self.moments + self.beside;
        still + (self.gradient + self.update).max(self.drawing)
    }
}

/// How PyTorch has models, as far as memory goes.
#[derive(Clone, Copy, Debug)]
struct Engine<'a> {
    is_short: bool,
    n_processes: usize,
    is_sharded: bool,
    lora: Option<&'a LoraSection>,
}

impl<'a> Engine<'a> {
    fn of(section: &'a EngineSection) -> Option<Self> {
        match section {
            EngineSection::Native {} => None,
            EngineSection::Torch(torch) => Some(Self {
                is_short: torch.dtype != Precision::Float32,
                n_processes: torch.processes,
                is_sharded: torch.sharding == Sharding::Full && torch.processes > 1,
                lora: torch.lora.as_ref(),
            }),
        }
    }

    fn bytes(&self, update: &Update<'_>) -> Bytes {
        let config = update.config;
        let training = &update.file.training;
        let n_params = Layout::new(config).n_params();
        let n_parts = if self.is_sharded { self.n_processes } else { 1 };
        let adapters = self.lora.map(|lora| n_adapted(config, lora));
        let (own, gradient) = match adapters {
            Some((n, _)) => (n, 4 * n),
            None => (0, 4 * n_params / n_parts),
        };
        let n_stepped = adapters.map_or(n_params, |(n, _)| n);
        Bytes {
            weights: 4 * n_params / n_parts + 4 * own,
            gradient,
            moments: 2 * training.moment_precision.n_bytes() * n_stepped / self.n_processes,
            beside: update.n_frozen * 4 * n_params / n_parts,
            update: self.of_update(config, update.n_rows, training.recompute),
            drawing: (training.cache_mib << 20) + self.put_together(config, adapters),
        }
    }

    fn of_update(&self, config: &ModelConfig, n_rows: usize, recompute: bool) -> usize {
        let n_layers = config.num_hidden_layers;
        let number = if self.is_short { 2 } else { 4 };
        let row = kept(config, self.is_short);
        let rows = if recompute {
            n_rows * (4 * n_layers * config.hidden_size + 2 * row)
        } else {
            n_rows * (n_layers + 1) * row
        };
        let loss = 12 * (CHUNK_ROWS.min(n_rows) * config.vocab_size + n_rows * config.hidden_size);
        let layer = products(config) / n_layers.max(1);
        let short = match (self.is_short, recompute) {
            (false, _) => 0,
            // Nothing keeps the short weights of a layer that runs again.
            (true, true) if self.is_sharded || self.lora.is_some() => 2 * layer,
            (true, _) => 2 * products(config),
        };
        let n_copies = if self.lora.is_some() { 1 } else { 2 };
        let whole = if self.is_sharded {
            4 * n_copies * (vocabulary(config) + 2 * layer)
        } else {
            0
        };
        rows + number * n_rows * n_rows + loss + short + whole
    }

    /// What a model becomes to draw, beside what it is.
    fn put_together(&self, config: &ModelConfig, adapters: Option<(usize, usize)>) -> usize {
        let n_params = Layout::new(config).n_params();
        match (self.is_short, self.is_sharded) {
            (true, true) => 2 * config.n_matmul_params() + 4 * vocabulary(config),
            (true, false) => 2 * config.n_matmul_params(),
            (false, true) => 4 * n_params,
            (false, false) => adapters.map_or(0, |(_, n_merged)| 4 * n_merged),
        }
    }
}

/// Numbers of the products of the layers.
fn products(config: &ModelConfig) -> usize {
    config.n_matmul_params() - config.vocab_size * config.hidden_size
}

/// Numbers of the embedding, and of a projection of its own.
fn vocabulary(config: &ModelConfig) -> usize {
    let n_matrices = if config.tie_word_embeddings { 1 } else { 2 };
    n_matrices * config.vocab_size * config.hidden_size
}

/// Bytes that a layer keeps of a row.
fn kept(config: &ModelConfig, is_short: bool) -> usize {
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.key_width());
    let h = config.num_attention_heads;
    let normed = usize::from(config.has_head_norms());
    let n_heads = h + config.num_key_value_heads;
    if is_short {
        26 * d + 10 * q + 8 * ff + 4 * h + 8 + normed * (6 * (q + kv) + 4 * n_heads)
    } else {
        4 * (6 * d + 5 * q + 4 * ff + h + 2 + normed * (2 * (q + kv) + n_heads))
    }
}

/// Numbers of the adapters, and of the products that have one.
fn n_adapted(config: &ModelConfig, lora: &LoraSection) -> (usize, usize) {
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.key_width());
    let shapes = [
        (LoraTarget::Queries, d, q),
        (LoraTarget::Keys, d, kv),
        (LoraTarget::Values, d, kv),
        (LoraTarget::Output, q, d),
        (LoraTarget::Gate, d, ff),
        (LoraTarget::Up, d, ff),
        (LoraTarget::Down, ff, d),
    ];
    let all = lora.target_modules.contains(&LoraTarget::AllLinear);
    let has_one = |target: LoraTarget| all || lora.target_modules.contains(&target);
    let adapted = shapes.iter().filter(|(target, ..)| has_one(*target));
    let (n_own, n_merged) = adapted.fold((0, 0), |(own, merged), (_, from, to)| {
        (own + lora.rank * (from + to), merged + from * to)
    });
    let n_layers = config.num_hidden_layers;
    (n_layers * n_own, n_layers * n_merged)
}

fn largest(shapes: &Shapes, plan: &Plan, by: fn(&Bytes) -> usize) -> Option<Bytes> {
    let engine = Engine::of(&plan.file.engine)?;
    let all = updates(shapes, plan);
    all.iter().map(|update| engine.bytes(update)).max_by_key(by)
}

/// What each device needs; `None` for the native engine.
pub(super) fn of(shapes: &Shapes, plan: &Plan) -> Option<DeviceEstimate> {
    let bytes = largest(shapes, plan, Bytes::total)?;
    let mib = |n_bytes: usize| (n_bytes >> 20) as u64;
    Some(DeviceEstimate {
        n_devices: Engine::of(&plan.file.engine)?.n_processes,
        weights_mib: mib(bytes.weights),
        gradient_mib: mib(bytes.gradient),
        moments_mib: mib(bytes.moments),
        beside_mib: mib(bytes.beside),
        update_mib: mib(bytes.update),
        drawing_mib: mib(bytes.drawing),
        total_mib: mib(bytes.total()),
    })
}

/// Bytes of all processes of this machine without a single token; `None` for the native engine.
pub(super) fn held(shapes: &Shapes, plan: &Plan) -> Option<usize> {
    let n_processes = Engine::of(&plan.file.engine)?.n_processes;
    Some(n_processes * largest(shapes, plan, Bytes::held)?.held())
}

/// Refuses a plan of which not even the weights, the gradient and the moments fit the smallest of
/// the GPUs that its worker sees.
///
/// # Errors
/// They do not: the message says both, and what to do.
pub(crate) fn check_devices(plan: &Plan, about: &About) -> Result<()> {
    // What is not here yet is looked at when it is loaded.
    let Ok(shapes) = Shapes::of(&plan.file, &plan.arms) else {
        return Ok(());
    };
    let Some(bytes) = largest(&shapes, plan, Bytes::held) else {
        return Ok(());
    };
    let smallest = about.gpus.iter().min_by_key(|gpu| gpu.memory_mib);
    if let Some(gpu) = smallest.filter(|_| about.device.starts_with("cuda")) {
        let held_mib = (bytes.held() >> 20) as u64;
        ensure!(
            held_mib <= gpu.memory_mib,
            "weights, gradient, moments and the models beside them take {held_mib} MiB of each \
             device, and {} has {} MiB: share them out (engine.sharding = \"full\" with more \
             engine.processes), train adapters (engine.lora), or set training.moment_precision = \
             \"bfloat16\"; --force runs it all the same",
            gpu.name,
            gpu.memory_mib
        );
    }
    Ok(())
}

impl DeviceEstimate {
    /// For a reader, behind the amount.
    pub(super) fn to_text(self) -> String {
        let devices = match self.n_devices {
            1 => String::new(),
            n => format!(" on each of {n} devices"),
        };
        format!(
            "{devices}: weights {}, gradient {}, moments {}, models beside them {}; an update \
             takes {} more, drawing {}",
            self.weights_mib,
            self.gradient_mib,
            self.moments_mib,
            self.beside_mib,
            self.update_mib,
            self.drawing_mib
        )
    }
}

#[cfg(test)]
mod tests {
    use ra3_lm::config::Architecture;
    use ra3_torch::Gpu;

    use super::*;
    use crate::run_file::RunFile;

    /// A layer has 256² · 2 + 2 · 64 · 256 + 3 · 704 · 256 numbers in products.
    const LAYER: usize = 704_512;
    const VOCABULARY: usize = 300 * 256;

    fn config(architecture: Architecture) -> ModelConfig {
        ModelConfig {
            vocab_size: 300,
            hidden_size: 256,
            intermediate_size: 704,
            num_hidden_layers: 4,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: Some(32),
            tie_word_embeddings: true,
            ..ModelConfig::new(architecture)
        }
    }

    /// Bytes of an update of 100 rows by an engine of these settings.
    fn bytes(engine: &str) -> Bytes {
        let section: EngineSection = toml::from_str(&format!("kind = 'torch'\n{engine}")).unwrap();
        let file: RunFile = Plan::tiny(&["training.cache_mib=1"]).file;
        let config = config(Architecture::Llama);
        let update = Update {
            config: &config,
            file: &file,
            n_rows: 100,
            n_frozen: 1,
            draws: false,
        };
        Engine::of(&section).unwrap().bytes(&update)
    }

    /// As counted in PyTorch.
    #[test]
    fn what_a_layer_keeps_of_a_row() {
        let counted = [
            (Architecture::Qwen2, 22_568, 14_888),
            (Architecture::Llama, 22_568, 14_888),
            (Architecture::Qwen3, 25_168, 16_848),
        ];
        for (architecture, whole, short) in counted {
            let config = config(architecture);
            assert_eq!(kept(&config, false), whole, "{architecture:?}");
            assert_eq!(kept(&config, true), short, "{architecture:?}");
        }
    }

    #[test]
    fn a_small_model_by_hand() {
        let n_params = 4 * (LAYER + 2 * 256) + VOCABULARY + 256;
        let alone = bytes("");
        let update = 100 * 5 * 22_568 + 4 * 100 * 100 + 12 * 100 * (300 + 256);
        let expected = Bytes {
            weights: 4 * n_params,
            gradient: 4 * n_params,
            moments: 8 * n_params,
            beside: 4 * n_params,
            update,
            drawing: 1 << 20,
        };
        assert_eq!(alone, expected);
        assert_eq!(alone.held(), 20 * n_params);
        assert_eq!(alone.total(), 20 * n_params + update);
        let two = bytes("processes = 2");
        assert_eq!((two.weights, two.moments), (alone.weights, 4 * n_params));
        let parts = bytes("processes = 2\nsharding = 'full'");
        assert_eq!(parts.held(), 10 * n_params);
        assert_eq!(parts.update, update + 8 * (VOCABULARY + 2 * LAYER));
        assert_eq!(parts.drawing, (1 << 20) + 4 * n_params);
        let short = bytes("dtype = 'bfloat16'");
        let update = 100 * 5 * 14_888 + 2 * 100 * 100 + 12 * 100 * (300 + 256);
        assert_eq!(short.update, update + 2 * 4 * LAYER);
        assert_eq!(short.drawing, (1 << 20) + 2 * (4 * LAYER + VOCABULARY));
    }

    #[test]
    fn adapters_have_a_gradient_and_weights_none() {
        let n_params = 4 * (LAYER + 2 * 256) + VOCABULARY + 256;
        let some = bytes("lora = { rank = 2, target_modules = ['q_proj', 'k_proj'] }");
        let own = 4 * 2 * ((256 + 256) + (256 + 64));
        assert_eq!(some.weights, 4 * (n_params + own));
        assert_eq!((some.gradient, some.moments), (4 * own, 8 * own));
        let merged = 4 * (256 * 256 + 64 * 256);
        assert_eq!(some.drawing, (1 << 20) + 4 * merged);
        let all = bytes("lora = { rank = 2 }");
        assert_eq!(all.drawing, (1 << 20) + 4 * 4 * LAYER);
    }

    #[test]
    fn what_no_device_holds_is_refused_with_what_to_do() {
        let engine = "engine={kind='torch', python='python3', device='cuda'}";
        let plan = Plan::tiny(&[engine, "base.model.hidden_size=4096"]);
        let gpu = |memory_mib| Gpu {
            name: "card".to_owned(),
            memory_mib,
            free_mib: 0,
        };
        let about = |device: &str, memory_mib| About {
            device: device.to_owned(),
            gpus: vec![gpu(1 << 20), gpu(memory_mib)],
            ..About::default()
        };
        let message = check_devices(&plan, &about("cuda:0", 100)).unwrap_err();
        let message = message.to_string();
        assert!(message.contains("card has 100 MiB"), "{message}");
        assert!(message.contains("engine.sharding"), "{message}");
        check_devices(&plan, &about("cuda:0", 1 << 20)).unwrap();
        check_devices(&plan, &about("cpu", 100)).unwrap();
        assert!(of(&Shapes::of(&plan.file, &plan.arms).unwrap(), &plan).is_some());
    }
}
