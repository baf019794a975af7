//! Products of rows with a weight, for generation: the bits of `x · w` depend on `x` and `w` alone.
//!
//! Which rows run together depends on the size of the cache and on who waits for whom, and no
//! result may depend on that. Here every sum is one chain, `((x₀ w₀) + x₁ w₁) + …` with each
//! product fused into the next sum; what runs beside it, and how wide registers are, only decides
//! how many chains run at once.
//!
//! Weights are read where they lie. A register holds the same number of several rows, and meets a
//! number of the weight that is repeated; so the rows are packed, and where they are so few that a
//! register would be empty, the weight is transposed on its way instead, and widened if it is
//! `bf16`.

use std::cell::Cell;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::has_wide_registers;
use super::matrix::{Matrix, Threads};
use super::tiles::{
    COLUMNS_MAX, LANES_MAX, eight_rows, few, few_halves, tile, tile_wide, transpose,
};

/// Rows whose packed form exists at once.
const ROWS_PER_CHUNK: usize = 512;
/// Rows of a task.
const ROWS_PER_TASK: usize = 64;
/// Columns of a task, and tasks that a product is cut into where it has columns enough.
const COLUMNS_PER_TASK: [usize; 2] = [24, 96];
const TASKS: usize = 8;
/// Below so many numbers of the weight, or so many products, there is one task.
const SERIAL: [usize; 2] = [1 << 17, 1 << 19];
/// Up to so many rows the weight is transposed.
const FEW: usize = 4;
thread_local! {
    /// The memory of the last packed rows.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    /// The memory of the last block of a weight that was widened.
    static WIDE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `out = x · weightᵀ` (or `+=`) for `x` `[rows, width]` and a weight `[columns, width]`.
pub(crate) fn multiply_rows(
    out: &mut [f32],
    accumulate: bool,
    x: &[f32],
    width: usize,
    weight: Matrix<'_>,
) {
    let n_rows = x.len() / width;
    let n_columns = weight.n_numbers() / width;
    assert_eq!(out.len(), n_rows * n_columns, "rows of a product");
    if n_columns == 0 {
        return;
    }
    let mut packed = PACKED.take();
    for (x, out) in x
        .chunks(ROWS_PER_CHUNK * width)
        .zip(out.chunks_mut(ROWS_PER_CHUNK * n_columns))
    {
        let panels = Panels::pack(x, width, &mut packed, Threads::All);
        let slots = Slots {
            start: out.as_mut_ptr(),
            n: out.len(),
            n_columns,
            accumulate,
        };
        run(&panels, width, weight, &slots);
    }
    PACKED.set(packed);
}

/// `out = x · columnsᵀ` for columns that lie anywhere; this thread works on it alone.
pub(crate) fn multiply_columns<'a>(
    out: &mut [f32],
    x: &[f32],
    width: usize,
    n_columns: usize,
    column: impl Fn(usize) -> &'a [f32],
) {
    let n_rows = x.len() / width;
    assert_eq!(out.len(), n_rows * n_columns, "rows of a product");
    if n_columns == 0 {
        return;
    }
    let mut packed = PACKED.take();
    let panels = Panels::pack(x, width, &mut packed, Threads::One);
    let slots = Slots {
        start: out.as_mut_ptr(),
        n: out.len(),
        n_columns,
        accumulate: false,
    };
    panels.times(&(0..n_rows), &column, 0..n_columns, &slots);
    PACKED.set(packed);
}

/// Cuts a product into blocks of rows and columns, by its shape alone.
fn run(panels: &Panels<'_>, width: usize, weight: Matrix<'_>, slots: &Slots) {
    let (n_rows, n_columns) = (panels.n_rows, slots.n_columns);
    let [least, most] = COLUMNS_PER_TASK;
    let n_block = n_columns.div_ceil(TASKS).next_multiple_of(least).min(most);
    let n_blocks = [n_rows.div_ceil(ROWS_PER_TASK), n_columns.div_ceil(n_block)];
    let task = |index: usize| {
        // Columns first: tasks beside each other read other weights and the same rows.
        let (row, column) = (
            index / n_blocks[1] * ROWS_PER_TASK,
            index % n_blocks[1] * n_block,
        );
        let rows = row..(row + ROWS_PER_TASK).min(n_rows);
        let columns = column..(column + n_block).min(n_columns);
        match weight {
            Matrix::F32(weight) => {
                let column = |index: usize| &weight[index * width..][..width];
                panels.times(&rows, &column, columns, slots);
            }
            Matrix::Bf16(weight) => {
                let column = |index: usize| &weight[index * width..][..width];
                panels.times_halves(&rows, &column, columns, slots);
            }
        }
    };
    let tasks = 0..n_blocks[0] * n_blocks[1];
    let n_numbers = weight.n_numbers();
    if n_numbers < SERIAL[0] && n_numbers * n_rows < SERIAL[1] {
        tasks.for_each(task);
    } else {
        tasks.into_par_iter().for_each(task);
    }
}

