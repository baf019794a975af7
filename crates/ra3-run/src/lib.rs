//! Run file → plan → stages: everything that a run is, apart from the command line.
//!
//! [`run_file`] is what was written, [`plan`] what it means: arms, and the stages that follow from
//! them. [`pipeline`] walks the stages; each lies in a store under the key of what it depends on
//! (`recipe`, `store`) and writes records ([`ra3_records`]), and the run [`directory`] shows what
//! they have made. A run that was killed goes on from its last commit. What [`ra3_report`] shows
//! comes from the records and nothing else.

pub mod run_file;

pub mod estimate;
pub mod plan;
mod recipe;
mod rules;

mod annotation;
pub mod answers;
pub mod benchmark_data;
mod card;
pub mod doctor;
mod engine;
pub mod event;
pub mod grade_report;
pub mod grading;
pub mod init;
pub mod inspect;
mod model;
mod model_note;
mod on_disk;
pub mod pipeline;
pub mod program;
mod programs;
mod stages;
pub mod study;

pub mod directory;
pub mod finished_runs;
mod free_memory;
mod kept_results;
pub mod report;
mod split_files;
mod store;
pub mod visible;

pub use ra3_hub::HubSettings;
pub use ra3_sandbox::Level;
pub use ra3_sandbox::helper_main_if_requested as sandbox_helper;
