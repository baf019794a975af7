//! The RA3 algorithm on token ids and `f32` only.
//!
//! Reading order: [`trajectory`] has the nouns, [`policy`] the seam to whatever computes
//! log-probabilities. The method is [`e_step`], [`m_step`], [`em`] and [`grpo`], one short file
//! each. Beside the first two stand how a rollout is drawn ([`rollout`]), scored ([`scoring`]) and
//! rewarded ([`rewards`]), and where the M-step's data come from ([`annotate`]); beside the last,
//! how programs are written ([`generation`]) and what they earn ([`group`]). The letters of the
//! formulas have their names in [`settings`].
//!
//! Nothing here knows of tensors, clocks or threads, and of files only that a model can be saved to
//! one. The feature `serde` lets settings and annotated documents stand in files, as derives on
//! them and nothing else.

pub mod trace;
pub mod trajectory;

pub mod model;
pub mod policy;
pub mod refusals;
pub mod seed;

pub mod e_step;
pub mod em;
pub mod grpo;
pub mod m_step;
pub mod ntp;

pub mod latent_rule;
pub mod rewards;
pub mod rollout;
pub mod scoring;

pub mod annotate;
pub mod interleave;
pub mod phases;
pub mod schedule;

pub mod completion;
pub mod generation;
pub mod group;
pub mod guided;

pub mod formulas;
pub mod settings;
pub mod statistics;

pub mod bounds;

pub mod enumeration;
pub mod table;
