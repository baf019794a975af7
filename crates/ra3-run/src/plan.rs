//! The plan: what a run file means.
//!
//! Conversion is the only place that rejects; a plan that exists is valid. Its text is what is
//! hashed and kept in the run directory.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::arm::{Arm, Stage};
use crate::run_file::{BaseSection, PenaltySection, RunFile, SourceSection, TokenizerSection};

/// A run file whose rules were checked, with the stages that follow from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was written.
    pub file: RunFile,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Checks the rules between keys, and derives the stages.
    ///
    /// # Errors
    /// A rule is broken: the message names the keys.
    pub fn new(file: RunFile) -> Result<Self> {
        check_corpus(&file)?;
        check_base(&file)?;
        check_midtrain(&file)?;
        check_measurement(&file)?;
        let stages = stages(&file);
        Ok(Self { file, stages })
    }

    /// Reads a run file with overrides and plans it.
    ///
    /// # Errors
    /// As [`crate::run_file::load`] and [`Plan::new`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let file = crate::run_file::load(path, overrides)?;
        Self::new(file).with_context(|| format!("run file {}", path.display()))
    }

    /// The resolved plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(&self.file).expect("a run file is made of TOML's types")
    }

    /// blake3 of the resolved plan. The directory is left out: a run may be moved.
    pub fn hash(&self) -> String {
        let file = RunFile {
            directory: std::path::PathBuf::new(),
            ..self.file.clone()
        };
        let text = toml::to_string(&file).expect("a run file is made of TOML's types");
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// The arms that exist in this plan.
    pub fn arms(&self) -> Vec<Arm> {
        match &self.file.midtrain {
            None => vec![Arm::Base],
            Some(midtrain) if midtrain.ntp_at_ra3_compute => Arm::ALL.to_vec(),
            Some(_) => vec![Arm::Base, Arm::Ntp, Arm::Ra3],
        }
    }
}

fn stages(file: &RunFile) -> Vec<Stage> {
    let mut stages = vec![Stage::Corpus, Stage::Base];
    let mut arms = vec![Arm::Base];
    if let Some(midtrain) = &file.midtrain {
        stages.extend([Stage::Midtrain(Arm::Ra3), Stage::Midtrain(Arm::Ntp)]);
        arms.push(Arm::Ntp);
        if midtrain.ntp_at_ra3_compute {
            stages.push(Stage::Midtrain(Arm::NtpCompute));
            arms.push(Arm::NtpCompute);
        }
        arms.push(Arm::Ra3);
    }
    if file.evaluate.is_some() {
        stages.extend(arms.iter().map(|arm| Stage::Evaluate(*arm)));
    }
    if file.rlvr.is_some() {
        let from = arms.iter().filter(|arm| **arm != Arm::NtpCompute);
        stages.extend(from.map(|arm| Stage::Rlvr(*arm)));
    }
    stages
}

fn check_corpus(file: &RunFile) -> Result<()> {
    let corpus = &file.corpus;
    ensure!(
        !corpus.sources.is_empty() || corpus.testbed.is_some(),
        "corpus has neither sources nor testbed: there is nothing to train on"
    );
    ensure!(
        (0.0..1.0).contains(&corpus.held_out_share),
        "corpus.held_out_share = {} is not in [0, 1)",
        corpus.held_out_share
    );
    ensure!(
        corpus.document_tokens_max >= 16,
        "corpus.document_tokens_max is below 16"
    );
    ensure!(file.checkpoint_every > 0, "checkpoint_every is 0");
    ensure!(file.n_threads > 0, "n_threads is 0");
    for source in &corpus.sources {
        if let SourceSection::Folder { path }
        | SourceSection::JsonLines { path, .. }
        | SourceSection::Parquet { path, .. } = source
        {
            ensure!(
                path.exists(),
                "corpus.sources: {} does not exist",
                path.display()
            );
        }
    }
    Ok(())
}

