//! Attention of new nodes over their paths.
//!
//! Keys and values are read where they lie in the cache. Every row and head is computed by itself,
//! so its bits do not depend on what runs beside it.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::rows::products;
use crate::model::attention::{Heads, softmax};

/// Rows of a task.
const ROWS_PER_TASK: usize = 8;

/// New nodes of which each follows the one before.
pub(super) struct Run {
    /// Their rows among all new nodes.
    pub(super) rows: Range<usize>,
    /// Nodes from the root to the last of the run.
    pub(super) path: Vec<usize>,
}

/// Rows of one run and one key head.
struct Task<'a> {
    rows: Range<usize>,
    /// Nodes from the root to the first of the rows, and those after it.
    path: &'a [usize],
    head: usize,
}

/// `[rows, query width]` of new nodes with queries `q`, in one layer.
pub(super) fn attention(
    heads: Heads,
    keys: &[f32],
    values: &[f32],
    runs: &[Run],
    q: &[f32],
) -> Vec<f32> {
    let (width, kv) = (heads.group() * heads.width, heads.key_width());
    let tasks = tasks(heads, runs);
    let done: Vec<Vec<f32>> = tasks
        .par_iter()
        .map_init(Vec::new, |scores, task| {
            let at = |node: usize| node * kv + task.head * heads.width;
            let key = |node: usize| &keys[at(node)..][..heads.width];
            let value = |node: usize| &values[at(node)..][..heads.width];
            let mut out = vec![0.0; task.rows.len() * width];
            let n_before = task.path.len() - task.rows.len();
            for (index, out) in out.chunks_mut(width).enumerate() {
                let first = (task.rows.start + index) * heads.query_width() + task.head * width;
                let path = &task.path[..=n_before + index];
                attend(
                    &q[first..first + width],
                    heads,
                    path,
                    key,
                    value,
                    scores,
                    out,
                );
            }
            out
        })
        .collect();
    let mut attended = vec![0.0; q.len()];
    for (task, out) in tasks.iter().zip(done) {
        for (row, out) in task.rows.clone().zip(out.chunks(width)) {
            let first = row * heads.query_width() + task.head * width;
            attended[first..first + width].copy_from_slice(out);
        }
    }
    attended
}

fn tasks(heads: Heads, runs: &[Run]) -> Vec<Task<'_>> {
    let mut tasks = Vec::new();
    for run in runs {
        let n_before = run.path.len() - run.rows.len();
        for first in run.rows.clone().step_by(ROWS_PER_TASK) {
            let rows = first..(first + ROWS_PER_TASK).min(run.rows.end);
            let path = &run.path[..n_before + rows.end - run.rows.start];
            tasks.extend((0..heads.n_key).map(|head| Task {
                rows: rows.clone(),
                path,
                head,
            }));
        }
    }
    tasks
}

/// `softmax(q kᵀ / √width) v` of the query heads that share a key head, for one row.
fn attend<'a>(
    q: &[f32],
    heads: Heads,
    path: &[usize],
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (n, width) = (path.len(), heads.width);
    let scaled: Vec<f32> = q.iter().map(|q| q * heads.scale()).collect();
    scores.resize(heads.group() * n, 0.0);
    products(
        heads.group(),
        |head| &scaled[head * width..][..width],
        n,
        |index| key(path[index]),
        |head, index, score| scores[head * n + index] = score,
    );
    for (scores, out) in scores.chunks_mut(n).zip(out.chunks_mut(width)) {
        softmax(scores, n);
        let mut at = 0;
        while at < width {
            at += match width - at {
                64.. => weigh::<64>(scores, path, &value, at, out),
                16.. => weigh::<16>(scores, path, &value, at, out),
                _ => weigh::<1>(scores, path, &value, at, out),
            };
        }
    }
}

/// `N` numbers of `Σ weight · value`, term by term along the path; returns `N`.
fn weigh<'a, const N: usize>(
    weights: &[f32],
    path: &[usize],
    value: &impl Fn(usize) -> &'a [f32],
    at: usize,
    out: &mut [f32],
) -> usize {
    let mut sums = [0.0f32; N];
    for (weight, node) in weights.iter().zip(path) {
        for (sum, value) in sums.iter_mut().zip(&value(*node)[at..at + N]) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    out[at..at + N].copy_from_slice(&sums);
    N
}
