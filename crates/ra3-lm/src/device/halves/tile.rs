//! Sums of a few rows with a few panels, in the processor's registers.

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use std::sync::OnceLock;

use super::PANELS_PER_TASK;
use super::pack::{Left, Pair};

/// Columns of a panel.
pub(super) const LANES: usize = 16;

/// What a tile is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// AVX-512's for `bf16`.
    #[cfg(target_arch = "x86_64")]
    Bf16,
    /// Any processor's: numbers are widened, and their products fused into the sums.
    Portable,
}

/// The first number of a tile, and the numbers from one row to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: *mut f32,
    stride: usize,
    /// From the first number on: in its row, and in all.
    n_columns: usize,
    n: usize,
}

impl Place {
    /// In a matrix of `n` numbers at `start`, `stride` a row, from number `at` on.
    pub(super) fn new(start: *mut f32, n: usize, at: usize, stride: usize) -> Self {
        assert!(at < n, "{at} is outside {n}");
        Self {
            start: start.wrapping_add(at),
            stride,
            n_columns: stride - at % stride,
            n: n - at,
        }
    }

    /// Columns of each of a tile's panels, of which there are `n_rows` rows here.
    fn widths<const C: usize>(&self, n_rows: usize) -> [usize; C] {
        let widths =
            std::array::from_fn(|panel| LANES.min(self.n_columns.saturating_sub(panel * LANES)));
        let n: usize = widths.iter().sum();
        let n = (n_rows - 1) * self.stride + n;
        assert!(n <= self.n, "{n} numbers are not inside {}", self.n);
        widths
    }
}

impl Instructions {
    /// Those of this processor, if it has some that round as the chain does.
    pub(super) fn found() -> Self {
        static FOUND: OnceLock<Instructions> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx512bf16")
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && Self::Bf16.sample() == Self::Portable.sample()
            {
                return Self::Bf16;
            }
            Self::Portable
        })
    }

    /// The sums of a row of pairs and a panel, whose last digits tell how they were made.
    #[cfg(target_arch = "x86_64")]
    fn sample(self) -> [f32; LANES] {
        let (row, panel) = (sample_pairs(0, 64), sample_pairs(64, 64 * LANES));
        let mut right: [&[Pair]; PANELS_PER_TASK] = [&[]; PANELS_PER_TASK];
        right[0] = &panel;
        let left = Left {
            pairs: &row,
            row_stride: row.len(),
            pair_stride: 1,
        };
        let mut sums = [0.0; LANES];
        let tile = Tiles {
            left,
            right,
            place: Place::new(sums.as_mut_ptr(), LANES, 0, LANES),
            is_sum: false,
            n: 1,
        };
        self.add_up([1, 1], tile);
        sums
    }

    /// Rows and most panels of the tiles that fill the registers, where so many of both are left.
    pub(super) fn tile_shape(self, n_rows: usize, n_panels: usize) -> [usize; 2] {
        match (self, n_rows) {
            (Self::Portable, 4..) => [4, 1],
            (Self::Portable, 2..) => [2, 1],
            (Self::Portable, _) => [1, 1],
            #[cfg(target_arch = "x86_64")]
            (Self::Bf16, 6..) if n_panels == 4 => [6, 4],
            #[cfg(target_arch = "x86_64")]
            (Self::Bf16, 8..) => [8, 3],
            #[cfg(target_arch = "x86_64")]
            (Self::Bf16, 4..) => [4, PANELS_PER_TASK],
            #[cfg(target_arch = "x86_64")]
            (Self::Bf16, 2..) => [2, PANELS_PER_TASK],
            #[cfg(target_arch = "x86_64")]
            (Self::Bf16, _) => [1, PANELS_PER_TASK],
        }
    }

    /// Computes tiles of one of these shapes, or of fewer panels.
    pub(super) fn add_up(self, shape: [usize; 2], tiles: Tiles<'_>) {
        match shape[0] {
            8 => self.of_rows::<8>(shape[1], tiles),
            6 => self.of::<6, 4>(tiles),
            4 => self.of_rows::<4>(shape[1], tiles),
            2 => self.of_rows::<2>(shape[1], tiles),
            1 => self.of_rows::<1>(shape[1], tiles),
            n_rows => unreachable!("a tile of {n_rows} rows"),
        }
    }

    fn of_rows<const R: usize>(self, n_panels: usize, tiles: Tiles<'_>) {
        match n_panels {
            6 => self.of::<R, 6>(tiles),
            4 => self.of::<R, 4>(tiles),
            3 => self.of::<R, 3>(tiles),
            2 => self.of::<R, 2>(tiles),
            1 => self.of::<R, 1>(tiles),
            _ => unreachable!("a tile of {n_panels} panels"),
        }
    }

    fn of<const R: usize, const C: usize>(self, tiles: Tiles<'_>) {
        let left = tiles.left;
        let right: [&[[Pair; LANES]]; C] =
            std::array::from_fn(|panel| tiles.right[panel].as_chunks().0);
        let n_pairs = right[0].len();
        assert!(right.iter().all(|panel| panel.len() == n_pairs));
        let n_rows = tiles.n * R;
        if n_pairs > 0 {
            let last = (n_rows - 1) * left.row_stride + (n_pairs - 1) * left.pair_stride;
            assert!(last < left.pairs.len(), "rows of tiles");
        }
        let column = Column {
            left,
            right,
            place: tiles.place,
            widths: tiles.place.widths::<C>(n_rows),
            is_sum: tiles.is_sum,
            n: tiles.n,
        };
        #[expect(unsafe_code, reason = "the processor's instructions, and raw pointers")]
        // SAFETY: AVX-512 with bf16 was found; both operands and the place were held to their
        // bounds above, and the tiles' numbers are their task's alone.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Bf16 => column.add_up_512::<R>(),
                Self::Portable => (0..tiles.n).for_each(|tile| column.add_up::<R>(tile * R)),
            }
        }
    }
}

