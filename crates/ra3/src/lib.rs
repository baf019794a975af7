//! The RA3 algorithm on token ids and `f32` only.
//!
//! Reading order: [`trajectory`] has the nouns, [`policy`] the seam to whatever computes
//! log-probabilities, and then one short file for each step of the method.
//! Nothing here knows of tensors, files, clocks, threads or configuration formats.

pub mod trajectory;

pub mod policy;
pub mod refusals;
pub mod seed;

pub mod formulas;
pub mod interleave;
pub mod schedule;

pub mod generation;
pub mod guided;
pub mod rollout;

pub mod annotate;
pub mod e_step;
pub mod em;
pub mod m_step;

pub mod bounds;
pub mod grpo;
pub mod ntp;

pub mod table;

pub mod enumeration;
