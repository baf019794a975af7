//! The engine keeps the seam's promises, with room for everything and with room for one sequence.

mod contract_model;

use ra3::policy::Policy;
use ra3_lm::config::{Architecture, Precision};

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

#[test]
fn the_engine_keeps_the_contract_in_bf16() {
    let make = || -> Box<dyn Policy> {
        let mut lm = model(Architecture::Qwen2, false, 100_000);
        lm.set_compute_precision(Precision::Bfloat16);
        Box::new(lm)
    };
    ra3_contract::check(subject(make, true));
}
