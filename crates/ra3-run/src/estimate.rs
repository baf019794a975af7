//! What a plan will need: tokens, memory, time. A bound to plan with, not a promise.
//!
//! ```text
//! memory = weights · (1 + 1 gradient + 2 moments + 2 frozen copies)
//!        + micro-batch tokens · activations a token + one chunk of logits + cache
//! ```

use anyhow::Result;
use ra3_lm::config::{Architecture, ModelConfig};
use serde::Serialize;

use crate::plan::Plan;
use crate::run_file::{ArchitectureName, BaseSection, TokenizerSection};

/// FLOP/s of one thread that small models reach on a current processor.
const FLOPS_PER_THREAD: f64 = 6e10;

/// What a plan will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The stages in order.
    pub stages: Vec<String>,
    /// Parameters of the model.
    pub n_params: u64,
    /// Peak of the engine's memory in MiB.
    pub memory_mib: u64,
    /// Updates by stage, where they are counted in updates.
    pub n_updates: Vec<(String, u64)>,
    /// Rough seconds of pretraining, if there is any.
    pub pretrain_s: f64,
}

/// Estimates a plan.
///
/// # Errors
/// The base checkpoint's `config.json` cannot be read.
pub fn estimate(plan: &Plan) -> Result<Estimate> {
    let config = config_of(plan)?;
    let n_params = ra3_lm::weights::Layout::new(&config).n_params();
    let file = &plan.file;
    let mut n_updates = Vec::new();
    let mut pretrain_s = 0.0;
    if let BaseSection::Pretrain {
        n_updates: n,
        batch_documents,
        ..
    } = &file.base
    {
        n_updates.push(("base".to_owned(), *n));
        // Testbed documents have about 60 tokens.
        let n_tokens = (*n * *batch_documents as u64 * 60) as f64;
        let flops = 6.0 * config.n_matmul_params() as f64 * n_tokens;
        pretrain_s = flops / (FLOPS_PER_THREAD * file.n_threads as f64);
    }
    if let Some(midtrain) = &file.midtrain {
        let em = crate::stages::midtrain::em_config(midtrain, file.training.prefix_weight);
        n_updates.push(("ra3".to_owned(), em.n_positions()));
    }
    if let Some(rlvr) = &file.rlvr {
        n_updates.push(("rlvr, each arm".to_owned(), rlvr.n_updates));
    }
    Ok(Estimate {
        stages: plan.stages.iter().map(|stage| stage.name()).collect(),
        n_params: n_params as u64,
        memory_mib: memory_bytes(&config, n_params, plan) >> 20,
        n_updates,
        pretrain_s,
    })
}

fn memory_bytes(config: &ModelConfig, n_params: usize, plan: &Plan) -> u64 {
    let training = &plan.file.training;
    let (d, kv, ff) = (
        config.hidden_size,
        config.key_width(),
        config.intermediate_size,
    );
    // Input, norms, q, attention, middle; k and v; gate and up, and the buffers of one layer.
    let layer = 7 * d + 2 * kv + 2 * ff;
    let kept = if training.recompute { d } else { layer };
    let activations = config.num_hidden_layers * kept + layer + 3 * ff + 6 * d;
    let logits = 512 * config.vocab_size * 2;
    let floats = 6 * n_params + training.micro_batch_tokens * activations + logits;
    (4 * floats + (training.cache_mib << 20)) as u64
}

fn config_of(plan: &Plan) -> Result<ModelConfig> {
    match &plan.file.base {
        BaseSection::Checkpoint { path } => Ok(ModelConfig::load(&path.join("config.json"))?),
        BaseSection::Pretrain { model, .. } => {
            let architecture = match model.architecture {
                ArchitectureName::Qwen2 => Architecture::Qwen2,
                ArchitectureName::Llama => Architecture::Llama,
            };
            let vocab_size = match &plan.file.tokenizer {
                TokenizerSection::Train { n_vocabulary } => *n_vocabulary,
                // A file's vocabulary is known when the run reads it.
                TokenizerSection::File { .. } | TokenizerSection::Base {} => 150_000,
            };
            Ok(ModelConfig {
                vocab_size,
                hidden_size: model.hidden_size,
                intermediate_size: model.intermediate_size,
                num_hidden_layers: model.n_layers,
                num_attention_heads: model.n_heads,
                num_key_value_heads: model.n_key_value_heads,
                tie_word_embeddings: model.tie_embeddings,
                ..ModelConfig::new(architecture)
            })
        }
    }
}

impl Estimate {
    /// For a reader.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "stages      {}\nparameters  {:.2}M\nmemory      {} MiB at most\n",
            self.stages.join(" → "),
            self.n_params as f64 / 1e6,
            self.memory_mib
        );
        for (stage, n) in &self.n_updates {
            text += &format!("updates     {n} ({stage})\n");
        }
        if self.pretrain_s > 0.0 {
            text += &format!("pretraining about {:.0} minutes\n", self.pretrain_s / 60.0);
        }
        text
    }
}
