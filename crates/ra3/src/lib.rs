//! The RA3 algorithm on token ids and `f32` only.
//!
//! Reading order: [`trajectory`] has the nouns, [`policy`] the seam to whatever computes
//! log-probabilities, and then one short file for each step of the method.
//! Nothing here knows of tensors, clocks or threads, and of files only that a model can be saved to
//! one. The feature `serde` lets settings and annotated documents stand in files, as derives on
//! them and nothing else.

pub mod trace;
pub mod trajectory;

pub mod model;
pub mod policy;
pub mod refusals;
pub mod seed;

pub mod formulas;
pub mod interleave;
pub mod schedule;

pub mod latent_rule;
pub mod rollout;

pub mod completion;
pub mod generation;
pub mod guided;

pub mod rewards;
pub mod scoring;
pub mod statistics;

pub mod settings;

pub mod annotate;
pub mod e_step;
pub mod em;
pub mod m_step;
pub mod phases;

pub mod bounds;
pub mod group;
pub mod grpo;
pub mod ntp;

pub mod table;

pub mod enumeration;
