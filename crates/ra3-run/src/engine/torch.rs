//! The second engine of a run: one worker process at a time, which all of its models share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use ra3::model::{Model, Saved};
use ra3::seed::Seed;
use ra3_lm::Lm;
use ra3_lm::config::ModelConfig;
use ra3_torch::{Lora, Port, Settings, TorchModel, Worker, WorkerSettings};

use crate::run_file::{EngineSection, TorchSection, TrainingSection, name_of};

/// The worker's log, in the run directory.
const LOG: &str = "worker.log";
/// What a worker that is started elsewhere has to know.
const TOKEN: &str = "worker.token";

/// Models of PyTorch, by one stage's settings.
#[derive(Clone, Debug)]
pub(crate) struct Torch {
    settings: Box<WorkerSettings>,
    running: Arc<Running>,
}

/// The worker that runs, and what it was told. One with other settings takes its place: two would
/// share a device's memory.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Option<(WorkerSettings, Arc<Worker>)>>);

/// How a run starts its worker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TorchSettings {
    /// What the run file says.
    pub(crate) section: TorchSection,
    /// What adapters begin with follows from it.
    pub(crate) seed: u64,
    /// Threads of a processor's products.
    pub(crate) n_threads: usize,
    /// The folder of its log.
    pub(crate) directory: PathBuf,
}

impl TorchSettings {
    /// Those of a section; `None` for the native engine.
    pub(crate) fn of(
        section: &EngineSection,
        seed: Seed,
        n_threads: usize,
        directory: &Path,
    ) -> Option<Self> {
        match section {
            EngineSection::Native {} => None,
            EngineSection::Torch(section) => Some(Self {
                section: section.clone(),
                seed: seed.child("lora").value(),
                n_threads,
                directory: directory.to_owned(),
            }),
        }
    }

    /// The models' settings are those of a run file's `[training]`.
    pub(crate) fn worker(&self, training: &TrainingSection) -> WorkerSettings {
        let section = &self.section;
        let caches = ra3_files::cache_folder(|name| std::env::var_os(name));
        WorkerSettings {
            command: vec![command(&section.python)],
            n_processes: section.processes,
            port: section.listen.as_ref().map(|address| Port {
                address: address.clone(),
                token_file: self.directory.join(TOKEN),
            }),
            folder: caches.join("ra3/worker"),
            log: self.directory.join(LOG),
            deadline_s: section.deadline_s,
            models: Settings {
                device: name_of(&section.device),
                dtype: name_of(&section.dtype),
                n_threads: (self.n_threads / section.processes).max(1),
                weight_decay: f64::from(training.weight_decay),
                // JSON has no infinity.
                clip_norm: f64::from(training.clip_norm).min(f64::MAX),
                n_tokens_micro: training.micro_batch_tokens,
                recompute: training.recompute,
                cache_bytes_max: training.cache_mib << 20,
                moments: name_of(&training.moment_precision),
                lora: self.lora(),
                sharding: name_of(&section.sharding),
                compile: section.compile,
                cuda_graphs: section.cuda_graphs,
            },
        }
    }

    fn lora(&self) -> Option<Lora> {
        let lora = self.section.lora.as_ref()?;
        let targets = lora.target_modules.iter();
        Some(Lora {
            rank: lora.rank,
            alpha: lora.alpha,
            target_modules: targets.map(name_of).collect(),
            seed: self.seed,
        })
    }
}

impl Torch {
    pub(crate) fn new(settings: WorkerSettings, running: &Arc<Running>) -> Self {
        Self {
            settings: Box::new(settings),
            running: Arc::clone(running),
        }
    }

    /// What to type where the worker is to run, if that is elsewhere.
    ///
    /// # Errors
    /// The worker's files or its token cannot be written.
    pub(crate) fn line(&self) -> Result<Option<String>> {
        Ok(self.settings.line()?)
    }

