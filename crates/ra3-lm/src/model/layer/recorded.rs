//! A layer's activations as a [`Recording`] has them. What a norm gives is left out: the norm is
//! cheap, and its input is there.

use std::borrow::Cow;

use super::{Activations, Pass};
use crate::model::config::ModelConfig;
use crate::model::recording::{Place, Recording};

/// Numbers that are recorded of a row in a layer.
pub(crate) fn numbers_a_row(config: &ModelConfig) -> usize {
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.key_width());
    let n_heads = [config.num_attention_heads, config.num_key_value_heads];
    let raw = usize::from(config.has_head_norms()) * (q + kv + n_heads[0] + n_heads[1]);
    2 * d + 2 * q + 2 * kv + 2 * ff + n_heads[0] + raw
}

impl Activations {
    /// What is recorded of a layer whose input was `x`.
    pub(crate) fn recorded<'a>(&'a self, x: &'a [f32]) -> Vec<&'a [f32]> {
        let of_all = [
            &self.q,
            &self.k,
            &self.v,
            &self.attended,
            &self.log_sum,
            &self.middle,
            &self.gate,
            &self.up,
        ];
        let of_raw = self.raw.iter().flatten().flatten();
        let buffers = of_all.into_iter().chain(of_raw).map(Vec::as_slice);
        std::iter::once(x).chain(buffers).collect()
    }
}

impl Pass<'_> {
    /// Input and activations of a layer, of rows that were recorded; behind its attention, of those
    /// that are read, if these are not all.
    pub(crate) fn recorded(
        &mut self,
        index: usize,
        recording: &Recording,
        places: &[Place],
        read: Option<&[usize]>,
    ) -> (Vec<f32>, Activations) {
        let layer = &self.weights.layout.layers[index];
        let workspace = &mut *self.workspace;
        let mut rows = |buffer| recording.rows(index, buffer, places, workspace);
        let [x, q, k, v, attended, log_sum] = std::array::from_fn(&mut rows);
        let raw = layer.head_norms.is_some();
        let raw = raw.then(|| [[9, 10], [11, 12]].map(|of| of.map(&mut rows)));
        let attended_read = read.map(|rows| workspace.gather(&attended, layer.output.n_in, rows));
        let places = places_read(places, read);
        let mut rows = |buffer| recording.rows(index, buffer, &places, workspace);
        let [middle, gate, up] = [6, 7, 8].map(&mut rows);
        let [normed, inverse] = self.norm(&layer.attention_norm, &x);
        let [middle_normed, middle_inverse] = self.norm(&layer.mlp_norm, &middle);
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
        (x, activations)
    }

    /// The last layer's output, of the rows that are read, if these are not all.
    pub(crate) fn recorded_output(
        &mut self,
        recording: &Recording,
        places: &[Place],
        read: Option<&[usize]>,
    ) -> Vec<f32> {
        let n_layers = self.transformer.config.num_hidden_layers;
        recording.rows(n_layers, 0, &places_read(places, read), self.workspace)
    }
}

fn places_read<'a>(places: &'a [Place], read: Option<&[usize]>) -> Cow<'a, [Place]> {
    read.map_or(Cow::Borrowed(places), |rows| {
        rows.iter().map(|row| places[*row]).collect()
    })
}
