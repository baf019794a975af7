//! The batch as a forest: shared prefixes once, no padding, no cross-talk.
//!
//! A segment is a run of tokens with one parent; a token attends to its ancestors' tokens and
//! causally to its own segment, and positions run along the path. Documents that share nothing are
//! trees of one segment, so a plain packed batch is the same thing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ra3::policy::{Example, TokenId};

/// Examples join a tree only if they share this many tokens: a common begin marker alone would
/// chain all documents of a batch together and leave nothing to do in parallel.
const SHARED_TOKENS_MIN: usize = 8;

/// A run of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// The segment that it continues.
    pub(crate) parent: Option<usize>,
}

/// A token whose log-probability counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// The row that predicts it.
    pub(crate) row: usize,
    /// The token.
    pub(crate) token: TokenId,
    /// Its weight; shared targets' weights are added.
    pub(crate) weight: f32,
    /// The positive ones among the weights that were added.
    pub(crate) positive_weight: f32,
    /// Targets of the examples that it stands for.
    pub(crate) n_targets: u32,
    /// The tokens that it was chosen among, if not all.
    pub(crate) choices: Option<Arc<[TokenId]>>,
    /// Its log-probability when it was sampled, for the clipped surrogate.
    pub(crate) old_logprob: Option<f32>,
    /// The same for the gap, whatever the surrogate; of merged targets the first one's.
    pub(crate) sampled_logprob: Option<f32>,
}

/// One tree of the forest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    /// Tokens by row.
    pub(crate) tokens: Vec<TokenId>,
    /// Positions by row.
    pub(crate) positions: Vec<u32>,
    /// Segments; a parent comes before its children.
    pub(crate) segments: Vec<Segment>,
    /// Targets by rising row.
    pub(crate) targets: Vec<Target>,
}

/// Merges examples that begin alike; trees are in the order of their first example. Old
/// log-probabilities belong to the clipped surrogate: where it does not clip, more is shared.
pub(crate) fn grow(examples: &[Example], clips: bool) -> Vec<Tree> {
    let mut index_of: BTreeMap<&[TokenId], usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&Example>> = Vec::new();
    for example in examples.iter().filter(|example| !example.tokens.is_empty()) {
        let key = &example.tokens[..example.tokens.len().min(SHARED_TOKENS_MIN)];
        let index = *index_of.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[index].push(example);
    }
    groups.iter().map(|group| tree(group, clips)).collect()
}

/// A token of the trie while it is built.
struct Node {
    token: TokenId,
    depth: u32,
    children: Vec<usize>,
}

fn tree(examples: &[&Example], clips: bool) -> Tree {
    let mut nodes = vec![Node {
        token: examples[0].tokens[0],
        depth: 0,
        children: Vec::new(),
    }];
    let paths: Vec<Vec<usize>> = examples
        .iter()
        .map(|example| insert(&mut nodes, inputs(example)))
        .collect();
    let mut tree = Tree::default();
    let row_of = lay_out(&nodes, &mut tree);
    for (example, path) in examples.iter().zip(&paths) {
        let rows: Vec<usize> = path.iter().map(|node| row_of[*node]).collect();
        add_targets(example, &rows, clips, &mut tree.targets);
    }
    tree.targets = merged(std::mem::take(&mut tree.targets));
    tree
}

/// The tokens that have rows: something follows them. Of a single one there is a row, too.
fn inputs(example: &Example) -> &[TokenId] {
    let n = example.tokens.len();
    &example.tokens[..(n - 1).max(1)]
}

fn insert(nodes: &mut Vec<Node>, tokens: &[TokenId]) -> Vec<usize> {
    let mut path = vec![0];
    for token in &tokens[1..] {
        let last = path[path.len() - 1];
        let known = nodes[last]
            .children
            .iter()
            .find(|child| nodes[**child].token == *token);
        let next = known.copied().unwrap_or_else(|| {
            let depth = nodes[last].depth + 1;
            nodes.push(Node {
                token: *token,
                depth,
                children: Vec::new(),
            });
            let new = nodes.len() - 1;
            nodes[last].children.push(new);
            new
        });
        path.push(next);
    }
    path
}

