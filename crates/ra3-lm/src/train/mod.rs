//! One update: micro-batches of whole trees, one gradient, one optimizer step.

pub(crate) mod adamw;

use ra3::policy::{Example, Objective, PolicyError, Surrogate, UpdateStats, Work};

use crate::generate::Drawn;
use crate::model::config::Precision;
use crate::model::cross_entropy::Loss;
use crate::model::forest::{Forest, Tree, grow};
use crate::model::linear::Kernel;
use crate::model::transformer::{Source, Transformer, UpdatePass};
use crate::model::weights::Weights;
use crate::model::workspace::Workspace;

/// How a model is trained and run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Decoupled weight decay, of matrices only.
    pub weight_decay: f32,
    /// Largest norm of the gradient.
    pub clip_norm: f32,
    /// Rows that are live at once; a larger tree runs alone.
    pub n_tokens_micro: usize,
    /// Layers run again in the backward pass instead of keeping what they computed.
    pub recompute: bool,
    /// Bytes of the key and value cache while generating.
    pub cache_bytes_max: usize,
    /// Bytes of the activations that a run keeps for the update that learns from it
    /// ([`ra3::policy::Policy::expect_update`]): of a larger run nothing is kept.
    pub recorded_bytes_max: usize,
    /// Precision of the operands of matrix products, whose sums are `f32`.
    pub compute: Precision,
    /// Precision in memory of the optimizer's moments: `f32`, or `bf16` for a model whose training
    /// would not fit otherwise.
    pub moments: Precision,
    /// Precision in memory of models that are not trained: scorers and references.
    pub frozen: Precision,
}

impl TrainSettings {
    /// True if what a run computes can be kept for an update: training computes the same, to the
    /// bit, and keeps it.
    pub fn can_record(&self) -> bool {
        Kernel::of_training(self.compute) == Kernel::of_generation(self.compute) && !self.recompute
    }
}

/// The gradient of a batch, and what it cost.
#[derive(Debug)]
pub(crate) struct BatchGradient {
    pub(crate) gradient: Vec<f32>,
    pub(crate) norm: f64,
    pub(crate) loss: Loss,
    pub(crate) work: Work,
}

/// Loss and gradient of a batch; splitting it into micro-batches changes nothing but rounding.
pub(crate) fn batch_gradient(
    batch: &[Example],
    objective: Objective,
    transformer: &Transformer,
    weights: &Weights,
    settings: &TrainSettings,
    drawn: Option<&Drawn>,
    workspace: &mut Workspace,
) -> Result<BatchGradient, PolicyError> {
    if weights.is_half() {
        return Err(PolicyError::NotTrainable);
    }
    transformer.config.limits().check_batch(batch, objective)?;
    let learnt: Vec<Example> = batch.iter().map(Example::learnt).collect();
    let trees = grow(&learnt, objective.surrogate != Surrogate::LogLikelihood);
    let mut gradient = workspace.zeros(weights.data().len());
    let mut loss = Loss::default();
    let mut work = Work {
        n_tokens: batch
            .iter()
            .map(|example| example.tokens.len() as u64)
            .sum(),
        ..Work::default()
    };
    for micro in micro_batches(&trees, settings.n_tokens_micro) {
        let mut forest = Forest::default();
        micro.iter().for_each(|tree| forest.push(tree));
        workspace.begin(forest.tokens.len());
        let source = match drawn.and_then(|drawn| drawn.find(&forest)) {
            Some((recording, places)) => Source::Recorded(recording, places),
            None if settings.recompute => Source::Twice,
            None => Source::Once,
        };
        let pass = UpdatePass {
            kernel: Kernel::of_training(settings.compute),
            surrogate: objective.surrogate,
            source: &source,
        };
        // Inside the pool the calling thread is one of the workers and wakes nobody for each loop.
        loss += rayon::scope(|_| {
            transformer.loss_and_gradient(weights, &forest, workspace, pass, &mut gradient)
        });
        work += work_of(&forest, transformer, &source);
    }
    let norm = norm(&gradient);
    if !loss.value.is_finite() {
        return Err(PolicyError::NonFiniteLoss { value: loss.value });
    }
    if !norm.is_finite() {
        return Err(PolicyError::NonFiniteGradient { value: norm });
    }
    Ok(BatchGradient {
        gradient,
        norm,
        loss,
        work,
    })
}

impl BatchGradient {
    pub(crate) fn stats(&self) -> UpdateStats {
        let weight = if self.loss.positive_weight > 0.0 {
            self.loss.positive_weight
        } else {
            1.0
        };
        UpdateStats {
            loss: self.loss.value,
            mean_logprob: self.loss.positive_logprob / weight,
            gradient_norm: self.norm,
            clipped_share: self.loss.n_clipped as f64 / self.loss.n_targets.max(1) as f64,
            logprob_gap: (self.loss.n_sampled > 0)
                .then(|| self.loss.gap / self.loss.n_sampled as f64),
            work: self.work,
        }
    }
}

/// Consecutive trees whose rows fit together.
fn micro_batches(trees: &[Tree], n_rows_max: usize) -> Vec<&[Tree]> {
    let mut batches = Vec::new();
    let (mut first, mut n_rows) = (0, 0);
    for (index, tree) in trees.iter().enumerate() {
        if index > first && n_rows + tree.tokens.len() > n_rows_max {
            batches.push(&trees[first..index]);
            (first, n_rows) = (index, 0);
        }
        n_rows += tree.tokens.len();
    }
    if first < trees.len() {
        batches.push(&trees[first..]);
    }
    batches
}

