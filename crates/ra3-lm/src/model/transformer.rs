//! The network: embedding, layers, final norm, loss; forward and then backward over a forest.
//!
//! ```text
//! x ← embedding[token];   x ← layer(x), as often as there are layers
//! hidden ← rms_norm(x);   log p = log softmax(hidden · headᵀ)
//! ```
//!
//! The last layer gives, and the loss reads, the rows that have targets, if these are not nearly
//! all ([`Forest::rows_read`]).
//!
//! What the backward pass needs of a layer is kept, or run again from its input, or was recorded
//! when the rows were drawn: then the loss comes first.

use ra3::policy::Surrogate;

use super::attention::{self, Heads};
use super::config::ModelConfig;
use super::cross_entropy::{self, Loss};
use super::forest::Forest;
use super::layer::{Activations, Input, Pass};
use super::linear::{Kernel, add};
use super::recording::{Place, Recording};
use super::rope::RopeTable;
use super::weights::{LayerLayout, Weights};
use super::workspace::Workspace;

/// Where the backward pass has a layer's activations from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// The forward pass keeps them.
    Once,
    /// The forward pass keeps inputs, from which each layer runs a second time.
    Twice,
    /// The rows have been run, and are found at these places.
    Recorded(&'a Recording, Vec<Place>),
}

/// Of a layer, behind the forward pass: its input, and its activations where they are kept.
type Left = (Vec<f32>, Option<Activations>);

/// How an update goes over a forest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpdatePass<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) surrogate: Surrogate,
    pub(crate) source: &'a Source<'a>,
}

/// A model's shape and its rotary table.
#[derive(Clone, Debug)]
pub(crate) struct Transformer {
    pub(crate) config: ModelConfig,
    pub(crate) rope: RopeTable,
}

impl Transformer {
    pub(crate) fn new(config: ModelConfig) -> Self {
        let rope = RopeTable::new(
            config.head_dim(),
            config.rope_theta,
            config.rope_scaling,
            config.max_position_embeddings,
        );
        Self { config, rope }
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads {
            n_query: self.config.num_attention_heads,
            n_key: self.config.num_key_value_heads,
            width: self.config.head_dim(),
        }
    }

    /// Loss of a forest; adds its gradient to `gradient`, which has the layout of the weights.
    pub(crate) fn loss_and_gradient(
        &self,
        weights: &Weights,
        forest: &Forest,
        workspace: &mut Workspace,
        by: UpdatePass<'_>,
        gradient: &mut [f32],
    ) -> Loss {
        let (layout, d) = (&weights.layout, self.config.hidden_size);
        let mut pass = Pass {
            transformer: self,
            weights,
            positions: &forest.positions,
            kernel: by.kernel,
            workspace,
        };
        let read = forest.rows_read();
        let read = read.as_deref();
        let (output, mut left) = self.run(&mut pass, forest, read, by.source);
        let (loss, mut dx) = head(&mut pass, forest, output, by.surrogate, gradient);
        for (index, layer) in layout.layers.iter().enumerate().rev() {
            let read = self.read_of(index, read);
            let (x, activations) = match (by.source, left.pop()) {
                (_, Some((x, Some(activations)))) => (x, activations),
                (_, Some((x, None))) => {
                    let input = Input { x: &x, read };
                    let (output, activations) = self.run_layer(&mut pass, forest, layer, input);
                    pass.workspace.give([output]);
                    (x, activations)
                }
                (Source::Recorded(recording, places), None) => {
                    pass.recorded(index, recording, places, read)
                }
                (Source::Once | Source::Twice, None) => unreachable!("each layer has run"),
            };
            let input = Input { x: &x, read };
            pass.layer_backward(forest, layer, input, activations, &mut dx, gradient);
            pass.workspace.give([x]);
        }
        let dembedding = &mut gradient[layout.embedding.clone()];
        for (token, dx) in forest.tokens.iter().zip(dx.chunks(d)) {
            let at = *token as usize * d;
            add(&mut dembedding[at..at + d], dx);
        }
        pass.workspace.give([dx]);
        loss
    }

