//! Grouped-query attention over a forest.
//!
//! A token attends to the tokens of its ancestors and causally to its own segment. Work is cut
//! into tasks of one tree and one key head, each with buffers of its own, so the order of every
//! sum is fixed. Scores are not kept: the backward pass computes them again from the row's
//! log-sum-exp, as flash attention does (arXiv 2205.14135); [`backward`] is in its own file.

mod backward;
#[cfg(test)]
mod tests;

pub(crate) use backward::{Gradients, Saved, backward};

use std::ops::Range;

use rayon::prelude::*;

use super::forest::Forest;
use super::lanes::{exp, max, sum};
use super::linear::Kernel;
use crate::device::matrix::{Threads, View};

/// Token rows of a tile.
const ROWS_PER_TILE: usize = 64;

/// Sizes that the operation needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) n_query: usize,
    pub(crate) n_key: usize,
    pub(crate) width: usize,
}

impl Heads {
    pub(crate) fn group(self) -> usize {
        self.n_query / self.n_key
    }

    pub(crate) fn query_width(self) -> usize {
        self.n_query * self.width
    }

    pub(crate) fn key_width(self) -> usize {
        self.n_key * self.width
    }

    pub(crate) fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// One tree and one key head.
#[derive(Clone, Debug)]
struct Task {
    segments: Range<usize>,
    rows: Range<usize>,
    head: usize,
}

fn tasks(forest: &Forest, heads: Heads) -> Vec<Task> {
    let of_tree = |segments: &Range<usize>| {
        let first = forest.segments[segments.start].rows.start;
        let last = forest.segments[segments.end - 1].rows.end;
        let segments = segments.clone();
        (0..heads.n_key).map(move |head| Task {
            segments: segments.clone(),
            rows: first..last,
            head,
        })
    };
    forest.trees.iter().flat_map(of_tree).collect()
}

/// Writes `out` `[rows, query heads · width]` and the log-sum-exp of each row and query head.
///
/// # Shapes
/// `q` `[rows, query heads · width]`, `k` and `v` `[rows, key heads · width]`, all rotated.
pub(crate) fn forward(
    forest: &Forest,
    heads: Heads,
    kernel: Kernel,
    qkv: [&[f32]; 3],
    out: &mut [f32],
    log_sum: &mut [f32],
) {
    let tasks = tasks(forest, heads);
    let done: Vec<(Vec<f32>, Vec<f32>)> = tasks
        .par_iter()
        .map(|task| forward_task(forest, heads, kernel, task, qkv))
        .collect();
    let (group, width) = (heads.group(), heads.width);
    for (task, (local, local_log_sum)) in tasks.iter().zip(done) {
        put_columns(
            out,
            heads.query_width(),
            &task.rows,
            task.head * group * width,
            &local,
        );
        put_columns(
            log_sum,
            heads.n_query,
            &task.rows,
            task.head * group,
            &local_log_sum,
        );
    }
}

/// `out` `[tree rows, group · width]` and log-sums `[tree rows, group]` of one task.
fn forward_task(
    forest: &Forest,
    heads: Heads,
    kernel: Kernel,
    task: &Task,
    qkv: [&[f32]; 3],
) -> (Vec<f32>, Vec<f32>) {
    let (group, width) = (heads.group(), heads.width);
    let mut out = vec![0.0; task.rows.len() * group * width];
    let mut log_sum = vec![0.0; task.rows.len() * group];
    for segment in task.segments.clone() {
        let block = Block::gather(forest, heads, task, segment, qkv);
        let at = (block.rows.start - task.rows.start) * group;
        let n = block.rows.len() * group;
        let place = &mut out[at * width..(at + n) * width];
        attend(&block, heads, kernel, place, &mut log_sum[at..at + n]);
    }
    (out, log_sum)
}

/// Writes `out` `[rows · group, width]` and the log-sum-exp of each of its rows.
fn attend(block: &Block, heads: Heads, kernel: Kernel, out: &mut [f32], log_sum: &mut [f32]) {
    let mut scores = Vec::new();
    for tile in block.tiles(heads) {
        block.scores(&tile, heads, kernel, &mut scores);
        let log_sum = &mut log_sum[tile.queries.clone()];
        let rows = tile.queries.clone().zip(scores.chunks_mut(tile.n_keys));
        for ((query, scores), log_sum) in rows.zip(log_sum) {
            *log_sum = softmax(scores, block.n_seen(query, heads.group()));
        }
        let (n, width) = (tile.queries.len(), heads.width);
        kernel.multiply(
            &mut out[tile.queries.start * width..tile.queries.end * width],
            false,
            View::new(&scores, n, tile.n_keys),
            View::new(&block.v, tile.n_keys, width),
            Threads::One,
        );
    }
}

/// Softmax over the first `seen` scores, zero behind them; returns the log-sum-exp.
pub(crate) fn softmax(scores: &mut [f32], seen: usize) -> f32 {
    let (visible, hidden) = scores.split_at_mut(seen);
    let top = max(visible);
    for score in visible.iter_mut() {
        *score = exp(*score - top);
    }
    let total = sum(visible);
    let inverse = 1.0 / total;
    visible.iter_mut().for_each(|score| *score *= inverse);
    hidden.fill(0.0);
    top + total.ln()
}

/// A segment's queries and the keys and values of its path, for one key head.
#[derive(Debug)]
struct Block {
    rows: Range<usize>,
    n_before: usize,
    /// `[rows · group, width]`, scaled by `1 / √width`.
    q: Vec<f32>,
    /// `[keys, width]`.
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Block {
    fn gather(
        forest: &Forest,
        heads: Heads,
        task: &Task,
        segment: usize,
        [q, k, v]: [&[f32]; 3],
    ) -> Self {
        let rows = forest.segments[segment].rows.clone();
        let mut path = forest.ancestors(segment);
        let n_before = path.iter().map(ExactSizeIterator::len).sum();
        path.push(rows.clone());
        let query = columns(
            q,
            heads.query_width(),
            task.head,
            heads.group() * heads.width,
        );
        let key = columns(k, heads.key_width(), task.head, heads.width);
        let value = columns(v, heads.key_width(), task.head, heads.width);
        let mut scaled = query.take(std::slice::from_ref(&rows));
        scaled.iter_mut().for_each(|q| *q *= heads.scale());
        Self {
            n_before,
            q: scaled,
            k: key.take(&path),
            v: value.take(&path),
            rows,
        }
    }

    /// Keys that a row of `q` sees.
    fn n_seen(&self, query: usize, group: usize) -> usize {
        self.n_before + query / group + 1
    }

    /// Cuts the rows, so that few scores above the diagonal are computed and all stay in cache.
    fn tiles(&self, heads: Heads) -> impl Iterator<Item = Tile> + use<> {
        let (n_rows, n_before, group) = (self.rows.len(), self.n_before, heads.group());
        (0..n_rows).step_by(ROWS_PER_TILE).map(move |first| {
            let last = (first + ROWS_PER_TILE).min(n_rows);
            Tile {
                queries: first * group..last * group,
                n_keys: n_before + last,
            }
        })
    }

    /// Replaces `scores` by those of a tile, `[queries, keys]`.
    fn scores(&self, tile: &Tile, heads: Heads, kernel: Kernel, scores: &mut Vec<f32>) {
        let (n, keys, width) = (tile.queries.len(), tile.n_keys, heads.width);
        scores.resize(n * keys, 0.0);
        let queries = &self.q[tile.queries.start * width..tile.queries.end * width];
        let k = View::new(&self.k, keys, width).transposed();
        let queries = View::new(queries, n, width);
        kernel.multiply(scores, false, queries, k, Threads::One);
    }
}

/// Consecutive rows of a block's `q`, and the keys that the last of them sees.
#[derive(Clone, Debug)]
struct Tile {
    queries: Range<usize>,
    n_keys: usize,
}

/// A block of columns of a row-major matrix.
struct Columns<'a> {
    data: &'a [f32],
    width: usize,
    first: usize,
    n: usize,
}

fn columns(data: &[f32], width: usize, head: usize, n: usize) -> Columns<'_> {
    Columns {
        data,
        width,
        first: head * n,
        n,
    }
}

impl Columns<'_> {
    fn take(&self, ranges: &[Range<usize>]) -> Vec<f32> {
        let n_rows: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        let mut taken = Vec::with_capacity(n_rows * self.n);
        for row in ranges.iter().cloned().flatten() {
            let at = row * self.width + self.first;
            taken.extend_from_slice(&self.data[at..at + self.n]);
        }
        taken
    }
}

fn put_columns(out: &mut [f32], width: usize, rows: &Range<usize>, first: usize, local: &[f32]) {
    let n = local.len() / rows.len();
    for (row, values) in rows.clone().zip(local.chunks(n)) {
        let at = row * width + first;
        out[at..at + n].copy_from_slice(values);
    }
}
