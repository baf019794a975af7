//! Buffers that are used again, so that a steady step asks the system for no memory.
//!
//! Without them the buffers of a step come from whichever thread ran it, and each thread's heap
//! keeps what it once had: half as much memory again.

use crate::device::allocator::zeros;

/// Free buffers, and whether each was in use since the last [`Workspace::sweep`].
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: Vec<(Vec<f32>, bool)>,
    /// Rows of the longest pass since the last sweep.
    n_rows: usize,
    /// True if a pass as long as this one has filled the workspace.
    is_complete: bool,
}

/// A copy of a model has buffers of its own.
impl Clone for Workspace {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Workspace {
    /// Says that a pass over so many rows begins, and that the last one gave its buffers back.
    /// After one that is as long, and no sweep between them, it needs no new ones but where more of
    /// its rows have logits.
    pub(crate) fn begin(&mut self, n_rows: usize) {
        self.is_complete = n_rows <= self.n_rows;
        self.n_rows = self.n_rows.max(n_rows);
    }

    /// `n` numbers with anything in them: for a buffer that is then written whole.
    pub(crate) fn take(&mut self, n: usize) -> Vec<f32> {
        self.find(n).unwrap_or_else(|| self.make(n))
    }

    /// `n` zeros.
    pub(crate) fn zeros(&mut self, n: usize) -> Vec<f32> {
        let Some(mut buffer) = self.find(n) else {
            return self.make(n);
        };
        buffer.fill(0.0);
        buffer
    }

    /// The smallest free buffer that `n` numbers fit into. A pass that as long a one preceded finds
    /// one for each of its own; elsewhere it is at most twice as large, so that a long batch's
    /// buffers are not held by a short one's.
    fn find(&mut self, n: usize) -> Option<Vec<f32>> {
        let most = if self.is_complete { usize::MAX } else { 2 * n };
        let fits = |buffer: &Vec<f32>| (n..=most).contains(&buffer.capacity());
        let best = (0..self.free.len())
            .filter(|index| fits(&self.free[*index].0))
            .min_by_key(|index| self.free[*index].0.capacity())?;
        let (mut buffer, _) = self.free.swap_remove(best);
        buffer.resize(n, 0.0);
        Some(buffer)
    }

    /// `n` zeros in a new buffer, in the place of one that has become too small by less than half.
    fn make(&mut self, n: usize) -> Vec<f32> {
        let outgrown = (0..self.free.len())
            .filter(|index| (n / 2 + 1..n).contains(&self.free[*index].0.capacity()))
            .max_by_key(|index| self.free[*index].0.capacity());
        if let Some(index) = outgrown {
            self.free.swap_remove(index);
        }
        let mut buffer = zeros(rounded_up(n));
        buffer.truncate(n);
        buffer
    }

    /// The same numbers.
    pub(crate) fn copy(&mut self, values: &[f32]) -> Vec<f32> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// These rows of `values`, `width` numbers each.
    pub(crate) fn gather(&mut self, values: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
        let mut gathered = self.take(rows.len() * width);
        for (row, place) in rows.iter().zip(gathered.chunks_mut(width)) {
            place.copy_from_slice(&values[row * width..][..width]);
        }
        gathered
    }

    /// So many rows: what was gathered in its places, and zeros in the others.
    pub(crate) fn scatter(
        &mut self,
        gathered: &[f32],
        width: usize,
        rows: &[usize],
        n_rows: usize,
    ) -> Vec<f32> {
        let mut values = self.zeros(n_rows * width);
        for (row, numbers) in rows.iter().zip(gathered.chunks(width)) {
            values[row * width..][..width].copy_from_slice(numbers);
        }
        values
    }

    /// Takes buffers back.
    pub(crate) fn give<const N: usize>(&mut self, buffers: [Vec<f32>; N]) {
        self.free.extend(buffers.map(|buffer| (buffer, true)));
    }

