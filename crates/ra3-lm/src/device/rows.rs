//! Products of rows with a weight, for generation: the bits of `x · w` depend on `x` and `w` alone.
//!
//! Which rows run together depends on the size of the cache and on who waits for whom, and no
//! result may depend on that. Here every sum is one chain, `((x₀ w₀) + x₁ w₁) + …` with each product
//! fused into the next sum; what runs beside it, and how wide registers are, only decides how many
//! chains run at once.
//!
//! Weights are read where they lie. A register holds the same number of several rows, and meets a
//! number of the weight that is repeated; so the rows are packed, and where they are so few that a
//! register would be empty, the weight is turned on its way instead.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_loadu_ps, _mm_prefetch, _mm256_castps128_ps256, _mm256_fmadd_ps,
    _mm256_insertf128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};
use std::cell::Cell;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::matrix::Matrix;

/// Rows whose packed form exists at once.
const ROWS_PER_CHUNK: usize = 512;
/// Rows of a task.
const ROWS_PER_TASK: usize = 64;
/// Columns of a task, and tasks that a product is cut into where it has columns enough.
const COLUMNS_PER_TASK: [usize; 2] = [24, 96];
const TASKS: usize = 8;
/// Below so many numbers of the weight, or so many products, there is one task.
const SERIAL: [usize; 2] = [1 << 17, 1 << 19];
/// Up to so many rows the weight is turned.
const FEW: usize = 4;
/// Numbers of a line of the processor's caches.
const LINE: usize = 16;
/// Most numbers of a tile's column, and most columns of a tile.
const LANES_MAX: usize = 32;
const COLUMNS_MAX: usize = 8;

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
        let panels = Panels::pack(x, width, &mut packed);
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
        let numbers = columns.start * width..columns.end * width;
        match weight {
            Matrix::F32(weight) => panels.times(&rows, &weight[numbers], column, slots),
            Matrix::Bf16(weight) => {
                let mut wide = WIDE.take();
                wide.clear();
                wide.extend(weight[numbers].iter().copied().map(bf16::to_f32));
                panels.times(&rows, &wide, column, slots);
                WIDE.set(wide);
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
    fn pack(x: &'a [f32], width: usize, packed: &'a mut Vec<f32>) -> Self {
        let n_rows = x.len() / width;
        let lanes = if n_rows <= FEW {
            0
        } else if n_rows <= 8 {
            8
        } else if n_rows > 16 && is_x86_feature_detected!("avx512f") {
            LANES_MAX
        } else {
            16
        };
        if lanes > 0 {
            packed.resize(n_rows.next_multiple_of(lanes) * width, 0.0);
            packed
                .par_chunks_mut(lanes * width)
                .zip(x.par_chunks(lanes * width))
                .with_min_len(4)
                .for_each(|(panel, rows)| turn(rows, width, panel, lanes));
        }
        Self {
            x,
            packed,
            width,
            n_rows,
            lanes,
        }
    }

    /// Some rows times some columns of the weight, of which the first has this number.
    fn times(&self, rows: &Range<usize>, weight: &[f32], first: usize, slots: &Slots) {
        match (self.lanes, self.n_rows) {
            (0, 1) => self.turned::<1, 2>(rows, weight, first, slots),
            (0, _) => self.turned::<FEW, 1>(rows, weight, first, slots),
            (8, _) => self.tiles(rows, weight, first, slots, tile_256::<1, 8>),
            (16, _) => self.tiles(rows, weight, first, slots, tile_256::<2, 6>),
            (_, _) => self.tiles(rows, weight, first, slots, tile_512::<6>),
        }
    }

    /// In tiles of `C` columns: `tile` takes a panel, its columns and their sums.
    fn tiles<const C: usize>(
        &self,
        rows: &Range<usize>,
        weight: &[f32],
        first: usize,
        slots: &Slots,
        tile: impl Fn(&[f32], &[&[f32]; C], &mut [[f32; LANES_MAX]; COLUMNS_MAX]),
    ) {
        let n_columns = weight.len() / self.width;
        let mut sums = [[0.0; LANES_MAX]; COLUMNS_MAX];
        for at in (0..n_columns).step_by(C) {
            let columns = columns(weight, self.width, at);
            let n = C.min(n_columns - at);
            for row in rows.clone().step_by(self.lanes) {
                let panel = &self.packed[row * self.width..][..self.lanes * self.width];
                tile(panel, &columns, &mut sums);
                let rows = row..(row + self.lanes).min(rows.end);
                for (index, row) in rows.clone().step_by(8).enumerate() {
                    let eight = std::array::from_fn(|j| &sums[j].as_chunks::<8>().0[index]);
                    #[expect(unsafe_code, reason = "the processor's instructions")]
                    // SAFETY: every processor that this crate is built for has AVX2.
                    let of_rows = unsafe { turn_256(eight) }.map(numbers_of);
                    for (row, sums) in (row..rows.end).zip(of_rows) {
                        // Nearly always all: a number of them that is known makes short work.
                        if n == C {
                            slots.put(row, first + at, sums[..C].iter().copied());
                        } else {
                            slots.put(row, first + at, sums[..n].iter().copied());
                        }
                    }
                }
            }
        }
    }

    /// `R` rows at once with `P` times eight columns, which are turned for them.
    fn turned<const R: usize, const P: usize>(
        &self,
        rows: &Range<usize>,
        weight: &[f32],
        first: usize,
        slots: &Slots,
    ) {
        let width = self.width;
        let n_columns = weight.len() / width;
        let row: [&[f32]; R] = columns(&self.x[rows.start * width..rows.end * width], width, 0);
        for at in (0..n_columns).step_by(8 * P) {
            let columns: [[&[f32]; 8]; P] =
                std::array::from_fn(|part| columns(weight, width, at + 8 * part));
            let sums = few(&row, &columns);
            for (row, sums) in rows.clone().zip(sums) {
                let n = (8 * P).min(n_columns - at);
                slots.put(row, first + at, sums.as_flattened()[..n].iter().copied());
            }
        }
    }
}

/// Rows of a matrix from one on; behind the last it is repeated.
fn columns<const C: usize>(matrix: &[f32], width: usize, first: usize) -> [&[f32]; C] {
    let last = matrix.len() / width - 1;
    std::array::from_fn(|index| &matrix[(first + index).min(last) * width..][..width])
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

/// Writes up to `lanes` rows as columns of a panel; what is in the other lanes is never read.
fn turn(rows: &[f32], width: usize, panel: &mut [f32], lanes: usize) {
    let n_rows = rows.len() / width;
    for first in (0..n_rows).step_by(8) {
        let eight: [&[f32]; 8] = columns(rows, width, first);
        let blocks = eight.map(|row| row.as_chunks::<8>());
        for at in 0..width / 8 {
            #[expect(unsafe_code, reason = "the processor's instructions")]
            // SAFETY: every processor that this crate is built for has AVX2 (.cargo/config.toml).
            let turned = unsafe { turn_256(std::array::from_fn(|row| &blocks[row].0[at])) };
            for (index, lanes_of) in turned.into_iter().enumerate() {
                let place = &mut panel[(at * 8 + index) * lanes + first..][..8];
                place.copy_from_slice(&numbers_of(lanes_of));
            }
        }
        for at in width / 8 * 8..width {
            for (lane, row) in eight.iter().enumerate() {
                panel[at * lanes + first + lane] = row[at];
            }
        }
    }
}

/// Sums of a panel of `8 V` lanes with `C` columns.
#[inline]
fn tile_256<const V: usize, const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let n = columns[0].len();
    assert!(panel.len() == 8 * V * n && columns.iter().all(|column| column.len() == n));
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    unsafe {
        sums_256::<V, C>(panel.as_chunks::<8>().0.as_chunks::<V>().0, columns, sums);
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn sums_256<const V: usize, const C: usize>(
    panel: &[[[f32; 8]; V]],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let columns: [&[f32]; C] = columns.map(|column| &column[..panel.len()]);
    let ahead = columns[C - 1].as_ptr_range().end;
    let mut chains = [[_mm256_setzero_ps(); V]; C];
    for (at, x) in panel.iter().enumerate() {
        fetch(ahead, C * at);
        for j in 0..C {
            let w = _mm256_set1_ps(columns[j][at]);
            for v in 0..V {
                chains[j][v] = _mm256_fmadd_ps(register(&x[v]), w, chains[j][v]);
            }
        }
    }
    for j in 0..C {
        for v in 0..V {
            sums[j][8 * v..8 * v + 8].copy_from_slice(&numbers_of(chains[j][v]));
        }
    }
}

/// [`tile_256`] in two registers of twice the width: the same sums.
#[inline]
fn tile_512<const C: usize>(
    panel: &[f32],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let n = columns[0].len();
    assert!(panel.len() == LANES_MAX * n && columns.iter().all(|column| column.len() == n));
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: panels of this width are made where AVX-512 was found.
    unsafe {
        sums_512::<C>(panel.as_chunks::<16>().0.as_chunks::<2>().0, columns, sums);
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "sixteen numbers are a register")]
fn sums_512<const C: usize>(
    panel: &[[[f32; 16]; 2]],
    columns: &[&[f32]; C],
    sums: &mut [[f32; LANES_MAX]; COLUMNS_MAX],
) {
    let columns: [&[f32]; C] = columns.map(|column| &column[..panel.len()]);
    let ahead = columns[C - 1].as_ptr_range().end;
    let mut chains = [[_mm512_setzero_ps(); 2]; C];
    for (at, x) in panel.iter().enumerate() {
        fetch(ahead, C * at);
        // SAFETY: both are sixteen numbers.
        let x = x.each_ref().map(|x| unsafe { _mm512_loadu_ps(x.as_ptr()) });
        for j in 0..C {
            let w = _mm512_set1_ps(columns[j][at]);
            for v in 0..2 {
                chains[j][v] = _mm512_fmadd_ps(x[v], w, chains[j][v]);
            }
        }
    }
    for j in 0..C {
        for (place, chain) in sums[j].as_chunks_mut::<16>().0.iter_mut().zip(chains[j]) {
            // SAFETY: sixteen numbers.
            unsafe { _mm512_storeu_ps(place.as_mut_ptr(), chain) };
        }
    }
}

/// Sums of `R` rows with `P` times eight columns.
fn few<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len();
    let all = x.iter().chain(columns.as_flattened());
    assert!(
        all.into_iter().all(|row| row.len() == n),
        "rows of one width"
    );
    #[expect(unsafe_code, reason = "the processor's instructions")]
    // SAFETY: every processor that this crate is built for has AVX2 and FMA (.cargo/config.toml).
    let mut sums = unsafe { few_256(x, columns) };
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sums, columns) in sums.iter_mut().zip(columns) {
            for (sum, column) in sums.iter_mut().zip(columns) {
                for at in n / 8 * 8..n {
                    *sum = x[at].mul_add(column[at], *sum);
                }
            }
        }
    }
    sums
}

