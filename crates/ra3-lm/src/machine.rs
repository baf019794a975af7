//! What this machine can do: the bounds that the engine's speed is compared with.

use std::time::Instant;

use rayon::prelude::*;

use crate::config::Precision;
use crate::device::matrix::{Threads, View};
use crate::model::lanes::sum;
use crate::model::linear::Kernel;

/// Rows and columns of the product: large enough that packing is nothing.
const N: usize = 1024;
const N_RUNS: usize = 5;
/// At least so many bytes are read in a run.
const BYTES_MIN: usize = 1 << 28;
const NUMBERS_PER_TASK: usize = 1 << 16;

/// Floating point operations a second of a large product of operands in a precision, on all
/// threads.
pub fn flops_per_second(compute: Precision) -> f64 {
    let (lhs, rhs) = (vec![1.0f32; N * N], vec![1.0f32; N * N]);
    let (mut out, kernel) = (vec![0.0; N * N], Kernel::of_training(compute));
    let seconds = fastest(|| {
        let (lhs, rhs) = (View::new(&lhs, N, N), View::new(&rhs, N, N));
        rayon::scope(|_| kernel.multiply(&mut out, false, lhs, rhs, Threads::All));
    });
    2.0 * (N * N * N) as f64 / seconds
}

/// Bytes a second that all threads read together from a buffer of this size, over and over.
pub fn bytes_per_second(n_bytes: usize) -> f64 {
    let numbers = vec![1.0f32; n_bytes.max(1 << 12) / size_of::<f32>()];
    let n_times = BYTES_MIN.div_ceil(size_of_val(numbers.as_slice()));
    let mut total = 0.0;
    let seconds = fastest(|| {
        for _ in 0..n_times {
            let parts = numbers.par_chunks(NUMBERS_PER_TASK);
            total += parts.map(|part| f64::from(sum(part))).sum::<f64>();
        }
    });
    assert!(total > 0.0, "ones were added up");
    (n_times * size_of_val(numbers.as_slice())) as f64 / seconds
}

/// Seconds of the fastest of some runs: others used the machine during the slower ones.
fn fastest(mut run: impl FnMut()) -> f64 {
    let mut timed = || {
        let began = Instant::now();
        run();
        began.elapsed().as_secs_f64()
    };
    (0..N_RUNS).map(|_| timed()).fold(f64::INFINITY, f64::min)
}
