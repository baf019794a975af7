//! The network: embedding, layers, final norm, loss; forward and then backward over a forest.
//!
//! ```text
//! x ← embedding[token]
//! each layer:  x ← x + o(attention(rope(q, k), v)),   q, k, v from rms_norm(x)
//!              x ← x + down(silu(gate) · up),          gate, up from rms_norm(x)
//! hidden ← rms_norm(x);   log p = log softmax(hidden · headᵀ)
//! ```
//!
//! With `recompute`, a layer keeps its input only and runs again in the backward pass.

use std::ops::Range;

use ra3::policy::Surrogate;

use super::attention::{self, Gradients, Heads, Saved};
use super::config::ModelConfig;
use super::cross_entropy::{self, Loss};
use super::forest::Forest;
use super::rope::RopeTable;
use super::weights::{LayerLayout, Weights};
use super::{rms_norm, swiglu};
use crate::device::matrix::{Threads, View, multiply};

/// What a layer keeps for its backward pass.
#[derive(Debug)]
struct LayerSaved {
    input: Vec<f32>,
    inner: Option<LayerInner>,
}

/// What a layer keeps, or computes again.
#[derive(Debug)]
struct LayerInner {
    normed: Vec<f32>,
    inverse: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    log_sum: Vec<f32>,
    middle: Vec<f32>,
    middle_normed: Vec<f32>,
    middle_inverse: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
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
        surrogate: Surrogate,
        recompute: bool,
        gradient: &mut [f32],
    ) -> Loss {
        let (n, d) = (forest.tokens.len(), self.config.hidden_size);
        let layout = &weights.layout;
        let mut x = self.embed(weights, forest);
        let mut saved = Vec::with_capacity(layout.layers.len());
        for layer in &layout.layers {
            let (output, inner) = self.layer_forward(weights, layer, forest, &x);
            let inner = (!recompute).then_some(inner);
            saved.push(LayerSaved {
                input: std::mem::replace(&mut x, output),
                inner,
            });
        }
        let (mut hidden, mut inverse) = (vec![0.0; n * d], vec![0.0; n]);
        let gain = weights.at(&layout.final_norm);
        rms_norm::forward(
            &x,
            gain,
            self.config.rms_norm_eps,
            &mut hidden,
            &mut inverse,
        );
        let mut dhidden = vec![0.0; n * d];
        let loss = cross_entropy::forward_backward(
            &hidden,
            weights.at(&layout.head),
            d,
            &forest.targets,
            surrogate,
            &mut dhidden,
            &mut gradient[layout.head.clone()],
        );
        let mut dx = vec![0.0; n * d];
        let dgain = &mut gradient[layout.final_norm.clone()];
        rms_norm::backward(&x, gain, &inverse, &dhidden, &mut dx, dgain);
        for (layer, saved) in layout.layers.iter().zip(saved).rev() {
            let inner = saved
                .inner
                .unwrap_or_else(|| self.layer_forward(weights, layer, forest, &saved.input).1);
            self.layer_backward(
                weights,
                layer,
                forest,
                &saved.input,
                inner,
                &mut dx,
                gradient,
            );
        }
        let dembedding = &mut gradient[layout.embedding.clone()];
        for (token, dx) in forest.tokens.iter().zip(dx.chunks(d)) {
            add(
                &mut dembedding[*token as usize * d..(*token as usize + 1) * d],
                dx,
            );
        }
        loss
    }

    fn embed(&self, weights: &Weights, forest: &Forest) -> Vec<f32> {
        let d = self.config.hidden_size;
        let embedding = weights.at(&weights.layout.embedding);
        let row = |token: &u32| &embedding[*token as usize * d..(*token as usize + 1) * d];
        forest.tokens.iter().flat_map(row).copied().collect()
    }

    fn layer_forward(
        &self,
        weights: &Weights,
        layer: &LayerLayout,
        forest: &Forest,
        x: &[f32],
    ) -> (Vec<f32>, LayerInner) {
        let n = forest.tokens.len();
        let (d, kv, ff) = (
            self.config.hidden_size,
            self.config.key_width(),
            self.config.intermediate_size,
        );
        let epsilon = self.config.rms_norm_eps;
        let (mut normed, mut inverse) = (vec![0.0; n * d], vec![0.0; n]);
        let gain = weights.at(&layer.attention_norm);
        rms_norm::forward(x, gain, epsilon, &mut normed, &mut inverse);
        let mut q = linear(weights, &layer.q, layer.q_bias.as_ref(), &normed, d, d);
        let mut k = linear(weights, &layer.k, layer.k_bias.as_ref(), &normed, d, kv);
        let v = linear(weights, &layer.v, layer.v_bias.as_ref(), &normed, d, kv);
        self.rope.forward(&mut q, d, &forest.positions);
        self.rope.forward(&mut k, kv, &forest.positions);
        let mut attended = vec![0.0; n * d];
        let mut log_sum = vec![0.0; n * self.config.num_attention_heads];
        attention::forward(
            forest,
            self.heads(),
            &q,
            &k,
            &v,
            &mut attended,
            &mut log_sum,
        );
        let mut middle = x.to_vec();
        add_product(&mut middle, &attended, weights.at(&layer.o), d, d);
        let (mut middle_normed, mut middle_inverse) = (vec![0.0; n * d], vec![0.0; n]);
        let gain = weights.at(&layer.mlp_norm);
        rms_norm::forward(
            &middle,
            gain,
            epsilon,
            &mut middle_normed,
            &mut middle_inverse,
        );
        let gate = linear(weights, &layer.gate, None, &middle_normed, d, ff);
        let up = linear(weights, &layer.up, None, &middle_normed, d, ff);
        let mut h = vec![0.0; n * ff];
        swiglu::forward(&gate, &up, &mut h);
        let mut output = middle.clone();
        add_product(&mut output, &h, weights.at(&layer.down), ff, d);
        let inner = LayerInner {
            normed,
            inverse,
            q,
            k,
            v,
            attended,
            log_sum,
            middle,
            middle_normed,
            middle_inverse,
            gate,
            up,
        };
        (output, inner)
    }

    /// Turns `dx` from the gradient of a layer's output into that of its input.
    #[expect(
        clippy::too_many_arguments,
        reason = "a layer's operands, its gradient and its place"
    )]
    fn layer_backward(
        &self,
        weights: &Weights,
        layer: &LayerLayout,
        forest: &Forest,
        x: &[f32],
        inner: LayerInner,
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (d, ff) = (self.config.hidden_size, self.config.intermediate_size);
        let LayerInner {
            mut gate, mut up, ..
        } = inner;
        let mut h = vec![0.0; gate.len()];
        back_to_input(&mut h, false, dx, weights.at(&layer.down), ff, d);
        swiglu::backward(&mut gate, &mut up, &mut h);
        back_to_weight(&mut gradient[layer.down.clone()], dx, &h, ff, d);
        let mut dnormed = vec![0.0; dx.len()];
        for (range, dy) in [(&layer.gate, &gate), (&layer.up, &up)] {
            back_to_input(&mut dnormed, true, dy, weights.at(range), d, ff);
            back_to_weight(
                &mut gradient[range.clone()],
                dy,
                &inner.middle_normed,
                d,
                ff,
            );
        }
        let gain = weights.at(&layer.mlp_norm);
        let dgain = &mut gradient[layer.mlp_norm.clone()];
        rms_norm::backward(
            &inner.middle,
            gain,
            &inner.middle_inverse,
            &dnormed,
            dx,
            dgain,
        );

        let mut dattended = vec![0.0; dx.len()];
        back_to_input(&mut dattended, false, dx, weights.at(&layer.o), d, d);
        back_to_weight(&mut gradient[layer.o.clone()], dx, &inner.attended, d, d);
        let saved = Saved {
            q: &inner.q,
            k: &inner.k,
            v: &inner.v,
            out: &inner.attended,
            log_sum: &inner.log_sum,
        };
        let [dq, dk, dv] = self.attention_backward(forest, saved, &dattended);
        dnormed.fill(0.0);
        let parts = [
            (&layer.q, &layer.q_bias, &dq),
            (&layer.k, &layer.k_bias, &dk),
            (&layer.v, &layer.v_bias, &dv),
        ];
        for (range, bias, dy) in parts {
            let width = dy.len() * d / dx.len();
            back_to_input(&mut dnormed, true, dy, weights.at(range), d, width);
            back_to_weight(&mut gradient[range.clone()], dy, &inner.normed, d, width);
            if let Some(bias) = bias {
                let dbias = &mut gradient[bias.clone()];
                dy.chunks(width).for_each(|row| add(dbias, row));
            }
        }
        let gain = weights.at(&layer.attention_norm);
        let dgain = &mut gradient[layer.attention_norm.clone()];
        rms_norm::backward(x, gain, &inner.inverse, &dnormed, dx, dgain);
    }

    fn attention_backward(
        &self,
        forest: &Forest,
        saved: Saved<'_>,
        dattended: &[f32],
    ) -> [Vec<f32>; 3] {
        let mut dq = vec![0.0; saved.q.len()];
        let mut dk = vec![0.0; saved.k.len()];
        let mut dv = vec![0.0; saved.v.len()];
        let mut gradients = Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        attention::backward(forest, self.heads(), saved, dattended, &mut gradients);
        self.rope
            .backward(&mut dq, self.config.hidden_size, &forest.positions);
        self.rope
            .backward(&mut dk, self.config.key_width(), &forest.positions);
        [dq, dk, dv]
    }
}

