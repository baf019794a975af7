//! What a task of attention reads and writes: one tree's numbers of one key head, and of the query
//! heads that share it. Rows of a matrix have a head's numbers beside those of the others; a task
//! has its own together.

use std::ops::Range;

use rayon::prelude::*;

use super::Heads;
use crate::device::matrix::View;
use crate::model::forest::Forest;

/// Token rows of a tile.
pub(super) const ROWS_PER_TILE: usize = 32;

/// One tree and one key head.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) segments: Range<usize>,
    pub(super) rows: Range<usize>,
    head: usize,
}

pub(super) fn tasks(forest: &Forest, heads: Heads) -> Vec<Task> {
    let of_tree = |segments: &Range<usize>| {
        let segments = segments.clone();
        let rows = forest.rows_of(&segments);
        (0..heads.n_key).map(move |head| Task {
            segments: segments.clone(),
            rows: rows.clone(),
            head,
        })
    };
    forest.trees.iter().flat_map(of_tree).collect()
}

/// The places of each task in memory where those of one follow those of the other.
pub(super) fn blocks<'a>(
    tasks: &[Task],
    forest: &Forest,
    heads: Heads,
    numbers: &'a mut [f32],
) -> Vec<&'a mut [f32]> {
    let n = numbers.len() / forest.tokens.len() / heads.n_key;
    let mut rest = numbers;
    let block = |task: &Task| rest.split_off_mut(..task.rows.len() * n).expect("as many");
    tasks.iter().map(block).collect()
}

/// Writes what lies in [`blocks`] into the rows of a matrix.
pub(super) fn put_back(forest: &Forest, heads: Heads, numbers: &[f32], matrix: &mut [f32]) {
    let width = matrix.len() / forest.tokens.len();
    let n = width / heads.n_key;
    let mut rest = matrix;
    let trees = forest.trees.iter().map(|segments| {
        let rows = forest.rows_of(segments);
        let numbers = &numbers[rows.start * width..rows.end * width];
        let matrix = rest.split_off_mut(..rows.len() * width).expect("as many");
        (numbers, matrix)
    });
    let trees: Vec<_> = trees.collect();
    trees.into_par_iter().for_each(|(numbers, matrix)| {
        let n_rows = matrix.len() / width;
        matrix
            .par_chunks_mut(width)
            .with_min_len(ROWS_PER_TILE)
            .enumerate()
            .for_each(|(row, place)| {
                for (head, place) in place.chunks_mut(n).enumerate() {
                    place.copy_from_slice(&numbers[(head * n_rows + row) * n..][..n]);
                }
            });
    });
}

/// A segment's queries and the keys and values of its path.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) rows: Range<usize>,
    /// Rows of the ancestors, from the root on, and of the segment.
    pub(super) path: Vec<Range<usize>>,
    n_before: usize,
    /// `[rows · group, width]`, scaled by `1 / √width`.
    q: Vec<f32>,
    /// `[keys, width]`.
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Block {
    /// Becomes that of a segment.
    pub(super) fn gather(
        &mut self,
        forest: &Forest,
        heads: Heads,
        task: &Task,
        segment: usize,
        [q, k, v]: [&[f32]; 3],
    ) {
        self.rows = forest.segments[segment].rows.clone();
        self.path = forest.ancestors(segment);
        self.n_before = self.path.iter().map(ExactSizeIterator::len).sum();
        self.path.push(self.rows.clone());
        let rows = std::slice::from_ref(&self.rows);
        let group = heads.group() * heads.width;
        task.take(&mut self.q, q, [heads.n_key, group], rows);
        self.q.iter_mut().for_each(|q| *q *= heads.scale());
        task.take(&mut self.k, k, [heads.n_key, heads.width], &self.path);
        task.take(&mut self.v, v, [heads.n_key, heads.width], &self.path);
    }

    pub(super) fn n_keys(&self) -> usize {
        self.n_before + self.rows.len()
    }

    pub(super) fn queries(&self, tile: &Tile, width: usize) -> View<'_> {
        tile.of(&self.q, width)
    }

    pub(super) fn keys(&self, width: usize) -> View<'_> {
        View::new(&self.k, self.n_keys(), width)
    }

    pub(super) fn values(&self, width: usize) -> View<'_> {
        View::new(&self.v, self.n_keys(), width)
    }

    /// Keys that a row of `q` sees.
    pub(super) fn n_seen(&self, query: usize, group: usize) -> usize {
        self.n_before + query / group + 1
    }

    /// Cuts the rows, so that few scores above the diagonal are computed and all stay in cache.
    pub(super) fn tiles(&self, heads: Heads) -> impl Iterator<Item = Tile> + use<> {
        let (n_rows, n_before, group) = (self.rows.len(), self.n_before, heads.group());
        (0..n_rows).step_by(ROWS_PER_TILE).map(move |first| {
            let last = (first + ROWS_PER_TILE).min(n_rows);
            Tile {
                queries: first * group..last * group,
                n_keys: n_before + last,
            }
        })
    }
}

impl Task {
    /// Replaces `taken` by the numbers of this head in some rows; `matrix` has `n` for each of
    /// `n_heads`.
    pub(super) fn take(
        &self,
        taken: &mut Vec<f32>,
        matrix: &[f32],
        [n_heads, n]: [usize; 2],
        rows: &[Range<usize>],
    ) {
        taken.clear();
        for row in rows.iter().cloned().flatten() {
            taken.extend_from_slice(&matrix[(row * n_heads + self.head) * n..][..n]);
        }
    }
}

/// Consecutive queries of a block, and the keys that the last of them sees.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) queries: Range<usize>,
    pub(super) n_keys: usize,
}

impl Tile {
    /// The tile's rows of a block's `[queries, width]`.
    pub(super) fn of<'a>(&self, numbers: &'a [f32], width: usize) -> View<'a> {
        let of_tile = &numbers[self.queries.start * width..self.queries.end * width];
        View::new(of_tile, self.queries.len(), width)
    }
}
