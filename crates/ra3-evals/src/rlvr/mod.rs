//! Problem sets for RLVR, each read into [`crate::problem::Problem`]s: published programming tasks
//! with tests, from their own record formats; which of them can be used, and how they are split.
//! Beside them: rewards by a command of the user's, and a curriculum by difficulty.
//!
//! Not done here: running programs ([`crate::task`]).

pub mod assert_lists;
pub mod difficulty;
pub mod leetcode;
mod line_process;
pub mod mbpp_train;
pub mod puzzles;
pub mod reward_command;
pub mod split;
pub mod usable;
