//! Problems, their grading, and pass@k with intervals.
//!
//! Programs come in as text; how they were written is not known here.

pub mod bench;
pub mod contest;
pub mod curves;
pub mod evalplus;
pub mod grade;
pub mod json;
pub mod livecodebench;
pub mod mbpp;
pub mod outcome;
pub mod over_seeds;
mod parquet;
pub mod pass_at_k;
pub mod problem;
pub mod prompt;
pub mod question;
pub mod records;
pub mod results;
pub mod rlvr;
pub mod samples;
pub mod sampling;
pub mod sanitize;
mod student;
pub mod task;
