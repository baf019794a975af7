//! Conversations as text: a model's own chat template, rendered as transformers renders it.
//!
//! Equal byte for byte to `apply_chat_template(messages, tokenize=False)`. The template is Jinja;
//! [`minijinja`] runs it, `dialect` adds what Python's Jinja and transformers have beyond it, and
//! `json` writes JSON as Python does. Tokens are not cut here, and no template is built in: a
//! model without one has none. Jinja's rarer filters (`truncate`, `wordcount`) and `%` on text are
//! errors; a float below 1e-4 or from 1e16 on inside a printed list keeps Rust's exponent.

mod dialect;
mod json;

use std::collections::BTreeMap;
use std::path::Path;

pub use chrono::NaiveDateTime;
use minijinja::Environment;
/// A message, tool or variable; maps keep the order of their keys, also when read from JSON.
pub use minijinja::Value;
use serde::Deserialize;

use crate::error::TextError;

/// Where transformers has written templates since version 4.51.
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// Further templates, each named by its file.
const TEMPLATE_FOLDER: &str = "additional_chat_templates";
/// Special tokens, and templates of older models.
const CONFIG_FILE: &str = "tokenizer_config.json";
/// Special tokens of models older still.
const TOKENS_FILE: &str = "special_tokens_map.json";
/// The name of a template that has none.
const DEFAULT: &str = "default";
/// The template for conversations with tools, if a model has several.
const TOOL_USE: &str = "tool_use";
/// The special tokens that any model may have.
const TOKEN_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Names of a message's reasoning; the first is the one that most templates read.
const REASONING_NAMES: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The chat templates of a model.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Template name → where it was read, for errors.
    places: BTreeMap<String, String>,
    special_tokens: BTreeMap<String, String>,
}

/// A conversation to render.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Maps with `role`, `content` and whatever else the template reads.
    pub messages: Vec<Value>,
    /// Descriptions of functions; none is another thing than an empty list.
    pub tools: Option<Vec<Value>>,
    /// End with the header of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables, such as `enable_thinking`; they go before the special tokens.
    pub variables: BTreeMap<String, Value>,
    /// What `strftime_now` tells.
    pub now: NaiveDateTime,
}

impl Chat {
    /// A conversation without tools, on the clock's present date, that asks for an answer.
    pub fn new(messages: Vec<Value>) -> Self {
        Self {
            messages,
            tools: None,
            add_generation_prompt: true,
            variables: BTreeMap::new(),
            now: chrono::Local::now().naive_local(),
        }
    }
}

/// A message of plain text.
pub fn message(role: &str, content: &str) -> Value {
    Value::from_pairs([("role", role), ("content", content)])
}

impl ChatTemplate {
    /// Reads the templates of a model's folder; none if it has none.
    ///
    /// # Errors
    /// A file cannot be read or is no JSON, or a template is no Jinja.
    pub fn load(folder: &Path) -> Result<Option<Self>, TextError> {
        let config: Config = read_json(&folder.join(CONFIG_FILE))?.unwrap_or_default();
        let sources = read_sources(folder, &config)?;
        if sources.is_empty() {
            return Ok(None);
        }
        let mut special_tokens = config.special_tokens();
        if !config.rest.contains_key("added_tokens_decoder") {
            let older: Option<Config> = read_json(&folder.join(TOKENS_FILE))?;
            special_tokens.extend(older.unwrap_or_default().special_tokens());
        }
        let mut environment = dialect::environment();
        let mut places = BTreeMap::new();
        for source in sources {
            let text = dialect::translate(&source.text);
            environment
                .add_template_owned(source.name.clone(), text)
                .map_err(|error| failure(&source.place, &error))?;
            places.insert(source.name, source.place);
        }
        Ok(Some(Self {
            environment,
            places,
            special_tokens,
        }))
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// The template refuses the conversation, or uses what only Python's Jinja has.
    pub fn render(&self, chat: &Chat) -> Result<String, TextError> {
        let is_for_tools = chat.tools.is_some() && self.places.contains_key(TOOL_USE);
        let name = if is_for_tools { TOOL_USE } else { DEFAULT };
        let Some(place) = self.places.get(name) else {
            let names: Vec<&str> = self.places.keys().map(String::as_str).collect();
            return Err(TextError::Template {
                template: names.join(", "),
                reason: "none of them is named `default`".to_owned(),
            });
        };
        let messages: Vec<Value> = chat.messages.iter().map(normalize).collect();
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            variables.insert(name, Value::from(token.as_str()));
        }
        variables.insert("documents", Value::from(()));
        for (name, value) in &chat.variables {
            variables.insert(name, value.clone());
        }
        let prompt = Value::from(chat.add_generation_prompt);
        variables.insert("messages", Value::from(messages));
        variables.insert("tools", Value::from(chat.tools.clone()));
        variables.insert("add_generation_prompt", prompt);
        variables.insert("strftime_now", dialect::clock(chat.now));
        self.environment
            .get_template(name)
            .and_then(|template| template.render(Value::from_pairs(variables)))
            .map_err(|error| failure(place, &error))
    }
}

