//! One pass of the network over new nodes, against the keys and values of their paths.

use super::attention::{Run, attention};
use super::cache::Cache;
use crate::model::transformer::Transformer;
use crate::model::weights::{LayerLayout, Weights};
use crate::model::{rms_norm, swiglu};

/// Computes keys, values and hidden states of new nodes; a parent comes before its children.
pub(crate) fn forward(
    transformer: &Transformer,
    weights: &Weights,
    cache: &mut Cache,
    fresh: &[usize],
) {
    if fresh.is_empty() {
        return;
    }
    let config = &transformer.config;
    let (d, epsilon) = (config.hidden_size, config.rms_norm_eps);
    let n = fresh.len();
    let runs = runs(cache, fresh);
    let positions: Vec<u32> = fresh.iter().map(|node| cache.depth(*node)).collect();
    let mut x: Vec<f32> = Vec::with_capacity(n * d);
    for node in fresh {
        let at = weights.layout.embedding.start + cache.token(*node) as usize * d;
        x.extend_from_slice(&weights.vector(&(at..at + d)));
    }
    let (mut normed, mut inverse) = (vec![0.0; n * d], vec![0.0; n]);
    let mut h = vec![0.0; n * config.intermediate_size];
    let [mut gate, mut up] = [h.clone(), h.clone()];
    for (index, layer) in weights.layout.layers.iter().enumerate() {
        rms_norm::forward(
            &x,
            &weights.vector(&layer.attention_norm),
            epsilon,
            &mut normed,
            &mut inverse,
        );
        let q = project(
            transformer,
            weights,
            layer,
            index,
            &normed,
            &positions,
            cache,
            fresh,
        );
        let (keys, values) = (&cache.keys[index], &cache.values[index]);
        let attended = attention(transformer.heads(), keys, values, &runs, &q);
        let output = transformer.output(layer);
        output.forward_add_rows(&mut x, weights, &attended);
        rms_norm::forward(
            &x,
            &weights.vector(&layer.mlp_norm),
            epsilon,
            &mut normed,
            &mut inverse,
        );
        let [to_gate, to_up, down] = transformer.mlp(layer);
        to_gate.forward_rows(&mut gate, weights, &normed);
        to_up.forward_rows(&mut up, weights, &normed);
        swiglu::forward(&gate, &up, &mut h);
        down.forward_add_rows(&mut x, weights, &h);
    }
    let gain = weights.vector(&weights.layout.final_norm);
    rms_norm::forward(&x, &gain, epsilon, &mut normed, &mut inverse);
    for (node, hidden) in fresh.iter().zip(normed.chunks(d)) {
        cache.set_hidden(*node, hidden);
    }
}

/// Rotated queries; rotated keys and values go to the cache.
#[expect(
    clippy::too_many_arguments,
    reason = "a layer's operands and its place in the cache"
)]
fn project(
    transformer: &Transformer,
    weights: &Weights,
    layer: &LayerLayout,
    index: usize,
    normed: &[f32],
    positions: &[u32],
    cache: &mut Cache,
    fresh: &[usize],
) -> Vec<f32> {
    let [mut q, mut k, v] = transformer.projections(layer).map(|part| {
        let mut y = vec![0.0; fresh.len() * part.n_out];
        part.forward_rows(&mut y, weights, normed);
        y
    });
    if let Some(gains) = &layer.head_norms {
        for (x, gain) in [&mut q, &mut k].into_iter().zip(gains) {
            *x = norm_heads(x, &weights.vector(gain), transformer.config.rms_norm_eps);
        }
    }
    let (heads, kv) = (transformer.heads(), transformer.config.key_width());
    transformer
        .rope
        .forward(&mut q, heads.query_width(), positions);
    transformer.rope.forward(&mut k, kv, positions);
    for ((node, k), v) in fresh.iter().zip(k.chunks(kv)).zip(v.chunks(kv)) {
        cache.keys[index][node * kv..(node + 1) * kv].copy_from_slice(k);
        cache.values[index][node * kv..(node + 1) * kv].copy_from_slice(v);
    }
    q
}

fn norm_heads(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = vec![0.0; x.len()];
    let mut inverse = vec![0.0; x.len() / gain.len()];
    rms_norm::forward(x, gain, epsilon, &mut normed, &mut inverse);
    normed
}

/// Cuts the new nodes where one does not follow the node before it.
fn runs(cache: &Cache, fresh: &[usize]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (row, node) in fresh.iter().enumerate() {
        let follows = row > 0 && cache.parent(*node) == Some(fresh[row - 1]);
        match runs.last_mut() {
            Some(run) if follows => {
                run.rows.end = row + 1;
                run.path.push(*node);
            }
            _ => runs.push(Run {
                rows: row..row + 1,
                path: cache.path(*node),
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Architecture, ModelConfig};

    /// A chain is one run; a fork, a root, and a child that does not come next begin another.
    #[test]
    fn runs_are_cut_where_a_node_does_not_follow_the_one_before() {
        let config = ModelConfig {
            hidden_size: 4,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            ..ModelConfig::new(Architecture::Qwen2)
        };
        let mut cache = Cache::new(&config, usize::MAX);
        let root = cache.insert(None, 0);
        let old = cache.insert(Some(root), 1);
        let [a, b] = [2, 3].map(|token| cache.insert(Some(old), token));
        let after_b = cache.insert(Some(b), 4);
        let last = cache.insert(Some(after_b), 5);
        let after_a = cache.insert(Some(a), 6);
        let other = cache.insert(None, 7);
        let found = runs(&cache, &[a, b, after_b, last, after_a, other]);
        let found: Vec<_> = found.into_iter().map(|run| (run.rows, run.path)).collect();
        let expected = [
            (0..1, vec![root, old, a]),
            (1..4, vec![root, old, b, after_b, last]),
            (4..5, vec![root, old, a, after_a]),
            (5..6, vec![other]),
        ];
        assert_eq!(found, expected);
    }
}
