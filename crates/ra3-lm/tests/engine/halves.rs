//! Training and scoring with products in `bf16`.

use ra3::model::{Model, Saved};
use ra3::policy::Policy;
use ra3::seed::Seed;
use ra3_lm::Lm;
use ra3_lm::config::{Architecture, Precision};

use crate::{LIKELIHOOD, batch};

/// The same weights, computed with in `bf16`.
pub(crate) fn model(architecture: Architecture, tied: bool) -> Lm {
    let mut lm = crate::model(architecture, tied);
    lm.set_compute_precision(Precision::Bfloat16);
    lm
}

/// A gradient in `bf16` is the one in `f32` but for what is lost of its operands, which have eight
/// binary digits.
#[test]
fn a_gradient_in_bf16_is_near() {
    for (architecture, tied) in [
        (Architecture::Qwen2, true),
        (Architecture::Llama, false),
        (Architecture::Qwen3, true),
    ] {
        let whole = crate::model(architecture, tied)
            .gradient(&batch(), LIKELIHOOD)
            .unwrap();
        let half = model(architecture, tied)
            .gradient(&batch(), LIKELIHOOD)
            .unwrap();
        let norm = |numbers: &[f32]| -> f64 {
            let squares = numbers.iter().map(|x| f64::from(*x).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let away: Vec<f32> = whole.1.iter().zip(&half.1).map(|(a, b)| a - b).collect();
        let distance = norm(&away) / norm(&whole.1);
        assert!(
            (1e-4..0.03).contains(&distance),
            "{architecture:?}: {distance}"
        );
        assert!((whole.0.loss - half.0.loss).abs() < 0.01 * whole.0.loss.abs());
    }
}

/// In `bf16` both read weights that are packed: they are those of the last change.
#[test]
fn packed_weights_are_those_of_the_last_change() {
    let mut lm = model(Architecture::Qwen2, true);
    let check = |lm: &Lm, after: &str| {
        let mut fresh = model(Architecture::Qwen2, true);
        if fresh.config().vocab_size < lm.config().vocab_size {
            fresh.grow_vocabulary(lm.config().vocab_size, Seed::root(1));
        }
        fresh
            .weights_mut()
            .data_mut()
            .copy_from_slice(lm.weights().data());
        assert!(
            lm.score(&batch()).unwrap().0 == fresh.score(&batch()).unwrap().0,
            "{after}"
        );
        let [found, expected] = [lm, &fresh].map(|lm| lm.gradient(&batch(), LIKELIHOOD).unwrap());
        assert!(found.1 == expected.1, "{after}");
    };
    let folder = tempfile::tempdir().unwrap();
    lm.save(folder.path(), Saved::State).unwrap();
    check(&lm, "the start");
    lm.update(&batch(), LIKELIHOOD).unwrap();
    check(&lm, "an update");
    lm.restart_tokens(&[1, 2, 3], Seed::root(2));
    check(&lm, "tokens that start anew");
    lm.load_state(folder.path()).unwrap();
    check(&lm, "a state that is loaded");
    lm.grow_vocabulary(53, Seed::root(1));
    check(&lm, "a larger vocabulary");
    let copy = lm.clone();
    lm.update(&batch(), LIKELIHOOD).unwrap();
    check(&copy, "an update of the model that it is a copy of");
}
