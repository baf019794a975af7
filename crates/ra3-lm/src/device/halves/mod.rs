//! Matrix products of operands that are rounded to `bf16`, with sums in `f32`: for training and
//! for generation alike, so that a row has the same sums in both.
//!
//! Every number of a result is one chain over its terms, two at a time: to the sum so far the
//! product of the second of both is added, then that of the first, each rounded to `f32` once. The
//! processor's instruction is used where there is one that does just that; what runs beside a row,
//! who works on it, and how many terms are taken in one go change no bit.
//!
//! Terms lie in pairs. The left operand is read number by number and is only rounded; the right
//! one is packed in panels of sixteen columns, a register of pairs beside the next. Weights are
//! packed once for all products until they change.
//! Not done here: what is rounded when. Whoever asks for a product in `bf16` has operands in `f32`.

pub(crate) mod few;
mod operand;
mod pack;
mod tile;

pub(crate) use operand::{Packed, Panels, Right, with_both, with_panels, with_rows};

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::matrix::{Threads, View};
use pack::{Left, PAIRS_PER_RUN, Pair};
use tile::{Instructions, LANES, Place, Tiles};

/// Rows of a task, least and most, and columns.
const ROWS_PER_TASK: [usize; 2] = [16, 64];
const PANELS_PER_TASK: usize = 6;
/// Tasks that products are cut into where they have rows enough.
const TASKS: usize = 8;
/// Numbers of panels that tiles are made for.
const PANELS_PER_TILE: [usize; 5] = [PANELS_PER_TASK, 4, 3, 2, 1];
/// Below so many numbers of the right operand, or so many products, there is one task.
const SERIAL: [usize; 2] = [1 << 17, 1 << 20];

/// `out = lhs · rhs`, or `out += lhs · rhs`; `out` is row-major `[lhs rows, rhs columns]`.
pub(crate) fn multiply(
    out: &mut [f32],
    accumulate: bool,
    lhs: View<'_>,
    rhs: View<'_>,
    threads: Threads,
) {
    with_panels(rhs, threads, |panels| {
        multiply_panels(out, accumulate, lhs, panels, threads);
    });
}

/// [`multiply`] with a right operand that is packed already.
pub(crate) fn multiply_panels<'a>(
    out: &mut [f32],
    accumulate: bool,
    lhs: View<'_>,
    rhs: impl Into<Right<'a>>,
    threads: Threads,
) {
    with_rows(lhs, threads, |rows| {
        multiply_packed(out, accumulate, rows, rhs, threads);
    });
}

/// [`multiply`] with operands that are packed already.
pub(crate) fn multiply_packed<'a>(
    out: &mut [f32],
    accumulate: bool,
    lhs: Packed<'_>,
    rhs: impl Into<Right<'a>>,
    threads: Threads,
) {
    multiply_each([(out, accumulate, rhs.into())], lhs, threads);
}

