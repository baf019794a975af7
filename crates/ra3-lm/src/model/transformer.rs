//! The network: embedding, layers, final norm, loss; forward and then backward over a forest.
//!
//! ```text
//! x ← embedding[token];   x ← layer(x), as often as there are layers
//! hidden ← rms_norm(x);   log p = log softmax(hidden · headᵀ)
//! ```
//!
//! What the backward pass needs of a layer is kept, or run again from its input, or was recorded
//! when the rows were drawn: then the loss comes first.

use ra3::policy::Surrogate;

use super::attention::{self, Heads};
use super::config::ModelConfig;
use super::cross_entropy::{self, Loss};
use super::forest::Forest;
use super::layer::{Activations, Pass};
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
        let (output, mut left) = self.run(&mut pass, forest, by.source);
        let (loss, mut dx) = head(&mut pass, forest, output, by.surrogate, gradient);
        for (index, layer) in layout.layers.iter().enumerate().rev() {
            let (input, activations) = match (by.source, left.pop()) {
                (_, Some((input, Some(activations)))) => (input, activations),
                (_, Some((input, None))) => {
                    let (output, activations) = self.run_layer(&mut pass, forest, layer, &input);
                    pass.workspace.give([output]);
                    (input, activations)
                }
                (Source::Recorded(recording, places), None) => {
                    pass.recorded(index, recording, places)
                }
                (Source::Once | Source::Twice, None) => unreachable!("each layer has run"),
            };
            pass.layer_backward(forest, layer, &input, activations, &mut dx, gradient);
            pass.workspace.give([input]);
        }
        let dembedding = &mut gradient[layout.embedding.clone()];
        for (token, dx) in forest.tokens.iter().zip(dx.chunks(d)) {
            let at = *token as usize * d;
            add(&mut dembedding[at..at + d], dx);
        }
        pass.workspace.give([dx]);
        loss
    }

    /// The last layer's output, and what is left of each layer that had to run.
    fn run(
        &self,
        pass: &mut Pass<'_>,
        forest: &Forest,
        source: &Source<'_>,
    ) -> (Vec<f32>, Vec<Left>) {
        let layers = &pass.weights.layout.layers;
        if let Source::Recorded(recording, places) = source {
            let of_output = (0, &[self.config.hidden_size][..]);
            let output = recording.rows(layers.len(), of_output, places, pass.workspace);
            return (output, Vec::new());
        }
        let mut x = pass.embed(forest.tokens.iter().copied());
        let mut left = Vec::new();
        for layer in layers {
            let (output, activations) = self.run_layer(pass, forest, layer, &x);
            let input = std::mem::replace(&mut x, output);
            if matches!(source, Source::Once) {
                left.push((input, Some(activations)));
            } else {
                activations.give_back(pass.workspace);
                left.push((input, None));
            }
        }
        (x, left)
    }

    fn run_layer(
        &self,
        pass: &mut Pass<'_>,
        forest: &Forest,
        layer: &LayerLayout,
        x: &[f32],
    ) -> (Vec<f32>, Activations) {
        let kernel = pass.kernel;
        pass.layer_forward(layer, x, |qkv, places, workspace| {
            attention::forward(forest, self.heads(), kernel, qkv, places, workspace);
        })
    }
}

/// Final norm, projection and loss of the last layer's output; its gradient.
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
