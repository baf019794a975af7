//! Problem sets for RLVR, each read into [`crate::problem::Problem`]s: published programming tasks
//! with tests, from their own record formats. What is trained on is an [`exercise::Exercise`]: one
//! of these, or a contest's.
//!
//! Not done here: running programs ([`crate::grade`], [`crate::contest::grade`]).

pub mod assert_lists;
pub mod exercise;
pub mod leetcode;
pub mod mbpp_train;
pub mod puzzles;
pub mod split;
pub mod usable;
