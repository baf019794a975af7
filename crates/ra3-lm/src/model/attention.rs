//! Grouped-query attention over a forest.
//!
//! A token attends to the tokens of its ancestors and causally to its own segment. Work is cut
//! into tasks of one tree and one key head, each with buffers of its own, so the order of every
//! sum is fixed. Scores are not kept: the backward pass computes them again from the row's
//! log-sum-exp, as flash attention does (arXiv 2205.14135).

use std::ops::Range;

use rayon::prelude::*;

use super::forest::Forest;
use super::lanes::{dot, exp, max, sum};
use crate::device::matrix::{Threads, View, multiply};

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

    fn query_width(self) -> usize {
        self.n_query * self.width
    }

    fn key_width(self) -> usize {
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
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    log_sum: &mut [f32],
) {
    let tasks = tasks(forest, heads);
    let done: Vec<(Vec<f32>, Vec<f32>)> = tasks
        .par_iter()
        .map(|task| forward_task(forest, heads, task, q, k, v))
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
    task: &Task,
    q: &[f32],
    k: &[f32],
    v: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (group, width) = (heads.group(), heads.width);
    let mut out = vec![0.0; task.rows.len() * group * width];
    let mut log_sum = vec![0.0; task.rows.len() * group];
    for segment in task.segments.clone() {
        let block = Block::gather(forest, heads, task, segment, q, k, v);
        let at = (block.rows.start - task.rows.start) * group;
        let n = block.rows.len() * group;
        let place = &mut out[at * width..(at + n) * width];
        attend(&block, heads, place, &mut log_sum[at..at + n]);
    }
    (out, log_sum)
}

/// Writes `out` `[rows · group, width]` and the log-sum-exp of each of its rows.
pub(crate) fn attend(block: &Block, heads: Heads, out: &mut [f32], log_sum: &mut [f32]) {
    let mut scores = block.scores(heads);
    let keys = block.n_keys();
    for (row, (scores, log_sum)) in scores.chunks_mut(keys).zip(log_sum.iter_mut()).enumerate() {
        *log_sum = softmax(scores, block.n_seen(row, heads.group()));
    }
    let probabilities = View::new(&scores, log_sum.len(), keys);
    multiply(
        out,
        false,
        probabilities,
        View::new(&block.v, keys, heads.width),
        Threads::One,
    );
}

