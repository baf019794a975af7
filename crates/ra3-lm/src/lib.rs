//! The transformer engine: one engine that both samples and trains, token ids in and out.
//!
//! [`Lm`] implements `ra3::policy::Policy`. `model/` is the network, forward and backward;
//! `train/` the optimizer step; `generate/` the rollouts; [`checkpoint`] the folders on disk;
//! `device/` the matrix products, [`memory`] what an update needs. It knows neither text nor what a
//! reward is.

pub mod checkpoint;
mod device;
mod generate;
mod lm;
pub mod machine;
pub mod memory;
mod model;
mod train;

pub use lm::Lm;
pub use model::rope_scaling::RopeScaling;
pub use model::{config, weights};
pub use train::TrainSettings;

/// Sets the number of threads of the engine for the whole process (the first call counts), and
/// makes the allocator give large buffers back.
pub fn set_threads(n_threads: usize) {
    device::allocator::release_large_buffers();
    // A second call finds the pool built, which is as it should be.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .build_global();
}
