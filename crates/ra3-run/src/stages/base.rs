//! The base model, trained from scratch or a checkpoint; and the checkpoints of other arms.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ra3::model::{Model, Saved};
use ra3::seed::Seed;
use ra3_lm::config::ModelConfig;
use ra3_text::tokenizer::Tokenizer;

use super::corpus;
use super::supervised::SupervisedCourse;
use super::training::{Course, drive};
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model;
use crate::model_note::ModelNote;
use crate::plan::{Arm, Origin, Until};
use crate::run_file::{BaseSection, RunFile};
use crate::store::StageFolder;

/// Rows of the embedding become a multiple of this where the checkpoint of an arm lacks markers.
const VOCABULARY_MULTIPLE: usize = 64;

pub(crate) fn run(
    file: &RunFile,
    engine: &Engine,
    corpus: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    match &file.base {
        BaseSection::Checkpoint {
            path,
            vocabulary_multiple,
        } => {
            let n = *vocabulary_multiple;
            make_ready(file, engine, path, n, corpus, folder, watcher)
        }
        BaseSection::Pretrain {
            model,
            n_updates,
            batch_documents,
            schedule,
        } => {
            let tokenizer = corpus::tokenizer(corpus)?;
            let documents = corpus::training_documents(corpus)?;
            let seed = Seed::root(file.seed).child("base");
            let config = ModelConfig {
                eos_token_ids: vec![tokenizer.markers().end],
                bos_token_id: tokenizer.named_begin(),
                ..model.config(tokenizer.vocab_size())
            };
            let lm = engine.create(config, seed.child("weights"))?;
            let course = Course::Supervised(SupervisedCourse {
                documents: &documents,
                among: (0..documents.len()).collect(),
                batch_documents: *batch_documents,
                prefix_weight: file.training.prefix_weight,
                schedule: *schedule,
                until: Until::Updates(*n_updates),
                n_updates_expected: *n_updates,
                seed: seed.child("batches"),
            });
            let lm = drive(lm, course, file.checkpoint_every, folder, watcher)?;
            let note = ModelNote::default();
            save_model(&folder.path("model"), corpus, &*lm, &tokenizer, &note)
        }
    }
}

/// Makes the checkpoint ready that an arm begins from.
pub(crate) fn adopt(
    arm: &Arm,
    engine: &Engine,
    corpus: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let Origin::Checkpoint(path) = &arm.from else {
        bail!("the arm {} begins from no checkpoint", arm.name);
    };
    make_ready(
        &arm.file,
        engine,
        path,
        VOCABULARY_MULTIPLE,
        corpus,
        folder,
        watcher,
    )
}

fn make_ready(
    file: &RunFile,
    engine: &Engine,
    path: &Path,
    vocabulary_multiple: usize,
    corpus: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    watcher(Event::began(folder.stage()));
    let from = model::folder_of(path, watcher)?;
    let mut lm = engine
        .load(&from)
        .with_context(|| format!("cannot load the checkpoint {}", path.display()))?;
    let tokenizer = corpus::tokenizer(corpus)?;
    check_tokenizer(&from, &tokenizer)?;
    if tokenizer.vocab_size() > lm.shape().n_vocabulary {
        let n = tokenizer.vocab_size().next_multiple_of(vocabulary_multiple);
        let seed = Seed::root(file.seed).child("base");
        lm.grow_vocabulary(n, seed.child("markers"));
    }
    let note = ModelNote::of_checkpoint(&from)?;
    save_model(&folder.path("model"), corpus, &*lm, &tokenizer, &note)?;
    let millions = lm.shape().n_params as f64 / 1e6;
    let message = format!("{millions:.2}M parameters from {}", path.display());
    watcher(Event::Finished { message });
    Ok(())
}

/// A run has one tokenizer: a checkpoint with another would read other text than was written.
fn check_tokenizer(from: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let path = from.join("tokenizer.json");
    if !path.exists() {
        return Ok(());
    }
    let own = Tokenizer::load(&path).with_context(|| format!("cannot load {}", path.display()))?;
    let probe = "def f(x):\n    return [x, 'é'] # 1234567890 zebra\n";
    ensure!(
        own.encode(probe) == tokenizer.encode(probe) && own.vocab_size() == tokenizer.vocab_size(),
        "{} cuts text otherwise than the run's tokenizer: all models of a run have one",
        path.display()
    );
    Ok(())
}

/// Writes a finished model with its tokenizer, in Hugging Face layout, with the companions of the
/// corpus' folder.
pub(crate) fn save_model(
    to: &Path,
    companions: &Path,
    lm: &dyn Model,
    tokenizer: &Tokenizer,
    note: &ModelNote,
) -> Result<()> {
    ra3_files::write_folder(to, |folder| -> Result<()> {
        lm.save(folder, Saved::Finished)
            .map_err(anyhow::Error::from_boxed)?;
        tokenizer.save(folder)?;
        model::copy_companions(companions, folder)?;
        model::write_generation_config(folder, lm, tokenizer)?;
        note.write(folder)
    })?;
    Ok(())
}
