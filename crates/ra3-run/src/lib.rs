//! Run file → plan → stages: everything that a run is, apart from the command line.
//!
//! [`run_file`] is what was written, [`plan`] what it means: arms, and the stages that follow from
//! them. [`pipeline`] walks the stages; each lies in a store under the key of what it depends on
//! (`recipe`, `store`) and records into its [`ledger`], and the run [`directory`] shows what they
//! have made. A run that was killed goes on from its last commit. [`report`] turns the records into
//! a page and reads nothing else.

pub mod run_file;

pub mod estimate;
pub mod plan;
mod recipe;
mod rules;

mod annotation;
pub mod answers;
pub mod benchmark_data;
pub mod compare;
pub mod doctor;
mod engine;
pub mod event;
pub mod grade_report;
pub mod grading;
pub mod init;
pub mod inspect;
mod model;
mod model_note;
pub mod pipeline;
pub mod program;
mod programs;
mod stages;
pub mod study;

pub mod clock;
pub mod directory;
mod free_memory;
mod journal;
pub mod ledger;
mod number;
pub mod samples;
mod split_files;
mod store;
mod tensorboard;
pub mod visible;

pub mod report;

pub use ra3_hub::HubSettings;
pub use ra3_sandbox::Level;
pub use ra3_sandbox::helper_main_if_requested as sandbox_helper;