/// Rows in the form that tiles read: `[panel, width, lanes]`, or as they are where they are few.
struct Panels<'a> {
    x: &'a [f32],
    packed: &'a [f32],
    width: usize,
    n_rows: usize,
    lanes: usize,
}

impl<'a> Panels<'a> {
    fn pack(x: &'a [f32], width: usize, packed: &'a mut Vec<f32>, threads: Threads) -> Self {
        let n_rows = x.len() / width;
        let lanes = if n_rows <= FEW {
            0
        } else if n_rows <= 8 {
            8
        } else if n_rows > 16 && has_wide_registers() {
            LANES_MAX
        } else {
            16
        };
        if lanes > 0 {
            packed.resize(n_rows.next_multiple_of(lanes) * width, 0.0);
            let n = lanes * width;
            match threads {
                Threads::All => packed
                    .par_chunks_mut(n)
                    .zip(x.par_chunks(n))
                    .with_min_len(4)
                    .for_each(|(panel, rows)| transpose(rows, width, panel, lanes)),
                Threads::One => packed
                    .chunks_mut(n)
                    .zip(x.chunks(n))
                    .for_each(|(panel, rows)| transpose(rows, width, panel, lanes)),
            }
        }
        Self {
            x,
            packed,
            width,
            n_rows,
            lanes,
        }
    }

    /// Some rows times some columns.
    fn times<'c>(
        &self,
        rows: &Range<usize>,
        column: &impl Fn(usize) -> &'c [f32],
        columns: Range<usize>,
        slots: &Slots,
    ) {
        match (self.lanes, self.n_rows) {
            (0, 1) => self.transposed(rows, column, columns, slots, few::<1, 2>),
            (0, 2) => self.transposed(rows, column, columns, slots, few::<2, 2>),
            (0, _) => self.transposed(rows, column, columns, slots, few::<FEW, 1>),
            (8, _) => self.tiles(rows, column, columns, slots, tile::<1, 8>),
            (16, _) => self.tiles(rows, column, columns, slots, tile::<2, 6>),
            (_, _) => self.tiles(rows, column, columns, slots, tile_wide::<6>),
        }
    }

    /// [`Self::times`] for columns in `bf16`.
    fn times_halves<'c>(
        &self,
        rows: &Range<usize>,
        column: &impl Fn(usize) -> &'c [bf16],
        columns: Range<usize>,
        slots: &Slots,
    ) {
        match (self.lanes, self.n_rows) {
            (0, 1) => self.transposed(rows, column, columns, slots, few_halves::<1, 2>),
            (0, 2) => self.transposed(rows, column, columns, slots, few_halves::<2, 2>),
            (0, _) => self.transposed(rows, column, columns, slots, few_halves::<FEW, 1>),
            (_, _) => {
                let mut wide = WIDE.take();
                for first in columns.clone().step_by(COLUMNS_PER_TASK[0]) {
                    let part = first..(first + COLUMNS_PER_TASK[0]).min(columns.end);
                    wide.clear();
                    wide.extend(part.clone().flat_map(column).copied().map(bf16::to_f32));
                    let column = |index: usize| &wide[(index - first) * self.width..][..self.width];
                    self.times(rows, &column, part, slots);
                }
                WIDE.set(wide);
            }
        }
    }

    /// In tiles of `C` columns: `tile` takes a panel, its columns and their sums.
    fn tiles<'c, const C: usize>(
        &self,
        rows: &Range<usize>,
        column: &impl Fn(usize) -> &'c [f32],
        columns: Range<usize>,
        slots: &Slots,
        tile: impl Fn(&[f32], &[&[f32]; C], &mut [[f32; LANES_MAX]; COLUMNS_MAX]),
    ) {
        let mut sums = [[0.0; LANES_MAX]; COLUMNS_MAX];
        for at in columns.clone().step_by(C) {
            let of_tile = tile_columns(column, at, columns.end);
            let n = C.min(columns.end - at);
            for row in rows.clone().step_by(self.lanes) {
                let panel = &self.packed[row * self.width..][..self.lanes * self.width];
                tile(panel, &of_tile, &mut sums);
                let rows = row..(row + self.lanes).min(rows.end);
                for (index, row) in rows.clone().step_by(8).enumerate() {
                    for (row, sums) in (row..rows.end).zip(eight_rows(&sums, index)) {
                        // Nearly always all: a number of them that is known makes short work.
                        if n == C {
                            slots.put(row, at, sums[..C].iter().copied());
                        } else {
                            slots.put(row, at, sums[..n].iter().copied());
                        }
                    }
                }
            }
        }
    }

    /// `R` rows at once with `P` times eight columns, which `few` transposes for them.
    fn transposed<'c, T: 'c, const R: usize, const P: usize>(
        &self,
        rows: &Range<usize>,
        column: &impl Fn(usize) -> &'c [T],
        columns: Range<usize>,
        slots: &Slots,
        few: impl Fn(&[&[f32]; R], &[[&[T]; 8]; P]) -> [[[f32; 8]; P]; R],
    ) {
        let row = |index: usize| &self.x[index * self.width..][..self.width];
        let row: [&[f32]; R] = tile_columns(&row, rows.start, rows.end);
        for at in columns.clone().step_by(8 * P) {
            let of_tile: [[&[T]; 8]; P] =
                std::array::from_fn(|part| tile_columns(column, at + 8 * part, columns.end));
            let sums = few(&row, &of_tile);
            for (row, sums) in rows.clone().zip(sums) {
                let n = (8 * P).min(columns.end - at);
                slots.put(row, at, sums.as_flattened()[..n].iter().copied());
            }
        }
    }
}

