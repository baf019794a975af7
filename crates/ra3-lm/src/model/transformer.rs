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
use super::workspace::Workspace;
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

impl LayerInner {
    fn give_back(self, workspace: &mut Workspace) {
        workspace.give([
            self.normed,
            self.inverse,
            self.q,
            self.k,
            self.v,
            self.attended,
            self.log_sum,
            self.middle,
            self.middle_normed,
            self.middle_inverse,
            self.gate,
            self.up,
        ]);
    }
}

/// What a pass over a forest reads, and the buffers that it works in.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) forest: &'a Forest,
    pub(crate) workspace: &'a mut Workspace,
}

impl Pass<'_> {
    fn linear(
        &mut self,
        weight: &Range<usize>,
        bias: Option<&Range<usize>>,
        x: &[f32],
        n_in: usize,
        n_out: usize,
    ) -> Vec<f32> {
        let mut y = self.workspace.take(x.len() / n_in * n_out);
        write_linear(&mut y, self.weights, weight, bias, x, n_in, n_out);
        y
    }
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
        pass: &mut Pass<'_>,
        surrogate: Surrogate,
        recompute: bool,
        gradient: &mut [f32],
    ) -> Loss {
        let layout = &pass.weights.layout;
        let mut x = self.embed(pass);
        let mut saved = Vec::with_capacity(layout.layers.len());
        for layer in &layout.layers {
            let (output, inner) = self.layer_forward(pass, layer, &x);
            let inner = if recompute {
                inner.give_back(pass.workspace);
                None
            } else {
                Some(inner)
            };
            saved.push(LayerSaved {
                input: std::mem::replace(&mut x, output),
                inner,
            });
        }
        let (loss, mut dx) = self.head(pass, x, surrogate, gradient);
        for (layer, saved) in layout.layers.iter().zip(saved).rev() {
            let inner = saved.inner.unwrap_or_else(|| {
                let (output, inner) = self.layer_forward(pass, layer, &saved.input);
                pass.workspace.give([output]);
                inner
            });
            self.layer_backward(pass, layer, &saved.input, inner, &mut dx, gradient);
            pass.workspace.give([saved.input]);
        }
        let d = self.config.hidden_size;
        let dembedding = &mut gradient[layout.embedding.clone()];
        for (token, dx) in pass.forest.tokens.iter().zip(dx.chunks(d)) {
            add(
                &mut dembedding[*token as usize * d..(*token as usize + 1) * d],
                dx,
            );
        }
        pass.workspace.give([dx]);
        loss
    }

    /// Final norm, projection and loss of the last layer's output; its gradient.
    fn head(
        &self,
        pass: &mut Pass<'_>,
        x: Vec<f32>,
        surrogate: Surrogate,
        gradient: &mut [f32],
    ) -> (Loss, Vec<f32>) {
        let (n, d) = (pass.forest.tokens.len(), self.config.hidden_size);
        let (weights, layout) = (pass.weights, &pass.weights.layout);
        let gain = weights.at(&layout.final_norm);
        let epsilon = self.config.rms_norm_eps;
        let (mut hidden, mut inverse) = (pass.workspace.take(n * d), pass.workspace.take(n));
        rms_norm::forward(&x, gain, epsilon, &mut hidden, &mut inverse);
        let mut dhidden = pass.workspace.zeros(n * d);
        let loss = cross_entropy::forward_backward(
            &hidden,
            weights.at(&layout.head),
            d,
            &pass.forest.targets,
            surrogate,
            &mut dhidden,
            &mut gradient[layout.head.clone()],
            pass.workspace,
        );
        let mut dx = pass.workspace.zeros(n * d);
        let dgain = &mut gradient[layout.final_norm.clone()];
        rms_norm::backward(&x, gain, &inverse, &dhidden, &mut dx, dgain);
        pass.workspace.give([x, hidden, inverse, dhidden]);
        (loss, dx)
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Vec<f32> {
        let d = self.config.hidden_size;
        let embedding = pass.weights.at(&pass.weights.layout.embedding);
        let mut x = pass.workspace.take(pass.forest.tokens.len() * d);
        for (token, row) in pass.forest.tokens.iter().zip(x.chunks_mut(d)) {
            row.copy_from_slice(&embedding[*token as usize * d..(*token as usize + 1) * d]);
        }
        x
    }

    fn layer_forward(
        &self,
        pass: &mut Pass<'_>,
        layer: &LayerLayout,
        x: &[f32],
    ) -> (Vec<f32>, LayerInner) {
        let (forest, weights) = (pass.forest, pass.weights);
        let n = forest.tokens.len();
        let (d, kv, ff) = (
            self.config.hidden_size,
            self.config.key_width(),
            self.config.intermediate_size,
        );
        let (normed, inverse) = self.norm(pass, &layer.attention_norm, x);
        let mut q = pass.linear(&layer.q, layer.q_bias.as_ref(), &normed, d, d);
        let mut k = pass.linear(&layer.k, layer.k_bias.as_ref(), &normed, d, kv);
        let v = pass.linear(&layer.v, layer.v_bias.as_ref(), &normed, d, kv);
        self.rope.forward(&mut q, d, &forest.positions);
        self.rope.forward(&mut k, kv, &forest.positions);
        let mut attended = pass.workspace.take(n * d);
        let mut log_sum = pass.workspace.take(n * self.config.num_attention_heads);
        let heads = self.heads();
        attention::forward(forest, heads, &q, &k, &v, &mut attended, &mut log_sum);
        let mut middle = pass.workspace.copy(x);
        add_product(&mut middle, &attended, weights.at(&layer.o), d, d);
        let (middle_normed, middle_inverse) = self.norm(pass, &layer.mlp_norm, &middle);
        let gate = pass.linear(&layer.gate, None, &middle_normed, d, ff);
        let up = pass.linear(&layer.up, None, &middle_normed, d, ff);
        let mut h = pass.workspace.take(n * ff);
        swiglu::forward(&gate, &up, &mut h);
        let mut output = pass.workspace.copy(&middle);
        add_product(&mut output, &h, weights.at(&layer.down), ff, d);
        pass.workspace.give([h]);
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

    fn norm(&self, pass: &mut Pass<'_>, gain: &Range<usize>, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let n = pass.forest.tokens.len();
        let (mut normed, mut inverse) = (pass.workspace.take(x.len()), pass.workspace.take(n));
        let (gain, epsilon) = (pass.weights.at(gain), self.config.rms_norm_eps);
        rms_norm::forward(x, gain, epsilon, &mut normed, &mut inverse);
        (normed, inverse)
    }

    /// Turns `dx` from the gradient of a layer's output into that of its input.
    fn layer_backward(
        &self,
        pass: &mut Pass<'_>,
        layer: &LayerLayout,
        x: &[f32],
        mut inner: LayerInner,
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        self.mlp_backward(pass, layer, &mut inner, dx, gradient);
        self.attention_backward(pass, layer, x, &inner, dx, gradient);
        inner.give_back(pass.workspace);
    }

    /// From the layer's output to its middle; `gate` and `up` become their gradients.
    fn mlp_backward(
        &self,
        pass: &mut Pass<'_>,
        layer: &LayerLayout,
        inner: &mut LayerInner,
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (d, ff) = (self.config.hidden_size, self.config.intermediate_size);
        let weights = pass.weights;
        let mut h = pass.workspace.take(inner.gate.len());
        back_to_input(&mut h, false, dx, weights.at(&layer.down), ff, d);
        swiglu::backward(&mut inner.gate, &mut inner.up, &mut h);
        back_to_weight(&mut gradient[layer.down.clone()], dx, &h, ff, d);
        let mut dnormed = pass.workspace.take(dx.len());
        let parts = [(&layer.gate, &inner.gate), (&layer.up, &inner.up)];
        for (index, (range, dy)) in parts.into_iter().enumerate() {
            back_to_input(&mut dnormed, index > 0, dy, weights.at(range), d, ff);
            let normed = &inner.middle_normed;
            back_to_weight(&mut gradient[range.clone()], dy, normed, d, ff);
        }
        let gain = weights.at(&layer.mlp_norm);
        let dgain = &mut gradient[layer.mlp_norm.clone()];
        let (middle, inverse) = (&inner.middle, &inner.middle_inverse);
        rms_norm::backward(middle, gain, inverse, &dnormed, dx, dgain);
        pass.workspace.give([h, dnormed]);
    }

    /// From the layer's middle to its input.
    fn attention_backward(
        &self,
        pass: &mut Pass<'_>,
        layer: &LayerLayout,
        x: &[f32],
        inner: &LayerInner,
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (d, weights) = (self.config.hidden_size, pass.weights);
        let mut dattended = pass.workspace.take(dx.len());
        back_to_input(&mut dattended, false, dx, weights.at(&layer.o), d, d);
        back_to_weight(&mut gradient[layer.o.clone()], dx, &inner.attended, d, d);
        let [dq, dk, dv] = self.heads_backward(pass, inner, &dattended);
        let mut dnormed = pass.workspace.take(dx.len());
        let parts = [
            (&layer.q, &layer.q_bias, &dq),
            (&layer.k, &layer.k_bias, &dk),
            (&layer.v, &layer.v_bias, &dv),
        ];
        for (index, (range, bias, dy)) in parts.into_iter().enumerate() {
            let width = dy.len() * d / dx.len();
            back_to_input(&mut dnormed, index > 0, dy, weights.at(range), d, width);
            back_to_weight(&mut gradient[range.clone()], dy, &inner.normed, d, width);
            if let Some(bias) = bias {
                let dbias = &mut gradient[bias.clone()];
                dy.chunks(width).for_each(|row| add(dbias, row));
            }
        }
        let gain = weights.at(&layer.attention_norm);
        let dgain = &mut gradient[layer.attention_norm.clone()];
        rms_norm::backward(x, gain, &inner.inverse, &dnormed, dx, dgain);
        pass.workspace.give([dattended, dq, dk, dv, dnormed]);
    }

    /// Gradients of q, k and v before their rotation.
    fn heads_backward(
        &self,
        pass: &mut Pass<'_>,
        inner: &LayerInner,
        dattended: &[f32],
    ) -> [Vec<f32>; 3] {
        let lengths = [&inner.q, &inner.k, &inner.v].map(Vec::len);
        let [mut dq, mut dk, mut dv] = lengths.map(|n| pass.workspace.take(n));
        let mut gradients = Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        let saved = Saved {
            q: &inner.q,
            k: &inner.k,
            v: &inner.v,
            out: &inner.attended,
            log_sum: &inner.log_sum,
        };
        attention::backward(pass.forest, self.heads(), saved, dattended, &mut gradients);
        let (d, kv) = (self.config.hidden_size, self.config.key_width());
        self.rope.backward(&mut dq, d, &pass.forest.positions);
        self.rope.backward(&mut dk, kv, &pass.forest.positions);
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
    let mut y = vec![0.0; x.len() / n_in * n_out];
    write_linear(&mut y, weights, weight, bias, x, n_in, n_out);
    y
}

/// [`linear`] into a buffer, whatever is in it.
fn write_linear(
    y: &mut [f32],
    weights: &Weights,
    weight: &Range<usize>,
    bias: Option<&Range<usize>>,
    x: &[f32],
    n_in: usize,
    n_out: usize,
) {
    let n = x.len() / n_in;
    let weight = View::new(weights.at(weight), n_out, n_in).transposed();
    if let Some(bias) = bias {
        let bias = weights.at(bias);
        y.chunks_mut(n_out)
            .for_each(|row| row.copy_from_slice(bias));
    }
    let x = View::new(x, n, n_in);
    multiply(y, bias.is_some(), x, weight, Threads::All);
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
