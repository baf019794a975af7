//! Attention against a masked softmax and finite differences, on a small forest.

use super::block::ROWS_PER_TILE;
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

/// Masked softmax in `f64`, one number at a time; `n` rows.
fn slow(n: usize, sees: fn(usize, usize) -> bool, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let mut out = vec![0.0; n * 8];
    for row in 0..n {
        for head in 0..4 {
            let key_at = |key: usize| key * 4 + head / 2 * 2;
            let query_at = row * 8 + head * 2;
            let score = |key: usize| -> f64 {
                let dot: f64 = (0..2)
                    .map(|i| f64::from(q[query_at + i]) * f64::from(k[key_at(key) + i]))
                    .sum();
                (dot / 2f64.sqrt()).exp()
            };
            let seen: Vec<(usize, f64)> = (0..n)
                .filter(|key| sees(row, *key))
                .map(|key| (key, score(key)))
                .collect();
            let sum: f64 = seen.iter().map(|(_, weight)| weight).sum();
            for (key, weight) in seen {
                for i in 0..2 {
                    out[query_at + i] += weight / sum * f64::from(v[key_at(key) + i]);
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

/// The output and the log-sums of rows.
fn attended(forest: &Forest, qkv: [&[f32]; 3]) -> [Vec<f32>; 2] {
    let n = qkv[0].len();
    let [mut out, mut log_sum] = [n, n / HEADS.width].map(|n| vec![0.0; n]);
    let places = [out.as_mut_slice(), &mut log_sum];
    forward(
        forest,
        HEADS,
        Kernel::Packed,
        qkv,
        places,
        &mut Workspace::default(),
    );
    [out, log_sum]
}

#[test]
fn equals_the_masked_softmax() {
    let (q, k, v) = (numbers(64, 1), numbers(32, 2), numbers(32, 3));
    let [out, _] = attended(&forest(), [&q, &k, &v]);
    for (out, expected) in out.iter().zip(slow(8, sees, &q, &k, &v)) {
        assert!((f64::from(*out) - expected).abs() < 1e-5);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let (q, k, v) = (numbers(64, 1), numbers(32, 2), numbers(32, 3));
    let dout = numbers(64, 4);
    let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
        slow(8, sees, q, k, v)
            .iter()
            .zip(&dout)
            .map(|(o, d)| o * f64::from(*d))
            .sum()
    };
    let [out, log_sum] = attended(&forest(), [&q, &k, &v]);
    let [dq, dk, dv] = gradients(&forest(), [&q, &k, &v, &out, &log_sum], &dout);
    check_gradient(&q, &dq, |q| value(q, &k, &v));
    check_gradient(&k, &dk, |k| value(&q, k, &v));
    check_gradient(&v, &dv, |v| value(&q, &k, v));
}

/// A root longer than a tile, a child of several tiles, and its sibling.
fn long_forest() -> Forest {
    let segment = |rows, parent| Segment { rows, parent };
    let n_rows = ROWS_PER_TILE + 6 + 2 * ROWS_PER_TILE + 3 + 1;
    Forest {
        tokens: vec![0; n_rows],
        positions: vec![0; n_rows],
        segments: vec![
            segment(0..ROWS_PER_TILE + 6, None),
            segment(ROWS_PER_TILE + 6..n_rows - 1, Some(0)),
            segment(n_rows - 1..n_rows, Some(0)),
        ],
        trees: std::iter::once(0..3).collect(),
        targets: Vec::new(),
    }
}

fn sees_in_long_forest(row: usize, key: usize) -> bool {
    let root = 0..ROWS_PER_TILE + 6;
    let last = 3 * ROWS_PER_TILE + 9;
    key <= row && (row < last || key == last || root.contains(&key))
}

#[test]
fn tiles_meet_without_a_seam() {
    let forest = long_forest();
    let n = forest.tokens.len();
    let (q, k, v) = (numbers(n * 8, 1), numbers(n * 4, 2), numbers(n * 4, 3));
    let [out, log_sum] = attended(&forest, [&q, &k, &v]);
    let expected = slow(n, sees_in_long_forest, &q, &k, &v);
    for (index, (out, expected)) in out.iter().zip(&expected).enumerate() {
        assert!((f64::from(*out) - expected).abs() < 1e-5, "{index}");
    }
    let dout = numbers(n * 8, 4);
    let [dq, dk, dv] = gradients(&forest, [&q, &k, &v, &out, &log_sum], &dout);
    let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
        let out = slow(n, sees_in_long_forest, q, k, v);
        out.iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum()
    };
    // One direction for each operand: thousands of single differences would take minutes.
    for (draw, gradient) in [&dq, &dk, &dv].into_iter().enumerate() {
        let direction = numbers(gradient.len(), 5);
        let moved = |sign: f32| {
            let mut operands = [q.clone(), k.clone(), v.clone()];
            for (x, d) in operands[draw].iter_mut().zip(&direction) {
                *x += sign * 1e-3 * d;
            }
            value(&operands[0], &operands[1], &operands[2])
        };
        let expected = (moved(1.0) - moved(-1.0)) / 2e-3;
        let found: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let scale = expected.abs().max(1.0);
        assert!(
            (found - expected).abs() < 2e-3 * scale,
            "{draw}: {found} {expected}"
        );
    }
}

/// Gradients of q, k and v; the operands are q, k, v, the output and the log-sums.
fn gradients(forest: &Forest, operands: [&[f32]; 5], dout: &[f32]) -> [Vec<f32>; 3] {
    let [q, k, v, out, log_sum] = operands;
    let saved = Saved {
        q,
        k,
        v,
        out,
        log_sum,
    };
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|operand| vec![0.0; operand.len()]);
    let gradients = Gradients {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
    };
    let workspace = &mut Workspace::default();
    backward(
        forest,
        HEADS,
        Kernel::Packed,
        saved,
        dout,
        gradients,
        workspace,
    );
    [dq, dk, dv]
}