/// `x · weightᵀ + bias` for `x` `[rows, n_in]`.
pub(crate) fn linear(
    weights: &Weights,
    weight: &Range<usize>,
    bias: Option<&Range<usize>>,
    x: &[f32],
    n_in: usize,
    n_out: usize,
) -> Vec<f32> {
    let n = x.len() / n_in;
    let mut y = vec![0.0; n * n_out];
    let weight = View::new(weights.at(weight), n_out, n_in).transposed();
    if let Some(bias) = bias {
        let bias = weights.at(bias);
        y.chunks_mut(n_out)
            .for_each(|row| row.copy_from_slice(bias));
    }
    multiply(
        &mut y,
        bias.is_some(),
        View::new(x, n, n_in),
        weight,
        Threads::All,
    );
    y
}

/// `y += x · weightᵀ`.
pub(crate) fn add_product(y: &mut [f32], x: &[f32], weight: &[f32], n_in: usize, n_out: usize) {
    let n = x.len() / n_in;
    let weight = View::new(weight, n_out, n_in).transposed();
    multiply(y, true, View::new(x, n, n_in), weight, Threads::All);
}

/// `dx (+)= dy · weight`.
fn back_to_input(
    dx: &mut [f32],
    accumulate: bool,
    dy: &[f32],
    weight: &[f32],
    n_in: usize,
    n_out: usize,
) {
    let n = dy.len() / n_out;
    let weight = View::new(weight, n_out, n_in);
    multiply(
        dx,
        accumulate,
        View::new(dy, n, n_out),
        weight,
        Threads::All,
    );
}

/// `dweight += dyᵀ · x`.
fn back_to_weight(dweight: &mut [f32], dy: &[f32], x: &[f32], n_in: usize, n_out: usize) {
    let n = dy.len() / n_out;
    let dy = View::new(dy, n, n_out).transposed();
    multiply(dweight, true, dy, View::new(x, n, n_in), Threads::All);
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
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
