//! Grouped-query attention over a forest.
//!
//! A token attends to the tokens of its ancestors and causally to its own segment. Work is cut
//! into tasks of one tree and one key head, so the order of every sum is fixed; what a task reads
//! and writes is in [`block`]. Scores are not kept: the backward pass computes them again from the
//! row's log-sum-exp, as flash attention does (arXiv 2205.14135); [`backward`] is in its own file.

mod backward;
mod block;
#[cfg(test)]
mod tests;

pub(crate) use backward::{Gradients, Saved, backward};

use std::cell::Cell;

use rayon::prelude::*;

use self::block::{Block, Task, blocks, put_back, tasks};
use super::forest::Forest;
use super::lanes::{exp_each, max};
use super::linear::Kernel;
use super::workspace::Workspace;
use crate::device::halves::Panels;
use crate::device::matrix::View;

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

/// Writes `out` `[rows, query heads · width]` and the log-sum-exp of each row and query head.
///
/// # Shapes
/// `q` `[rows, query heads · width]`, `k` and `v` `[rows, key heads · width]`, all rotated.
pub(crate) fn forward(
    forest: &Forest,
    heads: Heads,
    kernel: Kernel,
    qkv: [&[f32]; 3],
    [out, log_sum]: [&mut [f32]; 2],
    workspace: &mut Workspace,
) {
    let tasks = tasks(forest, heads);
    let mut local = [workspace.take(out.len()), workspace.take(log_sum.len())];
    let [outs, log_sums] = local
        .each_mut()
        .map(|local| blocks(&tasks, forest, heads, local));
    let places = tasks.par_iter().zip(outs).zip(log_sums);
    let by = (heads, kernel);
    places.for_each(|((task, out), log_sum)| {
        with_scratch(|scratch| forward_task(forest, by, task, qkv, [out, log_sum], scratch));
    });
    put_back(forest, heads, &local[0], out);
    put_back(forest, heads, &local[1], log_sum);
    workspace.give(local);
}

/// The memory of a thread's tasks, used again by the next.
#[derive(Debug, Default)]
struct Scratch {
    block: Block,
    keys: Panels,
    values: Panels,
    scores: Vec<f32>,
    backward: backward::Scratch,
}

fn with_scratch(work: impl FnOnce(&mut Scratch)) {
    thread_local! {
        static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }
    let mut scratch = SCRATCH.take().unwrap_or_default();
    work(&mut scratch);
    SCRATCH.set(Some(scratch));
}

/// `out` `[tree rows, group · width]` and log-sums `[tree rows, group]` of one task.
fn forward_task(
    forest: &Forest,
    (heads, kernel): (Heads, Kernel),
    task: &Task,
    qkv: [&[f32]; 3],
    [out, log_sum]: [&mut [f32]; 2],
    scratch: &mut Scratch,
) {
    let (group, width) = (heads.group(), heads.width);
    let (block, scores) = (&mut scratch.block, &mut scratch.scores);
    for segment in task.segments.clone() {
        block.gather(forest, heads, task, segment, qkv);
        let keys = kernel.operand(block.keys(width).transposed(), &mut scratch.keys);
        let values = kernel.operand(block.values(width), &mut scratch.values);
        let first = (block.rows.start - task.rows.start) * group;
        for tile in block.tiles(heads) {
            let (n, n_keys) = (tile.queries.len(), tile.n_keys);
            scores.resize(n * n_keys, 0.0);
            let queries = block.queries(&tile, width);
            keys.columns(n_keys).multiply(scores, queries);
            let at = first + tile.queries.start..first + tile.queries.end;
            let rows = tile.queries.zip(scores.chunks_mut(n_keys));
            for ((query, scores), log_sum) in rows.zip(&mut log_sum[at.clone()]) {
                *log_sum = softmax(scores, block.n_seen(query, group));
            }
            let out = &mut out[at.start * width..at.end * width];
            let scores = View::new(scores, n, n_keys);
            values.terms(n_keys).multiply(out, scores);
        }
    }
}

/// Softmax over the first `seen` scores, zero behind them; returns the log-sum-exp.
pub(crate) fn softmax(scores: &mut [f32], seen: usize) -> f32 {
    let (visible, hidden) = scores.split_at_mut(seen);
    let top = max(visible);
    let total = exp_each(visible, top);
    let inverse = 1.0 / total;
    visible.iter_mut().for_each(|score| *score *= inverse);
    hidden.fill(0.0);
    top + total.ln()
}
