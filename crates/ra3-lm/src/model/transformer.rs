//! The network: embedding, layers, final norm, loss; forward and then backward over a forest.
//!
//! ```text
//! x ← embedding[token]
//! each layer:  x ← x + o(attention(rope(q, k), v)),   q, k, v from rms_norm(x); where the family
//!                                                      does, the heads of q and k are normed
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
use super::linear::{Linear, add};
use super::rope::RopeTable;
use super::weights::{LayerLayout, Weights};
use super::workspace::Workspace;
use super::{rms_norm, swiglu};

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
    raw: Option<RawHeads>,
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

/// Queries and keys before the norm of their heads, and that norm's factors.
#[derive(Debug)]
struct RawHeads {
    q: Vec<f32>,
    k: Vec<f32>,
    q_inverse: Vec<f32>,
    k_inverse: Vec<f32>,
}

impl LayerInner {
    fn give_back(self, workspace: &mut Workspace) {
        if let Some(raw) = self.raw {
            workspace.give([raw.q, raw.k, raw.q_inverse, raw.k_inverse]);
        }
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
    fn linear(&mut self, linear: Linear<'_>, x: &[f32]) -> Vec<f32> {
        let mut y = self.workspace.take(x.len() / linear.n_in * linear.n_out);
        linear.forward(&mut y, self.weights, x);
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

    /// Projections to queries, keys and values.
    pub(crate) fn projections<'a>(&self, layer: &'a LayerLayout) -> [Linear<'a>; 3] {
        let (qw, kv) = (self.config.query_width(), self.config.key_width());
        let n_in = self.config.hidden_size;
        let parts = [
            (&layer.q, &layer.q_bias, qw),
            (&layer.k, &layer.k_bias, kv),
            (&layer.v, &layer.v_bias, kv),
        ];
        parts.map(|(weight, bias, n_out)| Linear {
            weight,
            bias: bias.as_ref(),
            n_in,
            n_out,
        })
    }

    /// Projection of what the heads found.
    pub(crate) fn output<'a>(&self, layer: &'a LayerLayout) -> Linear<'a> {
        Linear {
            weight: &layer.o,
            bias: layer.o_bias.as_ref(),
            n_in: self.config.query_width(),
            n_out: self.config.hidden_size,
        }
    }

    /// Gate, up and down.
    pub(crate) fn mlp<'a>(&self, layer: &'a LayerLayout) -> [Linear<'a>; 3] {
        let (d, ff) = (self.config.hidden_size, self.config.intermediate_size);
        [
            (&layer.gate, d, ff),
            (&layer.up, d, ff),
            (&layer.down, ff, d),
        ]
        .map(|(weight, n_in, n_out)| Linear {
            weight,
            bias: None,
            n_in,
            n_out,
        })
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
        let n = pass.forest.tokens.len();
        let (normed, inverse) = self.norm(pass, &layer.attention_norm, x);
        let [q, k, v] = self
            .projections(layer)
            .map(|part| pass.linear(part, &normed));
        let (mut q, mut k, raw) = self.norm_heads(pass, layer, q, k);
        let (heads, positions) = (self.heads(), &pass.forest.positions);
        self.rope.forward(&mut q, heads.query_width(), positions);
        self.rope.forward(&mut k, heads.key_width(), positions);
        let mut attended = pass.workspace.take(q.len());
        let mut log_sum = pass.workspace.take(n * heads.n_query);
        attention::forward(pass.forest, heads, &q, &k, &v, &mut attended, &mut log_sum);
        let mut middle = pass.workspace.copy(x);
        let output = self.output(layer);
        output.forward_add(&mut middle, pass.weights, &attended);
        let (middle_normed, middle_inverse) = self.norm(pass, &layer.mlp_norm, &middle);
        let [gate, up, down] = self.mlp(layer);
        let [gate, up] = [gate, up].map(|part| pass.linear(part, &middle_normed));
        let mut h = pass.workspace.take(gate.len());
        swiglu::forward(&gate, &up, &mut h);
        let mut output = pass.workspace.copy(&middle);
        down.forward_add(&mut output, pass.weights, &h);
        pass.workspace.give([h]);
        let inner = LayerInner {
            normed,
            inverse,
            raw,
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

    /// Norms the heads of q and k where the family does; what they were is kept.
    fn norm_heads(
        &self,
        pass: &mut Pass<'_>,
        layer: &LayerLayout,
        q: Vec<f32>,
        k: Vec<f32>,
    ) -> (Vec<f32>, Vec<f32>, Option<RawHeads>) {
        let Some(gains) = &layer.head_norms else {
            return (q, k, None);
        };
        let (width, epsilon) = (self.config.head_dim(), self.config.rms_norm_eps);
        let mut norm = |x: &[f32], gain: &Range<usize>| {
            let mut normed = pass.workspace.take(x.len());
            let mut inverse = pass.workspace.take(x.len() / width);
            let gain = pass.weights.at(gain);
            rms_norm::forward(x, gain, epsilon, &mut normed, &mut inverse);
            (normed, inverse)
        };
        let (normed_q, q_inverse) = norm(&q, &gains[0]);
        let (normed_k, k_inverse) = norm(&k, &gains[1]);
        let raw = RawHeads {
            q,
            k,
            q_inverse,
            k_inverse,
        };
        (normed_q, normed_k, Some(raw))
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
        let weights = pass.weights;
        let [gate, up, down] = self.mlp(layer);
        let mut h = pass.workspace.take(inner.gate.len());
        down.back_to_input(&mut h, false, weights, dx);
        swiglu::backward(&mut inner.gate, &mut inner.up, &mut h);
        down.back_to_weight(gradient, dx, &h);
        let mut dnormed = pass.workspace.take(dx.len());
        for (index, (part, dy)) in [(gate, &inner.gate), (up, &inner.up)].iter().enumerate() {
            part.back_to_input(&mut dnormed, index > 0, weights, dy);
            part.back_to_weight(gradient, dy, &inner.middle_normed);
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
        let weights = pass.weights;
        let mut dattended = pass.workspace.take(inner.attended.len());
        let output = self.output(layer);
        output.back_to_input(&mut dattended, false, weights, dx);
        output.back_to_weight(gradient, dx, &inner.attended);
        let [mut dq, mut dk, dv] = self.heads_backward(pass, inner, &dattended);
        if let (Some(gains), Some(raw)) = (&layer.head_norms, &inner.raw) {
            dq = norm_backward(pass, gains[0].clone(), &raw.q, &raw.q_inverse, dq, gradient);
            dk = norm_backward(pass, gains[1].clone(), &raw.k, &raw.k_inverse, dk, gradient);
        }
        let mut dnormed = pass.workspace.take(dx.len());
        let parts = self.projections(layer).into_iter().zip([&dq, &dk, &dv]);
        for (index, (part, dy)) in parts.enumerate() {
            part.back_to_input(&mut dnormed, index > 0, weights, dy);
            part.back_to_weight(gradient, dy, &inner.normed);
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
        let (heads, positions) = (self.heads(), &pass.forest.positions);
        self.rope.backward(&mut dq, heads.query_width(), positions);
        self.rope.backward(&mut dk, heads.key_width(), positions);
        [dq, dk, dv]
    }
}

/// Through the norm of heads: the gradient of what they were, in place of that of what they became.
fn norm_backward(
    pass: &mut Pass<'_>,
    gain: Range<usize>,
    raw: &[f32],
    inverse: &[f32],
    dy: Vec<f32>,
    gradient: &mut [f32],
) -> Vec<f32> {
    let mut dx = pass.workspace.zeros(raw.len());
    let dgain = &mut gradient[gain.clone()];
    rms_norm::backward(raw, pass.weights.at(&gain), inverse, &dy, &mut dx, dgain);
    pass.workspace.give([dy]);
    dx
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
