//! Mid-training of an arm: RA3, or next-token prediction until its budget is spent.
//!
//! A budget may be what another arm has spent: its corpus tokens (those of the E-step included), or
//! its FLOPs, for sampling and scoring cost RA3 more than a token of training does. Corpus tokens
//! are those of the documents as they stand in the corpus, for every arm, so equal tokens are equal
//! documents. The supervised updates of each arm follow one schedule of the same shape.

use std::path::Path;

use anyhow::{Result, bail};
use ra3::em::Em;
use ra3::phases::EmConfig;
use ra3::policy::TokenId;
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3_corpus::shards::Shards;
use ra3_text::tokenizer::{ACT, CLOSE, THINK, Tokenizer};

use super::base::save_model;
use super::corpus;
use super::ra3::{Ra3Course, Snapshots};
use super::supervised::SupervisedCourse;
use super::training::{Course, drive};
use crate::engine::Engine;
use crate::event::Watcher;
use crate::model_note::ModelNote;
use crate::plan::{Arm, Method, Until};
use crate::recipe::{Before, until};
use crate::run_file::{DocumentChoice, RunFile, SupervisedSection};
use crate::store::StageFolder;

/// The folder of the model that gives `p_0`.
pub(crate) const REFERENCE: &str = "reference";

pub(crate) fn run(
    arm: &Arm,
    engine: &Engine,
    corpus: &Path,
    start: &Path,
    before: &Before,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let file = &arm.file;
    let tokenizer = corpus::tokenizer(corpus)?;
    let documents = corpus::training_documents(corpus)?;
    let mut lm = engine.load(start)?;
    let mut note = ModelNote::read(start)?;
    // One root for all arms. Each draws all documents of an epoch before any of the next; the
    // phases of RA3 have an order of their own each.
    let seed = Seed::root(file.seed).child("midtrain");
    let course = match &arm.method {
        Method::None => bail!("nothing is done to the arm {}", arm.name),
        Method::Ra3 => {
            let markers = Seed::root(file.seed).child("markers");
            lm.restart_tokens(&untrained_markers(&note, &tokenizer), markers);
            note = ModelNote::latent();
            let snapshots = Snapshots {
                models: folder.path(""),
                companions: corpus.to_owned(),
                tokenizer: tokenizer.clone(),
                engine: engine.clone(),
            };
            Course::Ra3(Box::new(Ra3Course {
                em: Em {
                    cold_start_documents: chosen(file.ra3.cold_start_documents, &documents),
                    ..Em::new(em_config(file), tokenizer.markers(), documents.len())
                },
                documents: &documents,
                moments: file.ra3.moments,
                snapshots,
                seed,
            }))
        }
        Method::Ntp(budget) => {
            let until = until(budget, before)?;
            let per_token = 6.0 * lm.shape().n_matmul_params as f64;
            Course::Supervised(ntp_course(file, &documents, until, per_token, seed))
        }
    };
    let lm = drive(lm, course, file.checkpoint_every, folder, watcher)?;
    save_model(&folder.path("model"), corpus, &*lm, &tokenizer, &note)
}

/// `flops_per_token` is what training on a token takes.
fn ntp_course<'a>(
    file: &RunFile,
    documents: &'a Shards,
    until: Until,
    flops_per_token: f64,
    seed: Seed,
) -> SupervisedCourse<'a> {
    let section = &file.supervised;
    let among = chosen(section.ntp_documents, documents);
    let per_update = mean_document_tokens(documents, &among) * section.batch_documents as f64;
    let expected = |n_tokens: f64| ((n_tokens / per_update).ceil() as u64).max(1);
    let n_updates_expected = match until {
        Until::Updates(n) => n,
        Until::CorpusTokens(n) => expected(n as f64),
        Until::Flops(flops) => expected(flops / flops_per_token),
    };
    SupervisedCourse {
        documents,
        among,
        batch_documents: section.batch_documents,
        prefix_weight: file.training.prefix_weight,
        schedule: supervised_schedule(section),
        until,
        n_updates_expected,
        seed: seed.child("m_step"),
    }
}

/// The documents of a choice; all, where none has a comment.
fn chosen(choice: DocumentChoice, documents: &Shards) -> Vec<usize> {
    let mut found: Vec<usize> = (0..documents.len()).collect();
    if choice == DocumentChoice::WithComments {
        let has_comment = |index: &usize| documents.document(*index).annotated.has_rationale();
        let with_comments: Vec<usize> = found.iter().copied().filter(has_comment).collect();
        if !with_comments.is_empty() {
            found = with_comments;
        }
    }
    found
}

/// The markers whose rows begin anew: those that the base model was not trained to write.
fn untrained_markers(base: &ModelNote, tokenizer: &Tokenizer) -> Vec<TokenId> {
    let markers = tokenizer.markers();
    let named = [
        (ACT, markers.act),
        (THINK, markers.think),
        (CLOSE, markers.close),
    ];
    let untrained = named.iter().filter(|(name, _)| !base.knows(name));
    untrained.map(|(_, id)| *id).collect()
}

fn mean_document_tokens(documents: &Shards, among: &[usize]) -> f64 {
    let step = (among.len() / 1000).max(1);
    let lengths: Vec<usize> = among
        .iter()
        .step_by(step)
        .map(|index| documents.trajectory(*index).n_tokens())
        .collect();
    lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64
}

fn supervised_schedule(section: &SupervisedSection) -> Schedule {
    Schedule::Cosine {
        peak: section.peak,
        warmup: section.warmup,
        floor_share: section.floor_share,
    }
}

/// The loop's settings from the run file's.
pub(crate) fn em_config(file: &RunFile) -> EmConfig {
    let ra3 = &file.ra3;
    EmConfig {
        cold_start_updates: ra3.cold_start_updates,
        cold_start_lines_share: ra3.cold_start_lines_share,
        rounds: ra3.rounds,
        selection_rounds: ra3.selection_rounds,
        e_updates: ra3.e_updates,
        // What nothing learns from is not drawn.
        annotate_documents: if ra3.m_updates > 0 {
            ra3.annotate_documents
        } else {
            0
        },
        m_updates: ra3.m_updates,
        m_batch_documents: file.supervised.batch_documents,
        e_step: ra3.e_step.clone(),
        m_step: ra3.m_step.clone(),
        prefix_weight: file.training.prefix_weight,
        supervised_schedule: supervised_schedule(&file.supervised),
    }
}
