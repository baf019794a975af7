//! What a plan will need: memory, tokens, time. Figures to plan with, not a promise.
//!
//! ```text
//! memory  = an update's peak (`ra3_lm::memory`) + frozen copies + the key and value cache
//! FLOPs   = 6 P a trained token, 2 P a token that is sampled or scored
//! ```
//!
//! with `P` the parameters of matrix products. Documents are taken as long as a sample of the
//! testbed's, and as half the longest where there is no testbed.

use anyhow::{Result, ensure};
use ra3::annotate::Choose;
use ra3::seed::Seed;
use ra3_hub::HubSettings;
use ra3_lm::config::ModelConfig;
use ra3_lm::memory::UpdateMemory;
use ra3_lm::weights::Layout;
use serde::Serialize;

use crate::engine::Engine;
use crate::plan::Plan;
use crate::run_file::{
    BaseSection, MidtrainSection, RlvrSection, RunFile, ScorerName, TokenizerSection,
};
use crate::stages::corpus::testbed_config;

/// FLOP/s of a thread in quickstart's stages; a wider model is faster.
const FLOPS_PER_THREAD: f64 = 4.5e10;
const BYTES_PER_TOKEN: f64 = 3.0;
const N_SAMPLED_DOCUMENTS: usize = 200;

/// What a plan will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The stages in order.
    pub stages: Vec<String>,
    /// Parameters of the model.
    pub n_params: u64,
    /// Peak of the engine's memory in MiB.
    pub memory_mib: u64,
    /// Tokens of a document.
    pub document_tokens: f64,
    /// The stages that train.
    pub training: Vec<StageEstimate>,
}

/// What a training stage will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageEstimate {
    /// Its name.
    pub stage: String,
    /// Updates and annotated batches.
    pub n_updates: u64,
    /// Tokens that are trained on, sampled or scored.
    pub n_tokens: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Seconds on this plan's threads.
    pub seconds: f64,
}

/// Estimates a plan.
///
/// # Errors
/// The base checkpoint's `config.json` cannot be read.
pub fn estimate(plan: &Plan) -> Result<Estimate> {
    let config = config_of(&plan.file)?;
    let document_tokens = document_tokens(plan);
    let costs = Costs {
        n_matmul_params: config.n_matmul_params() as f64,
        document_tokens,
        flops_per_second: FLOPS_PER_THREAD * plan.file.n_threads as f64,
    };
    Ok(Estimate {
        stages: plan.stages.iter().map(|stage| stage.name()).collect(),
        n_params: Layout::new(&config).n_params() as u64,
        memory_mib: memory(&config, plan).peak as u64 >> 20,
        document_tokens,
        training: training_stages(plan, &costs),
    })
}

/// Multiplies counts into costs.
struct Costs {
    n_matmul_params: f64,
    document_tokens: f64,
    flops_per_second: f64,
}

impl Costs {
    fn stage(&self, stage: &str, n_updates: u64, trained: f64, run: f64) -> StageEstimate {
        let flops = self.n_matmul_params * (6.0 * trained + 2.0 * run);
        StageEstimate {
            stage: stage.to_owned(),
            n_updates,
            n_tokens: trained + run,
            flops,
            seconds: flops / self.flops_per_second,
        }
    }

    fn documents(&self, n_updates: u64, batch_documents: usize) -> f64 {
        n_updates as f64 * batch_documents as f64 * self.document_tokens
    }

