//! The backward pass of attention: scores are computed again, tile by tile.

use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, Task, Tile, blocks, put_back, tasks};
use super::{Heads, with_scratch};
use crate::device::halves::Panels;
use crate::device::matrix::{Threads, View};
use crate::model::forest::Forest;
use crate::model::lanes::{dot, exp};
use crate::model::linear::{Kernel, Operand};
use crate::model::workspace::Workspace;

/// Gradients of q, k and v, in the shapes of [`forward`](super::forward)'s operands.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    pub(crate) dq: &'a mut [f32],
    pub(crate) dk: &'a mut [f32],
    pub(crate) dv: &'a mut [f32],
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) log_sum: &'a [f32],
}

/// Writes the gradients for `dout`.
///
/// With `P = softmax(S)`: `dV = Pᵀ dO`, `dS = P (dO Vᵀ − rowsum(dO · O))`, `dQ = dS K / √w`,
/// `dK = dSᵀ Q / √w`.
pub(crate) fn backward(
    forest: &Forest,
    heads: Heads,
    kernel: Kernel,
    saved: Saved<'_>,
    dout: &[f32],
    Gradients { dq, dk, dv }: Gradients<'_>,
    workspace: &mut Workspace,
) {
    let tasks = tasks(forest, heads);
    let mut local = [dq.len(), dk.len(), dv.len()].map(|n| workspace.take(n));
    let of_tasks = local.each_mut();
    let [dqs, dks, dvs] = of_tasks.map(|local| blocks(&tasks, forest, heads, local));
    let places = tasks.par_iter().zip(dqs).zip(dks).zip(dvs);
    places.for_each(|(((task, dq), dk), dv)| {
        let of_task = Gradients { dq, dk, dv };
        with_scratch(|scratch| {
            let (block, scratch) = (&mut scratch.block, &mut scratch.backward);
            backward_task(
                forest,
                (heads, kernel),
                task,
                (saved, dout),
                of_task,
                block,
                scratch,
            );
        });
    });
    for (local, matrix) in local.iter().zip([dq, dk, dv]) {
        put_back(forest, heads, local, matrix);
    }
    workspace.give(local);
}

/// Buffers of a thread's tasks.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    upstream: Upstream,
    /// Keys by column and by row, and values by column.
    panels: [Panels; 3],
    /// Gradients of the keys and the values of a path.
    of_path: [Vec<f32>; 2],
    probabilities: Vec<f32>,
    ds: Vec<f32>,
}

