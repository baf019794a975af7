//! Mid-training: the arms from one base, on the same documents.
//!
//! RA3 runs first; NTP then sees as many corpus tokens as all of RA3's updates together (those of
//! the E-step included), and `ntp-compute` spends as many FLOPs. Corpus tokens are those of the
//! documents as they stand in the corpus, for every arm, so equal tokens are equal documents. The
//! supervised updates of each arm follow one schedule of the same shape.

use anyhow::Result;
use ra3::e_step::{EStepConfig, Persistence};
use ra3::em::Em;
use ra3::interleave::TokenWeights;
use ra3::phases::EmConfig;
use ra3::policy::{Surrogate, TokenId};
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3_corpus::shards::Shards;
use ra3_text::tokenizer::{ACT, CLOSE, THINK, Tokenizer};

use super::base::{load_model, save_model};
use super::corpus;
use super::ra3::{Ra3Course, Snapshots};
use super::supervised::{SupervisedCourse, Until};
use super::training::{Course, Training, drive};
use crate::arm::Arm;
use crate::directory::RunDirectory;
use crate::engine::Engine;
use crate::event::Watcher;
use crate::model_note::ModelNote;
use crate::plan::Plan;
use crate::run_file::{AblationName, EStepSection, MidtrainSection, ScorerName};

/// Name of the model that gives `p_0`.
pub(crate) const REFERENCE: &str = "reference";

pub(crate) fn run(
    arm: Arm,
    section: &MidtrainSection,
    plan: &Plan,
    directory: &mut RunDirectory,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let tokenizer = corpus::tokenizer(directory)?;
    let documents = corpus::training_documents(directory)?;
    let mut lm = load_model(plan, directory, Arm::Base.name())?;
    let base = ModelNote::read(&directory.model(Arm::Base.name()))?;
    if arm.is_latent() {
        let seed = Seed::root(plan.file.seed).child("markers");
        lm.restart_tokens(&untrained_markers(&base, &tokenizer), seed);
    }
    // One root for all arms. Each draws all documents of an epoch before any of the next; the
    // phases of RA3 have an order of their own each.
    let seed = Seed::root(plan.file.seed).child("midtrain");
    let course = match arm {
        Arm::Ra3 => {
            let config = em_config(section, plan.file.training.prefix_weight);
            let snapshots = Snapshots {
                models: directory.model("."),
                companions: directory.corpus(),
                tokenizer: tokenizer.clone(),
                engine: Engine::of(&plan.file.training),
            };
            let course = Ra3Course {
                em: Em::new(config, tokenizer.markers()),
                documents: &documents,
                moments: section.ra3.moments,
                snapshots,
                seed,
            };
            Course::Ra3(Box::new(course))
        }
        Arm::Base | Arm::Ntp | Arm::NtpCompute => {
            let spent = directory.spent_by(Arm::Ra3.name())?;
            let (until, n_tokens) = if arm == Arm::NtpCompute {
                // Sampling and scoring cost RA3 more than a token of training costs NTP.
                let per_token = 6.0 * lm.shape().n_matmul_params as f64;
                (Until::Flops(spent.flops), spent.flops / per_token)
            } else {
                let n = spent.n_corpus_tokens;
                (Until::CorpusTokens(n), n as f64)
            };
            let prefix_weight = plan.file.training.prefix_weight;
            let course = ntp_course(section, prefix_weight, &documents, until, n_tokens, seed);
            Course::Supervised(course)
        }
    };
    let training = Training {
        stage: arm.name().to_owned(),
        lm,
        course,
        checkpoint_every: plan.file.checkpoint_every,
    };
    let (lm, _) = drive(training, directory, watcher)?;
    let note = if arm.is_latent() {
        ModelNote::latent()
    } else {
        base
    };
    save_model(directory, arm.name(), &*lm, &tokenizer, &note)
}

fn ntp_course<'a>(
    section: &MidtrainSection,
    prefix_weight: f32,
    documents: &'a Shards,
    until: Until,
    n_tokens_expected: f64,
    seed: Seed,
) -> SupervisedCourse<'a> {
    let n_tokens = mean_document_tokens(documents) * section.batch_documents as f64;
    let n_updates = ((n_tokens_expected / n_tokens).ceil() as u64).max(1);
    SupervisedCourse {
        documents,
        batch_documents: section.batch_documents,
        prefix_weight,
        schedule: supervised_schedule(section),
        until,
        n_updates_expected: n_updates,
        seed: seed.child("m_step"),
    }
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

fn mean_document_tokens(documents: &Shards) -> f64 {
    let step = (documents.len() / 1000).max(1);
    let lengths: Vec<usize> = (0..documents.len())
        .step_by(step)
        .map(|i| documents.trajectory(i).n_tokens())
        .collect();
    lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64
}

fn supervised_schedule(section: &MidtrainSection) -> Schedule {
    Schedule::Cosine {
        peak: section.supervised_peak,
        warmup: section.warmup,
        floor_share: section.floor_share,
    }
}

/// The loop's settings from the run file's.
pub(crate) fn em_config(section: &MidtrainSection, prefix_weight: f32) -> EmConfig {
    let ra3 = &section.ra3;
    let has_em = ra3.ablation != AblationName::NoEm;
    EmConfig {
        cold_start_updates: ra3.cold_start_updates,
        rounds: ra3.rounds,
        // What an ablation leaves out is a count of 0.
        e_updates: match ra3.ablation {
            AblationName::NoRl | AblationName::RandomLatents => 0,
            AblationName::None | AblationName::NoEm | AblationName::ThinkEveryLine => ra3.e_updates,
        },
        e_batch_documents: ra3.e_step.batch_documents,
        annotate_documents: if has_em { ra3.annotate_documents } else { 0 },
        m_updates: if has_em { ra3.m_updates } else { 0 },
        m_batch_documents: section.batch_documents,
        corpus_latents_share: ra3.m_step.corpus_latents_share,
        e_step: e_step_config(&ra3.e_step, ra3.ablation),
        scorer_is_frozen: ra3.e_step.scorer == ScorerName::Frozen,
        rationales_are_random: ra3.ablation == AblationName::RandomLatents,
        choose: ra3.m_step.choose,
        weights: TokenWeights {
            prefix: prefix_weight,
            line: ra3.m_step.line_weight,
            decision: ra3.m_step.decision_weight,
            rationale: ra3.m_step.rationale_weight,
        },
        supervised_schedule: supervised_schedule(section),
        e_schedule: Schedule::Constant {
            peak: ra3.e_step.learning_rate,
            warmup: ra3.e_step.warmup,
        },
    }
}

fn e_step_config(section: &EStepSection, ablation: AblationName) -> EStepConfig {
    EStepConfig {
        group_size: section.group_size,
        temperature: section.temperature,
        rationale_tokens_max: section.rationale_tokens_max,
        horizon: (section.horizon > 0).then_some(section.horizon),
        discount: section.discount,
        penalty: section.penalty,
        baseline: section.baseline,
        surrogate: Surrogate::over(section.updates_per_batch, section.clip, section.clip),
        updates_per_batch: section.updates_per_batch,
        persistence: if ablation == AblationName::ThinkEveryLine {
            Persistence::ThinkEveryLine
        } else if section.think_floor > 0.0 {
            Persistence::StickyWithThinkFloor(section.think_floor)
        } else {
            Persistence::Sticky
        },
    }
}
