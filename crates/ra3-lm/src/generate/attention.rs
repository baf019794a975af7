//! Attention of new nodes over their paths.
//!
//! Keys and values are read where they lie in the cache. Up to [`ROWS_PER_TASK`] rows that follow
//! each other meet all keys of their path at once, the few behind a row too, which it then does not
//! see. Every score is one chain over the numbers of a head, and every result one along the path,
//! so that the bits of a row do not depend on what runs beside it; with operands in `bf16` they are
//! those of training.

use std::ops::Range;

use rayon::prelude::*;

use super::cache::Numbers;
use crate::device::halves::{Panels, few, multiply_panels};
use crate::device::matrix::{Gathered, Threads, View};
use crate::device::rows::multiply_columns;
use crate::model::attention::{Heads, softmax};

/// Rows of a task.
const ROWS_PER_TASK: usize = 64;
/// Below so many products of numbers all tasks together are not worth a second thread.
const SERIAL: usize = 1 << 17;
/// From so many queries on it is worth packing a path's keys in `bf16`, and its values.
const QUERIES_PACKED_MIN: [usize; 2] = [9, 25];
/// For more queries than these it is worth turning the values of a path.
const QUERIES_TURNED_MIN: usize = 16;

/// New nodes of which each follows the one before.
pub(super) struct Run {
    /// Their rows among all new nodes.
    pub(super) rows: Range<usize>,
    /// Nodes from the root to the last of the run.
    pub(super) path: Vec<usize>,
}

/// What all rows of a layer read.
#[derive(Clone, Copy)]
struct Layer<'a> {
    heads: Heads,
    keys: &'a Numbers,
    values: &'a Numbers,
    /// `[rows, query width]`.
    q: &'a [f32],
}

/// Rows of one run and one key head.
struct Task<'a> {
    rows: Range<usize>,
    /// Nodes from the root to the first of the rows, and those after it.
    path: &'a [usize],
    head: usize,
    /// Results `[rows, group · width]`, and log-sum-exps `[rows, group]`.
    out: &'a mut [f32],
    log_sum: &'a mut [f32],
}

/// Writes `attended` `[rows, query width]` of new nodes with queries `q`, in one layer, and the
/// log-sum-exp of each row and query head.
pub(super) fn attention(
    heads: Heads,
    [keys, values]: [&Numbers; 2],
    runs: &[Run],
    q: &[f32],
    [attended, log_sum]: [&mut [f32]; 2],
) {
    let layer = Layer {
        heads,
        keys,
        values,
        q,
    };
    let mut tasks = tasks(heads, runs, [attended, log_sum]);
    let n_seen = tasks.iter().map(|task| task.rows.len() * task.path.len());
    if 2 * heads.group() * heads.width * n_seen.sum::<usize>() < SERIAL {
        let mut scratch = Scratch::default();
        tasks
            .iter_mut()
            .for_each(|task| scratch.attend(layer, task));
    } else {
        let attend = |scratch: &mut Scratch, task: &mut Task<'_>| scratch.attend(layer, task);
        tasks.par_iter_mut().for_each_init(Scratch::default, attend);
    }
    put_in_order(heads, runs, attended);
    put_in_order(heads, runs, log_sum);
}

/// Rows of a run that work together.
fn pieces(run: &Run) -> impl Iterator<Item = Range<usize>> {
    let end = run.rows.end;
    let starts = run.rows.clone().step_by(ROWS_PER_TASK);
    starts.map(move |first| first..(first + ROWS_PER_TASK).min(end))
}

/// A task for each piece and head. Their results lie in the same order, so that those of a row by
/// itself are where they belong.
fn tasks<'a>(
    heads: Heads,
    runs: &'a [Run],
    [mut attended, mut log_sum]: [&'a mut [f32]; 2],
) -> Vec<Task<'a>> {
    let n_rows = runs.last().map_or(0, |run| run.rows.end);
    let mut tasks = Vec::with_capacity(n_rows * heads.n_key);
    for run in runs {
        let n_before = run.path.len() - run.rows.len();
        for rows in pieces(run) {
            let path = &run.path[..n_before + rows.end - run.rows.start];
            for head in 0..heads.n_key {
                let n = rows.len() * heads.group();
                let out = attended.split_off_mut(..n * heads.width);
                tasks.push(Task {
                    rows: rows.clone(),
                    path,
                    head,
                    out: out.expect("as many rows"),
                    log_sum: log_sum.split_off_mut(..n).expect("as many rows"),
                });
            }
        }
    }
    tasks
}