/// `n` tiles one below the other: the terms of `right`, added to the sums at `place` if there are
/// any yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
    pub(super) left: Left<'a>,
    /// As many as a tile has panels.
    pub(super) right: [&'a [Pair]; PANELS_PER_TASK],
    pub(super) place: Place,
    pub(super) is_sum: bool,
    pub(super) n: usize,
}

/// [`Tiles`] of `C` panels that were held to their bounds.
struct Column<'a, const C: usize> {
    left: Left<'a>,
    right: [&'a [[Pair; LANES]]; C],
    place: Place,
    widths: [usize; C],
    is_sum: bool,
    n: usize,
}

impl<const C: usize> Column<'_, C> {
    /// The tile that begins in this row.
    #[inline(never)]
    #[expect(unsafe_code, reason = "the tile's numbers are behind a pointer")]
    unsafe fn add_up<const R: usize>(&self, row: usize) {
        let row_of = |r: usize, c: usize| {
            let start = self
                .place
                .start
                .wrapping_add((row + r) * self.place.stride + c * LANES);
            // SAFETY: the tile's numbers, see `Instructions::of`.
            unsafe { std::slice::from_raw_parts_mut(start, self.widths[c]) }
        };
        let mut sums = [[[0.0f32; LANES]; C]; R];
        if self.is_sum {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (c, sums) in sums.iter_mut().enumerate() {
                    sums[..self.widths[c]].copy_from_slice(row_of(r, c));
                }
            }
        }
        let [row_stride, pair_stride] = [self.left.row_stride, self.left.pair_stride];
        for pair in 0..self.right[0].len() {
            let columns = self.right.map(|panel| panel[pair].map(widened));
            for (r, sums) in sums.iter_mut().enumerate() {
                let at = (row + r) * row_stride + pair * pair_stride;
                let row = widened(self.left.pairs[at]);
                for (sums, columns) in sums.iter_mut().zip(&columns) {
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = row[1].mul_add(column[1], *sum);
                        *sum = row[0].mul_add(column[0], *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sums) in sums.iter().enumerate() {
                row_of(r, c).copy_from_slice(&sums[..self.widths[c]]);
            }
        }
    }
}

/// Both numbers of a pair.
#[inline]
pub(super) fn widened(pair: Pair) -> [f32; 2] {
    [
        f32::from_bits(pair << 16),
        f32::from_bits(pair & 0xffff_0000),
    ]
}

/// Pairs of numbers of many sizes, so that sums are rounded at each step.
#[cfg(target_arch = "x86_64")]
fn sample_pairs(first: usize, n: usize) -> Vec<Pair> {
    let half = |index: usize| {
        let number = (index * 7919 % 1009) as f32 / 504.0 - 1.0;
        let size = (index * 31 % 13) as i32 - 6;
        Pair::from(half::bf16::from_f32(number * 2f32.powi(size)).to_bits())
    };
    let pair = |index: usize| half(2 * index) | half(2 * index + 1) << 16;
    (first..first + n).map(pair).collect()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    type Add = fn(f32, [f32; 2], [f32; 2]) -> f32;

    /// A sum in another order, or whose products are rounded by themselves, has other digits in
    /// some lane.
    #[test]
    fn the_sample_tells_how_it_was_made() {
        let (row, panel) = (sample_pairs(0, 64), sample_pairs(64, 64 * LANES));
        let sums = |add: Add| -> [f32; LANES] {
            std::array::from_fn(|lane| {
                let pairs = row.iter().zip(panel.iter().skip(lane).step_by(LANES));
                pairs.fold(0.0, |sum, (x, w)| add(sum, widened(*x), widened(*w)))
            })
        };
        let chain =
            |sum: f32, x: [f32; 2], w: [f32; 2]| x[0].mul_add(w[0], x[1].mul_add(w[1], sum));
        assert_eq!(Instructions::Portable.sample(), sums(chain));
        let others: [Add; 3] = [
            |sum, x, w| x[1].mul_add(w[1], x[0].mul_add(w[0], sum)),
            |sum, x, w| sum + x[1].mul_add(w[1], x[0] * w[0]),
            |sum, x, w| (f64::from(sum) + f64::from(x[0] * w[0]) + f64::from(x[1] * w[1])) as f32,
        ];
        for other in others {
            assert_ne!(Instructions::Portable.sample(), sums(other));
        }
    }
}
