//! Activations of passes that draw, kept until the update that learns from what was drawn: it takes
//! them in the order of its own rows and begins with its backward pass.
//!
//! It knows passes, layers and rows, and nothing of tokens: which row of an update was computed
//! where is the drawing's to say ([`crate::generate::Drawn`]).

use std::ops::Range;

use rayon::prelude::*;

use super::workspace::Workspace;
use crate::device::allocator::zeros;

/// Numbers of a block of memory; a longer pass has one of its own.
const BLOCK: usize = 4 << 20;
/// Rows that one task copies.
const ROWS_PER_TASK: usize = 64;

/// Where a row was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pass: u32,
    row: u32,
}

/// The recorded passes, and their memory.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// By pass, then by layer: one buffer behind the other, each `[rows, its width]`. Behind the
    /// layers stands the output of the last one.
    passes: Vec<Vec<Stretch>>,
    memory: Memory,
    n_numbers_max: usize,
    /// True once there was not enough room: then nothing is recorded.
    is_full: bool,
}

impl Recording {
    /// An empty one in the memory of another, of which it keeps what the other used.
    pub(crate) fn begin(n_bytes_max: usize, last: Option<Self>) -> Self {
        let mut memory = last.map(|last| last.memory).unwrap_or_default();
        memory.free();
        Self {
            passes: Vec::new(),
            memory,
            n_numbers_max: n_bytes_max / size_of::<f32>(),
            is_full: false,
        }
    }

    /// A pass begins.
    pub(crate) fn begin_pass(&mut self) {
        if !self.is_full {
            self.passes.push(Vec::new());
        }
    }

    /// Records buffers of the next layer, or its output behind the last one.
    pub(crate) fn record(&mut self, buffers: &[&[f32]]) {
        if self.is_full {
            return;
        }
        let n = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.memory.n_used + n > self.n_numbers_max {
            *self = Self {
                is_full: true,
                ..Self::default()
            };
            return;
        }
        let (stretch, mut rest) = self.memory.take(n);
        let place = |buffer: &&[f32]| rest.split_off_mut(..buffer.len()).expect("as many");
        let places: Vec<&mut [f32]> = buffers.iter().map(place).collect();
        let pairs = places.into_par_iter().zip(buffers);
        pairs.for_each(|(place, buffer)| place.copy_from_slice(buffer));
        let pass = self.passes.last_mut().expect("a pass has begun");
        pass.push(stretch);
    }

    /// Where the rows of the pass that ends are found, if they are.
    pub(crate) fn places(&self, n_rows: usize) -> impl Iterator<Item = Place> {
        let pass = self.passes.len().wrapping_sub(1) as u32;
        let n_found = if self.is_full { 0 } else { n_rows };
        (0..n_found as u32).map(move |row| Place { pass, row })
    }

    /// True if what [`Self::places`] gave is there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_full
    }

    /// What some rows have in buffer `index` of those of a layer, which are of these widths; behind
    /// the last layer, its output is the only one.
    pub(crate) fn rows(
        &self,
        layer: usize,
        (index, widths): (usize, &[usize]),
        places: &[Place],
        workspace: &mut Workspace,
    ) -> Vec<f32> {
        let (n_row, n_before): (usize, usize) = (widths.iter().sum(), widths[..index].iter().sum());
        let width = widths[index];
        let mut buffer = workspace.take(places.len() * width);
        let tasks = buffer.par_chunks_mut(ROWS_PER_TASK * width);
        let tasks = tasks.zip(places.par_chunks(ROWS_PER_TASK));
        tasks.for_each(|(rows, places)| {
            for (row, place) in rows.chunks_mut(width).zip(places) {
                let of_pass = self
                    .memory
                    .numbers(&self.passes[place.pass as usize][layer]);
                let first = of_pass.len() / n_row * n_before + place.row as usize * width;
                row.copy_from_slice(&of_pass[first..first + width]);
            }
        });
        buffer
    }
}

/// Numbers in a block.
#[derive(Clone, Debug)]
struct Stretch {
    block: usize,
    numbers: Range<usize>,
}

/// Blocks that are filled one after the other, and stay when they are free again.
#[derive(Debug, Default)]
struct Memory {
    blocks: Vec<Vec<f32>>,
    /// The one that is being filled, and numbers in it that are used.
    block: usize,
    n_filled: usize,
    /// Numbers that are used in all of them.
    n_used: usize,
}

impl Memory {
    /// Room for so many numbers.
    fn take(&mut self, n: usize) -> (Stretch, &mut [f32]) {
        let has_room = |memory: &Self, block: &Vec<f32>| block.len() - memory.n_filled >= n;
        while let Some(block) = self.blocks.get(self.block)
            && !has_room(self, block)
        {
            (self.block, self.n_filled) = (self.block + 1, 0);
        }
        if self.block == self.blocks.len() {
            self.blocks.push(zeros(n.max(BLOCK)));
        }
        let numbers = self.n_filled..self.n_filled + n;
        self.n_filled = numbers.end;
        self.n_used += n;
        let stretch = Stretch {
            block: self.block,
            numbers: numbers.clone(),
        };
        (stretch, &mut self.blocks[self.block][numbers])
    }

    fn numbers(&self, stretch: &Stretch) -> &[f32] {
        &self.blocks[stretch.block][stretch.numbers.clone()]
    }

    /// Everything is free again; blocks that were not needed go back to the system.
    fn free(&mut self) {
        let n_needed = if self.n_used > 0 { self.block + 1 } else { 0 };
        self.blocks.truncate(n_needed);
        (self.block, self.n_filled, self.n_used) = (0, 0, 0);
    }
}
