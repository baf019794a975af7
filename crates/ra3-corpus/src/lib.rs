//! Under construction.

pub mod testbed;