/// [`multiply_packed`] of several right operands, which all threads work on at once: of each what
/// is written, whether it is added to, and the operand.
pub(crate) fn multiply_each<const N: usize>(
    parts: [(&mut [f32], bool, Right<'_>); N],
    lhs: Packed<'_>,
    threads: Threads,
) {
    multiply_with(Instructions::found(), parts, lhs, threads);
}

fn multiply_with<const N: usize>(
    instructions: Instructions,
    parts: [(&mut [f32], bool, Right<'_>); N],
    lhs: Packed<'_>,
    threads: Threads,
) {
    let products = parts.map(|(out, accumulate, right)| {
        assert_eq!(lhs.n_terms, right.n_terms, "inner sizes of a product");
        let n = lhs.n_rows * right.n_columns;
        assert!(out.len() >= n, "numbers of a product");
        Product {
            instructions,
            left: lhs.left,
            right,
            start: out.as_mut_ptr(),
            n_rows: lhs.n_rows,
            accumulate,
        }
    });
    run(&products, lhs.n_rows, threads);
}

/// Cuts products of one left operand into blocks of rows and panels, by their shapes alone.
fn run(products: &[Product<'_>], n_rows: usize, threads: Threads) {
    let n_blocks: usize = products.iter().map(Product::n_blocks).sum();
    if n_rows * n_blocks == 0 {
        return;
    }
    let [least, mut n_task] = ROWS_PER_TASK;
    while n_task > least && n_rows.div_ceil(n_task) * n_blocks < TASKS {
        n_task /= 2;
    }
    let n_row_blocks = n_rows.div_ceil(n_task);
    // One product after the other, and columns first: tasks beside each other read other weights
    // and the same rows.
    let task = |mut index: usize| {
        for product in products {
            let n_tasks = n_row_blocks * product.n_blocks();
            if index < n_tasks {
                let row = index / product.n_blocks() * n_task;
                let rows = row..(row + n_task).min(n_rows);
                product.block(&rows, index % product.n_blocks());
                return;
            }
            index -= n_tasks;
        }
    };
    let tasks = 0..n_row_blocks * n_blocks;
    let n_numbers = |product: &Product<'_>| product.right.n_terms * product.right.n_columns;
    let n_numbers: usize = products.iter().map(n_numbers).sum();
    let is_small = n_numbers < SERIAL[0] && n_numbers * n_rows < SERIAL[1];
    match threads {
        Threads::All if !is_small => tasks.into_par_iter().for_each(task),
        Threads::All | Threads::One => tasks.for_each(task),
    }
}

/// Rounds numbers.
pub(crate) fn round(numbers: &[f32], rounded: &mut [bf16]) {
    Instructions::found().round(numbers, rounded);
}

/// A product whose operands are packed.
struct Product<'a> {
    instructions: Instructions,
    left: Left<'a>,
    right: Right<'a>,
    /// Of `n_rows · right.n_columns` numbers.
    start: *mut f32,
    n_rows: usize,
    accumulate: bool,
}

#[expect(
    unsafe_code,
    reason = "tasks of a product write to disjoint blocks, see run"
)]
// SAFETY: blocks of rows and panels are disjoint, and `multiply_with` borrows `out` mutably for as
// long as its tasks run.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    fn n_panels(&self) -> usize {
        self.right.n_columns.div_ceil(LANES)
    }

    /// Blocks of panels.
    fn n_blocks(&self) -> usize {
        self.n_panels().div_ceil(PANELS_PER_TASK)
    }

    /// The sums of some rows and a block of panels, some terms after others.
    fn block(&self, rows: &Range<usize>, block: usize) {
        let panel = block * PANELS_PER_TASK;
        let panels = panel..(panel + PANELS_PER_TASK).min(self.n_panels());
        let n_pairs = self.right.n_pairs();
        if n_pairs == 0 && !self.accumulate {
            self.tiles(rows, panels, 0..0);
            return;
        }
        for pair in (0..n_pairs).step_by(PAIRS_PER_RUN) {
            let pairs = pair..(pair + PAIRS_PER_RUN).min(n_pairs);
            self.tiles(rows, panels.clone(), pairs);
        }
    }

    /// Adds some terms to the sums of a block, in tiles that fill the registers: those of one shape
    /// and of the same panels one below the other.
    fn tiles(&self, rows: &Range<usize>, panels: Range<usize>, pairs: Range<usize>) {
        let mut row = rows.start;
        while row < rows.end {
            let [n_rows, most] = self.instructions.tile_shape(rows.end - row, panels.len());
            let n_tiles = (rows.end - row) / n_rows;
            let mut panel = panels.start;
            while panel < panels.end {
                let left = most.min(panels.end - panel);
                let fits = PANELS_PER_TILE.into_iter().find(|n| *n <= left);
                let n_panels = fits.expect("one fits");
                let right: [&[Pair]; PANELS_PER_TASK] = std::array::from_fn(|index| {
                    if index < n_panels {
                        self.right.panel(panel + index, &pairs)
                    } else {
                        &[]
                    }
                });
                let tiles = Tiles {
                    left: self.left.from(row, pairs.start),
                    right,
                    place: self.place(row, panel),
                    is_sum: self.accumulate || pairs.start > 0,
                    n: n_tiles,
                };
                self.instructions.add_up([n_rows, n_panels], tiles);
                panel += n_panels;
            }
            row += n_tiles * n_rows;
        }
    }

    /// Where the numbers of a tile begin that starts in this row and panel.
    fn place(&self, row: usize, panel: usize) -> Place {
        let n_columns = self.right.n_columns;
        let at = row * n_columns + panel * LANES;
        Place::new(self.start, self.n_rows * n_columns, at, n_columns)
    }
}