/// Results of several rows, `[head, row]` so far, become `[row, head]`.
fn put_in_order(heads: Heads, runs: &[Run], results: &mut [f32]) {
    let all = results.len() / runs.last().map_or(1, |run| run.rows.end);
    let width = all / heads.n_key;
    let mut by_head = Vec::new();
    for rows in runs.iter().flat_map(pieces).filter(|rows| rows.len() > 1) {
        let results = &mut results[rows.start * all..rows.end * all];
        by_head.clear();
        by_head.extend_from_slice(results);
        for (index, of_row) in results.chunks_mut(width).enumerate() {
            let (row, head) = (index / heads.n_key, index % heads.n_key);
            let from = (head * rows.len() + row) * width;
            of_row.copy_from_slice(&by_head[from..from + width]);
        }
    }
}

impl Layer<'_> {
    /// Keys or values of a task.
    fn of_path<'a, T>(&self, numbers: &'a [T], task: &Task<'a>) -> Gathered<'a, T> {
        Gathered {
            numbers,
            stride: self.heads.key_width(),
            rows: task.path,
            first_column: task.head * self.heads.width,
            width: self.heads.width,
        }
    }
}

/// Buffers of a thread, used again by each of its tasks.
#[derive(Default)]
struct Scratch {
    /// `[queries, width]`: of rows and of the query heads that share a key head, scaled.
    q: Vec<f32>,
    /// `[queries, keys]`.
    scores: Vec<f32>,
    panels: Panels,
    turned: Vec<f32>,
}

impl Scratch {
    fn attend(&mut self, layer: Layer<'_>, task: &mut Task<'_>) {
        let width = layer.heads.group() * layer.heads.width;
        self.q.clear();
        for row in task.rows.clone() {
            let first = row * layer.heads.query_width() + task.head * width;
            let q = &layer.q[first..first + width];
            self.q.extend(q.iter().map(|q| q * layer.heads.scale()));
        }
        self.set_scores(layer, task);
        self.weigh(layer, task);
    }

    /// `softmax(q kᵀ)` for the queries of a task, zero where a query does not see a key, and their
    /// log-sum-exps.
    fn set_scores(&mut self, layer: Layer<'_>, task: &mut Task<'_>) {
        let (n, width) = (task.path.len(), layer.heads.width);
        let n_queries = self.q.len() / width;
        let (q, scores) = (&self.q, &mut self.scores);
        scores.resize(n_queries * n, 0.0);
        match layer.keys {
            Numbers::F32(keys) => {
                let keys = layer.of_path(keys, task);
                multiply_columns(scores, q, width, n, |key| keys.row(key));
            }
            Numbers::Halves(keys) if n_queries < QUERIES_PACKED_MIN[0] => {
                few::multiply_columns(scores, q, layer.of_path(keys, task));
            }
            Numbers::Halves(keys) => {
                let keys = layer.of_path(keys, task);
                self.panels.set_columns([width, n], |key| keys.row(key));
                let q = View::new(q, n_queries, width);
                multiply_panels(scores, false, q, &self.panels, Threads::One);
            }
        }
        let n_first = n + 1 - task.rows.len();
        let queries = scores.chunks_mut(n).zip(task.log_sum.iter_mut());
        for (query, (scores, log_sum)) in queries.enumerate() {
            *log_sum = softmax(scores, n_first + query / layer.heads.group());
        }
    }

