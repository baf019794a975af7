//! Attention of new nodes over their paths.
//!
//! Keys and values are read where they lie in the cache. Every row and head is computed by itself,
//! so its bits do not depend on what runs beside it.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::dots::products;
use crate::model::attention::{Heads, softmax};

/// Rows of a task.
const ROWS_PER_TASK: usize = 8;
/// Below so many products of numbers all tasks together are not worth a second thread.
const SERIAL: usize = 1 << 17;

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

/// Writes `attended` `[rows, query width]` of new nodes with queries `q`, in one layer.
pub(super) fn attention(
    heads: Heads,
    keys: &[f32],
    values: &[f32],
    runs: &[Run],
    q: &[f32],
    attended: &mut [f32],
) {
    let (width, kv) = (heads.group() * heads.width, heads.key_width());
    let tasks = tasks(heads, runs);
    let run = |scores: &mut Vec<f32>, task: &Task<'_>| {
        let at = |node: usize| node * kv + task.head * heads.width;
        let key = |node: usize| &keys[at(node)..][..heads.width];
        let value = |node: usize| &values[at(node)..][..heads.width];
        let rows = task.rows.clone().flat_map(|row| {
            let first = row * heads.query_width() + task.head * width;
            &q[first..first + width]
        });
        let scaled: Vec<f32> = rows.map(|q| q * heads.scale()).collect();
        attend(&scaled, heads, task, key, value, scores)
    };
    let n_seen = tasks.iter().map(|task| task.rows.len() * task.path.len());
    let done: Vec<Vec<f32>> = if 2 * width * n_seen.sum::<usize>() < SERIAL {
        let mut scores = Vec::new();
        tasks.iter().map(|task| run(&mut scores, task)).collect()
    } else {
        tasks.par_iter().map_init(Vec::new, run).collect()
    };
    for (task, out) in tasks.iter().zip(done) {
        for (row, out) in task.rows.clone().zip(out.chunks(width)) {
            let first = row * heads.query_width() + task.head * width;
            attended[first..first + width].copy_from_slice(out);
        }
    }
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

/// `softmax(q kᵀ) v` of a task's rows, for the query heads that share its key head. All rows meet
/// all keys at once, the few behind a row too, which it then does not see.
fn attend<'a>(
    q: &[f32],
    heads: Heads,
    task: &Task<'_>,
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    scores: &mut Vec<f32>,
) -> Vec<f32> {
    let (path, n, width) = (task.path, task.path.len(), heads.width);
    let n_queries = q.len() / width;
    scores.resize(n_queries * n, 0.0);
    products(
        n_queries,
        |query| &q[query * width..][..width],
        n,
        |index| key(path[index]),
        |query, index, score| scores[query * n + index] = score,
    );
    let mut out = vec![0.0; q.len()];
    let queries = scores.chunks_mut(n).zip(out.chunks_mut(width));
    for (query, (scores, out)) in queries.enumerate() {
        let n_seen = n + 1 - task.rows.len() + query / heads.group();
        let (scores, path) = (&mut scores[..n_seen], &path[..n_seen]);
        softmax(scores, n_seen);
        let (wide, rest) = out.as_chunks_mut::<64>();
        let (narrow, rest) = rest.as_chunks_mut::<16>();
        let (single, _) = rest.as_chunks_mut::<1>();
        let after_wide = wide.as_flattened().len();
        let after_narrow = after_wide + narrow.as_flattened().len();
        weigh(scores, path, &value, 0, wide);
        weigh(scores, path, &value, after_wide, narrow);
        weigh(scores, path, &value, after_narrow, single);
    }
    out
}

/// `Σ weight · value`, term by term along the path, in blocks of `N` numbers that begin at number
/// `at` of the values: sums of a block stay in registers, and each is the same in a block of any
/// size.
fn weigh<'a, const N: usize>(
    weights: &[f32],
    path: &[usize],
    value: &impl Fn(usize) -> &'a [f32],
    at: usize,
    blocks: &mut [[f32; N]],
) {
    for (index, block) in blocks.iter_mut().enumerate() {
        let first = at + index * N;
        let mut sums = [0.0f32; N];
        for (weight, node) in weights.iter().zip(path) {
            for (sum, value) in sums.iter_mut().zip(&value(*node)[first..first + N]) {
                *sum = weight.mul_add(*value, *sum);
            }
        }
        *block = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between −1 and 1 without a pattern.
    fn numbers(n: usize, salt: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + salt) * 12.9).sin()).collect()
    }

    /// Heads of widths that are made of blocks of every kind, on nodes in no order, with runs that
    /// are longer than a task and runs that begin late in their path.
    #[test]
    fn attention_is_the_plain_formula() {
        let n_nodes = 23;
        for width in [1, 15, 16, 38, 64, 83, 148] {
            let heads = Heads {
                n_query: 4,
                n_key: 2,
                width,
            };
            let kv = heads.key_width();
            let keys = numbers(n_nodes * kv, 0.3);
            let values = numbers(n_nodes * kv, 0.7);
            let runs = [(0..1, vec![5]), (1..12, (3..18).rev().collect())];
            let runs = runs.map(|(rows, path): (Range<usize>, Vec<usize>)| Run { rows, path });
            let q = numbers(12 * heads.query_width(), 0.5);
            let mut found = vec![f32::NAN; q.len()];
            attention(heads, &keys, &values, &runs, &q, &mut found);
            for run in &runs {
                let n_before = run.path.len() - run.rows.len();
                for (index, row) in run.rows.clone().enumerate() {
                    for head in 0..4 {
                        let first = row * heads.query_width() + head * width;
                        let q = &q[first..first + width];
                        // Two query heads share a key head.
                        let at = |node: usize| node * kv + head / 2 * width;
                        let path = &run.path[..=n_before + index];
                        let expected = slow(q, path, at, &keys, &values);
                        for (found, expected) in found[first..].iter().zip(expected) {
                            assert!((f64::from(*found) - expected).abs() < 1e-5);
                        }
                    }
                }
            }
        }
    }

    /// `softmax(q kᵀ / √width) v` of one head and row in `f64`.
    fn slow(
        q: &[f32],
        path: &[usize],
        at: impl Fn(usize) -> usize,
        keys: &[f32],
        values: &[f32],
    ) -> Vec<f64> {
        let dot = |node: usize| -> f64 {
            let key = &keys[at(node)..];
            q.iter().zip(key).map(|(q, k)| f64::from(q * k)).sum()
        };
        let scale = (q.len() as f64).sqrt();
        let weights: Vec<f64> = path.iter().map(|node| (dot(*node) / scale).exp()).collect();
        let total: f64 = weights.iter().sum();
        let term = |number: usize, (node, weight): (&usize, &f64)| {
            weight / total * f64::from(values[at(*node) + number])
        };
        let sum = |number| {
            path.iter()
                .zip(&weights)
                .map(|pair| term(number, pair))
                .sum()
        };
        (0..q.len()).map(sum).collect()
    }
}
