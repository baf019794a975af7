//! `ra3 inspect`: a source file with the latents that a model finds for it.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use ra3::rollout::{Decision, LatentRule};
use ra3::seed::Seed;
use ra3_corpus::document::Document;
use ra3_corpus::lines::cut;

use crate::annotation;
use crate::event::{Event, Watcher};
use crate::model::Loaded;
use crate::model_note::ModelNote;
use crate::samples::DocumentSample;

/// A document with its latents.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Annotation(pub DocumentSample);

/// Annotates a document with latents drawn from a model.
///
/// # Errors
/// The checkpoint cannot be loaded, or the document does not fit its context.
pub fn annotate(
    model: &Path,
    text: &str,
    rationale_tokens_max: usize,
    seed: u64,
    watcher: &mut Watcher<'_>,
) -> Result<Annotation> {
    let loaded = Loaded::load(model, watcher)?;
    anyhow::ensure!(
        loaded.has_markers(),
        "{} has no latents to show: its vocabulary lacks <act>, <think> or </think>, which \
         mid-training with RA3 adds",
        model.display()
    );
    if !ModelNote::of_checkpoint(&loaded.folder)?.is_latent() {
        watcher(Event::Note(format!(
            "warning: {} was never trained with latents: what it shows is chance",
            model.display()
        )));
    }
    let Loaded { lm, tokenizer, .. } = loaded;
    let document = Document {
        name: "document".to_owned(),
        source: String::new(),
        prefix: String::new(),
        text: text.to_owned(),
    };
    let lines = cut(&document, &tokenizer, rationale_tokens_max)
        .lifted
        .trajectory;
    let rule = LatentRule {
        markers: tokenizer.markers(),
        rationale_tokens_max,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision: Decision::Free,
    };
    let seed = Seed::root(seed);
    annotation::annotate(&*lm, &lines, "document", "model", &rule, &tokenizer, seed).map(Annotation)
}

impl Annotation {
    /// A listing: decision, `q(think)`, log-probability with and without the latent, line.
    pub fn to_text(&self) -> String {
        let mut text = String::from("decision  q(think)   log p   (act)  line\n");
        for line in &self.0.lines {
            let code = line.text.trim_end_matches('\n');
            let (decision, without) = match &line.rationale {
                Some(rationale) => {
                    let _ = writeln!(text, "{:>36}» {}", "", rationale.trim());
                    ("think", format!("{:7.1}", line.logprob_act))
                }
                None => ("act", " ".repeat(7)),
            };
            let _ = writeln!(
                text,
                "{decision:<9} {:>7.2}  {:>7.1} {without}  {code}",
                line.think_probability, line.logprob
            );
        }
        text
    }
}