    fn ra3(&self, section: &MidtrainSection, prefix_weight: f32) -> StageEstimate {
        let em = crate::stages::midtrain::em_config(section, prefix_weight);
        let group = em.e_step.group_size;
        let rollouts =
            self.documents(em.rounds * em.e_updates, em.e_batch_documents) * group as f64;
        let n_annotated = em.annotate_documents.next_multiple_of(em.m_batch_documents);
        let searched =
            self.documents(em.rounds, n_annotated) * (1.0 - f64::from(em.corpus_latents_share));
        let draws = searched * em.choose.group_size() as f64;
        // A rollout is sampled; the scorer reads it again, and a reference where one is needed.
        // Annotation by one draw reads nothing again.
        let n_readers = 2.0 + f64::from(u8::from(em.e_step.penalty.needs_reference()));
        let n_readings = if matches!(em.choose, Choose::Sample {}) {
            1.0
        } else {
            n_readers
        };
        // An update of the M-step learns from every draw of its documents that has a weight.
        let own = f64::from(em.corpus_latents_share);
        let n_learnt = own + (1.0 - own) * em.choose.n_learnt() as f64;
        let trained = self.documents(em.cold_start_updates, em.m_batch_documents)
            + self.documents(em.rounds * em.m_updates, em.m_batch_documents) * n_learnt
            + rollouts * em.e_step.updates_per_batch as f64;
        let run = rollouts * n_readers + draws * n_readings;
        self.stage("ra3", em.n_positions(), trained, run)
    }

    /// The corpus tokens of [`Self::ra3`]: annotation reads documents and learns from none.
    fn ntp(&self, section: &MidtrainSection, prefix_weight: f32) -> StageEstimate {
        let em = crate::stages::midtrain::em_config(section, prefix_weight);
        let n_supervised = em.n_supervised_updates() * em.m_batch_documents as u64;
        let n_searched = em.rounds * em.e_updates * em.e_batch_documents as u64;
        let n_documents = n_supervised + n_searched;
        let n_updates = n_documents.div_ceil(section.batch_documents as u64);
        self.stage("ntp", n_updates, self.documents(n_documents, 1), 0.0)
    }

    fn rlvr(&self, section: &RlvrSection, program_tokens_max: usize) -> StageEstimate {
        let n_learnt =
            section.n_updates as f64 * (section.batch_problems * section.group_size) as f64;
        // A program has at most so many tokens, and ends at half of them.
        let n_tokens = n_learnt * (program_tokens_max as f64 / 2.0 + self.document_tokens);
        let trained = n_tokens * section.updates_per_batch as f64;
        // Of all tries, a batch's worth of programs is learnt from.
        let run = n_tokens * section.n_tries_max as f64;
        self.stage("rlvr, each arm", section.n_updates, trained, run)
    }
}

fn training_stages(plan: &Plan, costs: &Costs) -> Vec<StageEstimate> {
    let file = &plan.file;
    let mut stages = Vec::new();
    if let BaseSection::Pretrain {
        n_updates,
        batch_documents,
        ..
    } = &file.base
    {
        let trained = costs.documents(*n_updates, *batch_documents);
        stages.push(costs.stage("base", *n_updates, trained, 0.0));
    }
    if let Some(section) = &file.midtrain {
        let prefix_weight = file.training.prefix_weight;
        stages.push(costs.ntp(section, prefix_weight));
        stages.push(costs.ra3(section, prefix_weight));
    }
    if let (Some(rlvr), Some(evaluate)) = (&file.rlvr, &file.evaluate) {
        stages.push(costs.rlvr(rlvr, evaluate.program_tokens_max));
    }
    stages
}

/// Bytes that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// Without a single token: the model that is trained, and those beside it.
    held: usize,
    /// At most.
    peak: usize,
}

fn memory(config: &ModelConfig, plan: &Plan) -> Memory {
    let file = &plan.file;
    let Engine::Cpu(settings) = Engine::of(&file.training);
    let n_rows = rows_max(config, file);
    let update = UpdateMemory::of(config, &settings, n_rows);
    // The reference is kept for the bounds even where the penalty does not need it.
    let n_frozen = file.midtrain.as_ref().map_or(0, |section| {
        1 + usize::from(section.ra3.e_step.scorer == ScorerName::Frozen)
    });
    let number_bytes = file.training.frozen_precision.n_bytes();
    let frozen = n_frozen * Layout::new(config).n_params() * number_bytes;
    Memory {
        held: update.parameters + frozen,
        peak: update.total() + frozen + settings.cache_bytes_max,
    }
}

