//! A model of the worker, as a policy and as a model of a run.

use std::path::Path;
use std::sync::Arc;

use ra3::model::{Model, ModelError, Saved, Shape};
use ra3::policy::{Episode, Example, Objective, Policy, PolicyError, TokenId, UpdateStats, Work};
use ra3::refusals::Limits;
use ra3::seed::Seed;
use serde::Deserialize;

use crate::batch;
use crate::error::{Refusal, WorkerError};
use crate::rollouts;
use crate::wire::{Answer, Column, Kind, WireError};
use crate::worker::Worker;

/// A model in a worker, which goes with it.
#[derive(Debug)]
pub struct TorchModel {
    worker: Arc<Worker>,
    slot: u32,
    shape: TorchShape,
}

/// What the worker says of a model.
#[derive(Clone, Debug, Deserialize)]
struct TorchShape {
    n_vocabulary: usize,
    n_context: usize,
    n_params: usize,
    n_matmul_params: usize,
    /// Tensors of its checkpoint.
    n_tensors: u64,
    /// Numbers of a row of its vocabulary.
    width: usize,
    is_tied: bool,
    stop_ids: Vec<TokenId>,
}

impl TorchModel {
    /// Loads a checkpoint folder in Hugging Face layout.
    ///
    /// # Errors
    /// The worker has failed, or cannot load it.
    pub fn load(worker: &Arc<Worker>, folder: &Path) -> Result<Self, WorkerError> {
        let mut link = worker.link();
        let slot = link.new_slot();
        let columns = [Column::U32(vec![slot]), path_column(folder)?];
        let shape = link.ask(Kind::Load, &columns, read_shape)?;
        drop(link);
        Ok(Self {
            worker: Arc::clone(worker),
            slot,
            shape,
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            n_vocabulary: self.shape.n_vocabulary,
            n_tokens_max: self.shape.n_context,
        }
    }

    fn slot(&self) -> Column {
        Column::U32(vec![self.slot])
    }

    /// Numbers that added rows are made of: those of the embedding, and of a projection of its own.
    fn noise(&self, n_rows: usize, seed: Seed, last: u64) -> impl Iterator<Item = Column> {
        let n = n_rows * self.shape.width;
        let tensors = if self.shape.is_tied {
            vec![0]
        } else {
            vec![0, last]
        };
        tensors
            .into_iter()
            .map(move |tensor| Column::F64(seed.nth(tensor).normals(1.0).take(n).collect()))
    }

    fn ask_of_batch(
        &self,
        kind: Kind,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        self.limits().check_batch(batch, objective)?;
        let mut columns = vec![self.slot(), batch::objective(objective)];
        let learnt: Vec<Example> = batch.iter().map(Example::learnt).collect();
        columns.extend(batch::examples(&learnt, true));
        let mut stats = self.worker.link().ask(kind, &columns, read_stats)?;
        stats.work.n_tokens = n_tokens(batch);
        Ok(stats)
    }

    fn ask_of_folder(
        &self,
        kind: Kind,
        mut columns: Vec<Column>,
        folder: &Path,
    ) -> Result<(), ModelError> {
        columns.push(path_column(folder)?);
        let asked = self.worker.link().ask(kind, &columns, |_| Ok(()));
        Ok(asked.map_err(WorkerError::from)?)
    }
}

impl Drop for TorchModel {
    fn drop(&mut self) {
        let slot = self.slot();
        // A worker that has failed has no model any more.
        let _: Result<(), Refusal> = self.worker.link().ask(Kind::Drop, &[slot], |_| Ok(()));
    }
}

impl Policy for TorchModel {
    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        let mut link = self.worker.link();
        rollouts::run(&mut link, self.slot, self.limits(), episodes, seed)
    }

    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        self.limits().check_sequences(sequences)?;
        let mut columns = vec![self.slot()];
        columns.extend(batch::examples(sequences, false));
        let mut link = self.worker.link();
        let (logprobs, n_run, flops) = link.ask(Kind::Score, &columns, |mut answer| {
            let logprobs = cut(&answer.numbers()?, sequences)?;
            let ([n_run], [flops]) = (answer.exactly()?, answer.exactly()?);
            Ok((logprobs, n_run, flops))
        })?;
        let work = Work {
            n_tokens: n_tokens(sequences),
            n_tokens_run: n_run,
            n_tokens_sampled: 0,
            flops,
            flops_recorded: 0.0,
        };
        Ok((logprobs, work))
    }

    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        self.ask_of_batch(Kind::Update, batch, objective)
    }

    fn snapshot(&self) -> Box<dyn Policy> {
        let mut link = self.worker.link();
        let slot = link.new_slot();
        link.tell(Kind::Copy, &[self.slot(), Column::U32(vec![slot])]);
        drop(link);
        Box::new(Self {
            worker: Arc::clone(&self.worker),
            slot,
            shape: self.shape.clone(),
        })
    }
}

