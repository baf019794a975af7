//! What there is to say of keys: meaning, type, range, unit, default, the paper's symbol. One
//! description serves `ra3 explain` and `docs/run-file.md`.

use anyhow::{Result, bail};
use serde::Serialize;

use super::nearest::{is_symbol, nearest};
use super::setting::keys_of;
use super::shape::{Field, Kind, Shape, place};
use super::{KEYS, Key};

/// A table of the run file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    /// Its path, empty for the keys above all tables.
    pub section: String,
    /// As it is written: `[base]`, `[[arms]]`.
    pub header: String,
    /// What it means.
    pub meaning: String,
    /// Its keys, without those of the tables in it.
    pub keys: Vec<Entry>,
}

/// A key of the run file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its path, as `--set` takes it; in a list of tables, a table's name stands between.
    pub key: String,
    /// What it means.
    pub meaning: String,
    /// Its values.
    pub allowed: String,
    /// What its number counts.
    pub unit: Option<String>,
    /// What holds where it is not written.
    pub default: Option<String>,
    /// Whether it must be written.
    pub is_required: bool,
    /// Its letter in the paper.
    pub symbol: Option<String>,
    /// The kinds of its table that have it, where not all do.
    pub kinds: Vec<String>,
    /// What each of its names means.
    pub values: Vec<Meaning>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Meaning {
    /// The name.
    pub name: String,
    /// What it means.
    pub meaning: String,
}

/// What was asked for: whole sections, or keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Explanation {
    /// Tables with their keys.
    Sections(Vec<Section>),
    /// Keys.
    Keys(Vec<Entry>),
}

/// Explains a key, a section, a symbol of the paper or a name that a key may have; by the last
/// part of its path too, and as `--set` and an arm's `set` name it.
///
/// # Errors
/// There is nothing of this name: the message has the nearest.
pub fn explain(name: &str) -> Result<Explanation> {
    let sections = sections();
    let entries: Vec<Entry> = sections
        .iter()
        .flat_map(|section| section.keys.clone())
        .collect();
    let name = name.trim().trim_matches(['[', ']']);
    let plain = without_places(name);
    let mut keys = keys_of(&plain).filter(|key| !key.is_empty());
    if let Some(found) = keys.find_map(|key| found(&key, &sections, &entries)) {
        return Ok(found);
    }
    let of_sections = sections.iter().map(|section| section.section.as_str());
    let lasts = entries.iter().map(|entry| last(&entry.key));
    let known = KEYS.iter().map(|key| key.path);
    match nearest(name, known.chain(lasts).chain(of_sections)) {
        Some(meant) => {
            bail!("there is no key, section or symbol {name:?}: did you mean {meant:?}?")
        }
        None => {
            bail!("there is no key, section or symbol {name:?}: `ra3 explain` lists the sections")
        }
    }
}

