//! One layer of the network, forward and backward. With its layout and its configuration it is all
//! in which families of models differ.
//!
//! ```text
//! x ← x + o(attention(rope(q, k), v)),   q, k, v from rms_norm(x); where the family does, the
//!                                        heads of q and k are normed
//! x ← x + down(silu(gate) · up),         gate, up from rms_norm(x)
//! ```
//!
//! Training and generation run the same layer. What differs is passed in: the attention (over a
//! forest, or over a cache), how products are summed, and what becomes of the activations.
//!
//! Of the last layer a loss reads some rows only, and the others matter by their keys and values:
//! what is behind the attention runs on the rows that are read, forward and backward.

mod recorded;

use std::ops::Range;

use ra3::policy::TokenId;

pub(crate) use recorded::numbers_a_row;

use super::attention::{self, Gradients, Saved};
use super::forest::Forest;
use super::linear::Kernel;
use super::transformer::Transformer;
use super::weights::{LayerLayout, Linear, Weights};
use super::workspace::Workspace;
use super::{rms_norm, swiglu};
use crate::device::matrix::View;

/// What a pass over some rows reads, and the buffers that it works in.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) transformer: &'a Transformer,
    pub(crate) weights: &'a Weights,
    /// One a row.
    pub(crate) positions: &'a [u32],
    pub(crate) kernel: Kernel,
    pub(crate) workspace: &'a mut Workspace,
}

/// What a layer runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// Of all rows.
    pub(crate) x: &'a [f32],
    /// The rows whose output is read, rising, if these are not all.
    pub(crate) read: Option<&'a [usize]>,
}

