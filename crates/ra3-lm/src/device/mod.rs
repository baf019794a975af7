//! What touches the machine: matrix products on raw pointers, mapped files, the allocator. The only
//! `unsafe` of this crate.

pub(crate) mod allocator;
pub(crate) mod dots;
pub(crate) mod mapped;
pub(crate) mod matrix;
pub(crate) mod rows;
mod tiles;
