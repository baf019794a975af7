//! HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210), graded as EvalPlus does.
//!
//! [`data`] reads the tasks, [`oracle`] runs their right programs for the expected outputs,
//! [`grade`] gives the verdicts. How samples and results lie in files is `crate::samples` and
//! `crate::results`.

mod all_close;
mod arguments;
mod compare;
pub mod data;
pub mod grade;
pub mod oracle;
