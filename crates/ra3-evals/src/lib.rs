//! Problems and their grading.
//!
//! Programs come in as text; how they were written is not known here.

pub mod bench;
pub mod contest;
pub mod evalplus;
pub mod grade;
pub mod json;
pub mod livecodebench;
pub mod mbpp;
pub mod outcome;
mod parquet;
pub mod problem;
pub mod prompt;
pub mod question;
pub mod records;
pub mod results;
pub mod rlvr;
pub mod samples;
pub mod sampling;
pub mod sanitize;
pub mod task;