/// [`few`] without the last numbers, which fill no register.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn few_256<const R: usize, const P: usize>(
    x: &[&[f32]; R],
    columns: &[[&[f32]; 8]; P],
) -> [[[f32; 8]; P]; R] {
    let n = x[0].len() / 8;
    let ahead = columns[P - 1][7].as_ptr_range().end;
    let x = x.map(|x| &x.as_chunks::<8>().0[..n]);
    let columns = columns.map(|eight| eight.map(|column| &column.as_chunks::<8>().0[..n]));
    let mut chains = [[_mm256_setzero_ps(); P]; R];
    for at in 0..n {
        for line in 0..4 * P {
            fetch(ahead, 64 * P * at + LINE * line);
        }
        for p in 0..P {
            let turned = turn_256(std::array::from_fn(|column| &columns[p][column][at]));
            for l in 0..8 {
                for r in 0..R {
                    let x = _mm256_set1_ps(x[r][at][l]);
                    chains[r][p] = _mm256_fmadd_ps(x, turned[l], chains[r][p]);
                }
            }
        }
    }
    chains.map(|of_row| of_row.map(numbers_of))
}

/// Brings a number nearer that the next tile reads: behind its columns lie those of the next. The
/// processor does not foresee it, for a column is short.
#[inline]
fn fetch(end: *const f32, offset: usize) {
    #[expect(unsafe_code, reason = "a hint")]
    // SAFETY: a hint reads nothing, and may name what is not there.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(end.wrapping_add(offset).cast());
    }
}

