//! `ra3 inspect`: a source file with the latents that a model finds for it.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use ra3::latent_rule::LatentRule;
use ra3::seed::Seed;
use ra3::trajectory::Latent;
use ra3_corpus::document::Document;
use ra3_corpus::lines::cut;
use ra3_records::samples::DocumentSample;

use crate::annotation;
use crate::event::{Event, Watcher};
use crate::model::Loaded;
use crate::model_note::ModelNote;

/// A document with its latents.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Annotation {
    /// Its lines, without comments: a model sees what it was trained on.
    #[serde(flatten)]
    pub document: DocumentSample,
    /// The document's own comment before each line.
    pub comments: Vec<Option<String>>,
}

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
        text: text.to_owned(),
        ..Document::default()
    };
    // Its comments are only shown, however long they are.
    let annotated = cut(&document, &tokenizer, usize::MAX).annotated;
    let comments = annotated.latents.iter().map(|latent| match latent {
        Some(Latent::Switch { rationale, .. }) => Some(tokenizer.decode(rationale)),
        Some(Latent::Keep) | None => None,
    });
    let comments = comments.collect();
    let lines = annotated.trajectory;
    let rule = LatentRule::free(tokenizer.markers(), rationale_tokens_max, 1.0);
    let seed = Seed::root(seed);
    let document =
        annotation::annotate(&*lm, &lines, "document", "model", &rule, &tokenizer, seed)?;
    Ok(Annotation { document, comments })
}

impl Annotation {
    /// A listing: decision, `q(think)`, log-probability, what the latent gains over `<act>`, line;
    /// above a line its own comment, and the rationale.
    pub fn to_text(&self, is_coloured: bool) -> String {
        let mut text = String::from("decision  q(think)   log p    gain  line\n");
        let dim = |text: &str| painted(text, "2", is_coloured);
        for (line, comment) in self.document.lines.iter().zip(&self.comments) {
            let code = line.text.trim_end_matches('\n');
            let indent: String = code.chars().take_while(|c| c.is_whitespace()).collect();
            if let Some(comment) = comment {
                let _ = writeln!(text, "{:>36}{}", "", dim(&format!("{indent}#{comment}")));
            }
            let (decision, gain) = match &line.rationale {
                Some(rationale) => {
                    let _ = writeln!(text, "{:>36}{indent}» {}", "", rationale.trim());
                    let gain = line.logprob - line.logprob_act;
                    let colour = if gain > 0.0 { "32" } else { "31" };
                    (
                        "think",
                        painted(&format!("{gain:+7.1}"), colour, is_coloured),
                    )
                }
                None => ("act", " ".repeat(7)),
            };
            let _ = writeln!(
                text,
                "{decision:<9} {:>7.2}  {:>7.1} {gain}  {code}",
                line.think_probability, line.logprob
            );
        }
        text
    }
}

/// A text in one of a terminal's colours (ECMA-48).
fn painted(text: &str, colour: &str, is_coloured: bool) -> String {
    if is_coloured {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ra3_records::samples::AnnotatedLine;

    #[test]
    fn comments_rationales_and_gains_stand_with_their_lines() {
        let line = |text: &str, rationale: Option<&str>, logprob_act: f64| AnnotatedLine {
            text: text.to_owned(),
            rationale: rationale.map(str::to_owned),
            logprob: -2.0,
            logprob_act,
            think_probability: 0.5,
        };
        let annotation = Annotation {
            document: DocumentSample {
                arm: "model".to_owned(),
                name: "document".to_owned(),
                prefix: String::new(),
                lines: vec![
                    line("def f(x):\n", None, -2.0),
                    line("    return x\n", Some(" the same "), -5.5),
                    line("y = 1\n", Some("worse"), -1.0),
                ],
            },
            comments: vec![None, Some(" as it is".to_owned()), None],
        };
        let space = " ".repeat(36);
        let expected = format!(
            "decision  q(think)   log p    gain  line\n\
             act          0.50     -2.0          def f(x):\n\
             {space}    # as it is\n\
             {space}    » the same\n\
             think        0.50     -2.0    +3.5      return x\n\
             {space}» worse\n\
             think        0.50     -2.0    -1.0  y = 1\n"
        );
        assert_eq!(annotation.to_text(false), expected);
        let coloured = annotation.to_text(true);
        assert!(
            coloured.contains("\u{1b}[32m   +3.5\u{1b}[0m"),
            "{coloured}"
        );
        assert!(
            coloured.contains("\u{1b}[31m   -1.0\u{1b}[0m"),
            "{coloured}"
        );
    }
}