fn found(path: &str, sections: &[Section], entries: &[Entry]) -> Option<Explanation> {
    let behind = format!(".{path}");
    let is_called = |entry: &Entry| {
        let symbol = entry.symbol.as_deref();
        symbol.is_some_and(|symbol| is_symbol(path, symbol))
    };
    let of_sections = |is_it: &dyn Fn(&Section) -> bool| {
        let found = sections.iter().filter(|section| is_it(section)).cloned();
        let found: Vec<Section> = found.collect();
        (!found.is_empty()).then_some(Explanation::Sections(found))
    };
    let of_entries = |is_it: &dyn Fn(&Entry) -> bool| {
        let found = entries.iter().filter(|entry| is_it(entry)).cloned();
        let found: Vec<Entry> = found.collect();
        (!found.is_empty()).then_some(Explanation::Keys(found))
    };
    of_sections(&|section| section.section == path)
        .or_else(|| of_entries(&|entry| entry.key == path))
        .or_else(|| of_entries(&is_called))
        .or_else(|| of_entries(&|entry| entry.key.ends_with(&behind)))
        .or_else(|| of_sections(&|section| section.section.ends_with(&behind)))
        .or_else(|| of_entries(&|entry| entry.values.iter().any(|value| value.name == path)))
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// Every table of the run file, in the order of the reference.
pub fn sections() -> Vec<Section> {
    let fields: Vec<&Field> = Shape::of_run_file().iter().collect();
    let mut sections = vec![Section {
        section: String::new(),
        header: "above all tables".to_owned(),
        meaning: "The run.".to_owned(),
        keys: entries(&fields, &[], None),
    }];
    add_sections("", &fields, &mut sections);
    sections
}

fn add_sections(path: &str, fields: &[&Field], into: &mut Vec<Section>) {
    for field in fields.iter().filter(|field| !field.shape.is_leaf()) {
        let path = join(path, &field.name);
        if into.iter().any(|section| section.section == path) {
            continue;
        }
        let is_list = matches!(field.shape, Shape::List(_));
        let (kind, kinds) = kinds_of(&field.shape);
        let fields = field.shape.fields();
        into.push(Section {
            header: if is_list {
                format!("[[{path}]]")
            } else {
                format!("[{path}]")
            },
            meaning: field.meaning.clone(),
            keys: entries(&fields, kinds, kind.map(|kind| (kind, *field))),
            section: path.clone(),
        });
        add_sections(&path, &fields, into);
    }
}

fn kinds_of(shape: &Shape) -> (Option<&'static Key>, &[Kind]) {
    match shape {
        Shape::Kinds(key, kinds) => (Some(key), kinds),
        Shape::List(of) => kinds_of(of),
        Shape::Leaf(..) | Shape::Table(_) | Shape::OneOf(_) | Shape::Own | Shape::Varied => {
            (None, &[])
        }
    }
}

fn entries(fields: &[&Field], kinds: &[Kind], of: Option<(&'static Key, &Field)>) -> Vec<Entry> {
    let kind = of.map(|(key, table)| Entry {
        default: table.default.clone(),
        is_required: table.default.is_none(),
        values: kinds
            .iter()
            .map(|kind| Meaning {
                name: kind.name.clone(),
                meaning: kind.meaning.clone(),
            })
            .collect(),
        ..entry(key, "Which keys the table has.".to_owned())
    });
    let mut entries: Vec<Entry> = kind.into_iter().collect();
    for field in fields {
        let Some((key, names)) = leaf(&field.shape) else {
            continue;
        };
        if entries.iter().any(|entry| entry.key == key.path) {
            continue;
        }
        let has_it = |kind: &&Kind| kind.fields.iter().any(|other| other.name == field.name);
        let having: Vec<&Kind> = kinds.iter().filter(has_it).collect();
        entries.push(Entry {
            allowed: match field.shape {
                Shape::List(_) => format!("a list, each of it {}", key.allowed),
                _ => key.allowed.to_string(),
            },
            default: field.default.clone(),
            is_required: field.is_required,
            kinds: if having.len() < kinds.len() {
                having.iter().map(|kind| kind.name.clone()).collect()
            } else {
                Vec::new()
            },
            values: names
                .iter()
                .map(|(name, meaning)| Meaning {
                    name: name.clone(),
                    meaning: meaning.clone(),
                })
                .collect(),
            ..entry(key, meaning(field, &having))
        });
    }
    entries.sort_by_key(|entry| place(&entry.key));
    entries
}

fn entry(key: &Key, meaning: String) -> Entry {
    Entry {
        key: key.path.to_owned(),
        meaning,
        allowed: key.allowed.to_string(),
        unit: key.unit.map(str::to_owned),
        default: None,
        is_required: false,
        symbol: key.symbol.map(str::to_owned),
        kinds: Vec::new(),
        values: Vec::new(),
    }
}

/// What a key means, by kind where kinds differ.
fn meaning(field: &Field, kinds: &[&Kind]) -> String {
    let of_kind = |kind: &&Kind| {
        let same = kind.fields.iter().find(|other| other.name == field.name);
        same.map_or_else(String::new, |other| other.meaning.clone())
    };
    let meanings: Vec<String> = kinds.iter().map(of_kind).collect();
    if meanings.iter().all(|meaning| *meaning == field.meaning) {
        return field.meaning.clone();
    }
    let by_kind = kinds.iter().zip(&meanings);
    let by_kind: Vec<String> = by_kind
        .map(|(kind, meaning)| format!("`{}`: {meaning}", kind.name))
        .collect();
    by_kind.join(" ")
}

fn leaf(shape: &Shape) -> Option<(&'static Key, &[(String, String)])> {
    match shape {
        Shape::Leaf(key, names) => Some((key, names)),
        Shape::List(of) => leaf(of),
        Shape::Table(_) | Shape::Kinds(..) | Shape::OneOf(_) | Shape::Own | Shape::Varied => None,
    }
}

fn join(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{name}")
}

/// `a[3].b` is `a.b`.
pub(super) fn without_places(path: &str) -> String {
    let mut plain = String::new();
    let mut is_place = false;
    for letter in path.chars() {
        is_place |= letter == '[';
        if !is_place {
            plain.push(letter);
        }
        is_place &= letter != ']';
    }
    plain
}

impl Explanation {
    /// For a terminal.
    pub fn to_text(&self) -> String {
        match self {
            Self::Sections(sections) => {
                let texts: Vec<String> = sections.iter().map(Section::to_text).collect();
                texts.join("\n\n")
            }
            Self::Keys(entries) => {
                let texts: Vec<String> = entries.iter().map(Entry::to_text).collect();
                texts.join("\n\n")
            }
        }
    }
}

impl Section {
    /// Its header and meaning in a line.
    pub fn to_line(&self) -> String {
        format!("{:<24} {}", self.header, self.meaning)
    }

    fn to_text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(Entry::to_text).collect();
        let text = format!("{}  {}\n\n{}", self.header, self.meaning, keys.join("\n\n"));
        text.trim_end().to_owned()
    }
}

impl Entry {
    /// What holds where it is not written, or that it must be.
    pub(super) fn default_text(&self) -> String {
        match &self.default {
            Some(default) => default.clone(),
            None if self.is_required => "must be written".to_owned(),
            None => "none".to_owned(),
        }
    }

    fn to_text(&self) -> String {
        let mut lines = vec![self.key.clone(), format!("  {}", self.meaning)];
        let mut say = |name: &str, text: &str| lines.push(format!("  {name:<8} {text}"));
        say("allowed", &self.allowed);
        say("default", &self.default_text());
        if let Some(unit) = &self.unit {
            say("unit", unit);
        }
        if let Some(symbol) = &self.symbol {
            say("symbol", symbol);
        }
        if !self.kinds.is_empty() {
            say("where", &format!("kind = {}", self.kinds.join(", ")));
        }
        for value in self.values.iter().filter(|value| !value.meaning.is_empty()) {
            lines.push(format!("    {}: {}", value.name, value.meaning));
        }
        lines.join("\n")
    }
}