impl Model for TorchModel {
    fn shape(&self) -> Shape {
        let shape = &self.shape;
        Shape {
            n_vocabulary: shape.n_vocabulary,
            n_context: shape.n_context,
            n_params: shape.n_params,
            n_matmul_params: shape.n_matmul_params,
            stop_ids: shape.stop_ids.clone(),
            is_tied: shape.is_tied,
            is_half: false,
        }
    }

    fn grow_vocabulary(&mut self, n_vocabulary: usize, seed: Seed) {
        let Some(n_rows) = n_vocabulary.checked_sub(self.shape.n_vocabulary + 1) else {
            return;
        };
        let mut columns = vec![self.slot(), Column::U32(vec![n_vocabulary as u32])];
        columns.extend(self.noise(n_rows + 1, seed, self.shape.n_tensors - 1));
        let mut link = self.worker.link();
        match link.ask(Kind::Grow, &columns, read_shape) {
            Ok(shape) => self.shape = shape,
            Err(refusal) => link.remember(refusal),
        }
    }

    fn restart_tokens(&mut self, tokens: &[TokenId], seed: Seed) {
        let mut columns = vec![self.slot(), Column::U32(tokens.to_vec())];
        columns.extend(self.noise(tokens.len(), seed, 1));
        self.worker.link().tell(Kind::Restart, &columns);
    }

    fn reset_optimizer(&mut self) {
        let slot = self.slot();
        self.worker.link().tell(Kind::Reset, &[slot]);
    }

    fn freeze(&mut self) {
        let slot = self.slot();
        self.worker.link().tell(Kind::Freeze, &[slot]);
    }

    fn rehearse(&self, batch: &[Example], objective: Objective) -> Result<(), PolicyError> {
        self.ask_of_batch(Kind::Rehearse, batch, objective)
            .map(|_| ())
    }

    fn save(&self, folder: &Path, saved: Saved) -> Result<(), ModelError> {
        let saved = match saved {
            Saved::Finished => 0,
            Saved::Weights => 1,
            Saved::State => 2,
        };
        let columns = vec![self.slot(), Column::U32(vec![saved])];
        self.ask_of_folder(Kind::Save, columns, folder)
    }

    fn load_state(&mut self, folder: &Path) -> Result<(), ModelError> {
        self.ask_of_folder(Kind::LoadState, vec![self.slot()], folder)
    }
}

/// The worker stands in another folder.
fn path_column(folder: &Path) -> Result<Column, WorkerError> {
    let path = std::path::absolute(folder)
        .map_err(|error| WorkerError::Files(format!("{}: {error}", folder.display())))?;
    let text = path.to_str().ok_or_else(|| {
        let reason = "its name is not UTF-8, and the worker cannot be told it";
        WorkerError::Files(format!("{}: {reason}", folder.display()))
    })?;
    Ok(Column::Text(text.to_owned()))
}

fn n_tokens(batch: &[Example]) -> u64 {
    batch
        .iter()
        .map(|example| example.tokens.len() as u64)
        .sum()
}

/// One row a sequence.
fn cut(mut logprobs: &[f32], sequences: &[Example]) -> Result<Vec<Vec<f32>>, WireError> {
    let nonsense = WireError::Nonsense("its scores are not one a token");
    if logprobs.len() as u64 != n_tokens(sequences) {
        return Err(nonsense);
    }
    let mut rows = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let (row, rest) = logprobs.split_at(sequence.tokens.len());
        rows.push(row.to_vec());
        logprobs = rest;
    }
    Ok(rows)
}

fn read_shape(mut answer: Answer) -> Result<TorchShape, WireError> {
    let nonsense = |_| WireError::Nonsense("a model's shape cannot be read");
    serde_json::from_str(&answer.text()?).map_err(nonsense)
}

fn read_stats(mut answer: Answer) -> Result<UpdateStats, WireError> {
    let [loss, mean_logprob, gradient_norm, clipped_share, gap, flops] = answer.exactly()?;
    let [n_run, n_sampled] = answer.exactly()?;
    Ok(UpdateStats {
        loss,
        mean_logprob,
        gradient_norm,
        clipped_share,
        logprob_gap: (n_sampled > 0u64).then_some(gap),
        work: Work {
            n_tokens_run: n_run,
            flops,
            ..Work::default()
        },
    })
}