    /// The rows whose output is read of a layer, if these are not all.
    fn read_of<'a>(&self, layer: usize, read: Option<&'a [usize]>) -> Option<&'a [usize]> {
        read.filter(|_| layer + 1 == self.config.num_hidden_layers)
    }

    /// The last layer's output, of the rows that are read, and what is left of each layer that had
    /// to run.
    fn run(
        &self,
        pass: &mut Pass<'_>,
        forest: &Forest,
        read: Option<&[usize]>,
        source: &Source<'_>,
    ) -> (Vec<f32>, Vec<Left>) {
        let layers = &pass.weights.layout.layers;
        if let Source::Recorded(recording, places) = source {
            return (pass.recorded_output(recording, places, read), Vec::new());
        }
        let mut x = pass.embed(forest.tokens.iter().copied());
        let mut left = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let read = self.read_of(index, read);
            let (output, activations) = self.run_layer(pass, forest, layer, Input { x: &x, read });
            let x = std::mem::replace(&mut x, output);
            if matches!(source, Source::Once) {
                left.push((x, Some(activations)));
            } else {
                activations.give_back(pass.workspace);
                left.push((x, None));
            }
        }
        (x, left)
    }

    fn run_layer(
        &self,
        pass: &mut Pass<'_>,
        forest: &Forest,
        layer: &LayerLayout,
        input: Input<'_>,
    ) -> (Vec<f32>, Activations) {
        let kernel = pass.kernel;
        pass.layer_forward(layer, input, |qkv, places, workspace| {
            attention::forward(forest, self.heads(), kernel, qkv, places, workspace);
        })
    }
}

/// Final norm, projection and loss of what the last layer gave; its gradient.
fn head(
    pass: &mut Pass<'_>,
    forest: &Forest,
    x: Vec<f32>,
    surrogate: Surrogate,
    gradient: &mut [f32],
) -> (Loss, Vec<f32>) {
    let layout = &pass.weights.layout;
    let [hidden, inverse] = pass.norm(&layout.final_norm, &x);
    let mut dhidden = pass.workspace.zeros(x.len());
    let targets = &forest.targets;
    let loss =
        cross_entropy::forward_backward(pass, &hidden, targets, surrogate, &mut dhidden, gradient);
    let mut dx = pass.workspace.zeros(x.len());
    pass.norm_backward(
        &layout.final_norm,
        [&x, &inverse, &dhidden],
        &mut dx,
        gradient,
    );
    pass.workspace.give([x, hidden, inverse, dhidden]);
    (loss, dx)
}

