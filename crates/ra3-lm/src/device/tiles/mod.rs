//! Sums of a few rows with a few columns, in the processor's registers: what `rows.rs` is made of.
//!
//! Every sum is one chain of fused terms, in a tile of any shape and width.

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
use portable as processor;
#[cfg(target_arch = "x86_64")]
use x86 as processor;

use half::bf16;

pub(super) use processor::{tile, tile_wide};

/// Most numbers of a tile's column, and most columns of a tile.
pub(super) const LANES_MAX: usize = 32;
pub(super) const COLUMNS_MAX: usize = 8;

/// Rows of a matrix from one on; behind the last it is repeated.
pub(super) fn columns<T, const C: usize>(matrix: &[T], width: usize, first: usize) -> [&[T]; C] {
    let last = matrix.len() / width - 1;
    std::array::from_fn(|index| &matrix[(first + index).min(last) * width..][..width])
}

/// Writes up to `lanes` rows as columns of a panel; what is in the other lanes is never read.
pub(super) fn transpose(rows: &[f32], width: usize, panel: &mut [f32], lanes: usize) {
    let n_rows = rows.len() / width;
    for first in (0..n_rows).step_by(8) {
        let eight: [&[f32]; 8] = columns(rows, width, first);
        let blocks = eight.map(|row| row.as_chunks::<8>());
        for at in 0..width / 8 {
            let transposed =
                processor::transpose_eight(std::array::from_fn(|row| &blocks[row].0[at]));
            for (index, lanes_of) in transposed.into_iter().enumerate() {
                let place = &mut panel[(at * 8 + index) * lanes + first..][..8];
                place.copy_from_slice(&lanes_of);
            }
        }
        for at in width / 8 * 8..width {
            for (lane, row) in eight.iter().enumerate() {
                panel[at * lanes + first + lane] = row[at];
            }
        }
    }
}

/// Sums by row, for eight lanes of a tile: those from `8 · index` on.
#[inline]
pub(super) fn eight_rows(
    sums: &[[f32; LANES_MAX]; COLUMNS_MAX],
    index: usize,
) -> [[f32; 8]; COLUMNS_MAX] {
    let eight = std::array::from_fn(|column| &sums[column].as_chunks::<8>().0[index]);
    processor::transpose_eight(eight)
}

/// Sums of `R` rows with `P` times eight columns.
pub(super) fn few<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len();
    let all = x.iter().chain(columns.as_flattened());
    assert!(
        all.into_iter().all(|row| row.len() == n),
        "rows of one width"
    );
    let mut sums = processor::few(x, columns);
    add_last(&mut sums, x, columns, n / 8 * 8, |number| number);
    sums
}

/// [`few`] with columns in `bf16`, which are widened on their way: the same sums.
pub(super) fn few_halves<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[bf16]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len();
    assert!(
        x.iter().all(|row| row.len() == n)
            && columns.as_flattened().iter().all(|row| row.len() == n),
        "rows of one width"
    );
    let mut sums = processor::few_halves(x, columns);
    add_last(&mut sums, x, columns, n / 16 * 16, bf16::to_f32);
    sums
}

/// The terms from one on, which fill no register.
fn add_last<T: Copy, const R: usize, const P: usize>(
    sums: &mut [[[f32; 8]; P]; R],
    x: &[&[f32]; R],
    columns: &[[&[T]; 8]; P],
    first: usize,
    wide: impl Fn(T) -> f32,
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let sums = sums.as_flattened_mut().iter_mut();
        for (sum, column) in sums.zip(columns.as_flattened()) {
            for (x, column) in x[first..].iter().zip(&column[first..]) {
                *sum = x.mul_add(wide(*column), *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::numbers;

    /// The plain loops have the bits of the processor's own, on which the products are tested.
    #[test]
    fn the_portable_tiles_are_those_of_the_processor() {
        let n = 37;
        let rows = numbers(8 * n, 1);
        let weight = numbers(8 * n, 2);
        let columns: [&[f32]; 8] = columns(&weight, n, 0);
        let mut panel = vec![0.0; LANES_MAX * n];
        transpose(&rows, n, &mut panel[..8 * n], 8);
        let none = [[0.0; LANES_MAX]; COLUMNS_MAX];
        let (mut found, mut expected) = (none, none);
        tile::<1, 8>(&panel[..8 * n], &columns, &mut found);
        portable::tile::<1, 8>(&panel[..8 * n], &columns, &mut expected);
        assert_eq!(found, expected);
        panel.fill(0.5);
        panel[..8 * n].copy_from_slice(&rows);
        if crate::device::has_wide_registers() {
            tile_wide(&panel, &columns, &mut found);
            portable::tile_wide(&panel, &columns, &mut expected);
            assert_eq!(found, expected);
        }
        let x: [&[f32]; 2] = super::columns(&rows, n, 3);
        let mut expected = portable::few(&x, &[columns]);
        add_last(&mut expected, &x, &[columns], n / 8 * 8, |number| number);
        assert_eq!(few(&x, &[columns]), expected);
        let halves: Vec<bf16> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
        let columns: [&[bf16]; 8] = super::columns(&halves, n, 0);
        let mut expected = portable::few_halves(&x, &[columns]);
        add_last(&mut expected, &x, &[columns], n / 16 * 16, bf16::to_f32);
        assert_eq!(few_halves(&x, &[columns]), expected);
    }
}
