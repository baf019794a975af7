//! Tokenizers: ids and texts both ways, files as transformers reads them (every case of
//! `golden/tokenizers/cases.json`), and what is refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use ra3_text::tokenizer::{CLOSE, END, THINK, Tokenizer};
use serde_json::{Map, Value, json};

fn trained() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let text = "def f(xs):\n    for x in xs:\n        y = x + 12\n\n    return y\n".repeat(3);
        Tokenizer::train(&[text], 320).unwrap()
    })
}

/// The golden case of a name.
fn case(name: &str) -> Tokenizer {
    let cases = golden("cases.json");
    let cases = cases.as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == name).unwrap();
    let beside = [("tokenizer_config.json", &case["config"])];
    let (_folder, path) = folder_of(&case["tokenizer"], &beside);
    Tokenizer::load(&path).unwrap()
}

fn golden(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers");
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

/// A folder with the golden tokenizer, some of its keys changed, and files beside it.
fn folder_of(keys: &Value, beside: &[(&str, &Value)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut tokenizer = golden("tokenizer.json");
    for (key, value) in keys.as_object().unwrap() {
        tokenizer[key] = value.clone();
    }
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    for (name, value) in beside {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    }
    (folder, path)
}

/// An added token of the golden tokenizer, as `tokenizer.json` has it.
fn added(index: u32, content: &str, is_special: bool) -> Value {
    json!({
        "id": 290 + index, "content": content, "special": is_special, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
    })
}

fn error_of(keys: &Value) -> String {
    let (_folder, path) = folder_of(keys, &[]);
    let message = Tokenizer::load(&path).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    message
}

#[test]
fn every_file_is_read_as_by_transformers() {
    let cases = golden("cases.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let name = &case["name"];
        let mut beside = vec![("tokenizer_config.json", &case["config"])];
        beside.extend(
            case.get("older")
                .map(|older| ("special_tokens_map.json", older)),
        );
        let (_folder, path) = folder_of(&case["tokenizer"], &beside);
        let tokenizer = Tokenizer::load(&path).unwrap();
        // What is written again is the same.
        let again = tempfile::tempdir().unwrap();
        tokenizer.save(again.path()).unwrap();
        let again = Tokenizer::load(&again.path().join("tokenizer.json")).unwrap();
        for tokenizer in [tokenizer, again] {
            let pairs = |key: &str| case[key].as_array().unwrap().clone();
            for pair in pairs("prompts") {
                let found = tokenizer.encode_prompt(pair[0].as_str().unwrap());
                assert_eq!(json!(found), pair[1], "{name}, prompt {}", pair[0]);
            }
            for pair in pairs("conversations") {
                let found = tokenizer.encode_chat(pair[0].as_str().unwrap());
                assert_eq!(json!(found), pair[1], "{name}, conversation {}", pair[0]);
            }
            let begin = tokenizer.named_begin().map(|id| tokenizer.name_of(id));
            assert_eq!(json!(begin), case["bos"], "{name}");
            let end = tokenizer.name_of(tokenizer.markers().end);
            assert_eq!(json!(end), case["eos"], "{name}");
        }
    }
}

#[test]
fn what_has_nothing_before_it_begins_with_the_begin_or_the_end() {
    let name = |tokenizer: Tokenizer| {
        let ids = tokenizer.encode_prompt("");
        ids.iter()
            .map(|id| tokenizer.name_of(*id))
            .collect::<String>()
    };
    assert_eq!(name(case("qwen")), "<|im_end|>");
    assert_eq!(name(case("add_bos_token_alone")), "<|im_start|>");
    assert_eq!(name(case("llama3")), "<|begin_of_text|>");
    assert_eq!(
        trained().encode_prompt("x"),
        [vec![trained().markers().end], trained().encode("x")].concat()
    );
}

#[test]
fn a_begin_that_two_files_disagree_about_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    trained().save(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for has_begin in [true, false] {
        if !has_begin {
            file["post_processor"] = Value::Null;
            std::fs::write(&path, file.to_string()).unwrap();
        }
        for says in [None, Some(true), Some(false)] {
            let mut names = json!({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"});
            if let Some(says) = says {
                names["add_bos_token"] = json!(says);
            }
            let beside = folder.path().join("tokenizer_config.json");
            std::fs::write(beside, names.to_string()).unwrap();
            let tokenizer = Tokenizer::load(&path).unwrap();
            assert_eq!(!tokenizer.prompt_begin().is_empty(), has_begin);
            let expected = says.filter(|says| *says != has_begin);
            assert_eq!(tokenizer.contradicts_its_begin(), expected);
        }
    }
}

#[test]
fn lines_keep_their_ids_and_end_with_a_newline() {
    let tokenizer = trained();
    let text = "def g(a):\n\n\n    return a * 37\n<think> é\u{1F600}\n";
    let lines = tokenizer.encode_lines(text);
    assert_eq!(lines.concat(), tokenizer.encode(text));
    assert_eq!(tokenizer.decode(&lines.concat()), text);
    let ends = tokenizer.line_ends();
    for line in &lines {
        let n_ends = line.iter().filter(|id| ends[**id as usize]).count();
        assert_eq!((n_ends, ends[line[line.len() - 1] as usize]), (1, true));
    }
    let markers = tokenizer.markers();
    assert!(
        !lines.concat().contains(&markers.think),
        "text is never a marker"
    );
    assert_eq!(
        tokenizer.decode(&[markers.think, markers.close]),
        "<think></think>"
    );
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let tokenizer = trained();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let again = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
    let text = "x = [1, 23]\n    <act> # half\n";
    assert_eq!(tokenizer.encode(text), again.encode(text));
    assert_eq!(tokenizer.encode_prompt(text), again.encode_prompt(text));
    assert_eq!(
        (
            tokenizer.markers(),
            tokenizer.vocab_size(),
            tokenizer.named_begin()
        ),
        (again.markers(), again.vocab_size(), again.named_begin())
    );
    let markers = tokenizer.markers();
    let chat = tokenizer.encode_chat("<think>x\n</think></think>y");
    let text = |text: &str| tokenizer.encode(text);
    let expected = [
        vec![markers.think],
        text("x\n"),
        vec![markers.close; 2],
        text("y"),
    ];
    assert_eq!(chat, expected.concat());
}

#[test]
fn begin_and_end_are_those_that_the_folder_names() {
    let dir = tempfile::tempdir().unwrap();
    trained().save(dir.path()).unwrap();
    let config = r#"{"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let path = dir.path().join("tokenizer.json");
    let error = Tokenizer::load(&path).unwrap_err().to_string();
    assert!(error.contains("<|begin|> has no id"), "{error}");
    let config = config.replace("<|begin|>", "<think>");
    std::fs::write(dir.path().join("tokenizer_config.json"), &config).unwrap();
    let named = Tokenizer::load(&path).unwrap();
    assert_eq!(named.begin(), named.markers().think);
    assert_eq!(named.decode(&[named.markers().end]), "<|end|>");
    assert_eq!(named.vocab_size(), trained().vocab_size() + 1);
    // The file is kept letter by letter.
    let again = tempfile::tempdir().unwrap();
    named.save(again.path()).unwrap();
    let written = std::fs::read_to_string(again.path().join("tokenizer_config.json")).unwrap();
    assert_eq!(written, config);
}

#[test]
fn an_end_that_no_tokenizer_file_names_is_that_of_the_model() {
    let tokens = json!({"added_tokens": [added(0, "<a>", true), added(1, "<b>", true)]});
    for ends in [json!(291), json!([291, 290])] {
        let model = json!({"eos_token_id": ends});
        let (_folder, path) = folder_of(&tokens, &[("config.json", &model)]);
        let tokenizer = Tokenizer::load(&path).unwrap();
        assert_eq!(tokenizer.markers().end, 291);
        assert_eq!(
            tokenizer.vocab_size(),
            295,
            "three markers and no other end"
        );
        // Where only the tokenizer's files travel, it stays the end.
        let again = tempfile::tempdir().unwrap();
        tokenizer.save(again.path()).unwrap();
        let again = Tokenizer::load(&again.path().join("tokenizer.json")).unwrap();
        assert_eq!(again.markers(), tokenizer.markers());
    }
    let (_folder, path) = folder_of(&tokens, &[]);
    let tokenizer = Tokenizer::load(&path).unwrap();
    assert_eq!(tokenizer.name_of(tokenizer.markers().end), END);
}

#[test]
fn options_of_a_call_are_not_kept() {
    let truncation = json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    });
    let padding = json!({
        "strategy": {"Fixed": 24}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 290,
        "pad_type_id": 0, "pad_token": "<|pad|>",
    });
    let mut model = golden("tokenizer.json")["model"].clone();
    model["dropout"] = json!(0.5);
    let keys = json!({
        "added_tokens": [added(0, "<|pad|>", true)], "truncation": truncation, "padding": padding,
        "model": model,
    });
    let plain = json!({"added_tokens": [added(0, "<|pad|>", true)]});
    let (_folder, path) = folder_of(&keys, &[]);
    let (_plain_folder, plain_path) = folder_of(&plain, &[]);
    let (found, plain) = (
        Tokenizer::load(&path).unwrap(),
        Tokenizer::load(&plain_path).unwrap(),
    );
    let text = "def f(xs):\n    for x in xs:\n        return x\n\n\n".repeat(20);
    for _ in 0..5 {
        assert_eq!(found.encode(&text), plain.encode(&text));
        assert_eq!(found.encode_chat(&text), plain.encode_chat(&text));
    }
    let again = tempfile::tempdir().unwrap();
    found.save(again.path()).unwrap();
    let saved = std::fs::read(again.path().join("tokenizer.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    let options = [
        &saved["truncation"],
        &saved["padding"],
        &saved["model"]["dropout"],
    ];
    assert_eq!(options, [&Value::Null; 3]);
}

#[test]
fn a_vocabulary_without_some_bytes_is_refused() {
    for letter in ["$", "`", "Ġ", "é", "Ā", "ÿ"] {
        let mut model = golden("tokenizer.json")["model"].clone();
        let vocabulary = model["vocab"].as_object_mut().unwrap();
        let id = vocabulary.remove(letter).unwrap();
        vocabulary.insert("unused".to_owned(), id);
        let merges = model["merges"].as_array_mut().unwrap();
        merges.retain(|merge| !merge.to_string().contains(letter));
        let vocabulary: Map<String, Value> = model["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(token, _)| token.chars().count() == 1 || *token == "unused")
            .map(|(token, id)| (token.clone(), id.clone()))
            .collect();
        model["vocab"] = vocabulary.into();
        model["merges"] = json!([]);
        let message = error_of(&json!({"model": model}));
        assert!(
            message.contains("1 of 256 bytes have no token (0x"),
            "{message}"
        );
    }
}

#[test]
fn what_loses_or_changes_text_is_refused() {
    let prepend = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    });
    let cases = [
        ("normalizer", json!({"type": "Lowercase"})),
        ("normalizer", json!({"type": "NFKC"})),
        ("normalizer", json!({"type": "NFD"})),
        (
            "normalizer",
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        ),
        (
            "normalizer",
            json!({"type": "Replace", "pattern": {"String": "\r\n"}, "content": "\n"}),
        ),
        (
            "normalizer",
            json!({"type": "Replace", "pattern": {"String": "\t"}, "content": "    "}),
        ),
        ("pre_tokenizer", prepend),
        ("pre_tokenizer", json!({"type": "Whitespace"})),
        ("pre_tokenizer", Value::Null),
    ];
    for (key, value) in cases {
        let message = error_of(&json!({key: value}));
        assert!(
            message.contains("does not give back"),
            "{key} {value}: {message}"
        );
        assert!(message.contains("byte-level BPE"), "{message}");
    }
}

#[test]
fn markers_that_were_plain_added_tokens_are_no_text() {
    let tokens = json!([
        added(0, THINK, false),
        added(1, CLOSE, false),
        added(2, END, false)
    ]);
    let (_folder, path) = folder_of(&json!({"added_tokens": tokens}), &[]);
    let tokenizer = Tokenizer::load(&path).unwrap();
    let markers = tokenizer.markers();
    assert_eq!([markers.think, markers.close, markers.end], [290, 291, 292]);
    let text = "x = '<think>' # </think><|endoftext|>\n";
    let ids = tokenizer.encode(text);
    assert!(ids.iter().all(|id| *id < 290), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids), text);
}

#[test]
fn a_token_that_takes_another_s_name_is_refused() {
    // The part is found before the whole, so the whole is never found.
    let mut whole = added(0, "x<p>", false);
    whole["normalized"] = json!(true);
    let message = error_of(&json!({"added_tokens": [whole, added(1, "<p>", false)]}));
    assert!(
        message.contains("\"x<p>\" is not the added token 290"),
        "{message}"
    );
    // A special token that is also a word would be left out of every text that says it.
    let vocabulary = golden("tokenizer.json")["model"]["vocab"].clone();
    let is_word = |name: &&String| name.len() > 1 && name.bytes().all(|b| b.is_ascii_lowercase());
    let name = vocabulary
        .as_object()
        .unwrap()
        .keys()
        .find(is_word)
        .unwrap();
    let mut word = added(0, name, true);
    word["id"] = vocabulary[name].clone();
    let message = error_of(&json!({"added_tokens": [word]}));
    assert!(
        message.contains(" back") && message.contains(name),
        "{name}: {message}"
    );
}

#[test]
fn an_id_beyond_any_vocabulary_is_refused() {
    let mut model = golden("tokenizer.json")["model"].clone();
    model["vocab"]["far"] = json!(u32::MAX);
    let message = error_of(&json!({"model": model}));
    assert!(message.contains("the id 4294967295"), "{message}");
}

#[test]
fn ids_with_gaps_never_make_two_tokens_one() {
    let mut model = golden("tokenizer.json")["model"].clone();
    let vocabulary = model["vocab"].as_object_mut().unwrap();
    let last = vocabulary
        .iter()
        .find(|(_, id)| **id == 289)
        .unwrap()
        .0
        .clone();
    vocabulary.insert(last.clone(), json!(290));
    // Without added tokens the next id is the number of tokens, which is taken.
    let message = error_of(&json!({"model": model}));
    assert!(
        message.contains("have one id, 290") && message.contains(&last),
        "{message}"
    );
    let keys = json!({"model": model, "added_tokens": [added(1, END, true)]});
    let (_folder, path) = folder_of(&keys, &[]);
    match Tokenizer::load(&path) {
        Ok(tokenizer) => assert_eq!(tokenizer.name_of(290), last.replace('Ġ', " ")),
        Err(error) => assert!(error.to_string().contains("have one id"), "{error}"),
    }
}

#[test]
fn files_that_are_none_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let message = || Tokenizer::load(&path).unwrap_err().to_string();
    assert!(message().contains("tokenizer.json"));
    std::fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    assert!(message().contains("only vocab.json is") && message().contains("save_pretrained"));
    std::fs::write(folder.path().join("tokenizer.model"), "").unwrap();
    assert!(message().contains("only tokenizer.model is"));
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(message().contains("git lfs pull"), "{}", message());
    std::fs::write(&path, format!("\u{feff}{}", golden("tokenizer.json"))).unwrap();
    assert!(
        Tokenizer::load(&path).is_ok(),
        "a byte-order mark is no harm"
    );
    std::fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
    assert!(message().contains("tokenizer_config.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_text_comes_back(
        text in "(?s)(.|\\PC|[ \\t\\r\\n]|é|<think>|<\\|endoftext\\|>|→|\\[L\\]){0,60}",
    ) {
        let tokenizer = trained();
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.clone());
        prop_assert_eq!(tokenizer.encode_lines(&text).concat(), tokenizer.encode(&text));
    }

    /// Added tokens that take the spaces beside them in conversations leave them in code.
    #[test]
    fn code_with_the_names_of_added_tokens_comes_back(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "<l>", "<r>", "<lr>", "<w>", "<n>", "<nlr>", "[L]", "[R]", "[W]", "[N]",
                "<think>", "→", "é1", "<｜User▁x｜>", "[EOL]\n", " ", "  ", "\n", "\n\n", "\t", "a",
                "<|endoftext|>", "<act>",
            ]),
            0..20,
        ),
    ) {
        static FLAGS: OnceLock<Tokenizer> = OnceLock::new();
        let tokenizer = FLAGS.get_or_init(|| case("flags"));
        let text = parts.concat();
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids), text);
        let markers = tokenizer.markers();
        let markers = [markers.think, markers.act, markers.close, markers.end];
        prop_assert!(!ids.iter().any(|id| markers.contains(id)));
    }
}
