//! A model from elsewhere: its folder or name on the Hub → weights, tokenizer, ends of text, chat
//! template, and the files that belong to it and are handed on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ra3::policy::TokenId;
use ra3::seed::Seed;
use ra3_corpus::chat_template::ChatTemplate;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

use crate::event::{Event, Watcher};
use crate::hub::{self, HubSettings};

/// Files of a model that are neither weights nor read by the engine; a model that is trained from
/// it keeps them. The tokenizer writes its own.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const BYTES_PER_UNIT: u64 = 1 << 20;

/// A model that is run and not trained.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    pub(crate) lm: Lm,
    pub(crate) tokenizer: Tokenizer,
    /// Ends of text beside the tokenizer's own, from `config.json` and `generation_config.json`.
    pub(crate) other_ends: Vec<TokenId>,
    pub(crate) template: Option<ChatTemplate>,
}

impl Model {
    /// Loads a folder or a model of the Hub.
    pub(crate) fn load(name: &Path, watcher: &mut Watcher<'_>) -> Result<Self> {
        let folder = folder_of(name, watcher)?;
        // A folder that holds no model says so before its tokenizer is looked for.
        ModelConfig::load(&folder.join("config.json"))?;
        let path = folder.join("tokenizer.json");
        let tokenizer =
            Tokenizer::load(&path).with_context(|| format!("cannot load {}", path.display()))?;
        let mut lm = Lm::load_to_run(&folder, to_run())
            .with_context(|| format!("cannot load the model {}", folder.display()))?;
        // A checkpoint from elsewhere may have no rows for the markers.
        lm.grow_vocabulary(tokenizer.vocab_size(), Seed::root(0).child("markers"));
        let mut other_ends = lm.config().eos_token_ids.clone();
        other_ends.extend(generation_ends(&folder)?);
        other_ends.sort_unstable();
        other_ends.dedup();
        other_ends.retain(|id| *id != tokenizer.markers().end);
        Ok(Self {
            template: ChatTemplate::load(&folder)?,
            folder,
            lm,
            tokenizer,
            other_ends,
        })
    }
}

/// Settings of a model that is not trained.
fn to_run() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: 1 << 30,
        moments: Precision::Float32,
    }
}

/// The folder of a model: the path itself, or a snapshot of the Hub in the cache.
///
/// # Errors
/// As [`hub::resolve`].
pub(crate) fn folder_of(name: &Path, watcher: &mut Watcher<'_>) -> Result<PathBuf> {
    if name.is_dir() {
        return Ok(name.to_owned());
    }
    let text = name.display().to_string();
    let mut total_shown = 0;
    let resolved = hub::resolve(
        &text,
        &HubSettings::from_environment(),
        &mut |done, total| {
            if total > total_shown {
                total_shown = total;
                watcher(Event::Started {
                    stage: format!("download {text}"),
                    position: done / BYTES_PER_UNIT,
                    total: total / BYTES_PER_UNIT,
                    unit: "MiB",
                });
            }
            watcher(Event::Advanced {
                position: done / BYTES_PER_UNIT,
                n_tokens: 0,
                message: String::new(),
            });
        },
    )?;
    if total_shown > 0 {
        let message = resolved.folder.display().to_string();
        watcher(Event::Finished { message });
    }
    if let Some(reason) = &resolved.unchecked {
        watcher(Event::Note(format!(
            "{text}: the cached copy is used, the Hub was not asked: {reason}"
        )));
    }
    Ok(resolved.folder)
}

/// The ends of text of `generation_config.json`; none where there is no such file.
fn generation_ends(folder: &Path) -> Result<Vec<TokenId>> {
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let file: serde_json::Value =
        serde_json::from_str(text).with_context(|| format!("{} is no JSON", path.display()))?;
    let ends = &file["eos_token_id"];
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    Ok(match ends.as_array() {
        Some(ids) => ids.iter().filter_map(id).collect(),
        None => id(ends).into_iter().collect(),
    })
}

/// Copies the files that belong to a model beside its weights and tokenizer.
///
/// # Errors
/// A file is there and cannot be copied.
pub(crate) fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    for name in COMPANIONS {
        let (source, target) = (from.join(name), to.join(name));
        if source.exists() {
            std::fs::copy(&source, &target)
                .with_context(|| format!("cannot copy {} beside the model", source.display()))?;
        }
    }
    Ok(())
}
