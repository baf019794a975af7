//! A model from elsewhere: its folder or name on the Hub → weights, tokenizer, ends of text, chat
//! template, and the files that belong to it and are handed on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ra3::policy::TokenId;
use ra3_corpus::chat_template::ChatTemplate;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings, memory};

use crate::event::{Event, Watcher};
use crate::free_memory::free_bytes;
use crate::hub::{self, HubSettings};
use crate::programs::stops;

/// Files of a model that are neither weights nor read by the engine; a model that is trained from
/// it keeps them. The tokenizer writes its own.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const BYTES_PER_UNIT: u64 = 1 << 20;
/// Bytes of the key and value cache where nothing says how much memory is free.
const CACHE_BYTES: usize = 1 << 30;

/// A model that is run and not trained.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    pub(crate) lm: Lm,
    pub(crate) tokenizer: Tokenizer,
    /// Ends of text: the tokenizer's, and those of `config.json` and `generation_config.json`.
    pub(crate) stops: Vec<TokenId>,
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
        lm.set_cache_bytes_max(cache_bytes_max(lm.config(), free_bytes()));
        let mut stops = stops(&lm, &tokenizer);
        stops.extend(generation_ends(&folder)?);
        stops.sort_unstable();
        stops.dedup();
        Ok(Self {
            template: ChatTemplate::load(&folder)?,
            folder,
            lm,
            tokenizer,
            stops,
        })
    }

    /// True if it has rows for the markers: a model from elsewhere has not.
    pub(crate) fn has_markers(&self) -> bool {
        let markers = self.tokenizer.markers();
        let last = markers.act.max(markers.think).max(markers.close);
        (last as usize) < self.lm.config().vocab_size
    }
}

/// Settings of a model that is not trained.
fn to_run() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: CACHE_BYTES,
        moments: Precision::Float32,
    }
}

/// Half of the memory that is free once the weights are there, and at least what one context
/// needs. The cache takes no more than its rows need, and its size changes no result.
fn cache_bytes_max(config: &ModelConfig, n_free: Option<usize>) -> usize {
    let one_context = memory::cache_bytes(config, config.max_position_embeddings);
    n_free
        .map_or(CACHE_BYTES, |n_free| n_free / 2)
        .max(one_context)
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

/// The keys of `generation_config.json`; none where there is no such file.
fn generation_config(folder: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return Ok(serde_json::Map::new());
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).with_context(|| format!("{} is no JSON object", path.display()))
}

/// The ends of text of `generation_config.json`.
fn generation_ends(folder: &Path) -> Result<Vec<TokenId>> {
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    Ok(match generation_config(folder)?.get("eos_token_id") {
        Some(serde_json::Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(end) => id(end).into_iter().collect(),
        None => Vec::new(),
    })
}

/// Writes `generation_config.json`: what a server stops at and begins with. What a checkpoint from
/// elsewhere says beside it is kept.
///
/// # Errors
/// A file is there and no JSON, or the folder cannot be written.
pub(crate) fn write_generation_config(folder: &Path, lm: &Lm, tokenizer: &Tokenizer) -> Result<()> {
    let path = folder.join("generation_config.json");
    let mut file = generation_config(folder)?;
    let said = generation_ends(folder)?;
    let mut ends = stops(lm, tokenizer);
    if ends.iter().all(|end| said.contains(end)) {
        return Ok(());
    }
    ends.extend(said);
    ends.sort_unstable();
    ends.dedup();
    if file.is_empty() {
        // Plain sampling, where a server's own defaults would cut the distribution.
        for (key, value) in [("temperature", 1.0), ("top_p", 1.0)] {
            file.insert(key.to_owned(), value.into());
        }
        file.insert("do_sample".to_owned(), true.into());
        file.insert("top_k".to_owned(), 0.into());
    }
    file.insert("eos_token_id".to_owned(), ends.into());
    file.insert("bos_token_id".to_owned(), tokenizer.begin().into());
    file.entry("pad_token_id")
        .or_insert_with(|| tokenizer.markers().end.into());
    let json = serde_json::to_string_pretty(&file).expect("numbers and names");
    std::fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
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

#[cfg(test)]
mod tests {
    use ra3_lm::config::Architecture;

    use super::*;

    #[test]
    fn the_cache_is_half_of_what_is_free_and_at_least_one_context() {
        let config = ModelConfig {
            hidden_size: 1536,
            num_hidden_layers: 28,
            num_attention_heads: 12,
            num_key_value_heads: 2,
            max_position_embeddings: 1 << 15,
            ..ModelConfig::new(Architecture::Qwen2)
        };
        let context = memory::cache_bytes(&config, 1 << 15);
        assert!(context > 1 << 30, "a fixed GiB held half a context");
        assert_eq!(cache_bytes_max(&config, None), context);
        assert_eq!(cache_bytes_max(&config, Some(1 << 20)), context);
        assert_eq!(cache_bytes_max(&config, Some(100 << 30)), 50 << 30);
    }
}
