//! What touches the machine: matrix products on raw pointers, and mapped files. The only `unsafe`
//! of this crate.

pub(crate) mod mapped;
pub(crate) mod matrix;
