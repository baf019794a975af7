//! The shapes of a plan's models: of the base, and of each arm, which may begin from another
//! checkpoint.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ra3_hub::{HubError, HubSettings};
use ra3_lm::config::ModelConfig;

use crate::plan::{Arm, Origin, Task};
use crate::run_file::{BaseSection, RunFile, TokenizerSection};

/// The shapes of the models.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shapes {
    /// The base's.
    pub(crate) base: ModelConfig,
    /// Those of the arms, in their order.
    pub(crate) arms: Vec<ModelConfig>,
}

impl Shapes {
    /// Of a run file and its arms.
    pub(crate) fn of(file: &RunFile, arms: &[Arm]) -> Result<Self> {
        let base = base(file)?;
        let of_arm = |place| of_arm(&base, arms, place);
        let found = (0..arms.len()).map(of_arm).collect::<Result<_>>()?;
        Ok(Self { base, arms: found })
    }

    /// That of the model that a stage runs.
    pub(crate) fn of_task(&self, task: Task) -> &ModelConfig {
        match task {
            Task::Corpus | Task::Base => &self.base,
            Task::Checkpoint(arm) | Task::Midtrain(arm) | Task::Rlvr(arm) => &self.arms[arm],
            Task::HeldOut(subject) | Task::Evaluate(subject, _) => &self.arms[subject.arm],
        }
    }

    /// That with the most parameters.
    pub(crate) fn largest(&self) -> &ModelConfig {
        let by_size = |config: &&ModelConfig| config.n_matmul_params();
        self.arms.iter().max_by_key(by_size).unwrap_or(&self.base)
    }
}

fn of_arm(base: &ModelConfig, arms: &[Arm], place: usize) -> Result<ModelConfig> {
    match &arms[place].from {
        Origin::Base => Ok(base.clone()),
        Origin::Arm(other) => of_arm(base, arms, *other),
        Origin::Checkpoint(path) => {
            of_checkpoint(path).with_context(|| format!("arm {:?}", arms[place].name))
        }
    }
}

fn base(file: &RunFile) -> Result<ModelConfig> {
    match &file.base {
        BaseSection::Checkpoint { path, .. } => of_checkpoint(path),
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

/// Of a model of the Hub only what is in the cache: a plan downloads nothing.
fn of_checkpoint(path: &Path) -> Result<ModelConfig> {
    let settings = HubSettings {
        is_offline: true,
        ..HubSettings::from_environment()
    };
    let name = path.display().to_string();
    let found = ra3_hub::resolve(&name, &settings, &mut |_, _| {});
    let folder = match found {
        Ok(found) => found.folder,
        // Its message speaks of the offline mode that is set here.
        Err(HubError::NotCached { .. }) => bail!(
            "{name} is not in the cache of downloads, so there is nothing to plan with yet: `ra3 \
             doctor {name}` fetches it and looks at it, and `ra3 run` fetches it, too"
        ),
        Err(other) => return Err(other.into()),
    };
    Ok(ModelConfig::load(&folder.join("config.json"))?)
}
