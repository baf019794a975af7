//! What touches the machine: matrix products on raw pointers, mapped files, the allocator. The only
//! `unsafe` of this crate.

pub(crate) mod allocator;
pub(crate) mod dots;
pub(crate) mod halves;
pub(crate) mod mapped;
pub(crate) mod matrix;
pub(crate) mod rows;
mod tiles;

/// Operands of tests: numbers between −1 and 1, others for another salt.
#[cfg(test)]
fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0)
        .collect()
}
