//! Problem sets for RLVR, each read into [`crate::problem::Problem`]s: published programming tasks
//! with tests, from their own record formats.
//!
//! Not done here: grading ([`crate::grade`]), and rewards of contests (`contest`).

pub mod assert_lists;
pub mod leetcode;
pub mod mbpp_train;
pub mod puzzles;
pub mod split;
pub mod usable;
