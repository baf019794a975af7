//! One pass of the network over new nodes, against the keys and values of their paths.

use super::attention::{Run, attention};
use super::cache::Cache;
use super::drawn::Drawn;
use crate::model::layer::{Input, Pass};
use crate::model::linear::Kernel;
use crate::model::transformer::Transformer;
use crate::model::weights::Weights;
use crate::model::workspace::Workspace;

/// Computes keys, values and hidden states of new nodes; a parent comes before its children.
/// Activations are recorded where there is a recording.
pub(crate) fn forward(
    transformer: &Transformer,
    weights: &Weights,
    kernel: Kernel,
    drawn: &mut Drawn,
    fresh: &[usize],
    workspace: &mut Workspace,
) {
    if fresh.is_empty() {
        return;
    }
    drawn.begin_pass();
    let (runs, heads) = (runs(&drawn.cache, fresh), transformer.heads());
    let positions = fresh.iter().map(|node| drawn.cache.depth(*node));
    let positions: Vec<u32> = positions.collect();
    let mut pass = Pass {
        transformer,
        weights,
        positions: &positions,
        kernel,
        // One layer's activations: each next one works in them.
        workspace,
    };
    let mut x = pass.embed(fresh.iter().map(|node| drawn.cache.token(*node)));
    for (index, layer) in weights.layout.layers.iter().enumerate() {
        let input = Input { x: &x, read: None };
        let (output, activations) = pass.layer_forward(layer, input, |[q, k, v], places, _| {
            let cache = &mut drawn.cache;
            cache.set_layer(index, fresh, k, v);
            let stored = [&cache.keys[index], &cache.values[index]];
            attention(heads, stored, &runs, q, places);
        });
        drawn.record(fresh.len(), &activations.recorded(&x));
        activations.give_back(pass.workspace);
        pass.workspace.give([std::mem::replace(&mut x, output)]);
    }
    drawn.record(fresh.len(), &[&x]);
    drawn.end_pass(fresh);
    let [hidden, inverse] = pass.norm(&weights.layout.final_norm, &x);
    let rows = hidden.chunks(transformer.config.hidden_size);
    for (node, hidden) in fresh.iter().zip(rows) {
        drawn.cache.set_hidden(*node, hidden);
    }
    workspace.give([x, hidden, inverse]);
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
        let mut cache = Cache::new(&config, usize::MAX, Kernel::Rows);
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