fn backward_task(
    forest: &Forest,
    (heads, kernel): (Heads, Kernel),
    task: &Task,
    (saved, dout): (Saved<'_>, &[f32]),
    Gradients { dq, dk, dv }: Gradients<'_>,
    block: &mut Block,
    scratch: &mut Scratch,
) {
    let (group, width) = (heads.group(), heads.width);
    dk.fill(0.0);
    dv.fill(0.0);
    for segment in task.segments.clone() {
        block.gather(forest, heads, task, segment, [saved.q, saved.k, saved.v]);
        scratch.upstream.gather(heads, task, block, saved, dout);
        for sum in &mut scratch.of_path {
            sum.clear();
            sum.resize(block.n_keys() * width, 0.0);
        }
        let first = (block.rows.start - task.rows.start) * group;
        let dq = &mut dq[first * width..(first + block.rows.len() * group) * width];
        backward_block(block, (heads, kernel), dq, scratch);
        dq.iter_mut().for_each(|dq| *dq *= heads.scale());
        for (sum, part) in [&mut *dk, &mut *dv].into_iter().zip(&scratch.of_path) {
            add_rows(sum, part, &block.path, task.rows.start, width);
        }
    }
}

/// What reaches a block from above, by row of its `q`.
#[derive(Debug, Default)]
struct Upstream {
    dout: Vec<f32>,
    out: Vec<f32>,
    /// `rowsum(dO · O)`.
    own: Vec<f32>,
    log_sum: Vec<f32>,
}

impl Upstream {
    fn gather(&mut self, heads: Heads, task: &Task, block: &Block, saved: Saved<'_>, dout: &[f32]) {
        let rows = std::slice::from_ref(&block.rows);
        let (group, width) = (heads.group(), heads.width);
        task.take(&mut self.dout, dout, [heads.n_key, group * width], rows);
        task.take(&mut self.out, saved.out, [heads.n_key, group * width], rows);
        task.take(&mut self.log_sum, saved.log_sum, [heads.n_key, group], rows);
        let pairs = self.dout.chunks(width).zip(self.out.chunks(width));
        self.own.clear();
        self.own.extend(pairs.map(|(dout, out)| dot(dout, out)));
    }
}

/// Writes `dq` of a block (not yet scaled), and adds to the gradients of its path.
fn backward_block(
    block: &Block,
    (heads, kernel): (Heads, Kernel),
    dq: &mut [f32],
    scratch: &mut Scratch,
) {
    let width = heads.width;
    let (k, v) = (block.keys(width), block.values(width));
    let [columns, rows, values] = &mut scratch.panels;
    let keys = kernel.operand(k.transposed(), columns);
    let key_rows = kernel.operand(k, rows);
    let values = kernel.operand(v.transposed(), values);
    let (upstream, probabilities, ds) = (
        &scratch.upstream,
        &mut scratch.probabilities,
        &mut scratch.ds,
    );
    let [dk, dv] = &mut scratch.of_path;
    for tile in block.tiles(heads) {
        let (n, n_keys) = (tile.queries.len(), tile.n_keys);
        let (q, dout) = (block.queries(&tile, width), tile.of(&upstream.dout, width));
        set_probabilities(block, heads, &tile, keys, &upstream.log_sum, probabilities);
        let transposed = View::new(probabilities, n, n_keys).transposed();
        kernel.multiply(dv, true, transposed, dout, Threads::One);
        ds.resize(n * n_keys, 0.0);
        values.columns(n_keys).multiply(ds, dout);
        let rows = ds.chunks_mut(n_keys).zip(probabilities.chunks(n_keys));
        for ((ds, probabilities), own) in rows.zip(&upstream.own[tile.queries.clone()]) {
            for (ds, p) in ds.iter_mut().zip(probabilities) {
                *ds = p * (*ds - own);
            }
        }
        let ds = View::new(ds, n, n_keys);
        let dq = &mut dq[tile.queries.start * width..tile.queries.end * width];
        key_rows.terms(n_keys).multiply(dq, ds);
        kernel.multiply(dk, true, ds.transposed(), q, Threads::One);
    }
}

/// Computes a tile's probabilities again, zero where a query does not see a key.
fn set_probabilities(
    block: &Block,
    heads: Heads,
    tile: &Tile,
    keys: Operand<'_>,
    log_sum: &[f32],
    probabilities: &mut Vec<f32>,
) {
    let n_keys = tile.n_keys;
    probabilities.resize(tile.queries.len() * n_keys, 0.0);
    let queries = block.queries(tile, heads.width);
    keys.columns(n_keys).multiply(probabilities, queries);
    for (query, scores) in tile.queries.clone().zip(probabilities.chunks_mut(n_keys)) {
        let (visible, hidden) = scores.split_at_mut(block.n_seen(query, heads.group()));
        let log_sum = log_sum[query];
        visible
            .iter_mut()
            .for_each(|score| *score = exp(*score - log_sum));
        hidden.fill(0.0);
    }
}

fn add_rows(sum: &mut [f32], part: &[f32], path: &[Range<usize>], first: usize, width: usize) {
    for (row, values) in path.iter().cloned().flatten().zip(part.chunks(width)) {
        let at = (row - first) * width;
        for (sum, value) in sum[at..at + width].iter_mut().zip(values) {
            *sum += value;
        }
    }
}