fn check_base(file: &RunFile) -> Result<()> {
    match (&file.tokenizer, &file.base) {
        (TokenizerSection::Base {}, BaseSection::Pretrain { .. }) => {
            anyhow::bail!("tokenizer.kind = \"base\" needs base.kind = \"checkpoint\"")
        }
        (TokenizerSection::Train { .. }, BaseSection::Checkpoint { .. }) => anyhow::bail!(
            "base.kind = \"checkpoint\" comes with its own tokenizer: tokenizer.kind = \"base\""
        ),
        _ => {}
    }
    if let BaseSection::Checkpoint {
        path,
        vocabulary_multiple,
    } = &file.base
    {
        ensure!(*vocabulary_multiple > 0, "base.vocabulary_multiple is 0");
        // What is no folder is a name on the Hub, and looked up when the run begins.
        ensure!(
            path.join("config.json").exists() || !path.is_dir(),
            "base.path: {} has no config.json",
            path.display()
        );
    }
    if let BaseSection::Pretrain { model, .. } = &file.base {
        ensure!(
            model.n_heads % model.n_key_value_heads == 0,
            "base.model: {} query heads cannot be shared among {} key and value heads",
            model.n_heads,
            model.n_key_value_heads
        );
        ensure!(
            model.context >= file.corpus.document_tokens_max,
            "base.model.context = {} is below corpus.document_tokens_max = {}",
            model.context,
            file.corpus.document_tokens_max
        );
    }
    Ok(())
}

fn check_midtrain(file: &RunFile) -> Result<()> {
    let Some(midtrain) = &file.midtrain else {
        ensure!(
            file.rlvr.is_none() || file.evaluate.is_some(),
            "rlvr needs evaluate: its scores use those settings"
        );
        return Ok(());
    };
    let search = &midtrain.ra3.e_step;
    ensure!(
        search.group_size >= 2 || search.baseline != crate::run_file::BaselineName::LeaveOneOut,
        "midtrain.ra3.e_step.group_size = 1 leaves nothing for a leave-one-out baseline"
    );
    ensure!(
        (0.0..=1.0).contains(&search.discount),
        "midtrain.ra3.e_step.discount = {} is not in [0, 1]",
        search.discount
    );
    if let PenaltySection::ExactKl { alpha } = search.penalty {
        ensure!(
            alpha > 0.0 && alpha < 1.0,
            "midtrain.ra3.e_step.penalty.alpha = {alpha} is not in (0, 1)"
        );
    }
    ensure!(
        file.rlvr.is_none() || file.evaluate.is_some(),
        "rlvr needs evaluate: its scores use those settings"
    );
    Ok(())
}

fn check_measurement(file: &RunFile) -> Result<()> {
    if let Some(evaluate) = &file.evaluate {
        ensure!(
            file.corpus.testbed.is_some(),
            "evaluate needs corpus.testbed: that is where the problems come from"
        );
        let k_max = evaluate.pass_at.iter().max().copied().unwrap_or(0);
        ensure!(
            k_max <= evaluate.n_samples,
            "evaluate.pass_at asks for k = {k_max} with {} samples",
            evaluate.n_samples
        );
        ensure!(
            evaluate.alpha > 0.0 && evaluate.alpha < 1.0,
            "evaluate.alpha = {} is not in (0, 1)",
            evaluate.alpha
        );
    }
    if let Some(rlvr) = &file.rlvr {
        ensure!(rlvr.group_size >= 2, "rlvr.group_size = 1 has no advantage");
        ensure!(rlvr.evaluate_every > 0, "rlvr.evaluate_every is 0");
        ensure!(rlvr.n_tries_max > 0, "rlvr.n_tries_max is 0");
        ensure!(rlvr.updates_per_batch > 0, "rlvr.updates_per_batch is 0");
        if let Some(problems) = &rlvr.problems {
            let share = problems.held_out_share;
            ensure!(
                share > 0.0 && share < 1.0,
                "rlvr.problems.held_out_share = {share} is not in (0, 1)"
            );
            problems.read().context("rlvr.problems")?;
        }
    }
    Ok(())
}