/// The backward pass costs two forward passes. Behind its attention the last layer runs the rows
/// that are read.
fn work_of(forest: &Forest, transformer: &Transformer, source: &Source<'_>) -> Work {
    let config = &transformer.config;
    let (n_passes, n_recorded) = match source {
        Source::Recorded(..) => (3.0, 1.0),
        Source::Once => (3.0, 0.0),
        Source::Twice => (4.0, 0.0),
    };
    let n_rows = forest.tokens.len();
    let n_unread = forest.rows_read().map_or(0, |rows| n_rows - rows.len());
    let layers = config.layer_flops(forest.positions.iter().copied())
        - config.behind_attention_flops(n_unread);
    Work {
        n_tokens_run: n_rows as u64,
        flops_recorded: n_recorded * layers,
        flops: n_passes * layers + 3.0 * config.head_flops(forest.rows_with_targets().len()),
        ..Work::default()
    }
}

/// Euclidean norm: `f64` sums over fixed parts, added in their order.
pub(crate) fn norm(values: &[f32]) -> f64 {
    use rayon::prelude::*;
    let parts: Vec<f64> = values
        .par_chunks(1 << 16)
        .map(|part| part.iter().map(|value| f64::from(*value).powi(2)).sum())
        .collect();
    parts.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use ra3::policy::Restriction;
    use ra3::seed::Seed;

    use super::*;
    use crate::model::config::{Architecture, ModelConfig};

    /// The gradient of a small model whose micro-batches are of one tree.
    fn gradient(batch: &[Example], compute: Precision, workspace: &mut Workspace) -> BatchGradient {
        let config = ModelConfig {
            vocab_size: 16,
            hidden_size: 8,
            intermediate_size: 24,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            max_position_embeddings: 256,
            ..ModelConfig::new(Architecture::Qwen2)
        };
        let settings = TrainSettings {
            weight_decay: 0.0,
            clip_norm: 1.0,
            n_tokens_micro: 1,
            recompute: false,
            cache_bytes_max: 0,
            recorded_bytes_max: 0,
            compute,
            moments: Precision::Float32,
            frozen: Precision::Float32,
        };
        let weights = Weights::random(&config, Seed::root(1));
        let (transformer, objective) = (Transformer::new(config), Objective::likelihood(1e-3));
        batch_gradient(
            batch,
            objective,
            &transformer,
            &weights,
            &settings,
            None,
            workspace,
        )
        .expect("a finite gradient")
    }

    /// Behind the last target no row is run; of one example the gradient keeps its bits.
    #[test]
    fn what_follows_the_last_target_is_not_run() {
        let mut long = Example::plain(vec![3, 1, 4, 1, 5, 2, 6], vec![0.0; 7]);
        (long.weights[1], long.weights[3]) = (0.5, -1.0);
        long.restrictions = vec![Restriction {
            position: 6,
            choices: [2, 6].into(),
        }];
        for compute in [Precision::Float32, Precision::Bfloat16] {
            let of = |example: Example| gradient(&[example], compute, &mut Workspace::default());
            let (expected, found) = (of(long.learnt()), of(long.clone()));
            assert_eq!((found.work.n_tokens, found.work.n_tokens_run), (7, 3));
            assert!(found.gradient == expected.gradient && found.norm > 0.0);
        }
    }

    /// Numbers that a workspace holds after an update on documents of so many tokens, each of which
    /// is a micro-batch.
    fn held_after(lengths: &[usize]) -> usize {
        let document = |(index, n): (usize, &usize)| {
            let mut weights = vec![0.1; *n];
            weights[0] = 0.0;
            Example::plain(vec![index as u32; *n], weights)
        };
        let batch: Vec<Example> = lengths.iter().enumerate().map(document).collect();
        let mut workspace = Workspace::default();
        gradient(&batch, Precision::Float32, &mut workspace);
        workspace.n_held()
    }

    #[test]
    fn a_short_micro_batch_works_in_the_buffers_of_a_long_one() {
        let long = held_after(&[256]);
        assert!(long > 256 * 3 * 8 * 12, "a layer keeps more than {long}");
        assert_eq!(held_after(&[256, 40, 120, 256, 9]), long);
    }

    #[test]
    fn trees_share_a_micro_batch_while_their_rows_fit() {
        let trees = |sizes: &[usize]| -> Vec<Tree> {
            let tree = |n: &usize| Tree {
                tokens: vec![0; *n],
                ..Tree::default()
            };
            sizes.iter().map(tree).collect()
        };
        let sizes = |of: &[usize]| -> Vec<Vec<usize>> {
            let trees = trees(of);
            let rows = |micro: &&[Tree]| micro.iter().map(|tree| tree.tokens.len()).collect();
            micro_batches(&trees, 6).iter().map(rows).collect()
        };
        // A tree that is too large is alone, wherever it stands, and six rows are not too many.
        let expected: [&[usize]; 5] = [&[9], &[3, 3], &[4], &[10], &[1]];
        assert_eq!(sizes(&[9, 3, 3, 4, 10, 1]), expected);
        assert_eq!(sizes(&[1, 2, 1, 1, 1, 1]), [&[1, 2, 1, 1, 1][..], &[1]]);
        assert!(sizes(&[]).is_empty());
    }
}
