//! Keys, values and final hidden states by node of a trie of token paths.
//!
//! A page holds one token, so any common prefix is shared. A node lives as long as a live row's
//! path runs through it; memory is bounded, and what is freed is used again.

use ra3::policy::TokenId;

use crate::model::config::ModelConfig;

/// A token after its history.
#[derive(Clone, Debug, Default)]
struct Node {
    token: TokenId,
    parent: Option<usize>,
    children: Vec<usize>,
    depth: u32,
    /// Live rows whose path runs through it.
    n_rows: u32,
    /// `log p(token | history)`, once somebody asked.
    logprob: Option<f32>,
}

/// The trie and its numbers.
#[derive(Debug)]
pub(crate) struct Cache {
    nodes: Vec<Node>,
    free: Vec<usize>,
    roots: Vec<usize>,
    n_nodes_max: usize,
    key_width: usize,
    width: usize,
    /// By layer: `[node, key width]`.
    pub(super) keys: Vec<Vec<f32>>,
    pub(super) values: Vec<Vec<f32>>,
    /// `[node, d]`.
    hidden: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, n_bytes_max: usize) -> Self {
        let (kv, d, layers) = (
            config.key_width(),
            config.hidden_size,
            config.num_hidden_layers,
        );
        let node_bytes = size_of::<f32>() * (2 * layers * kv + d) + size_of::<Node>();
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            roots: Vec::new(),
            n_nodes_max: n_bytes_max / node_bytes,
            key_width: kv,
            width: d,
            keys: vec![Vec::new(); layers],
            values: vec![Vec::new(); layers],
            hidden: Vec::new(),
        }
    }

    /// True while an eighth of the room is left: rows that are live still grow.
    pub(crate) fn has_room(&self) -> bool {
        let n_used = self.nodes.len() - self.free.len();
        n_used == 0 || n_used < self.n_nodes_max - self.n_nodes_max / 8
    }

    /// The node of a token after a node (or at the root), if it is there.
    pub(crate) fn find(&self, parent: Option<usize>, token: TokenId) -> Option<usize> {
        let children = parent.map_or(&self.roots, |parent| &self.nodes[parent].children);
        children
            .iter()
            .copied()
            .find(|child| self.nodes[*child].token == token)
    }

    /// A new node; `None` if there is no room.
    pub(crate) fn insert(&mut self, parent: Option<usize>, token: TokenId) -> Option<usize> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.nodes.len() < self.n_nodes_max => self.grow(),
            None => return None,
        };
        let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        self.nodes[index] = Node {
            token,
            parent,
            depth,
            ..Node::default()
        };
        match parent {
            Some(parent) => self.nodes[parent].children.push(index),
            None => self.roots.push(index),
        }
        Some(index)
    }

    fn grow(&mut self) -> usize {
        self.nodes.push(Node::default());
        let n = self.nodes.len();
        for numbers in self.keys.iter_mut().chain(&mut self.values) {
            numbers.resize(n * self.key_width, 0.0);
        }
        self.hidden.resize(n * self.width, 0.0);
        n - 1
    }

    /// A row's path now runs through the node.
    pub(crate) fn hold(&mut self, node: usize) {
        self.nodes[node].n_rows += 1;
    }

    /// A row's path is gone; nodes that no other path holds are freed, the deepest first.
    pub(crate) fn release(&mut self, path: &[usize]) {
        for node in path.iter().rev() {
            self.nodes[*node].n_rows -= 1;
            if self.nodes[*node].n_rows > 0 {
                continue;
            }
            let parent = self.nodes[*node].parent;
            let siblings =
                parent.map_or(&mut self.roots, |parent| &mut self.nodes[parent].children);
            siblings.retain(|sibling| sibling != node);
            self.free.push(*node);
        }
    }

    pub(crate) fn token(&self, node: usize) -> TokenId {
        self.nodes[node].token
    }

    pub(crate) fn parent(&self, node: usize) -> Option<usize> {
        self.nodes[node].parent
    }

    pub(crate) fn depth(&self, node: usize) -> u32 {
        self.nodes[node].depth
    }

    pub(crate) fn logprob(&self, node: usize) -> Option<f32> {
        self.nodes[node].logprob
    }

    pub(crate) fn set_logprob(&mut self, node: usize, logprob: f32) {
        self.nodes[node].logprob = Some(logprob);
    }

    pub(crate) fn hidden(&self, node: usize) -> &[f32] {
        &self.hidden[node * self.width..(node + 1) * self.width]
    }

    pub(crate) fn set_hidden(&mut self, node: usize, hidden: &[f32]) {
        self.hidden[node * self.width..(node + 1) * self.width].copy_from_slice(hidden);
    }

    /// Nodes from the root to a node.
    pub(crate) fn path(&self, node: usize) -> Vec<usize> {
        let mut path = vec![node];
        while let Some(parent) = self.nodes[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }
}
