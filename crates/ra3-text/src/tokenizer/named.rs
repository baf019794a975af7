//! What a tokenizer's folder says beside `tokenizer.json`: the names of the begin and end of text.

use std::path::Path;

use serde_json::{Map, Value};

use super::{END, failure};
use crate::chat_template::read_if_there;
use crate::error::TextError;

const CONFIG: &str = "tokenizer_config.json";
/// Where older models name their special tokens.
const OLDER: &str = "special_tokens_map.json";
/// Where a model names the ids of its ends.
const MODEL: &str = "config.json";

/// The begin and end of text.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) begin: Option<String>,
    pub(super) end: Option<String>,
    /// Names nothing, and the model's own configuration names this id.
    pub(super) end_id: Option<u32>,
    /// Whether `tokenizer_config.json` wants the begin before a text.
    pub(super) adds_begin: Option<bool>,
    /// `tokenizer_config.json` as it was read.
    text: Option<String>,
}

impl Named {
    /// Of a tokenizer that is trained here: a text begins and ends with [`END`].
    pub(super) fn ours() -> Self {
        Self {
            begin: Some(END.to_owned()),
            end: Some(END.to_owned()),
            end_id: None,
            adds_begin: None,
            text: None,
        }
    }

    /// Reads what lies beside a `tokenizer.json`, as transformers reads it.
    pub(super) fn beside(path: &Path) -> Result<Self, TextError> {
        let text = read_if_there(&path.with_file_name(CONFIG))?;
        let file = parse(text.as_deref(), &path.with_file_name(CONFIG))?;
        let object = |name: &str| {
            let path = path.with_file_name(name);
            parse(read_if_there(&path)?.as_deref(), &path)
        };
        let older = if file.contains_key("added_tokens_decoder") {
            Map::new()
        } else {
            object(OLDER)?
        };
        let token = |key: &str| {
            let value = older.get(key).or_else(|| file.get(key))?;
            name_of(value).map(str::to_owned)
        };
        let (begin, end) = (token("bos_token"), token("eos_token"));
        let end_id = if end.is_none() {
            let id = object(MODEL)?.get("eos_token_id").and_then(|id| {
                let first = id.as_array().and_then(|ids| ids.first());
                first.unwrap_or(id).as_u64()
            });
            id.and_then(|id| u32::try_from(id).ok())
        } else {
            None
        };
        Ok(Self {
            begin,
            end,
            end_id,
            adds_begin: file.get("add_bos_token").and_then(Value::as_bool),
            text,
        })
    }

    /// `tokenizer_config.json` as it is written: as it was read, with the names that hold.
    pub(super) fn to_text(&self, end: &str) -> String {
        let mut file = match &self.text {
            Some(text) => serde_json::from_str(without_bom(text)).expect("it was read"),
            None => Map::new(),
        };
        let names = [
            ("eos_token", Some(end)),
            ("bos_token", self.begin.as_deref()),
        ];
        let is_said =
            |(key, name): &(&str, Option<&str>)| file.get(*key).and_then(name_of) == *name;
        if let Some(text) = self.text.as_ref().filter(|_| names.iter().all(is_said)) {
            return text.clone();
        }
        if file.is_empty() {
            file.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
            file.insert("pad_token".into(), end.into());
            file.insert("clean_up_tokenization_spaces".into(), false.into());
        }
        file.extend(names.map(|(key, name)| (key.to_owned(), name.into())));
        format!("{:#}\n", Value::Object(file))
    }
}

/// A token is its text, or an object that has it.
fn name_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The object of a file; an empty one where there is no such file.
fn parse(text: Option<&str>, path: &Path) -> Result<Map<String, Value>, TextError> {
    text.map_or(Ok(Map::new()), |text| {
        serde_json::from_str(without_bom(text)).map_err(|error| failure(path, error.to_string()))
    })
}
