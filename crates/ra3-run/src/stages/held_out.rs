//! Bits per byte and bounds of a model on held-out documents, with intervals over documents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ra3::bounds::{self, Bound, Bounds};
use ra3::formulas::effective_choices;
use ra3::latent_rule::LatentRule;
use ra3::model::Model;
use ra3::policy::Policy;
use ra3::seed::Seed;
use ra3::trajectory::Trajectory;
use ra3_corpus::shards::Stored;
use ra3_records::ledger::{HeldOutRecord, Interval, Record};
use ra3_records::samples::Sample;
use ra3_statistics::pass_at_k::ratio;
use ra3_text::tokenizer::Tokenizer;

use super::corpus;
use crate::annotation::annotate;
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model_note::ModelNote;
use crate::plan::Method;
use crate::run_file::RunFile;
use crate::store::StageFolder;

/// Documents of a model that the report shows.
const N_SHOWN_DOCUMENTS: usize = 12;

/// A model that is measured.
pub(crate) struct Models {
    /// Its name.
    pub(crate) name: String,
    /// What was done to it last.
    pub(crate) last_method: Method,
    /// Its folder.
    pub(crate) model: PathBuf,
    /// The folder of the model that gives `p_0`; without one it is its own.
    pub(crate) reference: Option<PathBuf>,
}

/// Measures a model on the text that it was last trained on: plain documents as they stand in the
/// corpus, or for a model with latents those whose comments became latents.
pub(crate) fn run(
    file: &RunFile,
    engine: &Engine,
    models: &Models,
    corpus: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    watcher(Event::began(folder.stage()));
    let tokenizer = corpus::tokenizer(corpus)?;
    let lm = engine.load(&models.model)?;
    let shards = corpus::held_out_documents(corpus)?;
    let n = file.held_out.n_documents.min(shards.len());
    let stored: Vec<Stored> = (0..n)
        .map(|i| shards.stored(i * shards.len() / n.max(1)))
        .collect();
    let is_latent = match models.last_method {
        Method::Ntp(_) => false,
        Method::Ra3 => true,
        Method::None => ModelNote::read(&models.model)?.is_latent(),
    };
    let record = if is_latent {
        let load = |folder: &PathBuf| engine.load(folder);
        let reference = models.reference.as_ref().map(load).transpose()?;
        let reference = reference.as_deref();
        latent(file, models, &*lm, reference, &stored, &tokenizer, folder)?
    } else {
        plain(&models.name, &*lm, &stored, &tokenizer)?
    };
    let message = format!("{:.4} bits per byte", record.bits_per_byte);
    folder.record(&Record::HeldOut(record))?;
    watcher(Event::Finished { message });
    Ok(())
}

fn plain(
    name: &str,
    policy: &dyn Policy,
    stored: &[Stored],
    tokenizer: &Tokenizer,
) -> Result<HeldOutRecord> {
    // The end of a document is scored and has no bytes.
    let end = tokenizer.markers().end;
    let n_bytes = |plain: &Trajectory| {
        let code = plain.lines.iter().filter(|line| **line != [end]);
        code.map(|line| tokenizer.decode(line).len()).sum::<usize>()
    };
    let (documents, n_bytes) = stored
        .iter()
        .map(|stored| (stored.cut.plain.clone(), n_bytes(&stored.cut.plain)))
        .unzip();
    let text = Text::new("corpus", documents, n_bytes);
    let (nats, _) = bounds::exact(policy, &text.documents)?;
    let mut record = text.record(name, &nats);
    // What a model with latents is measured on, which this one was not trained on.
    let lifted = Text::lifted(stored);
    let (nats, _) = bounds::exact(policy, &lifted.documents)?;
    let interval = lifted.bits_per_byte(&nats);
    record.bounds.insert("lifted_text".into(), interval.mean);
    record.intervals.insert("lifted_text".into(), interval);
    Ok(record)
}