/// Rows that are live at once in the largest update of any stage: as many trees as a micro-batch
/// holds, or one tree that is larger and runs alone.
fn rows_max(config: &ModelConfig, file: &RunFile) -> usize {
    let context = config.max_position_embeddings;
    let document = file.corpus.document_tokens_max.min(context);
    let mut batches = Vec::new();
    if let BaseSection::Pretrain {
        batch_documents, ..
    } = &file.base
    {
        batches.push((*batch_documents, document));
    }
    if let Some(midtrain) = &file.midtrain {
        let search = &midtrain.ra3.e_step;
        // The draws of a document that the M-step learns from are one tree.
        let n_learnt = midtrain.ra3.m_step.choose.n_learnt();
        let draws = n_learnt.saturating_mul(annotated_tokens_max(file, context));
        batches.push((midtrain.batch_documents, draws));
        // The rollouts of a document part at its first decision, in the worst case.
        let group = search
            .group_size
            .saturating_mul(annotated_tokens_max(file, context));
        batches.push((search.batch_documents, group));
    }
    if let (Some(rlvr), Some(evaluate)) = (&file.rlvr, &file.evaluate) {
        // The prompt is shared, and at most the rest of the context.
        let program = evaluate.program_tokens_max.min(context);
        let group = (context - program).saturating_add(rlvr.group_size.saturating_mul(program));
        batches.push((rlvr.batch_problems, group));
    }
    let rows = batches.iter().map(|(n_trees, tree)| {
        let all = n_trees.saturating_mul(*tree);
        all.min(file.training.micro_batch_tokens).max(*tree)
    });
    rows.max().unwrap_or(document)
}

/// Tokens of the longest document with a longest rationale before every line, or the context. A
/// line has two tokens at least, its decision and its end.
fn annotated_tokens_max(file: &RunFile, context: usize) -> usize {
    let document = file.corpus.document_tokens_max;
    let rationale = file
        .midtrain
        .as_ref()
        .map_or(0, |midtrain| midtrain.ra3.e_step.rationale_tokens_max + 2);
    let n_lines_max = document.div_ceil(2);
    context.min(document.saturating_add(n_lines_max.saturating_mul(rationale)))
}

/// Refuses a plan whose weights, gradient and moments alone exceed this machine's memory.
///
/// # Errors
/// They do: the message says both.
pub(crate) fn check_memory(plan: &Plan) -> Result<()> {
    // What is not here yet is looked at when it is loaded.
    let Ok(config) = config_of(&plan.file) else {
        return Ok(());
    };
    let held_mib = memory(&config, plan).held as u64 >> 20;
    if let Some(here_mib) = memory_of_machine_mib() {
        ensure!(
            held_mib <= here_mib,
            "the model's weights, their gradient and the optimizer's moments take {held_mib} MiB, \
             and this machine has {here_mib} MiB: take a smaller base.model, or \
             training.moment_precision = \"bfloat16\""
        );
    }
    Ok(())
}

/// `None` where the system does not say.
fn memory_of_machine_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn document_tokens(plan: &Plan) -> f64 {
    let corpus = &plan.file.corpus;
    let Some(section) = &corpus.testbed else {
        return corpus.document_tokens_max as f64 / 2.0;
    };
    let mut config = testbed_config(section);
    config.n_documents = config.n_documents.min(N_SAMPLED_DOCUMENTS);
    (config.n_train_problems, config.n_held_out_problems) = (0, 0);
    let sample = ra3_testbed::generate(&config, Seed::root(plan.file.seed)).documents;
    let n_bytes: usize = sample
        .iter()
        .map(|document| document.prefix.len() + document.text.len())
        .sum();
    n_bytes as f64 / sample.len().max(1) as f64 / BYTES_PER_TOKEN
}

