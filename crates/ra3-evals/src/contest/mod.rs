//! Contest problems: programs that read standard input, or a file, and write the answer.
//!
//! [`task`] is a problem, [`records`] reads the forms that such problems come in, [`grade`] runs
//! programs on their tests, [`compare`] says whether an output is right, [`reward`] makes rewards
//! of it, [`prompt`] asks. [`function`] is for the few problems that want one.

pub mod answer;
pub mod compare;
pub mod function;
pub mod grade;
pub mod prompt;
pub mod records;
pub mod reward;
pub mod task;
