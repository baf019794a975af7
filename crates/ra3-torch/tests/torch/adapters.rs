//! A worker that trains adapters: it keeps the seam's promises, and what it saves is a checkpoint.

use std::sync::{Arc, OnceLock};

use ra3::model::{Model, Saved};
use ra3::policy::{Objective, Policy, Surrogate};
use ra3::seed::Seed;
use ra3_lm::config::Architecture;
use ra3_torch::{Lora, TorchModel, Worker};
use tempfile::TempDir;

use crate::contract_model::{model, subject};
use crate::parity::native;
use crate::{base, examples, has_torch, python, settings};

/// A worker that trains adapters.
fn worker() -> &'static (TempDir, Arc<Worker>) {
    static MADE: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = settings(&[&python()], folder.path());
        settings.models.lora = Some(Lora {
            rank: 4,
            alpha: 8.0,
            target_modules: vec!["all-linear".to_owned()],
            seed: 5,
        });
        let worker = Worker::start(&settings).expect("a worker");
        (folder, worker)
    })
}

#[test]
fn adapters_keep_the_contract() {
    fn make() -> Box<dyn Policy> {
        let (folder, worker) = worker();
        let checkpoint = folder.path().join("contract");
        let model = model(Architecture::Qwen2, true, 0);
        let saved = model.save(&checkpoint, Saved::Weights);
        saved.expect("a checkpoint");
        Box::new(TorchModel::load(worker, &checkpoint).expect("a model"))
    }
    if has_torch() {
        ra3_contract::check(subject(make, true));
    }
}

#[test]
fn a_saved_model_is_whole_and_a_state_goes_on_with_the_same_bits() {
    if !has_torch() {
        return;
    }
    let (_, worker) = worker();
    let objective = Objective {
        surrogate: Surrogate::LogLikelihood,
        learning_rate: 1e-3,
    };
    // As a stage begins, be it for the first time or again.
    let begin = || {
        let mut model = TorchModel::load(worker, &base()).expect("a model");
        model.restart_tokens(&[7, 3], Seed::root(1));
        model
    };
    let places = tempfile::tempdir().expect("a folder");
    let names = ["saved", "exact", "state"];
    let [saved, exact, state] = names.map(|name| places.path().join(name));
    let mut straight = begin();
    let whole = straight.shape();
    straight.update(&examples(), objective).expect("a batch");
    straight.save(&state, Saved::State).expect("files");
    let n_bytes = |path: &str| std::fs::metadata(places.path().join(path)).map_or(0, |m| m.len());
    assert_eq!(n_bytes("state/model.safetensors"), 0);
    let n_state = n_bytes("state/adapter_model.safetensors");
    let mut continued = begin();
    continued.load_state(&state).expect("a state");
    for model in [&mut straight, &mut continued] {
        model.update(&examples(), objective).expect("a batch");
    }
    let (scores, _) = straight.score(&examples()).expect("sequences");
    assert_eq!(scores, continued.score(&examples()).expect("sequences").0);
    straight.save(&saved, Saved::Finished).expect("files");
    assert!(n_state < n_bytes("saved/model.safetensors") / 4);
    assert!(n_bytes("saved/adapter/adapter_model.safetensors") > 0);
    // A finished model is rounded to the precision that its configuration names.
    straight.save(&exact, Saved::Weights).expect("files");
    let ours = native(&exact);
    assert_eq!(ours.shape(), whole);
    let (expected, _) = ours.score(&examples()).expect("sequences");
    let both = scores.iter().flatten().zip(expected.iter().flatten());
    let distance = both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(distance <= 1e-4, "{distance}");
    assert_eq!(native(&saved).shape(), whole);
}