/// Numbers of many sizes: sums are rounded at each step.
#[cfg(test)]
fn numbers(n: usize, salt: usize) -> Vec<f32> {
    let numbers = crate::device::numbers(n, salt).into_iter().enumerate();
    let size = |index: usize| 2f32.powi(((index + salt) * 31 % 13) as i32 - 6);
    numbers.map(|(index, x)| x * size(index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::matrix::Matrix;

    fn rounded(numbers: &[f32]) -> Vec<f32> {
        let halves = numbers.iter().map(|x| bf16::from_f32(*x).to_f32());
        halves.collect()
    }

    /// The chain of the module's words: `of` has the terms of a row or a column.
    fn chain(start: f32, row: &[f32], column: &[f32]) -> f32 {
        let pairs = row.chunks(2).zip(column.chunks(2));
        pairs.fold(start, |sum, (x, w)| {
            let sum = match (x.get(1), w.get(1)) {
                (Some(x), Some(w)) => x.mul_add(*w, sum),
                _ => sum,
            };
            x[0].mul_add(w[0], sum)
        })
    }

    /// Shapes on both sides of every bound; operands in rows and in columns; sums anew and on top.
    #[test]
    fn a_number_is_one_chain_whatever_is_beside_it() {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 192, 200),
            (2, 3, 5),
            (3, 16, 7),
            (5, 33, 100),
            (9, 50, 49),
            (67, 64, 113),
            (130, 40, 100),
            (8, 1100, 48),
            (23, 515, 17),
        ] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let (of_rows, of_columns) = (rounded(&x), rounded(&w));
            let turned = |data: &[f32], rows: usize| -> Vec<f32> {
                let width = data.len() / rows;
                let at = |index: usize| data[index % rows * width + index / rows];
                (0..data.len()).map(at).collect()
            };
            let (x_turned, w_turned) = (turned(&x, m), turned(&w, n));
            let left = [View::new(&x, m, k), View::new(&x_turned, k, m).transposed()];
            let right = [View::new(&w, n, k).transposed(), View::new(&w_turned, k, n)];
            let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let halves = Panels::of_weight(Matrix::Bf16(&halves), k);
            for accumulate in [false, true] {
                let expected: Vec<f32> = (0..m * n)
                    .map(|at| {
                        let (row, column) = (at / n * k, at % n * k);
                        let start = if accumulate { 0.3 } else { 0.0 };
                        chain(
                            start,
                            &of_rows[row..row + k],
                            &of_columns[column..column + k],
                        )
                    })
                    .collect();
                let product = |instructions, lhs, rhs: &Panels| {
                    let mut out = vec![0.3; m * n];
                    with_rows(lhs, Threads::All, |lhs| {
                        let threads = Threads::All;
                        let parts = [(out.as_mut_slice(), accumulate, rhs.into())];
                        multiply_with(instructions, parts, lhs, threads);
                    });
                    out
                };
                for instructions in [Instructions::Portable, Instructions::found()] {
                    for lhs in left {
                        let found = product(instructions, lhs, &halves);
                        assert!(found == expected, "{instructions:?}: {m} {k} {n}");
                    }
                }
                for rhs in right {
                    let mut out = vec![0.3; m * n];
                    multiply(&mut out, accumulate, left[0], rhs, Threads::One);
                    assert!(out == expected, "{m} {k} {n} {accumulate}");
                }
            }
        }
    }

    /// Of one, two and more blocks of rows, in blocks of panels that are full and that are not.
    #[test]
    fn products_that_are_made_at_once_are_those_made_one_by_one() {
        let k = 300;
        for m in [1, 8, 16, 17, 40, 70, 200] {
            let x = numbers(m * k, 1);
            let widths = [150, 16, 97];
            let panels = widths.map(|n| {
                let mut panels = Panels::default();
                panels.set(View::new(&numbers(k * n, n), k, n), Threads::One);
                panels
            });
            let [mut found, mut expected] = [(); 2].map(|()| widths.map(|n| vec![0.3; m * n]));
            with_rows(View::new(&x, m, k), Threads::One, |lhs| {
                let accumulate = [false, true, false];
                let [a, b, c] = &mut found;
                let parts = [(a, 0), (b, 1), (c, 2)]
                    .map(|(out, part)| (&mut **out, accumulate[part], (&panels[part]).into()));
                multiply_each(parts, lhs, Threads::All);
                for (part, out) in expected.iter_mut().enumerate() {
                    multiply_packed(out, accumulate[part], lhs, &panels[part], Threads::One);
                }
            });
            assert!(found == expected, "{m} rows");
        }
    }

    /// Of more terms than a run has, and of fewer: the first columns and terms of what is packed.
    #[test]
    fn a_part_of_an_operand_is_that_part_packed_by_itself() {
        let (n_terms, n_columns, m) = (1100, 70, 9);
        let w = numbers(n_terms * n_columns, 2);
        let mut panels = Panels::default();
        panels.set(View::new(&w, n_terms, n_columns), Threads::All);
        for (k, n) in [
            (1100, 70),
            (1099, 17),
            (513, 64),
            (512, 33),
            (7, 1),
            (1, 70),
        ] {
            let x = numbers(m * k, 1);
            let lhs = View::new(&x, m, k);
            let part: Vec<f32> = w
                .chunks(n_columns)
                .take(k)
                .flat_map(|row| row[..n].iter().copied())
                .collect();
            let (mut out, mut expected) = (vec![0.3; m * n], vec![0.3; m * n]);
            let right = Right::from(&panels).columns(n).terms(k);
            multiply_panels(&mut out, true, lhs, right, Threads::All);
            multiply(
                &mut expected,
                true,
                lhs,
                View::new(&part, k, n),
                Threads::One,
            );
            assert!(out == expected, "{k} {n}");
        }
    }

    /// What is no number stays none, and nothing is read of sums that are made anew.
    #[test]
    fn what_is_no_number_is_seen() {
        let mut x = numbers(9 * 6, 1);
        let w = numbers(5 * 6, 2);
        x[3 * 6 + 5] = f32::NAN;
        let mut out = vec![f32::NAN; 9 * 5];
        let rhs = View::new(&w, 5, 6).transposed();
        multiply(&mut out, false, View::new(&x, 9, 6), rhs, Threads::All);
        for (row, out) in out.chunks(5).enumerate() {
            assert!(out.iter().all(|x| x.is_nan() == (row == 3)), "row {row}");
        }
        let mut out = [1.0; 4];
        let none = View::new(&[], 2, 0);
        multiply(&mut out, true, none, View::new(&[], 0, 2), Threads::All);
        assert_eq!(out, [1.0; 4]);
        multiply(&mut out, false, none, View::new(&[], 0, 2), Threads::All);
        assert_eq!(out, [0.0; 4]);
    }
}
