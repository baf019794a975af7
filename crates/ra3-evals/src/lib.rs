//! Problems in HumanEval's format, their grading, and pass@k with intervals.
//!
//! Programs come in as text; how they were written is not known here.

pub mod grade;
pub mod pass_at_k;
pub mod problem;