/// What a layer computed on its way, for its backward pass.
#[derive(Debug)]
pub(crate) struct Activations {
    normed: Vec<f32>,
    inverse: Vec<f32>,
    /// Queries and keys before the norm of their heads, each with that norm's factors.
    raw: Option<[[Vec<f32>; 2]; 2]>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    /// Of each row and query head.
    log_sum: Vec<f32>,
    /// Of `attended` the rows that are read, if these are not all. What follows is of them alone.
    attended_read: Option<Vec<f32>>,
    middle: Vec<f32>,
    middle_normed: Vec<f32>,
    middle_inverse: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Activations {
    pub(crate) fn give_back(self, workspace: &mut Workspace) {
        for raw in self.raw.into_iter().flatten() {
            workspace.give(raw);
        }
        if let Some(attended) = self.attended_read {
            workspace.give([attended]);
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

impl Pass<'_> {
    /// The rows' embeddings.
    pub(crate) fn embed(&mut self, tokens: impl ExactSizeIterator<Item = TokenId>) -> Vec<f32> {
        let d = self.transformer.config.hidden_size;
        let start = self.weights.layout.embedding.start;
        let mut x = self.workspace.take(tokens.len() * d);
        for (token, row) in tokens.zip(x.chunks_mut(d)) {
            let at = start + token as usize * d;
            row.copy_from_slice(&self.weights.vector(&(at..at + d)));
        }
        x
    }

    /// What is normed, and the norm's factors.
    pub(crate) fn norm(&mut self, gain: &Range<usize>, x: &[f32]) -> [Vec<f32>; 2] {
        let epsilon = self.transformer.config.rms_norm_eps;
        let mut normed = self.workspace.take(x.len());
        let mut inverse = self.workspace.take(x.len() / gain.len());
        let gain = self.weights.vector(gain);
        rms_norm::forward(x, &gain, epsilon, &mut normed, &mut inverse);
        [normed, inverse]
    }

    fn linears<const N: usize>(&mut self, parts: [&Linear; N], x: &[f32]) -> [Vec<f32>; N] {
        let mut outputs =
            parts.map(|part| (part, self.workspace.take(x.len() / part.n_in * part.n_out)));
        let places = outputs
            .each_mut()
            .map(|(part, y)| (*part, y.as_mut_slice()));
        Linear::forward_each(self.kernel, places, self.weights, x);
        outputs.map(|(_, y)| y)
    }

    fn add(&self, mut residual: Vec<f32>, linear: &Linear, x: &[f32]) -> Vec<f32> {
        linear.forward_add(self.kernel, &mut residual, self.weights, x);
        residual
    }

    /// The layer's output, of the rows that are read. `attend` takes rotated queries and keys, and
    /// values, and writes what they attend to, and the log-sum-exp.
    pub(crate) fn layer_forward(
        &mut self,
        layer: &LayerLayout,
        Input { x, read }: Input<'_>,
        attend: impl FnOnce([&[f32]; 3], [&mut [f32]; 2], &mut Workspace),
    ) -> (Vec<f32>, Activations) {
        let heads = self.transformer.heads();
        let [normed, inverse] = self.norm(&layer.attention_norm, x);
        let [mut q, mut k, v] = self.linears(layer.projections.each_ref(), &normed);
        let raw = layer.head_norms.as_ref().map(|[of_q, of_k]| {
            [(of_q, &mut q), (of_k, &mut k)].map(|(gain, x)| {
                let [normed, inverse] = self.norm(gain, x);
                [std::mem::replace(x, normed), inverse]
            })
        });
        let rope = &self.transformer.rope;
        rope.forward(&mut q, heads.query_width(), self.positions);
        rope.forward(&mut k, heads.key_width(), self.positions);
        let mut attended = self.workspace.take(q.len());
        let mut log_sum = self.workspace.take(q.len() / heads.width);
        attend([&q, &k, &v], [&mut attended, &mut log_sum], self.workspace);
        let (residual, attended_read) = match read {
            None => (self.workspace.copy(x), None),
            Some(rows) => {
                let residual = self.workspace.gather(x, layer.output.n_out, rows);
                let read = self.workspace.gather(&attended, layer.output.n_in, rows);
                (residual, Some(read))
            }
        };
        let read = attended_read.as_ref().unwrap_or(&attended);
        let middle = self.add(residual, &layer.output, read);
        let [middle_normed, middle_inverse] = self.norm(&layer.mlp_norm, &middle);
        let [gate, up] = self.linears([&layer.gate, &layer.up], &middle_normed);
        let mut h = self.workspace.take(gate.len());
        swiglu::forward(&gate, &up, &mut h);
        let residual = self.workspace.copy(&middle);
        let output = self.add(residual, &layer.down, &h);
        self.workspace.give([h]);
        let activations = Activations {
            normed,
            inverse,
            raw,
            q,
            k,
            v,
            attended,
            log_sum,
            attended_read,
            middle,
            middle_normed,
            middle_inverse,
            gate,
            up,
        };
        (output, activations)
    }

    /// Turns `dx` from the gradient of a layer's output, of the rows that are read, into that of
    /// its input, of all rows.
    pub(crate) fn layer_backward(
        &mut self,
        forest: &Forest,
        layer: &LayerLayout,
        Input { x, read }: Input<'_>,
        mut kept: Activations,
        dx: &mut Vec<f32>,
        gradient: &mut [f32],
    ) {
        self.mlp_backward(layer, &mut kept, dx, gradient);
        let dattended = self.output_backward(layer, read, &kept, dx, gradient);
        let dheads = self.heads_backward(forest, &kept, &dattended);
        self.workspace.give([dattended]);
        self.projections_backward(layer, x, &kept, dheads, dx, gradient);
        kept.give_back(self.workspace);
    }

    /// From the layer's output to its middle; `gate` and `up` become their gradients.
    fn mlp_backward(
        &mut self,
        layer: &LayerLayout,
        kept: &mut Activations,
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (kernel, weights, down) = (self.kernel, self.weights, &layer.down);
        let mut h = self.workspace.take(kept.gate.len());
        kernel.with_upstream(dx, down.n_out, |upstream| {
            down.back_to_input(kernel, &mut h, false, weights, upstream);
            swiglu::backward(&mut kept.gate, &mut kept.up, &mut h);
            let x = View::new(&h, h.len() / down.n_in, down.n_in);
            kernel.with_operand(x, |x| down.back_to_weight(gradient, upstream, x));
        });
        let parts = [(&layer.gate, kept.gate.as_slice()), (&layer.up, &kept.up)];
        let mut dnormed = self.workspace.take(kept.middle_normed.len());
        self.linears_backward(parts, &kept.middle_normed, &mut dnormed, gradient);
        let gain = &layer.mlp_norm;
        let (middle, inverse) = (&kept.middle, &kept.middle_inverse);
        self.norm_backward(gain, [middle, inverse, &dnormed], dx, gradient);
        self.workspace.give([h, dnormed]);
    }

    /// From the layer's middle to what the attention gave, and, along the residual, to the input:
    /// `dx` is of the rows that are read, and then of all. What nobody reads has no gradient.
    fn output_backward(
        &mut self,
        layer: &LayerLayout,
        read: Option<&[usize]>,
        kept: &Activations,
        dx: &mut Vec<f32>,
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let output = &layer.output;
        let attended = kept.attended_read.as_ref().unwrap_or(&kept.attended);
        let mut dattended = self.workspace.take(attended.len());
        let parts = [(output, dx.as_slice())];
        self.linears_backward(parts, attended, &mut dattended, gradient);
        if let Some(rows) = read {
            let n_rows = kept.inverse.len();
            for (values, width) in [(&mut dattended, output.n_in), (dx, output.n_out)] {
                let all = self.workspace.scatter(values, width, rows, n_rows);
                self.workspace.give([std::mem::replace(values, all)]);
            }
        }
        dattended
    }

    /// From the heads to the layer's input.
    fn projections_backward(
        &mut self,
        layer: &LayerLayout,
        x: &[f32],
        kept: &Activations,
        [mut dq, mut dk, dv]: [Vec<f32>; 3],
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        if let (Some(gains), Some(raw)) = (&layer.head_norms, &kept.raw) {
            for ((gain, [x, inverse]), dy) in gains.iter().zip(raw).zip([&mut dq, &mut dk]) {
                let mut dx = self.workspace.zeros(x.len());
                self.norm_backward(gain, [x, inverse, dy], &mut dx, gradient);
                self.workspace.give([std::mem::replace(dy, dx)]);
            }
        }
        let [q, k, v] = &layer.projections;
        let parts = [(q, dq.as_slice()), (k, &dk), (v, &dv)];
        let mut dnormed = self.workspace.take(kept.normed.len());
        self.linears_backward(parts, &kept.normed, &mut dnormed, gradient);
        let gain = &layer.attention_norm;
        self.norm_backward(gain, [x, &kept.inverse, &dnormed], dx, gradient);
        self.workspace.give([dq, dk, dv, dnormed]);
    }

    /// Gradients of q, k and v before their rotation.
    fn heads_backward(
        &mut self,
        forest: &Forest,
        kept: &Activations,
        dattended: &[f32],
    ) -> [Vec<f32>; 3] {
        let lengths = [&kept.q, &kept.k, &kept.v].map(Vec::len);
        let [mut dq, mut dk, mut dv] = lengths.map(|n| self.workspace.take(n));
        let gradients = Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        let saved = Saved {
            q: &kept.q,
            k: &kept.k,
            v: &kept.v,
            out: &kept.attended,
            log_sum: &kept.log_sum,
        };
        let (heads, rope) = (self.transformer.heads(), &self.transformer.rope);
        let (kernel, workspace) = (self.kernel, &mut *self.workspace);
        attention::backward(
            forest, heads, kernel, saved, dattended, gradients, workspace,
        );
        rope.backward(&mut dq, heads.query_width(), self.positions);
        rope.backward(&mut dk, heads.key_width(), self.positions);
        [dq, dk, dv]
    }

    /// Writes the gradient of an input that several products share.
    fn linears_backward<const N: usize>(
        &self,
        parts: [(&Linear, &[f32]); N],
        x: &[f32],
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (kernel, n_in) = (self.kernel, parts[0].0.n_in);
        kernel.with_operand(View::new(x, x.len() / n_in, n_in), |x| {
            for (index, (part, dy)) in parts.into_iter().enumerate() {
                kernel.with_upstream(dy, part.n_out, |upstream| {
                    part.back_to_input(kernel, dx, index > 0, self.weights, upstream);
                    part.back_to_weight(gradient, upstream, x);
                });
            }
        });
    }

    /// Adds to `dx`, from a norm's input, its factors and the gradient of its output.
    pub(crate) fn norm_backward(
        &self,
        gain: &Range<usize>,
        [x, inverse, dy]: [&[f32]; 3],
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let dgain = &mut gradient[gain.clone()];
        rms_norm::backward(x, self.weights.at(gain), inverse, dy, dx, dgain);
    }
}