/// Columns (or rows) from one on; behind the last it is repeated.
fn tile_columns<'c, T, const C: usize>(
    column: &impl Fn(usize) -> &'c [T],
    first: usize,
    end: usize,
) -> [&'c [T]; C] {
    std::array::from_fn(|index| column((first + index).min(end - 1)))
}

/// The numbers of a result, each written by one task.
#[derive(Debug)]
struct Slots {
    start: *mut f32,
    n: usize,
    n_columns: usize,
    accumulate: bool,
}

#[expect(
    unsafe_code,
    reason = "tasks of one product write to disjoint blocks, see run"
)]
// SAFETY: blocks of rows and columns are disjoint, and `multiply_rows` borrows `out` mutably for
// as long as its tasks run.
unsafe impl Sync for Slots {}

impl Slots {
    /// Writes numbers beside each other.
    #[inline]
    #[expect(unsafe_code, reason = "the bound is asserted")]
    fn put(&self, row: usize, column: usize, values: impl ExactSizeIterator<Item = f32>) {
        let at = row * self.n_columns + column;
        assert!(at + values.len() <= self.n, "{at} is outside {}", self.n);
        // SAFETY: the numbers are inside `out`, and this task alone reads and writes them.
        let place = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), values.len()) };
        for (place, value) in place.iter_mut().zip(values) {
            *place = if self.accumulate {
                *place + value
            } else {
                value
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::numbers;

    #[test]
    fn products_equal_the_plain_ones_and_a_rows_bits_are_its_own() {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 75, 90),
            (2, 3, 3),
            (5, 16, 7),
            (9, 50, 49),
            (130, 40, 100),
            (67, 64, 200),
            (4, 31, 25),
            (8, 130, 1030),
            (ROWS_PER_CHUNK + 3, 9, 17),
        ] {
            let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
            let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let widened: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
            let mut out = vec![0.5; m * n];
            multiply_rows(&mut out, true, &x, k, Matrix::F32(&w));
            let (mut of_halves, mut of_widened) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
            multiply_rows(&mut of_halves, false, &x, k, Matrix::Bf16(&halves));
            multiply_rows(&mut of_widened, false, &x, k, Matrix::F32(&widened));
            assert_eq!(of_halves, of_widened);
            let mut of_columns = vec![f32::NAN; m * n];
            multiply_columns(&mut of_columns, &x, k, n, |column| {
                &widened[column * k..][..k]
            });
            assert_eq!(of_columns, of_widened);
            for row in 0..m {
                let x = &x[row * k..(row + 1) * k];
                for column in 0..n {
                    let w = &w[column * k..(column + 1) * k];
                    let chain = x
                        .iter()
                        .zip(w)
                        .fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
                    assert_eq!(
                        out[row * n + column],
                        0.5 + chain,
                        "{m} {k} {n}: {row} {column}"
                    );
                }
            }
        }
    }
}
