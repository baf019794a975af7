//! Keys, values and final hidden states by node of a trie of token paths.
//!
//! A page holds one token, so any common prefix is shared. A node is held while a live row's path
//! runs through it. One that nobody holds stays for rows that come later, until its place is
//! needed; the leaves that were let go first are the first to be replaced. Memory is bounded, and a
//! row is promised room before it enters.

use std::collections::VecDeque;

use half::bf16;
use ra3::policy::TokenId;

use crate::device::allocator::grow;
use crate::device::halves;
use crate::model::config::ModelConfig;
use crate::model::linear::Kernel;
use crate::model::recording::Place;

/// A token after its history.
#[derive(Clone, Debug, Default)]
struct Node {
    token: TokenId,
    children: Vec<usize>,
    depth: u32,
    /// Live rows whose path runs through it.
    n_rows: u32,
    /// When it was last let go.
    let_go: u64,
    /// `log p(token | history)`, once somebody asked.
    logprob: Option<f32>,
    /// Where its activations are recorded, if they are.
    place: Option<Place>,
}

/// Stands for the parent of a first token.
const NONE: u32 = u32::MAX;

/// Numbers of nodes as the products of attention read them.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    F32(Vec<f32>),
    Halves(Vec<bf16>),
}

impl Numbers {
    fn new(kernel: Kernel) -> Self {
        match kernel {
            Kernel::Packed | Kernel::Rows => Self::F32(Vec::new()),
            Kernel::Halves => Self::Halves(Vec::new()),
        }
    }

    fn resize(&mut self, n: usize) {
        match self {
            Self::F32(numbers) => grow(numbers, n, 0.0),
            Self::Halves(numbers) => grow(numbers, n, bf16::ZERO),
        }
    }

    fn set(&mut self, at: usize, from: &[f32]) {
        match self {
            Self::F32(numbers) => numbers[at..at + from.len()].copy_from_slice(from),
            Self::Halves(numbers) => halves::round(from, &mut numbers[at..at + from.len()]),
        }
    }
}

/// Bytes of a token in the cache, of numbers in `f32`: with products in `bf16` keys and values take
/// half of what is counted.
pub(crate) fn bytes_per_token(config: &ModelConfig) -> usize {
    let n_numbers = 2 * config.num_hidden_layers * config.key_width() + config.hidden_size;
    size_of::<f32>() * n_numbers + size_of::<Node>() + size_of::<u32>()
}