    /// The worker of these settings, started where it does not run.
    ///
    /// # Errors
    /// It cannot be started, or its Python misses something.
    pub(crate) fn worker(&self) -> Result<Arc<Worker>> {
        let mut running = self
            .running
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((settings, worker)) = &*running
            && *settings == *self.settings
            && !worker.has_failed()
        {
            return Ok(Arc::clone(worker));
        }
        *running = None;
        let python = self.settings.command.join(" ");
        let worker = Worker::start(&self.settings)
            .with_context(|| format!("engine.kind = \"torch\" with engine.python = {python:?}"))?;
        *running = Some((WorkerSettings::clone(&self.settings), Arc::clone(&worker)));
        Ok(worker)
    }

    /// The model of a folder.
    ///
    /// # Errors
    /// There is no worker, or it cannot load the model.
    pub(crate) fn load(&self, folder: &Path) -> Result<Box<dyn Model>> {
        Ok(Box::new(TorchModel::load(&self.worker()?, folder)?))
    }

    /// A model of the other engine, by way of a folder.
    ///
    /// # Errors
    /// As [`Self::load`], or there is no room for the folder.
    pub(crate) fn take_over(&self, lm: &Lm, config: &ModelConfig) -> Result<Box<dyn Model>> {
        let folder = tempfile::tempdir().context("a folder for the weights")?;
        lm.save(folder.path(), Saved::Weights)
            .map_err(anyhow::Error::from_boxed)?;
        // Exact weights are said to be float32; the precision of finished models is the model's.
        let json = serde_json::to_vec_pretty(&config.to_json()).expect("JSON is written as JSON");
        ra3_files::write(&folder.path().join("config.json"), &json)?;
        self.load(folder.path())
    }
}

/// The worker stands in another folder: a path has to be whole. Links stay, which environments of
/// Python know themselves by.
fn command(python: &str) -> String {
    let path = Path::new(python);
    match std::path::absolute(path) {
        Ok(whole) if python.contains('/') => whole.display().to_string(),
        _ => python.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON has no infinity, and a run file's norm may be infinite.
    #[test]
    fn a_gradient_that_is_not_clipped_has_a_limit_that_is_a_number() {
        let torch: EngineSection = toml::from_str("kind = 'torch'").unwrap();
        let settings = TorchSettings::of(&torch, Seed::root(0), 1, Path::new("run")).unwrap();
        let training = TrainingSection {
            clip_norm: f32::INFINITY,
            ..TrainingSection::default()
        };
        let settings = settings.worker(&training);
        let models = serde_json::to_value(&settings.models).unwrap();
        assert!(models["clip_norm"].as_f64().unwrap() > 1e300);
        assert_eq!(models["dtype"], "float32");
        assert!(models["lora"].is_null());
        assert_eq!(settings.log, Path::new("run/worker.log"));
        assert_eq!(
            TorchSettings::of(&EngineSection::default(), Seed::root(0), 1, Path::new("")),
            None
        );
    }

    #[test]
    fn adapters_have_the_names_of_a_checkpoint_and_begin_as_the_seed_says() {
        let told = |text: &str, seed| {
            let section: EngineSection = toml::from_str(text).unwrap();
            let settings = TorchSettings::of(&section, Seed::root(seed), 1, Path::new("run"));
            settings.unwrap().lora().unwrap()
        };
        let plain = told("kind = 'torch'\nlora = {}", 0);
        assert_eq!((plain.rank, plain.alpha), (16, 32.0));
        assert_eq!(plain.target_modules, ["all-linear"]);
        assert_ne!(plain.seed, told("kind = 'torch'\nlora = {}", 1).seed);
        let some = "kind = 'torch'\nlora = { rank = 8, target_modules = ['q_proj', 'v_proj'] }";
        assert_eq!(told(some, 0).target_modules, ["q_proj", "v_proj"]);
    }

    #[test]
    fn a_command_is_looked_up_and_a_path_is_whole() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(command("python3"), "python3");
        assert_eq!(command("/opt/x/bin/python"), "/opt/x/bin/python");
        let whole = here.join("venv/bin/python").display().to_string();
        assert_eq!(command("venv/bin/python"), whole);
    }
}
