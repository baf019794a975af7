//! Held-out documents in one form of their text, and what an arm's log-likelihoods come to in bits
//! per byte of it, with intervals over documents. It runs no model.

use std::collections::BTreeMap;

use ra3::bounds::{Bound, Bounds};
use ra3::formulas::effective_choices;
use ra3::seed::Seed;
use ra3::trajectory::Trajectory;
use ra3_evals::pass_at_k::ratio;

use crate::arm::Arm;
use crate::ledger::{HeldOutRecord, Interval};

/// Documents, and the bytes of each.
pub(super) struct Text {
    /// Its name in the ledger: `corpus` or `lifted`.
    form: &'static str,
    pub(super) documents: Vec<Trajectory>,
    n_bytes: Vec<usize>,
}

impl Text {
    pub(super) fn new(form: &'static str, documents: Vec<Trajectory>, n_bytes: Vec<usize>) -> Self {
        Self {
            form,
            documents,
            n_bytes,
        }
    }

    /// An arm without latents, by its exact log-likelihoods in nats.
    pub(super) fn record(&self, arm: Arm, nats: &[f64]) -> HeldOutRecord {
        let exact = self.bits_per_byte(nats);
        HeldOutRecord {
            arm: arm.name().to_owned(),
            text: self.form.to_owned(),
            n_documents: self.documents.len() as u64,
            n_bytes: self.n_bytes.iter().sum::<usize>() as u64,
            bits_per_byte: exact.mean,
            bounds: BTreeMap::new(),
            intervals: BTreeMap::from([("bits_per_byte".to_owned(), exact)]),
            latents: BTreeMap::new(),
        }
    }

    /// An arm with latents, by its bounds and its log-likelihoods with every decision an act.
    pub(super) fn record_bounds(&self, arm: Arm, found: &Bounds, all_act: &[f64]) -> HeldOutRecord {
        let mut record = self.record(arm, all_act);
        for (prefix, bound) in [("", &found.sticky), ("written_", &found.written)] {
            for (name, nats) in named(prefix, bound) {
                let interval = self.bits_per_byte(nats);
                record.bounds.insert(name.clone(), interval.mean);
                record.intervals.insert(name, interval);
            }
        }
        // What a latent leaves to choose: the theory's figure, see docs/theory.md.
        let n_lines = self
            .documents
            .iter()
            .map(|document| document.lines.len())
            .sum();
        let choices = |logprob| effective_choices(logprob, n_lines);
        let figures = [
            ("choices_act", choices(all_act.iter().sum())),
            ("choices", choices(found.line_logprob)),
            ("think_rate", found.latents.think_rate),
            ("persistence", found.latents.persistence),
            ("rationale_tokens", found.latents.rationale_tokens),
            ("gain", found.gain),
            ("marker_probability", found.marker_probability),
        ];
        record.latents = figures.map(|(name, value)| (name.to_owned(), value)).into();
        record
    }

    fn bits_per_byte(&self, nats: &[f64]) -> Interval {
        let bits: Vec<f64> = nats.iter().map(|n| -n / std::f64::consts::LN_2).collect();
        let bytes: Vec<f64> = self.n_bytes.iter().map(|n| *n as f64).collect();
        ratio(&bits, &bytes, Seed::root(0).child("bootstrap")).into()
    }
}

/// `elbo` and `iwae_K` with the values of each document.
fn named<'b>(prefix: &str, bound: &'b Bound) -> Vec<(String, &'b [f64])> {
    let mut all = vec![(format!("{prefix}elbo"), &bound.elbo[..])];
    let iwae = bound.iwae.iter();
    all.extend(iwae.map(|(k, nats)| (format!("{prefix}iwae_{k}"), &nats[..])));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_by_hand() {
        let document = Trajectory {
            prefix: vec![0],
            lines: vec![vec![1], vec![0]],
        };
        let text = Text::new("lifted", vec![document; 2], vec![10, 30]);
        let nat = std::f64::consts::LN_2;
        let found = text.record(Arm::Ntp, &[-10.0 * nat, -10.0 * nat]);
        // 20 bits over 40 bytes, between 10 / 30 and 10 / 10.
        assert_eq!((found.bits_per_byte, found.n_bytes), (0.5, 40));
        let interval = found.intervals["bits_per_byte"];
        assert!((interval.low - 1.0 / 3.0).abs() < 1e-9 && (interval.high - 1.0).abs() < 1e-9);
        let bound = |bits: f64| Bound {
            elbo: vec![-bits * nat; 2],
            iwae: vec![(4, vec![-bits * nat / 2.0; 2])],
        };
        let bounds = Bounds {
            sticky: bound(20.0),
            written: bound(40.0),
            line_logprob: -4.0 * 2f64.ln(),
            marker_probability: 0.9,
            ..Bounds::default()
        };
        let record = text.record_bounds(Arm::Ra3, &bounds, &[-10.0 * nat, -10.0 * nat]);
        let by_name = |name: &str| record.bounds[name];
        assert_eq!((by_name("elbo"), by_name("iwae_4")), (1.0, 0.5));
        assert_eq!(
            (by_name("written_elbo"), by_name("written_iwae_4")),
            (2.0, 1.0)
        );
        assert_eq!(record.latents["choices"], 2.0);
        assert_eq!(record.latents["marker_probability"], 0.9);
    }
}
