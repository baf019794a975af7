//! The plan: what a run file means.
//!
//! Conversion is the only place that rejects; a plan that exists is valid. Its text is what is
//! hashed and kept in the run directory.

use std::path::Path;

use anyhow::{Context, Result};

use crate::arm::{Arm, Stage};
use crate::rules;
use crate::run_file::{self, RunFile};

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
        let stages = stages(&file);
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