/// Gives rows to the nodes, depth first, and cuts them into segments at every fork.
fn lay_out(nodes: &[Node], tree: &mut Tree) -> Vec<usize> {
    let mut row_of = vec![0; nodes.len()];
    let mut stack = vec![(0usize, None)];
    while let Some((first, parent)) = stack.pop() {
        let start = tree.tokens.len();
        let mut node = first;
        loop {
            row_of[node] = tree.tokens.len();
            tree.tokens.push(nodes[node].token);
            tree.positions.push(nodes[node].depth);
            match nodes[node].children.as_slice() {
                [only] => node = *only,
                _ => break,
            }
        }
        let segment = tree.segments.len();
        tree.segments.push(Segment {
            rows: start..tree.tokens.len(),
            parent,
        });
        stack.extend(
            nodes[node]
                .children
                .iter()
                .rev()
                .map(|child| (*child, Some(segment))),
        );
    }
    row_of
}

fn add_targets(example: &Example, rows: &[usize], clips: bool, targets: &mut Vec<Target>) {
    let mut restrictions = example.restrictions.iter().peekable();
    for position in 1..example.tokens.len() {
        let choices = restrictions
            .next_if(|restriction| restriction.position == position)
            .map(|restriction| Arc::clone(&restriction.choices));
        let weight = example.weights[position];
        if weight != 0.0 {
            targets.push(Target {
                row: rows[position - 1],
                token: example.tokens[position],
                weight,
                positive_weight: weight.max(0.0),
                n_targets: 1,
                choices,
                old_logprob: clips.then(|| example.old_logprobs[position]),
                sampled_logprob: example.old_logprobs.get(position).copied(),
            });
        }
    }
}

/// Adds up the weights of targets that are the same term of the loss.
fn merged(mut targets: Vec<Target>) -> Vec<Target> {
    // A stable sort: equal terms stay in the order of their examples.
    targets.sort_by(|a, b| {
        let key = |t: &Target| (t.row, t.token, t.choices.is_some());
        let old = |t: &Target| t.old_logprob.map(f32::to_bits);
        (key(a), &a.choices, old(a)).cmp(&(key(b), &b.choices, old(b)))
    });
    targets.dedup_by(|next, kept| {
        let same = next.row == kept.row
            && next.token == kept.token
            && next.choices == kept.choices
            && next.old_logprob == kept.old_logprob
            && (kept.old_logprob.is_none() || next.weight.signum() == kept.weight.signum());
        if same {
            kept.weight += next.weight;
            kept.positive_weight += next.positive_weight;
            kept.n_targets += next.n_targets;
        }
        same
    });
    targets
}

/// Several trees laid one after the other: what the network runs at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forest {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) positions: Vec<u32>,
    pub(crate) segments: Vec<Segment>,
    /// Segments of each tree.
    pub(crate) trees: Vec<Range<usize>>,
    pub(crate) targets: Vec<Target>,
}

impl Forest {
    /// Appends a tree.
    pub(crate) fn push(&mut self, tree: &Tree) {
        let (row, segment) = (self.tokens.len(), self.segments.len());
        self.tokens.extend_from_slice(&tree.tokens);
        self.positions.extend_from_slice(&tree.positions);
        self.segments
            .extend(tree.segments.iter().map(|old| Segment {
                rows: old.rows.start + row..old.rows.end + row,
                parent: old.parent.map(|parent| parent + segment),
            }));
        self.targets.extend(tree.targets.iter().map(|old| Target {
            row: old.row + row,
            ..old.clone()
        }));
        self.trees.push(segment..self.segments.len());
    }

    /// Rows that have targets, rising.
    pub(crate) fn rows_with_targets(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.targets.iter().map(|target| target.row).collect();
        rows.dedup();
        rows
    }

