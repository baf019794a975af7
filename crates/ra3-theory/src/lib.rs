//! The paper's theory as experiments that run (docs/theory.md): pruning efficiency, RL
//! convergence, and the regret that both make up, on MDPs small enough to solve exactly.
//!
//! Reading order: an [`mdp::Mdp`] has primitive actions, an [`option::Course`] is an option with an
//! exact model, [`smdp`] plans with sets of them; [`families`] has the tasks; [`experiments`] has
//! one file for each figure's question. Nothing here knows a language model: options are learnt by
//! the `ra3` crate's own loop on its table policy ([`learnt`]).

pub mod draws;
pub mod linear;

pub mod mdp;
pub mod option;
pub mod smdp;

pub mod families;

pub mod demonstrations;
pub mod learnt;
pub mod policy_gradient;
pub mod pruning;
pub mod q_learning;
pub mod regret;

pub mod statistics;

pub mod experiments;
pub mod finding;
pub mod page;
pub mod results;
