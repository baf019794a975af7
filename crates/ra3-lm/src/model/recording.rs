//! Activations of passes that draw, kept until the update that learns from what was drawn: it takes
//! them in the order of its own rows and begins with its backward pass.
//!
//! It knows passes, layers and rows, and nothing of tokens: which row of an update was computed
//! where is the drawing's to say ([`crate::generate::Drawn`]).

use rayon::prelude::*;

use super::workspace::Workspace;
use crate::device::allocator::zeros;

/// Rows of a piece of a pass, which lies in one block of memory.
const ROWS_PER_PIECE: usize = 64;
/// Numbers of a block, if a piece is not larger.
const BLOCK: usize = 4 << 20;

/// Where a row was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pass: u32,
    row: u32,
}

/// The recorded passes.
#[derive(Debug)]
pub(crate) struct Recording {
    /// By pass, then by layer; behind the layers stands the output of the last one.
    passes: Vec<Vec<Recorded>>,
    memory: Memory,
}

/// Buffers of a layer of a pass.
#[derive(Debug)]
struct Recorded {
    /// Numbers of a row in each buffer.
    widths: Vec<usize>,
    n_rows: usize,
    /// Where each piece begins: one buffer behind the other, each `[rows of the piece, its width]`.
    pieces: Vec<Start>,
}

impl Recording {
    /// An empty one of layers that have at most `n_row` numbers a row. It works in the memory of
    /// the last one, of which it keeps what that used.
    pub(crate) fn new(n_bytes_max: usize, n_row: usize, last: Option<Self>) -> Self {
        let n_block = BLOCK.max(ROWS_PER_PIECE * n_row);
        let last = last.map(|last| last.memory);
        let mut memory = last
            .filter(|memory| memory.n_block == n_block)
            .unwrap_or_else(|| Memory::new(n_block));
        memory.free();
        memory.n_blocks_max = n_bytes_max / size_of::<f32>() / n_block;
        Self {
            passes: Vec::new(),
            memory,
        }
    }

    /// True if anything fits into it.
    pub(crate) fn has_room(&self) -> bool {
        self.memory.n_blocks_max > 0
    }

    /// A pass begins.
    pub(crate) fn begin_pass(&mut self) {
        self.passes.push(Vec::new());
    }

    /// Records buffers of the next layer, or its output behind the last one; false if there is not
    /// enough room, which leaves the recording of no use.
    #[must_use]
    pub(crate) fn record(&mut self, n_rows: usize, buffers: &[&[f32]]) -> bool {
        let widths: Vec<usize> = buffers.iter().map(|buffer| buffer.len() / n_rows).collect();
        let n_row: usize = widths.iter().sum();
        let mut pieces = Vec::with_capacity(n_rows.div_ceil(ROWS_PER_PIECE));
        for first in (0..n_rows).step_by(ROWS_PER_PIECE) {
            let rows = first..(first + ROWS_PER_PIECE).min(n_rows);
            let Some((start, mut rest)) = self.memory.take(rows.len() * n_row) else {
                return false;
            };
            pieces.push(start);
            let place = |width: &usize| rest.split_off_mut(..rows.len() * width).expect("as many");
            let places: Vec<&mut [f32]> = widths.iter().map(place).collect();
            let copies = places.into_par_iter().zip(buffers).zip(&widths);
            copies.for_each(|((place, buffer), width)| {
                place.copy_from_slice(&buffer[rows.start * width..rows.end * width]);
            });
        }
        let pass = self.passes.last_mut().expect("a pass has begun");
        pass.push(Recorded {
            widths,
            n_rows,
            pieces,
        });
        true
    }

    /// Where the rows of the pass that ends are found.
    pub(crate) fn places(&self, n_rows: usize) -> impl Iterator<Item = Place> + use<> {
        let pass = self.passes.len() as u32 - 1;
        (0..n_rows as u32).map(move |row| Place { pass, row })
    }

    /// What some rows have in buffer `index` of those of a layer; behind the last layer, its output
    /// is the only one.
    pub(crate) fn rows(
        &self,
        layer: usize,
        index: usize,
        places: &[Place],
        workspace: &mut Workspace,
    ) -> Vec<f32> {
        let Some(first) = places.first() else {
            return Vec::new();
        };
        let width = self.passes[first.pass as usize][layer].widths[index];
        let mut buffer = workspace.take(places.len() * width);
        let tasks = buffer.par_chunks_mut(ROWS_PER_PIECE * width);
        let tasks = tasks.zip(places.par_chunks(ROWS_PER_PIECE));
        tasks.for_each(|(rows, places)| {
            for (row, place) in rows.chunks_mut(width).zip(places) {
                row.copy_from_slice(self.row(layer, index, *place));
            }
        });
        buffer
    }

    fn row(&self, layer: usize, index: usize, place: Place) -> &[f32] {
        let recorded = &self.passes[place.pass as usize][layer];
        let row = place.row as usize;
        let (piece, row) = (row / ROWS_PER_PIECE, row % ROWS_PER_PIECE);
        let n_rows = ROWS_PER_PIECE.min(recorded.n_rows - piece * ROWS_PER_PIECE);
        let n_before: usize = recorded.widths[..index].iter().sum();
        let width = recorded.widths[index];
        &self.memory.from(recorded.pieces[piece])[n_rows * n_before + row * width..][..width]
    }
}

/// A number in a block.
#[derive(Clone, Copy, Debug)]
struct Start {
    block: usize,
    number: usize,
}

