//! The contract suite, with room for everything and with room for one sequence.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use ra3::model::{Model, Saved};
use ra3::policy::Policy;
use ra3_lm::config::Architecture;
use ra3_torch::{TorchModel, Worker};
use tempfile::TempDir;

use crate::contract_model::{N_CONTEXT, model, subject};
use crate::{for_contract, has_torch, worker};

fn load(worker: &Arc<Worker>, folder: &Path) -> Box<dyn Policy> {
    Box::new(TorchModel::load(worker, folder).expect("a model"))
}

#[test]
fn the_worker_keeps_the_contract() {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let folder = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let model = model(Architecture::Qwen2, true, 0);
            let saved = model.save(folder.path(), Saved::Weights);
            saved.expect("a checkpoint");
            folder
        });
        load(worker(), folder.path())
    }
    if has_torch() {
        ra3_contract::check(subject(make, true));
    }
}

#[test]
fn the_worker_keeps_the_contract_with_room_for_one_sequence() {
    static MADE: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let (folder, worker) = MADE.get_or_init(|| {
            for_contract(Architecture::Llama, |settings| {
                // Keys and values of two layers of two heads of four numbers, and a last hidden
                // state.
                settings.models.cache_bytes_max = N_CONTEXT * (2 * 2 * 2 * 4 + 16) * 4;
            })
        });
        load(worker, folder.path())
    }
    if has_torch() {
        ra3_contract::check(subject(make, false));
    }
}
