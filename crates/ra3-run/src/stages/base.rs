//! The base model: trained from scratch, or a checkpoint folder; either way in `models/base`.

use std::path::Path;

use anyhow::{Context, Result};
use ra3::model::{Model, Saved};
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_text::tokenizer::Tokenizer;

use super::corpus;
use super::supervised::{SupervisedCourse, Until};
use super::training::{Course, Training, drive};
use crate::arm::Arm;
use crate::atomic;
use crate::directory::RunDirectory;
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model;
use crate::model_note::ModelNote;
use crate::plan::Plan;
use crate::run_file::{
    ArchitectureName, BaseSection, ModelSection, PrecisionName, ScheduleSection,
};

pub(crate) fn run(
    plan: &Plan,
    directory: &mut RunDirectory,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    match &plan.file.base {
        BaseSection::Checkpoint {
            path,
            vocabulary_multiple,
        } => {
            watcher(started());
            let folder = model::folder_of(path, watcher)?;
            let mut lm = Engine::of(&plan.file.training)
                .load(&folder)
                .with_context(|| format!("cannot load the base checkpoint {}", path.display()))?;
            let tokenizer = corpus::tokenizer(directory)?;
            if tokenizer.vocab_size() > lm.shape().n_vocabulary {
                let n = tokenizer
                    .vocab_size()
                    .next_multiple_of(*vocabulary_multiple);
                let seed = Seed::root(plan.file.seed).child("base");
                lm.grow_vocabulary(n, seed.child("markers"));
            }
            let note = ModelNote::of_checkpoint(&folder)?;
            save_model(directory, Arm::Base.name(), &*lm, &tokenizer, &note)?;
            let millions = lm.shape().n_params as f64 / 1e6;
            let message = format!("{millions:.2}M parameters from {}", path.display());
            watcher(Event::Finished { message });
            Ok(())
        }
        BaseSection::Pretrain {
            model,
            n_updates,
            batch_documents,
            schedule,
        } => {
            let tokenizer = corpus::tokenizer(directory)?;
            let documents = corpus::training_documents(directory)?;
            let seed = Seed::root(plan.file.seed).child("base");
            let config = model_config(model, &tokenizer);
            let lm = Engine::of(&plan.file.training).create(config, seed.child("weights"));
            let course = Course::Supervised(SupervisedCourse {
                documents: &documents,
                batch_documents: *batch_documents,
                prefix_weight: plan.file.training.prefix_weight,
                schedule: to_schedule(*schedule, *n_updates),
                until: Until::Updates(*n_updates),
                n_updates_expected: *n_updates,
                seed: seed.child("batches"),
            });
            let training = Training {
                stage: "base".to_owned(),
                lm,
                course,
                checkpoint_every: plan.file.checkpoint_every,
            };
            let (lm, _) = drive(training, directory, watcher)?;
            let note = ModelNote::default();
            save_model(directory, Arm::Base.name(), &*lm, &tokenizer, &note)
        }
    }
}

fn started() -> Event {
    Event::Started {
        stage: "base".to_owned(),
        position: 0,
        total: 0,
        unit: "",
    }
}

/// Writes a finished model with its tokenizer, in Hugging Face layout.
pub(crate) fn save_model(
    directory: &RunDirectory,
    arm: &str,
    lm: &dyn Model,
    tokenizer: &Tokenizer,
    note: &ModelNote,
) -> Result<()> {
    let companions = directory.corpus();
    save_model_to(&directory.model(arm), &companions, lm, tokenizer, note)
}

/// As [`save_model`], into a folder that is named, with the companions of another.
pub(crate) fn save_model_to(
    folder: &Path,
    companions: &Path,
    lm: &dyn Model,
    tokenizer: &Tokenizer,
    note: &ModelNote,
) -> Result<()> {
    atomic::write_folder(folder, |folder| {
        lm.save(folder, Saved::Finished)
            .map_err(anyhow::Error::from_boxed)?;
        tokenizer.save(folder)?;
        model::copy_companions(companions, folder)?;
        model::write_generation_config(folder, lm, tokenizer)?;
        note.write(folder)
    })
}

/// Loads a finished model of this run.
pub(crate) fn load_model(
    plan: &Plan,
    directory: &RunDirectory,
    arm: &str,
) -> Result<Box<dyn Model>> {
    Engine::of(&plan.file.training).load(&directory.model(arm))
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Float32 => Self::Float32,
            PrecisionName::Bfloat16 => Self::Bfloat16,
        }
    }
}

/// A schedule of the run file over so many updates.
pub(crate) fn to_schedule(section: ScheduleSection, n_updates: u64) -> Schedule {
    match section {
        ScheduleSection::Constant { peak, warmup } => Schedule::Constant { peak, warmup },
        ScheduleSection::Cosine {
            peak,
            warmup,
            floor_share,
        } => Schedule::Cosine {
            peak,
            warmup,
            n_updates,
            floor_share,
        },
        ScheduleSection::WarmupStableDecay {
            peak,
            warmup,
            decay,
            floor_share,
        } => Schedule::WarmupStableDecay {
            peak,
            warmup,
            decay,
            n_updates,
            floor_share,
        },
    }
}

/// The engine's configuration of a model section.
pub(crate) fn model_config(model: &ModelSection, tokenizer: &Tokenizer) -> ModelConfig {
    let architecture = match model.architecture {
        ArchitectureName::Qwen2 => Architecture::Qwen2,
        ArchitectureName::Llama => Architecture::Llama,
    };
    ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: model.hidden_size,
        intermediate_size: model.intermediate_size,
        num_hidden_layers: model.n_layers,
        num_attention_heads: model.n_heads,
        num_key_value_heads: model.n_key_value_heads,
        max_position_embeddings: model.context,
        rope_theta: model.rope_theta,
        tie_word_embeddings: model.tie_embeddings,
        initializer_range: model.initializer_range,
        precision: model.precision_on_disk.into(),
        eos_token_ids: vec![tokenizer.markers().end],
        bos_token_id: tokenizer.named_begin(),
        ..ModelConfig::new(architecture)
    }
}