/// Softmax over the first `seen` scores, zero behind them; returns the log-sum-exp.
fn softmax(scores: &mut [f32], seen: usize) -> f32 {
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
pub(crate) struct Block {
    pub(crate) rows: Range<usize>,
    pub(crate) n_before: usize,
    /// `[rows · group, width]`, scaled by `1 / √width`.
    pub(crate) q: Vec<f32>,
    /// `[keys, width]`.
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

impl Block {
    fn gather(
        forest: &Forest,
        heads: Heads,
        task: &Task,
        segment: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
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

    fn n_keys(&self) -> usize {
        self.n_before + self.rows.len()
    }

    /// Keys that a row of `q` sees.
    fn n_seen(&self, row: usize, group: usize) -> usize {
        self.n_before + row / group + 1
    }

    /// `[rows · group, keys]`.
    fn scores(&self, heads: Heads) -> Vec<f32> {
        let (n, keys) = (self.rows.len() * heads.group(), self.n_keys());
        let mut scores = vec![0.0; n * keys];
        let k = View::new(&self.k, keys, heads.width).transposed();
        multiply(
            &mut scores,
            false,
            View::new(&self.q, n, heads.width),
            k,
            Threads::One,
        );
        scores
    }
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
    saved: Saved<'_>,
    dout: &[f32],
    gradients: &mut Gradients<'_>,
) {
    let tasks = tasks(forest, heads);
    let done: Vec<[Vec<f32>; 3]> = tasks
        .par_iter()
        .map(|task| backward_task(forest, heads, task, saved, dout))
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
    task: &Task,
    saved: Saved<'_>,
    dout: &[f32],
) -> [Vec<f32>; 3] {
    let (group, width) = (heads.group(), heads.width);
    let n_rows = task.rows.len();
    let mut dq = vec![0.0; n_rows * group * width];
    let mut dk = vec![0.0; n_rows * width];
    let mut dv = vec![0.0; n_rows * width];
    for segment in task.segments.clone() {
        let block = Block::gather(forest, heads, task, segment, saved.q, saved.k, saved.v);
        let (n, keys) = (block.rows.len() * group, block.n_keys());
        let take = |data| {
            let part = columns(data, heads.query_width(), task.head, group * width);
            part.take(std::slice::from_ref(&block.rows))
        };
        let (dout, out) = (take(dout), take(saved.out));
        let log_sum = columns(saved.log_sum, heads.n_query, task.head, group)
            .take(std::slice::from_ref(&block.rows));
        let mut probabilities = block.scores(heads);
        for (row, scores) in probabilities.chunks_mut(keys).enumerate() {
            let (visible, hidden) = scores.split_at_mut(block.n_seen(row, group));
            visible
                .iter_mut()
                .for_each(|score| *score = exp(*score - log_sum[row]));
            hidden.fill(0.0);
        }
        let mut path_dv = vec![0.0; keys * width];
        let transposed = View::new(&probabilities, n, keys).transposed();
        let dout_view = View::new(&dout, n, width);
        multiply(&mut path_dv, false, transposed, dout_view, Threads::One);
        let mut ds = vec![0.0; n * keys];
        let v = View::new(&block.v, keys, width).transposed();
        multiply(&mut ds, false, dout_view, v, Threads::One);
        for row in 0..n {
            let at = row * width..(row + 1) * width;
            let own = dot(&dout[at.clone()], &out[at]);
            let row = row * keys..(row + 1) * keys;
            for (ds, p) in ds[row.clone()].iter_mut().zip(&probabilities[row]) {
                *ds = p * (*ds - own);
            }
        }
        let at = (block.rows.start - task.rows.start) * group * width;
        let place = &mut dq[at..at + n * width];
        let k = View::new(&block.k, keys, width);
        multiply(place, false, View::new(&ds, n, keys), k, Threads::One);
        place.iter_mut().for_each(|dq| *dq *= heads.scale());
        let mut path_dk = vec![0.0; keys * width];
        let ds = View::new(&ds, n, keys).transposed();
        multiply(
            &mut path_dk,
            false,
            ds,
            View::new(&block.q, n, width),
            Threads::One,
        );
        let mut path = forest.ancestors(segment);
        path.push(block.rows.clone());
        add_rows(&mut dk, &path_dk, &path, task.rows.start, width);
        add_rows(&mut dv, &path_dv, &path, task.rows.start, width);
    }
    [dq, dk, dv]
}

fn add_rows(sum: &mut [f32], part: &[f32], path: &[Range<usize>], first: usize, width: usize) {
    for (row, values) in path.iter().cloned().flatten().zip(part.chunks(width)) {
        let at = (row - first) * width;
        for (sum, value) in sum[at..at + width].iter_mut().zip(values) {
            *sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::forest::Segment;
    use crate::model::transformer::check_gradient;

    const HEADS: Heads = Heads {
        n_query: 4,
        n_key: 2,
        width: 2,
    };

    /// A root of three rows with two children of two, and a tree of one row.
    fn forest() -> Forest {
        let segment = |rows, parent| Segment { rows, parent };
        Forest {
            tokens: vec![0; 8],
            positions: vec![0, 1, 2, 3, 4, 3, 4, 0],
            segments: vec![
                segment(0..3, None),
                segment(3..5, Some(0)),
                segment(5..7, Some(0)),
                segment(7..8, None),
            ],
            trees: vec![0..3, 3..4],
            targets: Vec::new(),
        }
    }

    fn sees(row: usize, key: usize) -> bool {
        let path: &[usize] = match row {
            0..=4 => &[0, 1, 2, 3, 4],
            5 | 6 => &[0, 1, 2, 5, 6],
            _ => &[7],
        };
        key <= row && path.contains(&key)
    }

    fn slow(q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; 8 * 8];
        for row in 0..8 {
            for head in 0..4 {
                let dot = |key: usize| -> f64 {
                    (0..2)
                        .map(|i| {
                            f64::from(q[row * 8 + head * 2 + i] * k[key * 4 + head / 2 * 2 + i])
                        })
                        .sum::<f64>()
                        / 2f64.sqrt()
                };
                let weights: Vec<f64> = (0..8)
                    .map(|key| if sees(row, key) { dot(key).exp() } else { 0.0 })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for key in 0..8 {
                    for i in 0..2 {
                        out[row * 8 + head * 2 + i] +=
                            weights[key] / sum * f64::from(v[key * 4 + head / 2 * 2 + i]);
                    }
                }
            }
        }
        out
    }

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 29 + salt * 13) % 23) as f32 / 11.0 - 1.0)
            .collect()
    }

    #[test]
    fn equals_the_masked_softmax() {
        let (q, k, v) = (numbers(64, 1), numbers(32, 2), numbers(32, 3));
        let (mut out, mut log_sum) = (vec![0.0; 64], vec![0.0; 32]);
        forward(&forest(), HEADS, &q, &k, &v, &mut out, &mut log_sum);
        for (out, expected) in out.iter().zip(slow(&q, &k, &v)) {
            assert!((f64::from(*out) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (q, k, v) = (numbers(64, 1), numbers(32, 2), numbers(32, 3));
        let dout = numbers(64, 4);
        let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            slow(q, k, v)
                .iter()
                .zip(&dout)
                .map(|(o, d)| o * f64::from(*d))
                .sum()
        };
        let (mut out, mut log_sum) = (vec![0.0; 64], vec![0.0; 32]);
        forward(&forest(), HEADS, &q, &k, &v, &mut out, &mut log_sum);
        let saved = Saved {
            q: &q,
            k: &k,
            v: &v,
            out: &out,
            log_sum: &log_sum,
        };
        let (mut dq, mut dk, mut dv) = (vec![0.0; 64], vec![0.0; 32], vec![0.0; 32]);
        let mut gradients = Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        backward(&forest(), HEADS, saved, &dout, &mut gradients);
        check_gradient(&q, &dq, |q| value(q, &k, &v));
        check_gradient(&k, &dk, |k| value(&q, k, &v));
        check_gradient(&v, &dv, |v| value(&q, &k, v));
    }
}