    /// Writes each query's `Σ score · value` over the keys of a task.
    fn weigh(&mut self, layer: Layer<'_>, task: &mut Task<'_>) {
        let (n, width) = (task.path.len(), layer.heads.width);
        let n_queries = self.q.len() / width;
        match layer.values {
            Numbers::Halves(values) if n_queries < QUERIES_PACKED_MIN[1] => {
                let values = layer.of_path(values, task);
                few::multiply_terms(task.out, &self.scores, values);
            }
            Numbers::Halves(values) => {
                let values = layer.of_path(values, task);
                self.panels.set_terms([n, width], |key| values.row(key));
                let scores = View::new(&self.scores, n_queries, n);
                multiply_panels(task.out, false, scores, &self.panels, Threads::One);
            }
            Numbers::F32(values) if n_queries < QUERIES_TURNED_MIN => {
                let values = layer.of_path(values, task);
                for (scores, out) in self.scores.chunks(n).zip(task.out.chunks_mut(width)) {
                    weigh(scores, &|key| values.row(key), out);
                }
            }
            Numbers::F32(values) => {
                let values = layer.of_path(values, task);
                let turned = &mut self.turned;
                turned.resize(width * n, 0.0);
                for key in 0..n {
                    for (number, value) in values.row(key).iter().enumerate() {
                        turned[number * n + key] = *value;
                    }
                }
                let column = |number: usize| &turned[number * n..][..n];
                multiply_columns(task.out, &self.scores, n, width, column);
            }
        }
    }
}

/// `Σ score · value`, term by term: sums stay in registers, and each is the same in a block of any
/// size.
fn weigh<'a>(scores: &[f32], value: &impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    let (wide, rest) = out.as_chunks_mut::<64>();
    let (narrow, rest) = rest.as_chunks_mut::<16>();
    let (single, _) = rest.as_chunks_mut::<1>();
    let after_wide = wide.as_flattened().len();
    let after_narrow = after_wide + narrow.as_flattened().len();
    weigh_blocks(scores, value, 0, wide);
    weigh_blocks(scores, value, after_wide, narrow);
    weigh_blocks(scores, value, after_narrow, single);
}