fn latent(
    file: &RunFile,
    models: &Models,
    policy: &dyn Policy,
    reference: Option<&dyn Model>,
    stored: &[Stored],
    tokenizer: &Tokenizer,
    folder: &mut StageFolder,
) -> Result<HeldOutRecord> {
    let markers = tokenizer.markers();
    let seed = Seed::root(file.seed).child("held_out");
    let text = Text::lifted(stored);
    let (all_act, _) = bounds::all_act(policy, &text.documents, &markers)?;
    let rule = LatentRule::free(markers, file.corpus.rationale_tokens_max, 1.0);
    let p_0 = reference.map(|reference| reference as &dyn Policy);
    let (alpha, ks) = (file.held_out.alpha, &file.held_out.iwae);
    let found = bounds::measure(policy, p_0, &text.documents, &rule, alpha, ks, seed)?;
    let prior = if p_0.is_some() { "reference" } else { "itself" };
    let mut record = text.record_bounds(&models.name, &found, prior, &all_act);
    let seed = seed.child("everywhere");
    let (everywhere, _) = bounds::gain_everywhere(policy, &text.documents, &rule, seed)?;
    let figures = [("gain", everywhere.mean), ("gain_share", everywhere.share)];
    let named = figures.map(|(name, value)| (format!("{name}_everywhere"), value));
    record.latents.extend(named);
    for stored in &stored[..stored.len().min(N_SHOWN_DOCUMENTS)] {
        let document = &stored.cut.annotated.trajectory;
        let (name, arm) = (&stored.name, &models.name);
        let sample = annotate(policy, document, name, arm, &rule, tokenizer, seed)?;
        folder.sample(&Sample::Document(sample))?;
    }
    Ok(record)
}

/// Documents, and the bytes of each.
struct Text {
    /// Its name in the ledger: `corpus` or `lifted`.
    form: &'static str,
    documents: Vec<Trajectory>,
    n_bytes: Vec<usize>,
}

impl Text {
    fn new(form: &'static str, documents: Vec<Trajectory>, n_bytes: Vec<usize>) -> Self {
        Self {
            form,
            documents,
            n_bytes,
        }
    }

    /// Documents whose comments became latents: their code.
    fn lifted(stored: &[Stored]) -> Self {
        let code = |stored: &Stored| {
            let annotated = &stored.cut.annotated.trajectory;
            (annotated.clone(), stored.cut.n_annotated_bytes)
        };
        let (documents, n_bytes) = stored.iter().map(code).unzip();
        Self::new("lifted", documents, n_bytes)
    }

    /// An arm without latents, by its exact log-likelihoods in nats.
    fn record(&self, arm: &str, nats: &[f64]) -> HeldOutRecord {
        let exact = self.bits_per_byte(nats);
        HeldOutRecord {
            arm: arm.to_owned(),
            text: self.form.to_owned(),
            n_documents: self.documents.len() as u64,
            n_bytes: self.n_bytes.iter().sum::<usize>() as u64,
            bits_per_byte: exact.mean,
            prior: String::new(),
            bounds: BTreeMap::new(),
            intervals: BTreeMap::from([("bits_per_byte".to_owned(), exact)]),
            latents: BTreeMap::new(),
        }
    }

    /// An arm with latents, by its bounds under some prior and its log-likelihoods with every
    /// decision an act.
    fn record_bounds(
        &self,
        arm: &str,
        found: &Bounds,
        prior: &str,
        all_act: &[f64],
    ) -> HeldOutRecord {
        let mut record = self.record(arm, all_act);
        prior.clone_into(&mut record.prior);
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
            ("gain", found.gain.mean),
            ("gain_share", found.gain.share),
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
        let found = text.record("ntp", &[-10.0 * nat, -10.0 * nat]);
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
        let record = text.record_bounds("ra3", &bounds, "itself", &[-10.0 * nat, -10.0 * nat]);
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
