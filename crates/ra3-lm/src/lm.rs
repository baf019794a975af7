//! A language model: weights, optimizer and engine behind the seam of `ra3::policy`.

use std::path::Path;

use ra3::model::{Model, ModelError, Saved, Shape};
use ra3::policy::{Episode, Example, Objective, Policy, PolicyError, TokenId, UpdateStats, Work};
use ra3::seed::Seed;

use crate::checkpoint::{self, CheckpointError, InMemory, SHARD_BYTES_MAX};
use crate::generate::{self, Drawing, Drawn, Kept};
use crate::model::config::{ModelConfig, Precision};
use crate::model::linear::Kernel;
use crate::model::transformer::Transformer;
use crate::model::weights::{Layout, Weights, fill_normal};
use crate::model::workspace::Workspace;
use crate::train::adamw::AdamW;
use crate::train::{TrainSettings, batch_gradient};

/// A language model that can be run and trained.
#[derive(Clone, Debug)]
pub struct Lm {
    transformer: Transformer,
    weights: Weights,
    /// Made at the first update.
    optimizer: Option<AdamW>,
    settings: TrainSettings,
    /// Buffers of the last update.
    workspace: Workspace,
    /// What the last run left.
    kept: Kept,
}

impl Lm {
    /// A model with random weights.
    pub fn random(config: ModelConfig, settings: TrainSettings, seed: Seed) -> Self {
        let weights = Weights::random(&config, seed);
        Self::new(Transformer::new(config), weights, settings)
    }

    fn new(transformer: Transformer, weights: Weights, settings: TrainSettings) -> Self {
        Self {
            transformer,
            weights,
            optimizer: None,
            settings,
            workspace: Workspace::default(),
            kept: Kept::default(),
        }
    }

    fn drawing(&self) -> Drawing<'_> {
        Drawing {
            transformer: &self.transformer,
            weights: &self.weights,
            settings: &self.settings,
            kept: &self.kept,
        }
    }

    /// Loads a checkpoint folder in Hugging Face layout.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not fit `config.json`.
    pub fn load(folder: &Path, settings: TrainSettings) -> Result<Self, CheckpointError> {
        Self::load_as(folder, settings, InMemory::Wide)
    }

    /// Loads a checkpoint to be run and not trained: a `bf16` one stays `bf16` in memory, and is
    /// computed with in `f32`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_to_run(folder: &Path, settings: TrainSettings) -> Result<Self, CheckpointError> {
        Self::load_as(folder, settings, InMemory::AsOnDisk)
    }

    fn load_as(
        folder: &Path,
        settings: TrainSettings,
        in_memory: InMemory,
    ) -> Result<Self, CheckpointError> {
        let mut config = ModelConfig::load(&folder.join("config.json"))?;
        let weights = checkpoint::load_weights(folder, &mut config, in_memory)?;
        Ok(Self::new(Transformer::new(config), weights, settings))
    }

    /// Writes a finished model into a folder as [`Model::save`], in files of at most so many bytes
    /// where one tensor is not larger.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save_sharded(
        &self,
        folder: &Path,
        shard_bytes_max: usize,
    ) -> Result<(), CheckpointError> {
        checkpoint::save_weights(folder, self.config(), &self.weights, shard_bytes_max)
    }

    /// Sets the bytes of the key and value cache: what is free is known once the weights are there.
    pub fn set_cache_bytes_max(&mut self, n_bytes: usize) {
        self.settings.cache_bytes_max = n_bytes;
        self.kept.clear();
    }

    /// Sets the precision of the operands of matrix products.
    pub fn set_compute_precision(&mut self, compute: Precision) {
        self.settings.compute = compute;
    }

    /// Sets the precision of the weights on disk.
    pub fn set_precision_on_disk(&mut self, precision: Precision) {
        self.transformer.config.precision = precision;
    }

    /// Loss and gradient of a batch, in the layout of [`Self::weights`]; nothing moves.
    ///
    /// # Errors
    /// As [`Policy::update`].
    pub fn gradient(
        &self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<(UpdateStats, Vec<f32>), PolicyError> {
        let result = batch_gradient(
            batch,
            objective,
            &self.transformer,
            &self.weights,
            &self.settings,
            None,
            &mut Workspace::default(),
        )?;
        Ok((result.stats(), result.gradient))
    }

    /// Logits of the next token after every token of a sequence, `[tokens, vocabulary]`.
    ///
    /// # Errors
    /// The sequence is too long, or a token is not in the vocabulary.
    pub fn logits(&self, tokens: &[TokenId]) -> Result<Vec<f32>, PolicyError> {
        generate::logits(&self.transformer, &self.weights, &self.settings, tokens)
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.transformer.config
    }

    /// The parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The parameters, to be changed.
    pub fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }
}

fn grow_rows(place: &mut [f32], source: &[f32], d: usize, seed: Seed) {
    let n_rows = source.len() / d;
    let mut mean = vec![0.0f64; d];
    let mut square = 0.0f64;
    for (index, value) in source.iter().enumerate() {
        mean[index % d] += f64::from(*value) / n_rows as f64;
        square += f64::from(*value).powi(2) / source.len() as f64;
    }
    let added = &mut place[source.len()..];
    fill_normal(added, (0.01 * square.sqrt()) as f32, seed);
    for (index, value) in added.iter_mut().enumerate() {
        *value += mean[index % d] as f32;
    }
}

