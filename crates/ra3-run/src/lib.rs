//! Run file → plan → stages: everything that a run is, apart from the command line.
//!
//! [`run_file`] is what was written, [`plan`] what it means. [`pipeline`] walks the stages of a
//! plan over a [`directory`], recording into the [`ledger`]; a run that was killed goes on from
//! its last commit. [`report`] turns the records into a page and reads nothing else.

pub mod run_file;

pub mod arm;
pub mod estimate;
pub mod plan;
mod rules;

pub mod answers;
pub mod benchmark_data;
pub mod doctor;
mod engine;
pub mod event;
pub mod grade_report;
pub mod grading;
pub mod inspect;
mod model;
mod model_note;
pub mod pipeline;
pub mod program;
mod programs;
mod stages;

mod changes;
pub mod clock;
pub mod directory;
mod free_memory;
mod journal;
pub mod ledger;
mod number;
mod progress;
pub mod samples;
mod split_files;
mod tensorboard;
pub mod visible;

pub mod report;

pub use ra3_hub::HubSettings;
pub use ra3_sandbox::helper_main_if_requested as sandbox_helper;
