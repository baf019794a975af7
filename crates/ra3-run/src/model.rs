//! A model from elsewhere: its folder or name on the Hub → weights, tokenizer, ends of text, chat
//! template, and the files that belong to it and are handed on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ra3::model::Model;
use ra3::policy::TokenId;
use ra3_hub::HubSettings;
use ra3_lm::config::ModelConfig;
use ra3_text::chat_template::ChatTemplate;
use ra3_text::tokenizer::Tokenizer;

use crate::engine::load_to_run;
use crate::event::{Event, Watcher};
use crate::on_disk::read_text;
use crate::programs::stops;

/// Files of a model that are neither weights nor read by the engine; a model that is trained from
/// it keeps them. The tokenizer writes its own.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
/// The files that a model's tokenizer and its companions come to.
pub(crate) const TEXT_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Of a download, as it is shown.
const BYTES_PER_UNIT: u64 = 1 << 20;

/// True for a file of a model's folder that is read of it.
pub(crate) fn is_read(name: &str) -> bool {
    let is_weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    is_weights || name == "ra3.json" || TEXT_FILES.contains(&name)
}

/// A model that is run and not trained.
pub(crate) struct Loaded {
    pub(crate) folder: PathBuf,
    pub(crate) lm: Box<dyn Model>,
    pub(crate) tokenizer: Tokenizer,
    /// Ends of text: the tokenizer's, and those of `config.json` and `generation_config.json`.
    pub(crate) stops: Vec<TokenId>,
    /// One that cannot be read is no hindrance until somebody chats.
    pub(crate) template: Result<Option<ChatTemplate>>,
}

impl Loaded {
    /// Loads a folder or a model of the Hub.
    pub(crate) fn load(name: &Path, watcher: &mut Watcher<'_>) -> Result<Self> {
        let folder = folder_of(name, watcher)?;
        // A folder that holds no model says so before its tokenizer is looked for.
        ModelConfig::load(&folder.join("config.json"))?;
        let path = folder.join("tokenizer.json");
        let tokenizer =
            Tokenizer::load(&path).with_context(|| format!("cannot load {}", path.display()))?;
        let lm = load_to_run(&folder)?;
        let stops = joined(stops(&*lm, &tokenizer), generation_ends(&folder)?);
        Ok(Self {
            template: ChatTemplate::load(&folder).map_err(anyhow::Error::from),
            folder,
            lm,
            tokenizer,
            stops,
        })
    }

    /// Its chat template, for who wants to chat.
    pub(crate) fn chat_template(&self) -> Result<&ChatTemplate> {
        let folder = self.folder.display();
        match &self.template {
            Ok(Some(template)) => Ok(template),
            Ok(None) => bail!("{folder} has no chat template: leave out --chat"),
            Err(error) => bail!("{error:#}: leave out --chat"),
        }
    }

    /// True if it has rows for the markers: a model from elsewhere has not.
    pub(crate) fn has_markers(&self) -> bool {
        let markers = self.tokenizer.markers();
        let last = markers.act.max(markers.think).max(markers.close);
        (last as usize) < self.lm.shape().n_vocabulary
    }
}

/// The folder of a model: the path itself, or a snapshot of the Hub in the cache.
pub(crate) fn folder_of(name: &Path, watcher: &mut Watcher<'_>) -> Result<PathBuf> {
    if name.is_dir() {
        return Ok(name.to_owned());
    }
    let text = name.display().to_string();
    let mut total_shown = 0;
    let resolved = ra3_hub::resolve(
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
            watcher(Event::advanced(done / BYTES_PER_UNIT));
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
    let text = read_text(&path)?;
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

/// The ids of both, by rising id.
fn joined(mut ids: Vec<TokenId>, others: Vec<TokenId>) -> Vec<TokenId> {
    ids.extend(others);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Writes `generation_config.json`: what a server stops at and begins with. What a checkpoint from
/// elsewhere says beside it is kept.
pub(crate) fn write_generation_config(
    folder: &Path,
    lm: &dyn Model,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let path = folder.join("generation_config.json");
    let mut file = generation_config(folder)?;
    let said = generation_ends(folder)?;
    let ends = stops(lm, tokenizer);
    if ends.iter().all(|end| said.contains(end)) {
        return Ok(());
    }
    if file.is_empty() {
        // Plain sampling, where a server's own defaults would cut the distribution.
        for (key, value) in [("temperature", 1.0), ("top_p", 1.0)] {
            file.insert(key.to_owned(), value.into());
        }
        file.insert("do_sample".to_owned(), true.into());
        file.insert("top_k".to_owned(), 0.into());
    }
    file.insert("eos_token_id".to_owned(), joined(ends, said).into());
    file.insert("bos_token_id".to_owned(), tokenizer.begin().into());
    file.entry("pad_token_id")
        .or_insert_with(|| tokenizer.markers().end.into());
    let json = serde_json::to_string_pretty(&file).expect("numbers and names");
    std::fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Copies the files that belong to a model beside its weights and tokenizer.
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