/// [`weigh`] in blocks of `N` numbers that begin at number `at` of the values.
fn weigh_blocks<'a, const N: usize>(
    scores: &[f32],
    value: &impl Fn(usize) -> &'a [f32],
    at: usize,
    blocks: &mut [[f32; N]],
) {
    for (index, block) in blocks.iter_mut().enumerate() {
        let first = at + index * N;
        let mut sums = [0.0f32; N];
        for (key, score) in scores.iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(&value(key)[first..first + N]) {
                *sum = score.mul_add(*value, *sum);
            }
        }
        *block = sums;
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::model::attention::forward;
    use crate::model::forest::{Forest, Segment};
    use crate::model::linear::Kernel;
    use crate::model::workspace::Workspace;

    /// Numbers between −1 and 1 without a pattern.
    fn numbers(n: usize, salt: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + salt) * 12.9).sin()).collect()
    }

    /// A node, alone, and a run on nodes in no order that is longer than a task and begins late in
    /// its path.
    const N_NODES: usize = 83;

    fn runs() -> [Run; 2] {
        let runs = [(0..1, vec![5]), (1..71, (3..83).rev().collect())];
        runs.map(|(rows, path)| Run { rows, path })
    }

    /// Four query heads, of which two share a key head; their keys, values and queries.
    fn operands(width: usize) -> (Heads, [Vec<f32>; 3]) {
        let heads = Heads {
            n_query: 4,
            n_key: 2,
            width,
        };
        let n = N_NODES * heads.key_width();
        let q = numbers(71 * heads.query_width(), 0.5);
        (heads, [numbers(n, 0.3), numbers(n, 0.7), q])
    }

    /// What rows attend to, and their log-sum-exps.
    fn attended(kernel: Kernel, width: usize, runs: &[Run]) -> [Vec<f32>; 2] {
        let (heads, [keys, values, q]) = operands(width);
        let mut found = [q.len(), q.len() / width].map(|n| vec![f32::NAN; n]);
        let stored = [keys, values].map(|numbers| match kernel {
            Kernel::Halves => Numbers::Halves(numbers.into_iter().map(bf16::from_f32).collect()),
            Kernel::Rows | Kernel::Packed => Numbers::F32(numbers),
        });
        let places = found.each_mut().map(Vec::as_mut_slice);
        attention(heads, stored.each_ref(), runs, &q, places);
        found
    }

    /// Of heads whose widths are made of blocks of every kind. Operands in `bf16` have eight bits,
    /// and numbers are up to 1.
    #[test]
    fn attention_is_the_plain_formula() {
        for (kernel, tolerance) in [(Kernel::Rows, 1e-5), (Kernel::Halves, 1e-2)] {
            for width in [1, 15, 16, 38, 64, 83, 148] {
                let (heads, [keys, values, q]) = operands(width);
                let [found, log_sum] = attended(kernel, width, &runs());
                for run in &runs() {
                    let n_before = run.path.len() - run.rows.len();
                    for (index, row) in run.rows.clone().enumerate() {
                        for head in 0..4 {
                            let first = row * heads.query_width() + head * width;
                            let q = &q[first..first + width];
                            let at = |node: usize| node * heads.key_width() + head / 2 * width;
                            let path = &run.path[..=n_before + index];
                            let (expected, of_all) = slow(q, path, at, &keys, &values);
                            let of_all = of_all - f64::from(log_sum[first / width]);
                            assert!(of_all.abs() < tolerance, "{kernel:?} {width} {of_all}");
                            for (found, expected) in found[first..].iter().zip(expected) {
                                assert!((f64::from(*found) - expected).abs() < tolerance);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Rows by themselves, in runs of a few, and in one of all.
    #[test]
    fn a_rows_bits_are_its_own() {
        for kernel in [Kernel::Rows, Kernel::Halves] {
            for width in [1, 38, 64] {
                let expected = attended(kernel, width, &runs());
                for n in [1, 5, 9, 64] {
                    let [first, long] = runs();
                    let n_before = long.path.len() - long.rows.len();
                    let mut cut = vec![first];
                    for row in long.rows.clone().step_by(n) {
                        let rows = row..(row + n).min(long.rows.end);
                        let path = long.path[..n_before + rows.end - long.rows.start].to_vec();
                        cut.push(Run { rows, path });
                    }
                    assert!(
                        attended(kernel, width, &cut) == expected,
                        "{kernel:?} {width} {n}"
                    );
                }
            }
        }
    }

    /// In `bf16` training computes the same numbers, of a chain as of its last rows alone.
    #[test]
    fn the_bits_are_those_of_training() {
        let n = 71;
        for width in [15, 64] {
            let (heads, [keys, values, q]) = operands(width);
            let forest = Forest {
                tokens: vec![0; n],
                positions: vec![0; n],
                segments: vec![Segment {
                    rows: 0..n,
                    parent: None,
                }],
                trees: std::iter::once(0..1).collect(),
                targets: Vec::new(),
            };
            let mut trained = [n * 4 * width, n * 4].map(|n| vec![f32::NAN; n]);
            let stored = [&keys, &values].map(|of| &of[..n * heads.key_width()]);
            let qkv = [&q, stored[0], stored[1]];
            forward(
                &forest,
                heads,
                Kernel::Halves,
                qkv,
                trained.each_mut().map(Vec::as_mut_slice),
                &mut Workspace::default(),
            );
            let path: Vec<usize> = (0..n).collect();
            let of_rows = |rows: Range<usize>| Run {
                path: path[..rows.end].to_vec(),
                rows,
            };
            let runs = [of_rows(0..3), of_rows(3..70), of_rows(70..71)];
            assert!(attended(Kernel::Halves, width, &runs) == trained, "{width}");
        }
    }

    /// `softmax(q kᵀ / √width) v` of one head and row in `f64`, and the logarithm of its total.
    fn slow(
        q: &[f32],
        path: &[usize],
        at: impl Fn(usize) -> usize,
        keys: &[f32],
        values: &[f32],
    ) -> (Vec<f64>, f64) {
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
        ((0..q.len()).map(sum).collect(), total.ln())
    }
}
