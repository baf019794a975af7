//! The backward pass of attention: scores are computed again, tile by tile.

use std::ops::Range;

use rayon::prelude::*;

use super::{Block, Heads, Task, Tile, columns, put_columns, tasks};
use crate::device::matrix::{Threads, View};
use crate::model::forest::Forest;
use crate::model::lanes::{dot, exp};
use crate::model::linear::Kernel;

/// Gradients of q, k and v, in the shapes of [`forward`]'s operands.
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
    gradients: &mut Gradients<'_>,
) {
    let tasks = tasks(forest, heads);
    let done: Vec<[Vec<f32>; 3]> = tasks
        .par_iter()
        .map(|task| backward_task(forest, heads, kernel, task, saved, dout))
        .collect();
    let (group, width) = (heads.group(), heads.width);
    for (task, [dq, dk, dv]) in tasks.iter().zip(done) {
        let first = task.head * group * width;
        put_columns(gradients.dq, heads.query_width(), &task.rows, first, &dq);
        put_columns(
            gradients.dk,
            heads.key_width(),
            &task.rows,
            task.head * width,
            &dk,
        );
        put_columns(
            gradients.dv,
            heads.key_width(),
            &task.rows,
            task.head * width,
            &dv,
        );
    }
}

fn backward_task(
    forest: &Forest,
    heads: Heads,
    kernel: Kernel,
    task: &Task,
    saved: Saved<'_>,
    dout: &[f32],
) -> [Vec<f32>; 3] {
    let (group, width) = (heads.group(), heads.width);
    let n_rows = task.rows.len();
    let mut dq = vec![0.0; n_rows * group * width];
    let mut dk = vec![0.0; n_rows * width];
    let mut dv = vec![0.0; n_rows * width];
    let mut scratch = Scratch::default();
    for segment in task.segments.clone() {
        let block = Block::gather(forest, heads, task, segment, [saved.q, saved.k, saved.v]);
        let upstream = Upstream::gather(heads, task, &block, saved, dout);
        let n_keys = block.n_before + block.rows.len();
        scratch.reset(n_keys * width);
        let at = (block.rows.start - task.rows.start) * group * width;
        let dq = &mut dq[at..at + block.q.len()];
        for tile in block.tiles(heads) {
            backward_tile(&block, (heads, kernel), &tile, &upstream, dq, &mut scratch);
        }
        dq.iter_mut().for_each(|dq| *dq *= heads.scale());
        let mut path = forest.ancestors(segment);
        path.push(block.rows.clone());
        add_rows(&mut dk, &scratch.dk, &path, task.rows.start, width);
        add_rows(&mut dv, &scratch.dv, &path, task.rows.start, width);
    }
    [dq, dk, dv]
}

/// What reaches a block from above, by row of its `q`.
struct Upstream {
    dout: Vec<f32>,
    /// `rowsum(dO · O)`.
    own: Vec<f32>,
    log_sum: Vec<f32>,
}

impl Upstream {
    fn gather(heads: Heads, task: &Task, block: &Block, saved: Saved<'_>, dout: &[f32]) -> Self {
        let rows = std::slice::from_ref(&block.rows);
        let (group, width) = (heads.group(), heads.width);
        let take = |data| columns(data, heads.query_width(), task.head, group * width).take(rows);
        let (dout, out) = (take(dout), take(saved.out));
        let own = dout.chunks(width).zip(out.chunks(width));
        Self {
            own: own.map(|(dout, out)| dot(dout, out)).collect(),
            log_sum: columns(saved.log_sum, heads.n_query, task.head, group).take(rows),
            dout,
        }
    }
}

/// Buffers of a task, used again by each tile, and the gradients of a path's keys and values.
#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    ds: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl Scratch {
    fn reset(&mut self, n: usize) {
        for sum in [&mut self.dk, &mut self.dv] {
            sum.clear();
            sum.resize(n, 0.0);
        }
    }
}

/// Writes the tile's rows of `dq` (not yet scaled), and adds to `dk` and `dv` of the path.
fn backward_tile(
    block: &Block,
    (heads, kernel): (Heads, Kernel),
    tile: &Tile,
    upstream: &Upstream,
    dq: &mut [f32],
    scratch: &mut Scratch,
) {
    let (n, keys, width) = (tile.queries.len(), tile.n_keys, heads.width);
    let Scratch {
        probabilities,
        ds,
        dk,
        dv,
    } = scratch;
    block.scores(tile, heads, kernel, probabilities);
    for (query, scores) in tile.queries.clone().zip(probabilities.chunks_mut(keys)) {
        let (visible, hidden) = scores.split_at_mut(block.n_seen(query, heads.group()));
        let log_sum = upstream.log_sum[query];
        visible
            .iter_mut()
            .for_each(|score| *score = exp(*score - log_sum));
        hidden.fill(0.0);
    }
    let numbers = tile.queries.start * width..tile.queries.end * width;
    let dout = View::new(&upstream.dout[numbers.clone()], n, width);
    let transposed = View::new(probabilities, n, keys).transposed();
    kernel.multiply(dv, true, transposed, dout, Threads::One);
    ds.resize(n * keys, 0.0);
    let v = View::new(&block.v, keys, width).transposed();
    kernel.multiply(ds, false, dout, v, Threads::One);
    let rows = ds.chunks_mut(keys).zip(probabilities.chunks(keys));
    for ((ds, probabilities), own) in rows.zip(&upstream.own[tile.queries.clone()]) {
        for (ds, p) in ds.iter_mut().zip(probabilities) {
            *ds = p * (*ds - own);
        }
    }
    let ds = View::new(ds, n, keys);
    let (k, q) = (
        View::new(&block.k, keys, width),
        View::new(&block.q[numbers.clone()], n, width),
    );
    kernel.multiply(&mut dq[numbers], false, ds, k, Threads::One);
    kernel.multiply(dk, true, ds.transposed(), q, Threads::One);
}

fn add_rows(sum: &mut [f32], part: &[f32], path: &[Range<usize>], first: usize, width: usize) {
    for (row, values) in path.iter().cloned().flatten().zip(part.chunks(width)) {
        let at = (row - first) * width;
        for (sum, value) in sum[at..at + width].iter_mut().zip(values) {
            *sum += value;
        }
    }
}