/// A template before it is compiled.
struct Source {
    name: String,
    place: String,
    text: String,
}

/// What matters here of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct Config {
    chat_template: Option<ConfigTemplate>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ConfigTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Config {
    /// A token is written as text, or as a map with its text under `content`; names beyond the
    /// usual ones are those of a model's own, such as `image_token`.
    fn special_tokens(&self) -> BTreeMap<String, String> {
        let further = self.rest.get("extra_special_tokens");
        let further = further.and_then(serde_json::Value::as_object);
        let named = self.rest.iter().filter(|(name, value)| {
            TOKEN_NAMES.contains(&name.as_str()) || (name.ends_with("_token") && value.is_string())
        });
        named
            .chain(further.into_iter().flatten())
            .filter_map(|(name, value)| {
                let text = value.as_str().or_else(|| value["content"].as_str())?;
                Some((name.clone(), text.to_owned()))
            })
            .collect()
    }
}

/// Files go before the configuration, as in transformers.
fn read_sources(folder: &Path, config: &Config) -> Result<Vec<Source>, TextError> {
    let mut sources = Vec::new();
    let mut files = vec![(DEFAULT.to_owned(), folder.join(TEMPLATE_FILE))];
    let further = folder.join(TEMPLATE_FOLDER);
    if further.is_dir() {
        let read = |source| TextError::Read(further.clone(), source);
        for entry in std::fs::read_dir(&further).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|suffix| suffix == "jinja") {
                let name = path.file_stem().unwrap_or_default();
                files.push((name.to_string_lossy().into_owned(), path));
            }
        }
        files.sort();
    }
    for (name, path) in files {
        if let Some(text) = read_if_there(&path)? {
            let place = path.display().to_string();
            sources.push(Source { name, place, text });
        }
    }
    if !sources.is_empty() {
        return Ok(sources);
    }
    let path = folder.join(CONFIG_FILE);
    match &config.chat_template {
        None => {}
        Some(ConfigTemplate::One(text)) => sources.push(Source {
            name: DEFAULT.to_owned(),
            place: format!("{}, chat_template", path.display()),
            text: text.clone(),
        }),
        Some(ConfigTemplate::Named(templates)) => {
            sources.extend(templates.iter().map(|named| Source {
                name: named.name.clone(),
                place: format!("{}, chat_template `{}`", path.display(), named.name),
                text: named.template.clone(),
            }));
        }
    }
    Ok(sources)
}

/// A message as transformers hands it to templates: without keys whose value is none, and with
/// its reasoning under the two names that templates know.
fn normalize(message: &Value) -> Value {
    let Ok(keys) = message.try_iter() else {
        return message.clone();
    };
    let mut pairs: Vec<(Value, Value)> = keys
        .map(|key| {
            let value = message.get_item(&key).unwrap_or_default();
            (key, value)
        })
        .filter(|(_, value)| !value.is_none())
        .collect();
    let reasoning = REASONING_NAMES.iter().find_map(|name| {
        let pair = pairs.iter().find(|(key, _)| key.as_str() == Some(name));
        pair.map(|(_, value)| value.clone())
    });
    if let Some(reasoning) = reasoning {
        let mut set = |name: &str, is_first: bool| {
            let found = pairs.iter_mut().find(|(key, _)| key.as_str() == Some(name));
            match found {
                Some((_, value)) if !is_first => *value = reasoning.clone(),
                Some(_) => {}
                None => {
                    let at = if is_first { 0 } else { pairs.len() };
                    pairs.insert(at, (Value::from(name), reasoning.clone()));
                }
            }
        };
        set("thinking", true);
        set("reasoning_content", false);
    }
    Value::from_pairs(pairs)
}

/// The text of a file; none where there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read(path.to_owned(), source)),
    }
}

fn read_json(path: &Path) -> Result<Option<Config>, TextError> {
    let Some(text) = read_if_there(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| TextError::Template {
            template: path.display().to_string(),
            reason: error.to_string(),
        })
}

fn failure(place: &str, error: &minijinja::Error) -> TextError {
    let line = error.line().map(|line| format!(", line {line}"));
    let reason = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    TextError::Template {
        template: format!("{place}{}", line.unwrap_or_default()),
        reason,
    }
}
