//! Text of a program's or a data set's making as a reader can be shown it: what would turn, hide
//! or break it stands as an escape.

use serde::Serialize;

/// Text for a page or a terminal: `\u{202e}` for the character that turns what follows it.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if ra3_sandbox::is_visible(character) || matches!(character, '\n' | '\t') {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

/// A value as indented JSON: what [`visible`] escapes is escaped as JSON does, so that programs
/// read the text as it is.
///
/// # Panics
/// If the value has no form in JSON, which no report is without.
pub fn to_visible_json(value: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(value).expect("reports have only plain fields");
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if ra3_sandbox::is_visible(character) || character == '\n' {
            shown.push(character);
        } else {
            // Only texts hold such a character.
            for unit in character.encode_utf16(&mut [0; 2]) {
                shown += &format!("\\u{unit:04x}");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: [char; 7] = [
        '\u{202e}',
        '\u{2066}',
        '\u{200b}',
        '\u{feff}',
        '\u{1b}',
        '\u{7f}',
        '\u{e0041}',
    ];

    #[test]
    fn nothing_turns_or_hides_text() {
        for character in HIDDEN.into_iter().chain(['\r']) {
            let shown = visible(&format!("a{character}b"));
            assert!(shown.is_ascii() && shown.starts_with("a\\u{"), "{shown}");
        }
        assert_eq!(visible("é😀\n\tx"), "é😀\n\tx");
    }

    #[test]
    fn json_shows_what_it_hides_and_is_read_as_it_was() {
        for character in HIDDEN {
            let value = vec![format!("a{character}\n\"é😀")];
            let json = to_visible_json(&value);
            assert!(!json.contains(character), "{json}");
            assert!(json.contains("é😀"), "{json}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), value);
        }
    }
}
