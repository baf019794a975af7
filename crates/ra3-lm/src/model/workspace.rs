//! Buffers that are used again, so that a steady step asks the system for no memory.
//!
//! Without them the buffers of a step come from whichever thread ran it, and each thread's heap
//! keeps what it once had: half as much memory again.

use crate::device::allocator::filled;

/// Free buffers, and whether each was in use since the last [`Workspace::sweep`].
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: Vec<(Vec<f32>, bool)>,
}

/// A copy of a model has buffers of its own.
impl Clone for Workspace {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Workspace {
    /// `n` numbers with anything in them: for a buffer that is then written whole.
    pub(crate) fn take(&mut self, n: usize) -> Vec<f32> {
        // At most twice as large: a long batch's buffers are not held by a short one's.
        let fits = |buffer: &Vec<f32>| (n..=2 * n).contains(&buffer.capacity());
        let best = (0..self.free.len())
            .filter(|index| fits(&self.free[*index].0))
            .min_by_key(|index| self.free[*index].0.capacity());
        match best {
            Some(index) => {
                let (mut buffer, _) = self.free.swap_remove(index);
                buffer.resize(n, 0.0);
                buffer
            }
            None => filled(0.0, n),
        }
    }

    /// `n` zeros.
    pub(crate) fn zeros(&mut self, n: usize) -> Vec<f32> {
        let mut buffer = self.take(n);
        buffer.fill(0.0);
        buffer
    }

    /// The same numbers.
    pub(crate) fn copy(&mut self, values: &[f32]) -> Vec<f32> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
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
    }
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
}
