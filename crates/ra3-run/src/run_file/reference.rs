//! The table of keys in `docs/run-file.md`, made from the types; a test compares the page with it.

use super::explain::{Entry, Section, sections};

/// The keys of a run file, section by section, in Markdown.
pub fn reference() -> String {
    let sections: Vec<String> = sections().iter().map(section).collect();
    sections.join("\n")
}

fn section(section: &Section) -> String {
    let mut text = if section.section.is_empty() {
        "### Above all tables\n".to_owned()
    } else {
        format!("### `{}`\n", section.header)
    };
    text += &format!("\n{}\n", section.meaning);
    if section.keys.is_empty() {
        return text;
    }
    text += "\n| key | allowed | default | unit | meaning | symbol |\n|---|---|---|---|---|---|\n";
    for entry in &section.keys {
        text += &row(entry);
    }
    for entry in &section.keys {
        let mut values = entry
            .values
            .iter()
            .filter(|value| !value.meaning.is_empty())
            .peekable();
        if values.peek().is_some() {
            text += &format!("\n`{}` is one of:\n\n", entry.key);
        }
        for value in values {
            text += &format!("- `{}`: {}\n", value.name, value.meaning);
        }
    }
    text
}

fn row(entry: &Entry) -> String {
    let default = match &entry.default {
        Some(default) if default.starts_with("the ") => default.clone(),
        Some(default) => format!("`{default}`"),
        None if entry.is_required => "*must be written*".to_owned(),
        None => "–".to_owned(),
    };
    let of = if entry.kinds.is_empty() {
        String::new()
    } else {
        let kinds: Vec<String> = entry.kinds.iter().map(|kind| format!("`{kind}`")).collect();
        format!(" (Of {}.)", kinds.join(", "))
    };
    format!(
        "| `{}` | {} | {} | {} | {}{} | {} |\n",
        entry.key,
        entry.allowed,
        default,
        entry.unit.as_deref().unwrap_or_default(),
        entry.meaning.replace('|', "\\|"),
        of,
        entry.symbol.as_deref().unwrap_or_default(),
    )
}
