//! LiveCodeBench's code generation: records, prompts, extraction and grading.
//!
//! Two ways of grading: as its own grader does, quirks and all ([`Mode::Compatible`]), and right.
//! Facts are from `LiveCodeBench/LiveCodeBench` at 28fef95e. Not done here: its other scenarios.

pub mod answer;
pub mod data;
pub mod grade;
pub mod payload;
pub mod prompt;

pub use grade::Mode;