/// Compares a gradient with central differences of `value`, to 2e-3 of the gradient's size.
#[cfg(test)]
pub(crate) fn check_gradient(x: &[f32], gradient: &[f32], value: impl Fn(&[f32]) -> f64) {
    let scale = gradient.iter().fold(1e-3f32, |top, g| top.max(g.abs()));
    for index in 0..x.len() {
        let step = 1e-2f32;
        let mut moved = x.to_vec();
        moved[index] = x[index] + step;
        let above = value(&moved);
        moved[index] = x[index] - step;
        let below = value(&moved);
        let expected = ((above - below) / f64::from(2.0 * step)) as f32;
        assert!(
            (gradient[index] - expected).abs() < 2e-3 * scale,
            "{index}: {} against {expected}",
            gradient[index]
        );
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use ra3::policy::{Example, Restriction};
    use ra3::seed::Seed;

    use super::*;
    use crate::model::config::{Architecture, Precision};
    use crate::model::forest::{Target, grow};

    /// Trees with shared beginnings, one target of each five tokens, some of them restricted.
    fn forest() -> Forest {
        let tokens = |salt, n| -> Vec<u32> {
            let draw = |i| (Seed::root(salt).nth(i).uniform() * 30.0) as u32;
            (0..n).map(draw).collect()
        };
        let example = |tokens: Vec<u32>| {
            let weight = |i| [0.0, 0.0, 0.0, 0.4, 0.0][i % 5] * (i as f32 - 12.0);
            let weights = (0..tokens.len()).map(weight).collect();
            let mut example = Example::plain(tokens, weights);
            example.restrictions = vec![Restriction {
                position: 8,
                choices: [example.tokens[8], 3, 29].into(),
            }];
            example
        };
        let fork = |salt, n| [tokens(1, 20), tokens(salt, n)].concat();
        let examples = [fork(2, 7), tokens(3, 70), fork(4, 19), tokens(5, 34)].map(example);
        let mut forest = Forest::default();
        grow(&examples, false)
            .iter()
            .for_each(|tree| forest.push(tree));
        forest
    }

    /// The same with a target of no weight in each row that had none: then all rows are read.
    fn with_all_rows(forest: &Forest) -> Forest {
        let mut all = forest.clone();
        let read = forest.rows_with_targets();
        let unread = (0..forest.tokens.len()).filter(|row| !read.contains(row));
        all.targets.extend(unread.map(|row| Target {
            row,
            weight: 0.0,
            positive_weight: 0.0,
            n_targets: 0,
            choices: None,
            ..forest.targets[0].clone()
        }));
        all.targets.sort_by_key(|target| target.row);
        all
    }

    struct Case {
        transformer: Transformer,
        weights: Weights,
        kernel: Kernel,
    }

    impl Case {
        fn new(architecture: Architecture, compute: Precision) -> Self {
            let config = ModelConfig {
                vocab_size: 30,
                hidden_size: 24,
                intermediate_size: 40,
                num_hidden_layers: 3,
                num_attention_heads: 4,
                num_key_value_heads: 2,
                max_position_embeddings: 96,
                tie_word_embeddings: false,
                ..ModelConfig::new(architecture)
            };
            let mut weights = Weights::random(&config, Seed::root(3));
            let larger = |w: &mut f32| *w *= if *w == 1.0 { 1.0 } else { 8.0 };
            weights.data_mut().iter_mut().for_each(larger);
            Self {
                transformer: Transformer::new(config),
                weights,
                kernel: Kernel::of_training(compute),
            }
        }

        fn run(&self, forest: &Forest, source: &Source<'_>) -> (Loss, Vec<f32>) {
            let mut gradient = vec![0.0; self.weights.data().len()];
            let by = UpdatePass {
                kernel: self.kernel,
                surrogate: Surrogate::LogLikelihood,
                source,
            };
            let loss = self.transformer.loss_and_gradient(
                &self.weights,
                forest,
                &mut Workspace::default(),
                by,
                &mut gradient,
            );
            (loss, gradient)
        }

        /// Parameters whose gradient is a sum over the rows of the last layer's second half, or of
        /// what follows: leaving out zeros, these have other groups of terms.
        fn summed_over_read(&self) -> Vec<Range<usize>> {
            let layout = &self.weights.layout;
            let last = &layout.layers[layout.layers.len() - 1];
            let mut found = vec![last.mlp_norm.clone(), layout.final_norm.clone()];
            for linear in [&last.output, &last.gate, &last.up, &last.down, &layout.head] {
                found.push(linear.weight.clone());
                found.extend(linear.bias.clone());
            }
            found
        }
    }

    /// That the last layer leaves out what nobody reads changes the gradients by rounding; in
    /// `bf16`, where a row has the same bits whatever runs beside it, the loss and the gradients of
    /// all that is before the last layer's middle not at all.
    #[test]
    fn rows_that_nobody_reads_change_nothing() {
        let forest = forest();
        let all = with_all_rows(&forest);
        let n_read = forest.rows_read().map(|rows| rows.len());
        assert_eq!((n_read, all.rows_read()), (Some(30), None));
        for architecture in [
            Architecture::Qwen2,
            Architecture::Llama,
            Architecture::Qwen3,
        ] {
            for compute in [Precision::Float32, Precision::Bfloat16] {
                let case = Case::new(architecture, compute);
                let (loss, found) = case.run(&forest, &Source::Once);
                let (expected_loss, expected) = case.run(&all, &Source::Once);
                let scale = expected.iter().fold(0.0f32, |top, g| top.max(g.abs()));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() < 2e-6 * scale;
                assert!(found.iter().zip(&expected).all(close), "{architecture:?}");
                assert!((loss.value - expected_loss.value).abs() < 1e-6 * loss.value.abs());
                if compute == Precision::Bfloat16 {
                    let [mut found, mut expected] = [found.clone(), expected];
                    for range in case.summed_over_read() {
                        assert!(found[range.clone()].iter().any(|g| *g != 0.0));
                        found[range.clone()].fill(0.0);
                        expected[range].fill(0.0);
                    }
                    assert!(found.iter().any(|g| *g != 0.0));
                    assert!(found == expected, "{architecture:?}");
                    assert_eq!(loss, expected_loss, "{architecture:?}");
                }
                assert!(
                    case.run(&forest, &Source::Twice) == (loss, found),
                    "{architecture:?}"
                );
            }
        }
    }
}