/// The model's shape; of a checkpoint, as its `config.json` says.
///
/// # Errors
/// The `config.json` is neither in a folder nor in the cache, or cannot be read.
pub(crate) fn config_of(file: &RunFile) -> Result<ModelConfig> {
    match &file.base {
        BaseSection::Checkpoint { path, .. } => {
            // Of a model of the Hub only what is in the cache: a plan downloads nothing.
            let settings = HubSettings {
                is_offline: true,
                ..HubSettings::from_environment()
            };
            let name = path.display().to_string();
            let folder = ra3_hub::resolve(&name, &settings, &mut |_, _| {})?.folder;
            Ok(ModelConfig::load(&folder.join("config.json"))?)
        }
        BaseSection::Pretrain { model, .. } => {
            let vocab_size = match &file.tokenizer {
                TokenizerSection::Train { n_vocabulary } => *n_vocabulary,
                // A file's vocabulary is known when the run reads it.
                TokenizerSection::File { .. } | TokenizerSection::Base {} => 150_000,
            };
            Ok(model.config(vocab_size))
        }
    }
}

impl Estimate {
    /// For a reader.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "stages      {}\nparameters  {:.2}M\nmemory      {} MiB at most\n\
             documents   about {:.0} tokens each\n\n\
             {:<16} {:>9} {:>10} {:>10} {:>9}\n",
            self.stages.join(" → "),
            self.n_params as f64 / 1e6,
            self.memory_mib,
            self.document_tokens,
            "stage",
            "updates",
            "tokens",
            "TFLOP",
            "minutes",
        );
        for stage in &self.training {
            text += &format!(
                "{:<16} {:>9} {:>9.2}M {:>10.2} {:>9.1}\n",
                stage.stage,
                stage.n_updates,
                stage.n_tokens / 1e6,
                stage.flops / 1e12,
                stage.seconds / 60.0,
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rows(changes: &[&str]) -> usize {
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        let text = include_str!("../../../runs/tiny.toml");
        let file = crate::run_file::parse(text, Path::new("tiny.toml"), &changes).unwrap();
        rows_max(&config_of(&file).unwrap(), &file)
    }

    #[test]
    fn the_largest_tree_counts_where_it_is_larger_than_a_micro_batch() {
        // 2 documents of 8 rollouts of 1024 tokens fill micro-batches.
        assert_eq!(rows(&["training.micro_batch_tokens=9000"]), 9000);
        // One group is a tree, and runs alone.
        assert_eq!(rows(&["training.micro_batch_tokens=100"]), 8 * 1024);
        let few = "midtrain.ra3.e_step.group_size=2";
        // RLVR: 8 programs of 200 tokens behind one prompt of at most 824.
        assert_eq!(
            rows(&["training.micro_batch_tokens=100", few]),
            824 + 8 * 200
        );
        let short = ["rlvr.group_size=2", "training.micro_batch_tokens=100", few];
        assert_eq!(rows(&short), 2 * 1024);
    }

    /// The training stages of `tiny` with changes, for documents of 10 tokens and one parameter.
    fn stages(changes: &[&str]) -> Vec<(String, u64, f64, f64)> {
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        let text = include_str!("../../../runs/tiny.toml");
        let file = crate::run_file::parse(text, Path::new("tiny.toml"), &changes).unwrap();
        let costs = Costs {
            n_matmul_params: 1.0,
            document_tokens: 10.0,
            flops_per_second: 1.0,
        };
        let stages = training_stages(&Plan::new(file).unwrap(), &costs).into_iter();
        stages
            .map(|it| (it.stage, it.n_updates, it.n_tokens, it.flops))
            .collect()
    }

    #[test]
    fn tokens_and_operations_by_hand() {
        let found = stages(&[]);
        let expected = [
            // 6 updates of 8 documents.
            ("base", 6, 480.0, 6.0 * 480.0),
            // 4 supervised updates of 8 documents and 2 E-step updates of 2: 36 documents.
            ("ntp", 5, 360.0, 6.0 * 360.0),
            // 32 documents are learnt from, and 2 × 2 × 8 rollouts, each sampled and scored; of 16
            // annotated documents, 12 are drawn once.
            ("ra3", 8, 640.0 + 640.0 + 120.0, 6.0 * 640.0 + 2.0 * 760.0),
            // 2 × 2 × 8 programs of 100 tokens behind 10.
            ("rlvr, each arm", 2, 2.0 * 3520.0, 8.0 * 3520.0),
        ];
        for (found, (stage, n_updates, n_tokens, flops)) in found.iter().zip(expected) {
            assert_eq!(*found, (stage.to_owned(), n_updates, n_tokens, flops));
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn every_update_on_a_batch_and_every_draw_of_a_group_counts() {
        let ra3 = |changes: &[&str]| {
            let (_, _, n_tokens, flops) = stages(changes).swap_remove(2);
            (n_tokens, flops)
        };
        // 320 tokens of documents and 320 of rollouts are learnt from; 640 and 120 are run.
        let (more, groups) = (
            "midtrain.ra3.e_step.updates_per_batch=3",
            "midtrain.ra3.m_step.choose={kind='best_of', group_size=4}",
        );
        assert_eq!(ra3(&[more]), (2040.0, 6.0 * 1280.0 + 2.0 * 760.0));
        // 12 documents are drawn four times, and scored.
        assert_eq!(ra3(&[groups]), (2240.0, 6.0 * 640.0 + 2.0 * 1600.0));
        let weights = "midtrain.ra3.m_step.choose={kind='importance_weights', group_size=4}";
        // The M-step's 2 updates learn from four draws of three documents in four: 160 tokens
        // become 520.
        assert_eq!(ra3(&[weights]), (2600.0, 6.0 * 1000.0 + 2.0 * 1600.0));
        // A reference reads every rollout and every draw, too.
        let kl = "midtrain.ra3.e_step.penalty={kind='exact_kl', alpha=0.5}";
        assert_eq!(ra3(&[kl]), (1720.0, 6.0 * 640.0 + 2.0 * 1080.0));
        assert_eq!(ra3(&[kl, groups]), (3040.0, 6.0 * 640.0 + 2.0 * 2400.0));
        // Annotation goes by whole batches of 8: 17 documents are 24, of which 18 are drawn.
        let few = "midtrain.ra3.annotate_documents=17";
        assert_eq!(ra3(&[few]), (1460.0, 6.0 * 640.0 + 2.0 * 820.0));

        let rlvr = |change| stages(&[change]).swap_remove(3);
        let (_, _, n_tokens, flops) = rlvr("rlvr.updates_per_batch=3");
        assert_eq!((n_tokens, flops), (4.0 * 3520.0, 20.0 * 3520.0));
        let (_, _, n_tokens, flops) = rlvr("rlvr.n_tries_max=3");
        assert_eq!((n_tokens, flops), (4.0 * 3520.0, 12.0 * 3520.0));
    }

    #[test]
    fn what_no_machine_holds_is_refused() {
        let changes = [
            "base.model.hidden_size=32768".to_owned(),
            "base.model.intermediate_size=131072".to_owned(),
            "base.model.n_layers=1000".to_owned(),
            "training.cache_mib=1000000".to_owned(),
        ];
        let text = include_str!("../../../runs/tiny.toml");
        let file = crate::run_file::parse(text, Path::new("tiny.toml"), &changes).unwrap();
        let plan = Plan::new(file).unwrap();
        assert!(estimate(&plan).unwrap().memory_mib > 1 << 20);
        let message = check_memory(&plan).unwrap_err().to_string();
        assert!(message.contains("base.model"), "{message}");
    }
}
