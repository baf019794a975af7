//! What touches the machine: matrix products on raw pointers. The only `unsafe` of this crate.

pub(crate) mod matrix;
