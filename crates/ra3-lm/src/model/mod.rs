//! The transformer: Qwen2, Qwen3, Llama and Mistral, forward and backward, over a forest of shared
//! prefixes.
//!
//! Every operation has its forward and its backward side by side in one file, and a test against
//! a slow reference.

pub mod config;
mod config_file;
pub(crate) mod recording;
pub mod weights;
pub(crate) mod workspace;

pub(crate) mod forest;

pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod rope_scaling;
pub(crate) mod swiglu;

pub(crate) mod layer;
pub(crate) mod transformer;
