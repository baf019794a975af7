//! The plan: what a run file means.
//!
//! Conversion is the only place that rejects; a plan that exists is valid. Its text is what is
//! hashed and kept in the run directory.

use std::path::Path;

use anyhow::{Context, Result};

use crate::arm::{Arm, Stage};
use crate::rules;
use crate::run_file::{self, EvaluateSection, MidtrainSection, RlvrSection, RunFile};

/// A run file whose rules were checked, with the stages that follow from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was written.
    pub file: RunFile,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Checks each key's range and the rules between keys, and derives the stages.
    ///
    /// # Errors
    /// A key is out of its range or a rule is broken: the message names the keys.
    pub fn new(file: RunFile) -> Result<Self> {
        run_file::check(&file)?;
        rules::check(&file)?;
        let stages = tasks(&file).iter().map(Task::stage).collect();
        Ok(Self { file, stages })
    }

    /// Reads a run file with overrides and plans it.
    ///
    /// # Errors
    /// As [`crate::run_file::load`] and [`Plan::new`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let file = run_file::load(path, overrides)?;
        Self::new(file).with_context(|| format!("run file {}", path.display()))
    }

    /// The resolved plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(&self.file).expect("a run file is made of TOML's types")
    }

    /// The resolved plan as TOML without its directory: a run may be moved.
    pub fn settings(&self) -> String {
        let file = RunFile {
            directory: std::path::PathBuf::new(),
            ..self.file.clone()
        };
        toml::to_string(&file).expect("a run file is made of TOML's types")
    }

    /// blake3 of [`Self::settings`].
    pub fn hash(&self) -> String {
        blake3::hash(self.settings().as_bytes())
            .to_hex()
            .to_string()
    }

    /// The stages in order, each with the settings that it follows.
    pub(crate) fn tasks(&self) -> Vec<Task<'_>> {
        tasks(&self.file)
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

/// A stage with its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task<'a> {
    /// Documents, tokenizer, problems.
    Corpus,
    /// The model that all arms start from.
    Base,
    /// Mid-training of an arm.
    Midtrain(Arm, &'a MidtrainSection),
    /// Measuring an arm.
    Evaluate(Arm, &'a EvaluateSection),
    /// RLVR from an arm, scored as it is evaluated.
    Rlvr(Arm, &'a RlvrSection, &'a EvaluateSection),
}

impl Task<'_> {
    /// The stage.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Corpus => Stage::Corpus,
            Self::Base => Stage::Base,
            Self::Midtrain(arm, _) => Stage::Midtrain(*arm),
            Self::Evaluate(arm, _) => Stage::Evaluate(*arm),
            Self::Rlvr(arm, _, _) => Stage::Rlvr(*arm),
        }
    }
}

fn tasks(file: &RunFile) -> Vec<Task<'_>> {
    let mut tasks = vec![Task::Corpus, Task::Base];
    let mut arms = vec![Arm::Base];
    if let Some(midtrain) = &file.midtrain {
        tasks.push(Task::Midtrain(Arm::Ra3, midtrain));
        tasks.push(Task::Midtrain(Arm::Ntp, midtrain));
        arms.push(Arm::Ntp);
        if midtrain.ntp_at_ra3_compute {
            tasks.push(Task::Midtrain(Arm::NtpCompute, midtrain));
            arms.push(Arm::NtpCompute);
        }
        arms.push(Arm::Ra3);
    }
    let Some(evaluate) = &file.evaluate else {
        return tasks;
    };
    tasks.extend(arms.iter().map(|arm| Task::Evaluate(*arm, evaluate)));
    if let Some(rlvr) = &file.rlvr {
        let from = arms.iter().filter(|arm| **arm != Arm::NtpCompute);
        tasks.extend(from.map(|arm| Task::Rlvr(*arm, rlvr, evaluate)));
    }
    tasks
}
