//! What touches the machine: matrix products on raw pointers, mapped files, the allocator. The only
//! `unsafe` of this crate.

pub(crate) mod allocator;
pub(crate) mod halves;
pub(crate) mod mapped;
pub(crate) mod matrix;
pub(crate) mod rows;
mod tiles;

/// True if sixteen numbers fit into a register, for loops that are written for that.
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_wide_registers() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Other processors have no such loops.
#[cfg(not(target_arch = "x86_64"))]
fn has_wide_registers() -> bool {
    false
}

/// Operands of tests: numbers between −1 and 1, others for another salt.
#[cfg(test)]
fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0)
        .collect()
}
