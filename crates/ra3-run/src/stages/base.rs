//! The base model: trained from scratch, or a checkpoint folder; either way in `models/base`.

use std::path::Path;

use anyhow::{Context, Result};
use ra3::model::{Model, Saved};
use ra3::seed::Seed;
use ra3_lm::config::ModelConfig;
use ra3_text::tokenizer::Tokenizer;

use super::corpus;
use super::supervised::{SupervisedCourse, Until};
use super::training::{Course, Training, drive};
use crate::arm::Arm;
use crate::directory::RunDirectory;
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model;
use crate::model_note::ModelNote;
use crate::plan::Plan;
use crate::run_file::BaseSection;

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
            let config = ModelConfig {
                eos_token_ids: vec![tokenizer.markers().end],
                bos_token_id: tokenizer.named_begin(),
                ..model.config(tokenizer.vocab_size())
            };
            let lm = Engine::of(&plan.file.training).create(config, seed.child("weights"));
            let course = Course::Supervised(SupervisedCourse {
                documents: &documents,
                batch_documents: *batch_documents,
                prefix_weight: plan.file.training.prefix_weight,
                schedule: *schedule,
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
    ra3_files::write_folder(folder, |folder| -> Result<()> {
        lm.save(folder, Saved::Finished)
            .map_err(anyhow::Error::from_boxed)?;
        tokenizer.save(folder)?;
        model::copy_companions(companions, folder)?;
        model::write_generation_config(folder, lm, tokenizer)?;
        note.write(folder)
    })?;
    Ok(())
}

/// Loads a finished model of this run.
pub(crate) fn load_model(
    plan: &Plan,
    directory: &RunDirectory,
    arm: &str,
) -> Result<Box<dyn Model>> {
    Engine::of(&plan.file.training).load(&directory.model(arm))
}