    /// The rows that the last layer runs behind its attention, rising, if these are not all. The
    /// loss reads no others; but where it reads nearly all, gathering them would not pay.
    pub(crate) fn rows_read(&self) -> Option<Vec<usize>> {
        let rows = self.rows_with_targets();
        let is_worth = !rows.is_empty() && 8 * rows.len() <= 7 * self.tokens.len();
        is_worth.then_some(rows)
    }

    /// Rows of consecutive segments, one or more.
    pub(crate) fn rows_of(&self, segments: &Range<usize>) -> Range<usize> {
        self.segments[segments.start].rows.start..self.segments[segments.end - 1].rows.end
    }

    /// Rows that a segment attends to before its own, from the root down.
    pub(crate) fn ancestors(&self, segment: usize) -> Vec<Range<usize>> {
        let mut path = Vec::new();
        let mut at = self.segments[segment].parent;
        while let Some(parent) = at {
            path.push(self.segments[parent].rows.clone());
            at = self.segments[parent].parent;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(tokens: &[TokenId]) -> Example {
        let mut weights = vec![1.0; tokens.len()];
        weights[0] = 0.0;
        Example {
            tokens: tokens.to_vec(),
            weights,
            restrictions: Vec::new(),
            old_logprobs: Vec::new(),
        }
    }

    #[test]
    fn shared_tokens_stand_once_and_their_weights_add_up() {
        let a = example(&[1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 6]);
        let b = example(&[1, 1, 1, 1, 1, 1, 1, 1, 2, 5, 7]);
        let trees = grow(&[a, b], false);
        assert_eq!(trees.len(), 1);
        let tree = &trees[0];
        assert_eq!(tree.tokens, [1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9]);
        let rows: Vec<_> = tree
            .segments
            .iter()
            .map(|s| (s.rows.clone(), s.parent))
            .collect();
        assert_eq!(rows, [(0..9, None), (9..11, Some(0)), (11..12, Some(0))]);
        let targets: Vec<_> = tree
            .targets
            .iter()
            .map(|t| (t.row, t.token, t.weight))
            .collect();
        assert_eq!(targets[7], (7, 2, 2.0));
        let after = [(8, 3), (8, 5), (9, 4), (10, 6), (11, 7)];
        assert_eq!(&targets[8..], after.map(|(row, token)| (row, token, 1.0)));
    }

    #[test]
    fn rows_are_chosen_where_an_eighth_of_them_or_more_is_not_read() {
        let rows_read = |weights: &[f32]| {
            let one = Example {
                weights: weights.to_vec(),
                ..example(&vec![1; weights.len()])
            };
            let mut forest = Forest::default();
            // Each twice, in trees of their own.
            let mut other = one.clone();
            other.tokens[0] = 2;
            grow(&[one, other], false)
                .iter()
                .for_each(|tree| forest.push(tree));
            forest.rows_read()
        };
        let some = [0.0, 0.0, 0.5, -1.0, 0.0, 2.0];
        assert_eq!(rows_read(&some), Some(vec![1, 2, 4, 6, 7, 9]));
        let all_but_one = |n_rows: usize| [vec![0.0; 2], vec![1.0; n_rows - 1]].concat();
        let of_eight: Vec<usize> = (1..8).chain(9..16).collect();
        assert_eq!(rows_read(&all_but_one(8)), Some(of_eight));
        assert_eq!(rows_read(&all_but_one(9)), None);
        assert_eq!(rows_read(&[0.0; 3]), None);
    }

    #[test]
    fn documents_that_only_begin_alike_are_trees_of_their_own() {
        let examples = [
            example(&[1, 2, 3]),
            example(&[1, 2, 4]),
            example(&[1, 2, 3]),
        ];
        let trees = grow(&examples, false);
        assert_eq!(trees.len(), 2);
        assert_eq!(trees[0].targets[0].weight, 2.0);
        let mut forest = Forest::default();
        trees.iter().for_each(|tree| forest.push(tree));
        assert_eq!(forest.segments[1].rows, 2..4);
        assert!(forest.ancestors(1).is_empty());
    }
}