impl Policy for Lm {
    fn expect_update(&mut self) {
        self.kept.expect_update();
    }

    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        self.drawing().run(episodes, seed)
    }

    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        self.drawing().score(sequences)
    }

    /// Without the optimizer's moments, in half the memory where the settings say so.
    fn snapshot(&self) -> Box<dyn Policy> {
        let (transformer, weights) = (self.transformer.clone(), self.weights.clone());
        let mut frozen = Self::new(transformer, weights, self.settings);
        frozen.freeze();
        Box::new(frozen)
    }

    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        let kernel = Kernel::of_training(self.settings.compute);
        let drawn = self.kept.take(self.weights.version(), kernel);
        let drawn = drawn.filter(Drawn::is_recorded);
        if drawn.is_none() {
            self.kept.clear();
        }
        let result = batch_gradient(
            batch,
            objective,
            &self.transformer,
            &self.weights,
            &self.settings,
            drawn.as_ref(),
            &mut self.workspace,
        );
        if let Some(drawn) = drawn {
            self.kept.let_go(drawn);
        }
        let result = result?;
        let clip = f64::from(self.settings.clip_norm);
        let scale = if result.norm > clip {
            (clip / result.norm) as f32
        } else {
            1.0
        };
        let n_params = self.weights.data().len();
        let optimizer = self
            .optimizer
            .get_or_insert_with(|| AdamW::new(n_params, self.settings.moments));
        let (lr, decay) = (objective.learning_rate, self.settings.weight_decay);
        optimizer.step(&mut self.weights, &result.gradient, scale, lr, decay);
        let stats = result.stats();
        self.workspace.give([result.gradient]);
        self.workspace.sweep();
        Ok(stats)
    }
}

impl Model for Lm {
    fn shape(&self) -> Shape {
        let config = self.config();
        Shape {
            n_vocabulary: config.vocab_size,
            n_context: config.max_position_embeddings,
            n_params: self.weights.layout.n_params(),
            n_matmul_params: config.n_matmul_params(),
            stop_ids: config.eos_token_ids.clone(),
            is_tied: config.tie_word_embeddings,
            is_half: self.weights.is_half(),
        }
    }

    /// Adds rows to the vocabulary: the mean of the embedding plus noise of a hundredth of its
    /// size.
    fn grow_vocabulary(&mut self, n_vocabulary: usize, seed: Seed) {
        let old = self.config().clone();
        if n_vocabulary <= old.vocab_size {
            return;
        }
        let is_half = self.weights.is_half();
        self.weights.widen();
        let config = ModelConfig {
            vocab_size: n_vocabulary,
            ..old.clone()
        };
        let layout = Layout::new(&config);
        let mut data = vec![0.0; layout.n_params()];
        let d = config.hidden_size;
        for (index, (new, was)) in layout
            .tensors
            .iter()
            .zip(&self.weights.layout.tensors)
            .enumerate()
        {
            let source = &self.weights.data()[was.range.clone()];
            let place = &mut data[new.range.clone()];
            place[..source.len()].copy_from_slice(source);
            if place.len() > source.len() {
                grow_rows(place, source, d, seed.nth(index as u64));
            }
        }
        self.weights = Weights::wide(layout, data);
        if is_half {
            self.weights.halve();
        }
        self.transformer = Transformer::new(config);
        self.optimizer = None;
    }

    /// Starts the rows of some tokens anew, as [`Self::grow_vocabulary`] starts added ones: tokens
    /// that never occurred in training were pushed away from every context.
    fn restart_tokens(&mut self, tokens: &[TokenId], seed: Seed) {
        let d = self.config().hidden_size;
        let layout = &self.weights.layout;
        let mut ranges = vec![layout.embedding.clone(), layout.head.weight.clone()];
        ranges.dedup();
        for (index, range) in ranges.into_iter().enumerate() {
            let rows = &mut self.weights.data_mut()[range];
            let mut fresh = vec![0.0; rows.len() + tokens.len() * d];
            grow_rows(&mut fresh, rows, d, seed.nth(index as u64));
            let n = rows.len();
            for (token, row) in tokens.iter().zip(fresh[n..].chunks(d)) {
                let at = *token as usize * d;
                rows[at..at + d].copy_from_slice(row);
            }
        }
    }

    fn reset_optimizer(&mut self) {
        self.optimizer = None;
    }

    /// Without the optimizer's moments, and with half of each weight where the settings say so
    /// ([`TrainSettings::frozen`]).
    fn freeze(&mut self) {
        self.optimizer = None;
        if self.settings.frozen == Precision::Bfloat16 {
            self.weights.halve();
        }
    }

    fn rehearse(&self, batch: &[Example], objective: Objective) -> Result<(), PolicyError> {
        self.gradient(batch, objective).map(|_| ())
    }

    fn save(&self, folder: &Path, saved: Saved) -> Result<(), ModelError> {
        let (config, weights) = (self.config(), &self.weights);
        match saved {
            Saved::Finished => self.save_sharded(folder, SHARD_BYTES_MAX)?,
            Saved::Weights => checkpoint::save_training(folder, config, weights, None)?,
            Saved::State => {
                checkpoint::save_training(folder, config, weights, self.optimizer.as_ref())?;
            }
        }
        Ok(())
    }

    fn load_state(&mut self, folder: &Path) -> Result<(), ModelError> {
        let mut config = self.config().clone();
        let weights = checkpoint::load_weights(folder, &mut config, InMemory::Wide)?;
        if config.tie_word_embeddings != self.config().tie_word_embeddings {
            let reason = "it has a head of its own, and this model has none".to_owned();
            let path = folder.to_owned();
            return Err(CheckpointError::Shape(path, reason).into());
        }
        let (n_params, precision) = (weights.data().len(), self.settings.moments);
        self.optimizer = checkpoint::load_optimizer(folder, n_params, precision)?;
        self.weights = weights;
        Ok(())
    }
}