/// The trie and its numbers.
#[derive(Debug)]
pub(crate) struct Cache {
    nodes: Vec<Node>,
    /// By node; beside the nodes, since every path is looked up from its end in each pass.
    parents: Vec<u32>,
    roots: Vec<usize>,
    /// Nodes that were let go, and when: children before their parents. An entry whose node was
    /// held again since is stale.
    idle: VecDeque<(usize, u64)>,
    clock: u64,
    n_nodes_max: usize,
    /// True if an update is to find what was drawn: places are then taken while there are any.
    keeps_idle: bool,
    /// Nodes that live rows hold.
    n_held: usize,
    /// Nodes that live rows were promised beyond those.
    n_promised: usize,
    key_width: usize,
    width: usize,
    /// By layer: `[node, key width]`.
    pub(super) keys: Vec<Numbers>,
    pub(super) values: Vec<Numbers>,
    /// `[node, d]`.
    hidden: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, n_bytes_max: usize, kernel: Kernel) -> Self {
        let (kv, d, layers) = (
            config.key_width(),
            config.hidden_size,
            config.num_hidden_layers,
        );
        Self {
            nodes: Vec::new(),
            parents: Vec::new(),
            roots: Vec::new(),
            idle: VecDeque::new(),
            clock: 0,
            n_nodes_max: (n_bytes_max / bytes_per_token(config)).min(NONE as usize),
            keeps_idle: false,
            n_held: 0,
            n_promised: 0,
            key_width: kv,
            width: d,
            keys: vec![Numbers::new(kernel); layers],
            values: vec![Numbers::new(kernel); layers],
            hidden: Vec::new(),
        }
    }

    /// Whether it grows while it can rather than replace a node.
    pub(crate) fn keep_idle(&mut self, keeps_idle: bool) {
        self.keeps_idle = keeps_idle;
    }

    /// Nodes that it can hold.
    pub(crate) fn n_nodes_max(&self) -> usize {
        self.n_nodes_max
    }

    /// Nodes that are neither held nor promised.
    pub(crate) fn n_open(&self) -> usize {
        self.n_nodes_max - self.n_held - self.n_promised
    }

    /// Promises a row `n` nodes.
    pub(crate) fn promise(&mut self, n: usize) {
        debug_assert!(n <= self.n_open(), "{n} of {} promised", self.n_open());
        self.n_promised += n;
    }

    /// A row has taken `n` of its nodes, or gives them up.
    pub(crate) fn keep_promise(&mut self, n: usize) {
        self.n_promised -= n;
    }

    pub(crate) fn is_held(&self, node: usize) -> bool {
        self.nodes[node].n_rows > 0
    }

    /// The node of a token after a node (or at the root), if it is there.
    pub(crate) fn find(&self, parent: Option<usize>, token: TokenId) -> Option<usize> {
        let children = parent.map_or(&self.roots, |parent| &self.nodes[parent].children);
        children
            .iter()
            .copied()
            .find(|child| self.nodes[*child].token == token)
    }

    /// A new node, held by one row. There has to be room: open, or promised to that row.
    pub(crate) fn insert(&mut self, parent: Option<usize>, token: TokenId) -> usize {
        let index = if self.nodes.len() < self.n_nodes_max && self.is_worth_growing() {
            self.grow()
        } else {
            self.replace()
        };
        let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        self.nodes[index] = Node {
            token,
            depth,
            n_rows: 1,
            ..Node::default()
        };
        self.n_held += 1;
        self.parents[index] = parent.map_or(NONE, |parent| parent as u32);
        match parent {
            Some(parent) => self.nodes[parent].children.push(index),
            None => self.roots.push(index),
        }
        index
    }

    /// Idle nodes are kept for rows to come, but no more of them than were ever held at once, if
    /// nothing else asks for them.
    fn is_worth_growing(&self) -> bool {
        let n_idle = self.nodes.len() - self.n_held;
        n_idle == 0 || self.keeps_idle || n_idle < self.nodes.len().div_ceil(2)
    }

    fn grow(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.parents.push(NONE);
        let n = self.nodes.len();
        for numbers in self.keys.iter_mut().chain(&mut self.values) {
            numbers.resize(n * self.key_width);
        }
        grow(&mut self.hidden, n * self.width, 0.0);
        n - 1
    }

    /// Takes the place of the idle leaf that was let go first.
    fn replace(&mut self) -> usize {
        loop {
            let (node, since) = self.idle.pop_front().expect("room is asked for first");
            if self.nodes[node].n_rows > 0 || self.nodes[node].let_go != since {
                continue;
            }
            debug_assert!(self.nodes[node].children.is_empty(), "children go first");
            let parent = self.parent(node);
            let siblings =
                parent.map_or(&mut self.roots, |parent| &mut self.nodes[parent].children);
            siblings.retain(|sibling| *sibling != node);
            return node;
        }
    }

    /// A row's path now runs through the node, too.
    pub(crate) fn hold(&mut self, node: usize) {
        self.n_held += usize::from(self.nodes[node].n_rows == 0);
        self.nodes[node].n_rows += 1;
    }

    /// A row's path is gone; nodes that no other path holds are let go, the deepest first.
    pub(crate) fn release(&mut self, path: &[usize]) {
        for node in path.iter().rev() {
            self.nodes[*node].n_rows -= 1;
            if self.nodes[*node].n_rows == 0 {
                self.clock += 1;
                self.n_held -= 1;
                self.nodes[*node].let_go = self.clock;
                self.idle.push_back((*node, self.clock));
            }
        }
    }

    pub(crate) fn token(&self, node: usize) -> TokenId {
        self.nodes[node].token
    }

    pub(crate) fn parent(&self, node: usize) -> Option<usize> {
        let parent = self.parents[node];
        (parent != NONE).then_some(parent as usize)
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

    pub(crate) fn place(&self, node: usize) -> Option<Place> {
        self.nodes[node].place
    }

    pub(crate) fn set_place(&mut self, node: usize, place: Place) {
        self.nodes[node].place = Some(place);
    }

    pub(crate) fn hidden(&self, node: usize) -> &[f32] {
        &self.hidden[node * self.width..(node + 1) * self.width]
    }

    /// Keys and values of some nodes in a layer.
    pub(crate) fn set_layer(
        &mut self,
        layer: usize,
        nodes: &[usize],
        keys: &[f32],
        values: &[f32],
    ) {
        let width = self.key_width;
        for (index, node) in nodes.iter().enumerate() {
            let from = index * width..(index + 1) * width;
            self.keys[layer].set(node * width, &keys[from.clone()]);
            self.values[layer].set(node * width, &values[from]);
        }
    }

    pub(crate) fn set_hidden(&mut self, node: usize, hidden: &[f32]) {
        self.hidden[node * self.width..(node + 1) * self.width].copy_from_slice(hidden);
    }

    /// Nodes from the root to a node.
    pub(crate) fn path(&self, node: usize) -> Vec<usize> {
        let mut path = Vec::with_capacity(self.depth(node) as usize + 1);
        path.push(node);
        while let Some(parent) = self.parent(path[path.len() - 1]) {
            path.push(parent);
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::config::Architecture;

    fn config() -> ModelConfig {
        ModelConfig {
            hidden_size: 20,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: Some(6),
            ..ModelConfig::new(Architecture::Qwen3)
        }
    }

    /// Keys and values of 12 numbers in each of three layers, and a hidden state of 20: 92 numbers.
    #[test]
    fn a_token_takes_the_bytes_that_are_counted_for_it() {
        let mut cache = Cache::new(&config(), usize::MAX, Kernel::Rows);
        let mut parent = None;
        for token in 0..5 {
            parent = Some(cache.insert(parent, token));
        }
        let length = |numbers: &Numbers| match numbers {
            Numbers::F32(numbers) => numbers.len(),
            Numbers::Halves(numbers) => numbers.len(),
        };
        let layers = cache.keys.iter().chain(&cache.values);
        let n_numbers = layers.map(length).sum::<usize>() + cache.hidden.len();
        assert_eq!(n_numbers, 5 * 92);
        assert_eq!(bytes_per_token(&config()), 4 * 92 + size_of::<Node>() + 4);
        let n_bytes = 7 * bytes_per_token(&config());
        let room = |n_bytes| Cache::new(&config(), n_bytes, Kernel::Halves).n_nodes_max();
        assert_eq!([room(n_bytes), room(n_bytes - 1)], [7, 6]);
    }

    /// Appends a path of new nodes.
    fn chain(cache: &mut Cache, tokens: std::ops::Range<u32>) -> Vec<usize> {
        let mut path: Vec<usize> = Vec::new();
        for token in tokens {
            path.push(cache.insert(path.last().copied(), token));
        }
        path
    }

    pub(in crate::generate) fn room_for(n_tokens: usize) -> Cache {
        Cache::new(
            &config(),
            n_tokens * bytes_per_token(&config()),
            Kernel::Rows,
        )
    }

    #[test]
    fn nodes_are_held_by_every_row_whose_path_runs_through_them() {
        let mut cache = room_for(4);
        let path = chain(&mut cache, 0..3);
        assert_eq!(cache.n_open(), 1);
        cache.hold(path[0]);
        assert_eq!(cache.n_open(), 1, "a node that is held takes no more room");
        cache.release(&path);
        assert_eq!(
            [0, 1, 2].map(|at| cache.is_held(path[at])),
            [true, false, false]
        );
        assert_eq!(cache.n_open(), 3);
        cache.hold(path[1]);
        assert!(cache.is_held(path[1]));
        assert_eq!(cache.n_open(), 2);
        cache.promise(2);
        assert_eq!(cache.n_open(), 0);
        cache.keep_promise(1);
        assert_eq!(cache.n_open(), 1);
    }

    /// Four tokens were held and let go. Of the next six three take their places; when one idle
    /// node is left beside three, the cache grows.
    #[test]
    fn it_grows_while_fewer_nodes_are_idle_than_held() {
        let mut cache = room_for(100);
        let path = chain(&mut cache, 0..4);
        assert_eq!(cache.nodes.len(), 4);
        cache.release(&path);
        let mut sizes = Vec::new();
        let mut parent = None;
        for token in 10..16 {
            parent = Some(cache.insert(parent, token));
            sizes.push(cache.nodes.len());
        }
        assert_eq!(sizes, [4, 4, 4, 5, 6, 7]);
    }

    /// A node that is held again keeps its place, though it was let go before all others.
    #[test]
    fn a_node_that_is_held_again_is_not_replaced() {
        let mut cache = room_for(4);
        let [first, second] = [0..1, 1..3].map(|tokens| chain(&mut cache, tokens));
        cache.release(&first);
        cache.release(&second);
        cache.hold(first[0]);
        let new = cache.insert(None, 9);
        assert_eq!((cache.nodes.len(), new), (3, second[1]));
        assert_eq!(cache.find(None, 0), Some(first[0]));
    }

    /// It never holds more than it has room for, and the leaves that were let go first make room.
    #[test]
    fn the_leaf_that_was_let_go_first_is_replaced() {
        let mut cache = room_for(5);
        let long = chain(&mut cache, 0..3);
        let short = chain(&mut cache, 20..22);
        cache.release(&short);
        cache.release(&long);
        // Held and let go again: the second chain is now the younger one.
        short.iter().for_each(|node| cache.hold(*node));
        cache.release(&short);
        let known = |cache: &Cache| {
            let mut known = Vec::new();
            for path in [0..3, 20..22] {
                let mut at = None;
                for token in path {
                    let Some(node) = cache.find(at, token) else {
                        break;
                    };
                    known.push(token);
                    at = Some(node);
                }
            }
            known
        };
        assert_eq!(known(&cache), [0, 1, 2, 20, 21]);
        let mut parent = None;
        let left: [&[u32]; 5] = [&[0, 1, 20, 21], &[0, 20, 21], &[20, 21], &[20], &[]];
        for (token, left) in (30..35).zip(left) {
            parent = Some(cache.insert(parent, token));
            assert_eq!(known(&cache), left);
            assert_eq!(cache.nodes.len(), 5);
        }
        assert_eq!(cache.n_open(), 0);
        let last = parent.expect("five were inserted");
        let before = cache.parent(last).expect("the last one is no root");
        assert_eq!(cache.token(before), 33);
        assert_eq!((cache.depth(last), cache.token(last)), (4, 34));
        let tokens = cache.path(last).into_iter().map(|node| cache.token(node));
        assert_eq!(tokens.collect::<Vec<_>>(), [30, 31, 32, 33, 34]);
    }
}