    /// Releases what nobody used since the last sweep.
    pub(crate) fn sweep(&mut self) {
        self.free.retain(|(_, was_used)| *was_used);
        for (_, was_used) in &mut self.free {
            *was_used = false;
        }
        (self.n_rows, self.is_complete) = (0, false);
    }

    /// Numbers that there is room for in free buffers.
    #[cfg(test)]
    pub(crate) fn n_held(&self) -> usize {
        self.free.iter().map(|(buffer, _)| buffer.capacity()).sum()
    }
}

/// To an eighth of the power of two below: a batch that is a little longer than the last finds
/// buffers that fit. What is not used of fresh memory is not touched, and takes none.
fn rounded_up(n: usize) -> usize {
    n.next_multiple_of(1 << n.max(8).ilog2().saturating_sub(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_where_it_fits_and_goes_when_nobody_uses_it() {
        let mut workspace = Workspace::default();
        let (long, short) = (workspace.take(100), workspace.take(40));
        let (long_at, short_at) = (long.as_ptr(), short.as_ptr());
        workspace.give([long, short]);
        let small = workspace.take(10);
        assert_ne!(small.as_ptr(), short_at, "more than twice as large");
        let again = workspace.copy(&[7.0; 30]);
        assert_eq!((again.as_ptr(), again.len()), (short_at, 30));
        workspace.give([again]);
        let zeros = workspace.zeros(35);
        assert_eq!(
            (zeros.as_ptr(), zeros.as_slice()),
            (short_at, &[0.0; 35][..])
        );
        workspace.give([zeros]);
        workspace.sweep();
        assert_eq!(workspace.free.len(), 2, "both were used since the start");
        let long = workspace.take(100);
        assert_eq!(long.as_ptr(), long_at);
        workspace.give([long]);
        workspace.sweep();
        assert_eq!(workspace.free.len(), 1, "the short one was not used again");
    }

    #[test]
    fn behind_a_longer_pass_any_buffer_serves_until_the_sweep() {
        let mut workspace = Workspace::default();
        workspace.begin(5);
        let long = workspace.take(100);
        let at = long.as_ptr();
        workspace.give([long]);
        workspace.begin(1);
        let short = workspace.take(20);
        assert_eq!((short.as_ptr(), short.len()), (at, 20));
        workspace.give([short]);
        workspace.sweep();
        workspace.begin(1);
        let short = workspace.take(20);
        assert_ne!(short.as_ptr(), at, "a longer pass may never come again");
        workspace.give([short]);
        workspace.sweep();
        assert_eq!(workspace.n_held(), 20);
    }

    #[test]
    fn a_buffer_that_is_outgrown_leaves_its_place_to_a_longer_one() {
        let mut workspace = Workspace::default();
        let buffers = [100, 40].map(|n| workspace.take(n));
        workspace.give(buffers);
        assert_eq!(workspace.n_held(), 104 + 40);
        let longer = workspace.zeros(105);
        assert_eq!((longer.len(), longer.capacity()), (105, 112));
        assert!(longer.iter().all(|value| *value == 0.0));
        assert_eq!(workspace.n_held(), 40, "the short one may be wanted still");
    }

    #[test]
    fn rows_that_are_gathered_go_back_to_their_places() {
        let mut workspace = Workspace::default();
        let gathered = workspace.gather(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, &[0, 2]);
        assert_eq!(gathered, [1.0, 2.0, 5.0, 6.0]);
        workspace.give([vec![7.0; 6]]);
        let values = workspace.scatter(&gathered, 2, &[0, 2], 3);
        assert_eq!(values, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]);
    }

    #[test]
    fn sizes_are_rounded_up_by_an_eighth_at_most() {
        let sizes = [0, 1, 7, 8, 15, 16, 17, 31, 33, 1000, 1025];
        let rounded = [0, 1, 7, 8, 15, 16, 18, 32, 36, 1024, 1152];
        assert_eq!(sizes.map(rounded_up), rounded);
    }
}