/// Blocks of one size that are filled one after the other, and stay when they are free again.
#[derive(Debug)]
struct Memory {
    n_block: usize,
    n_blocks_max: usize,
    blocks: Vec<Vec<f32>>,
    /// Those that have something in them, and numbers of the last of them.
    n_used: usize,
    n_filled: usize,
}

impl Memory {
    fn new(n_block: usize) -> Self {
        Self {
            n_block,
            n_blocks_max: 0,
            blocks: Vec::new(),
            n_used: 0,
            n_filled: n_block,
        }
    }

    /// Room for so many numbers, a block's at most, if there is any.
    fn take(&mut self, n: usize) -> Option<(Start, &mut [f32])> {
        if self.n_filled + n > self.n_block {
            if self.n_used == self.n_blocks_max {
                return None;
            }
            if self.n_used == self.blocks.len() {
                self.blocks.push(zeros(self.n_block));
            }
            (self.n_used, self.n_filled) = (self.n_used + 1, 0);
        }
        let start = Start {
            block: self.n_used - 1,
            number: self.n_filled,
        };
        self.n_filled += n;
        let block = &mut self.blocks[start.block];
        Some((start, &mut block[start.number..self.n_filled]))
    }

    fn from(&self, start: Start) -> &[f32] {
        &self.blocks[start.block][start.number..]
    }

    /// Everything is free again; blocks that were not needed go back to the system.
    fn free(&mut self) {
        self.blocks.truncate(self.n_used);
        (self.n_used, self.n_filled) = (0, self.n_block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers of two widths whose numbers say which pass, layer, buffer and row they are of.
    fn buffers(pass: usize, layer: usize, n_rows: usize) -> [Vec<f32>; 2] {
        [3, 5].map(|width| {
            let number = |at: usize| (((pass * 10 + layer) * 10 + width) * 10_000 + at) as f32;
            (0..n_rows * width).map(number).collect()
        })
    }

    /// Passes of so many rows, with two layers and an output.
    fn record(recording: &mut Recording, sizes: &[usize]) -> bool {
        sizes.iter().enumerate().all(|(pass, n_rows)| {
            recording.begin_pass();
            let mut layers = (0..2).map(|layer| buffers(pass, layer, *n_rows));
            layers.all(|[a, b]| recording.record(*n_rows, &[&a, &b]))
                && recording.record(*n_rows, &[&buffers(pass, 2, *n_rows)[0]])
        })
    }

    #[test]
    fn rows_are_found_in_any_order() {
        let sizes = [1, 64, 150, 63, 130];
        let mut recording = Recording::new(BLOCK * 4, 8, None);
        assert!(record(&mut recording, &sizes));
        let mut places = Vec::new();
        for row in [149, 0, 64, 128, 63, 65] {
            for (pass, n_rows) in sizes.iter().enumerate() {
                if row < *n_rows {
                    let [pass, row] = [pass as u32, row as u32];
                    places.push(Place { pass, row });
                }
            }
        }
        let mut workspace = Workspace::default();
        for layer in 0..3 {
            for (index, width) in [3, 5].into_iter().enumerate().take(3 - layer) {
                let found = recording.rows(layer, index, &places, &mut workspace);
                let expected = places.iter().flat_map(|place| {
                    let [pass, row] = [place.pass, place.row].map(|at| at as usize);
                    let of_pass = &buffers(pass, layer, sizes[pass])[index];
                    of_pass[row * width..(row + 1) * width].to_vec()
                });
                assert_eq!(found, expected.collect::<Vec<f32>>(), "{layer} {index}");
            }
        }
        let last = recording.places(3).last();
        assert_eq!(last, Some(Place { pass: 4, row: 2 }));
    }

    /// Whatever follows what: no more than there may be, and what is not needed goes.
    #[test]
    fn memory_is_bounded_and_used_again() {
        // Of a row two layers have 8 · 2000 numbers, and the output 3 · 2000.
        let n_pass = |n_rows: usize| n_rows * 19 * 2000;
        let record = |recording: &mut Recording, sizes: &[usize]| {
            sizes.iter().all(|n_rows| {
                recording.begin_pass();
                let of = |width: usize| vec![1.0; n_rows * width * 2000];
                (0..2).all(|_| recording.record(*n_rows, &[&of(3), &of(5)]))
                    && recording.record(*n_rows, &[&of(3)])
            })
        };
        let n_max = 8 * BLOCK;
        let mut last = None;
        for (sizes, fits) in [
            (&[10, 300, 20][..], true),
            (&[700], true),
            (&[300, 300, 1, 64, 65], true),
            (&[900], false),
            (&[20], true),
            (&[300, 20], true),
        ] {
            let mut recording = Recording::new(n_max * 4, 8 * 2000, last);
            assert_eq!(record(&mut recording, sizes), fits, "{sizes:?}");
            let memory = &recording.memory;
            let n_held: usize = memory.blocks.iter().map(Vec::len).sum();
            assert!(n_held <= n_max, "{sizes:?}: {n_held}");
            let n_needed: usize = sizes.iter().map(|n_rows| n_pass(*n_rows)).sum();
            assert!(!fits || 3 * memory.n_used * BLOCK < 4 * n_needed + 3 * BLOCK);
            last = Some(recording);
        }
        let recording = Recording::new(n_max * 4, 8 * 2000, last);
        assert_eq!(recording.memory.blocks.len(), 4, "those of 320 rows");
        let wider = Recording::new(n_max * 4, 200_000, Some(recording));
        assert_eq!(wider.memory.blocks.len(), 0);
        assert_eq!(wider.memory.n_block, 64 * 200_000);
    }
}
