//! The engine keeps the seam's promises, with room for everything and with room for one sequence.

mod contract_model;

use ra3::policy::Policy;
use ra3_lm::config::Architecture;

use contract_model::{N_CONTEXT, model, subject};

fn boxed(architecture: Architecture, tied: bool, n_tokens: usize) -> Box<dyn Policy> {
    Box::new(model(architecture, tied, n_tokens))
}

#[test]
fn the_engine_keeps_the_contract() {
    let make = || boxed(Architecture::Qwen2, true, 100_000);
    ra3_contract::check(subject(make, true));
}

#[test]
fn the_engine_keeps_the_contract_with_room_for_one_sequence() {
    let make = || boxed(Architecture::Llama, false, N_CONTEXT);
    ra3_contract::check(subject(make, false));
}
