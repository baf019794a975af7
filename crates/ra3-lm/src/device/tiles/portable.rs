//! The tiles in plain loops, for processors without ones of their own: the same bits.

use half::bf16;

use super::{COLUMNS_MAX, LANES_MAX};

/// Sums of a panel of `8 V` lanes with `C` columns.
pub(in super::super) fn tile<const V: usize, const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let n = columns[0].len();
    assert!(panel.len() == 8 * V * n && columns.iter().all(|column| column.len() == n));
    let mut chains = [[[0.0f32; 8]; V]; C];
    let panel: &[[[f32; 8]; V]] = panel.as_chunks::<8>().0.as_chunks::<V>().0;
    for (at, x) in panel.iter().enumerate() {
        for (chains, column) in chains.iter_mut().zip(columns) {
            for (chain, x) in chains.as_flattened_mut().iter_mut().zip(x.as_flattened()) {
                *chain = x.mul_add(column[at], *chain);
            }
        }
    }
    for (sums, chains) in sums.iter_mut().zip(&chains) {
        sums[..8 * V].copy_from_slice(chains.as_flattened());
    }
}

/// [`tile`] of 32 lanes.
pub(in super::super) fn tile_wide<const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    tile::<4, C>(panel, columns, sums);
}

/// Sums of rows with columns, but for the last numbers, which fill no register.
pub(super) fn few<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    chains(x, x[0].len() / 8 * 8, |at| {
        columns.map(|eight| eight.map(|column| column[at]))
    })
}

/// [`few`] with columns in `bf16`.
pub(super) fn few_halves<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[bf16]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    chains(x, x[0].len() / 16 * 16, |at| {
        columns.map(|eight| eight.map(|column| column[at].to_f32()))
    })
}

/// The first terms of sums of rows with columns, whose numbers at a place are given.
fn chains<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    n: usize,
    columns: impl Fn(usize) -> [[f32; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let mut chains = [[[0.0f32; 8]; P]; R];
    for at in 0..n {
        let columns = columns(at);
        for (chains, x) in chains.iter_mut().zip(x) {
            let chains = chains.as_flattened_mut().iter_mut();
            for (chain, column) in chains.zip(columns.as_flattened()) {
                *chain = x[at].mul_add(*column, *chain);
            }
        }
    }
    chains
}

/// Eight times eight numbers, rows as columns.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn transpose_eight(rows: [&[f32; 8]; 8]) -> [[f32; 8]; 8] {
    std::array::from_fn(|column| rows.map(|row| row[column]))
}
