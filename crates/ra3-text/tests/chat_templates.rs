//! Chat templates against transformers: every text of `golden/chat_templates/cases.json`.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ra3_text::chat_template::{Chat, ChatTemplate, NaiveDateTime, Value, message};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    now: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    folder: String,
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    add_generation_prompt: bool,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    text: Option<String>,
    error: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat_templates")
}

#[test]
fn every_text_is_that_of_transformers() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let now: NaiveDateTime = golden.now.parse().unwrap();
    assert!(golden.cases.len() > 60);
    for (idx, case) in golden.cases.into_iter().enumerate() {
        let place = format!("case {idx} of {}", case.folder);
        let template = ChatTemplate::load(&folder().join(&case.folder));
        let chat = Chat {
            messages: case.messages,
            tools: case.tools,
            add_generation_prompt: case.add_generation_prompt,
            variables: case.variables,
            now,
        };
        let found = template.unwrap().unwrap().render(&chat);
        match (case.text, case.error) {
            (Some(text), None) => check_text(&place, &found.unwrap(), &text),
            (None, Some(error)) => {
                let message = found.unwrap_err().to_string();
                // What Jinja itself finds wrong it says in words of its own.
                let is_jinja = error.contains("has no attribute");
                assert!(is_jinja || message.contains(&error), "{place}: {message}");
                assert!(message.contains(&case.folder) && message.contains(", line "));
            }
            _ => panic!("{place} has either a text or an error"),
        }
    }
}

/// Shows the first line that differs, not two whole conversations.
#[track_caller]
fn check_text(place: &str, found: &str, wanted: &str) {
    for (line, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "{place}, line {}", line + 1);
    }
    assert!(found == wanted, "{place}: {found:?} is not {wanted:?}");
}

/// The template of a folder with these files.
fn load(files: &[(&str, &str)]) -> Result<Option<ChatTemplate>, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    ChatTemplate::load(folder.path()).map_err(|error| error.to_string())
}

fn render(files: &[(&str, &str)], chat: &Chat) -> String {
    load(files).unwrap().unwrap().render(chat).unwrap()
}

#[test]
fn a_model_without_a_template_has_none() {
    assert!(load(&[]).unwrap().is_none());
    let config = ("tokenizer_config.json", r#"{"eos_token": "<e>"}"#);
    assert!(load(&[config]).unwrap().is_none());
}

#[test]
fn files_go_before_the_configuration_and_tools_choose_their_template() {
    let chat = Chat::new(vec![message("user", "hi")]);
    let config = (
        "tokenizer_config.json",
        r#"{"chat_template": "old {{ eos_token }}{{ messages[0].content }}", "eos_token": "<e>"}"#,
    );
    assert_eq!(render(&[config], &chat), "old <e>hi");
    let file = ("chat_template.jinja", "new {{ eos_token }}\r\nend\n");
    assert_eq!(render(&[config, file], &chat), "new <e>\nend");
    let further = ("additional_chat_templates/tool_use.jinja", "tools");
    assert_eq!(render(&[config, file, further], &chat), "new <e>\nend");
    let with_tools = Chat {
        tools: Some(Vec::new()),
        ..chat
    };
    assert_eq!(render(&[config, file, further], &with_tools), "tools");
}

#[test]
fn tokens_of_older_models_stand_in_a_file_of_their_own() {
    let chat = Chat::new(vec![message("user", "hi")]);
    let file = ("chat_template.jinja", "{{ bos_token }}{{ eos_token }}");
    let older = (
        "special_tokens_map.json",
        r#"{"bos_token": {"content": "<b>"}}"#,
    );
    let config = (
        "tokenizer_config.json",
        r#"{"bos_token": "<c>", "eos_token": "<e>"}"#,
    );
    assert_eq!(render(&[file, older, config], &chat), "<b><e>");
    let newer = (
        "tokenizer_config.json",
        r#"{"bos_token": "<c>", "eos_token": "<e>", "added_tokens_decoder": {}}"#,
    );
    assert_eq!(render(&[file, older, newer], &chat), "<c><e>");
}

#[test]
fn errors_name_the_file_and_the_line() {
    let chat = Chat::new(vec![message("user", "hi")]);
    let found = load(&[("chat_template.jinja", "a\n{% if %}\n")]).unwrap_err();
    assert!(found.contains("chat_template.jinja, line 2"), "{found}");
    let found = load(&[("tokenizer_config.json", "{")]).unwrap_err();
    assert!(found.contains("tokenizer_config.json"), "{found}");
    let named = r#"{"chat_template": [{"name": "rag", "template": "x"}]}"#;
    let template = load(&[("tokenizer_config.json", named)]).unwrap().unwrap();
    let found = template.render(&chat).unwrap_err().to_string();
    assert!(
        found.contains("rag") && found.contains("default"),
        "{found}"
    );
}