/// Eight times eight numbers, rows as columns.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "four numbers are half a register")]
fn turn_256(rows: [&[f32; 8]; 8]) -> [__m256; 8] {
    let mut turned = [_mm256_setzero_ps(); 8];
    for half in 0..2 {
        // SAFETY: half a row is four numbers.
        let load = |row: usize| unsafe { _mm_loadu_ps(rows[row].as_ptr().add(4 * half)) };
        let pair =
            |row| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(load(row)), load(row + 4));
        let [a, b, c, d] = [pair(0), pair(1), pair(2), pair(3)];
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (low_2, high_2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        turned[4 * half] = _mm256_shuffle_ps::<0x44>(low, low_2);
        turned[4 * half + 1] = _mm256_shuffle_ps::<0xEE>(low, low_2);
        turned[4 * half + 2] = _mm256_shuffle_ps::<0x44>(high, high_2);
        turned[4 * half + 3] = _mm256_shuffle_ps::<0xEE>(high, high_2);
    }
    turned
}

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn register(numbers: &[f32; 8]) -> __m256 {
    // SAFETY: eight numbers are eight lanes.
    unsafe { std::mem::transmute::<[f32; 8], __m256>(*numbers) }
}

#[inline]
#[expect(unsafe_code, reason = "the same bytes")]
fn numbers_of(register: __m256) -> [f32; 8] {
    // SAFETY: eight lanes are eight numbers.
    unsafe { std::mem::transmute::<__m256, [f32; 8]>(register) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn products_equal_the_plain_ones_and_a_rows_bits_are_its_own() {
        for (m, k, n) in [
            (1, 1, 1),
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
