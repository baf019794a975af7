//! `ra3.json` beside a model's weights: what neither `config.json` nor the tokenizer says.

use std::path::Path;

use anyhow::{Context, Result};
use ra3_text::tokenizer::{ACT, CLOSE, THINK};
use serde::{Deserialize, Serialize};

use crate::on_disk::read_json;

const FILE: &str = "ra3.json";

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelNote {
    /// The markers that the model was trained to write. The rows of the others begin anew when it
    /// is trained with latents: a token that never occurs is pushed away from every context.
    pub(crate) trained_markers: Vec<String>,
}

impl ModelNote {
    /// A model that writes decisions and rationales.
    pub(crate) fn latent() -> Self {
        Self {
            trained_markers: [ACT, THINK, CLOSE].map(str::to_owned).to_vec(),
        }
    }

    /// The note of a checkpoint. One from elsewhere has none, and was trained on the markers that
    /// its own `tokenizer.json` names.
    pub(crate) fn of_checkpoint(folder: &Path) -> Result<Self> {
        if folder.join(FILE).exists() {
            return Self::read(folder);
        }
        let file: serde_json::Value = read_json(&folder.join("tokenizer.json"), "is no JSON")?;
        let names = |marker: &&str| {
            let added = file["added_tokens"].as_array();
            added.is_some_and(|added| added.iter().any(|token| token["content"] == **marker))
        };
        Ok(Self {
            trained_markers: [ACT, THINK, CLOSE]
                .iter()
                .filter(|marker| names(marker))
                .map(|marker| (*marker).to_owned())
                .collect(),
        })
    }

    /// The note of a model that ra3 wrote.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        read_json(&folder.join(FILE), "is damaged")
    }

    /// Writes the note beside the weights.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let json = serde_json::to_string_pretty(self).expect("a note has only plain fields");
        std::fs::write(&path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// True if the model writes decisions and rationales.
    pub(crate) fn is_latent(&self) -> bool {
        [ACT, THINK, CLOSE].iter().all(|marker| self.knows(marker))
    }

    /// True if the model was trained to write this marker.
    pub(crate) fn knows(&self, marker: &str) -> bool {
        self.trained_markers.iter().any(|name| name == marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_knows_the_markers_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        // As Qwen3's: `<think>` is its own, `<act>` is not.
        let tokenizer = r#"{"added_tokens": [{"content": "<think>"}, {"content": "</think>"}]}"#;
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        let found = ModelNote::of_checkpoint(folder.path()).unwrap();
        assert!(found.knows(THINK) && found.knows(CLOSE) && !found.knows(ACT));
        // A model that was pretrained here has rows for all three and was trained on none.
        ModelNote::default().write(folder.path()).unwrap();
        let found = ModelNote::of_checkpoint(folder.path()).unwrap();
        assert_eq!(found, ModelNote::default());
        ModelNote::latent().write(folder.path()).unwrap();
        assert!(ModelNote::read(folder.path()).unwrap().knows(ACT));
    }
}
