//! Files that users bring: corpora that are empty, tokenizers with names of their own, and models
//! that other programs have written.

use std::fs::{create_dir, read_to_string, write};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{ra3, root, text_of};

/// A run of one source and one update from scratch.
fn run_file(folder: &Path, source: &str, tokenizer: &str, corpus: &str) -> String {
    let text = format!(
        r#"
name = "files"
directory = "{folder}/run"
n_threads = 2
arms = [{{ name = "base" }}]
[corpus]
near_duplicate_similarity = 0.999
{corpus}
[[corpus.sources]]
{source}
[tokenizer]
{tokenizer}
[base]
kind = "pretrain"
n_updates = 1
batch_documents = 1
schedule = {{ kind = "cosine", peak = 2e-3, warmup = 10, floor_share = 0.1 }}
[base.model]
architecture = "qwen2"
hidden_size = 32
intermediate_size = 64
n_layers = 1
n_heads = 4
n_key_value_heads = 2
context = 1024
initializer_range = 0.177
[training]
micro_batch_tokens = 1024
cache_mib = 64
"#,
        folder = folder.display()
    );
    let path = folder.join("run.toml");
    write(&path, text).unwrap();
    path.display().to_string()
}

const TRAIN: &str = "kind = \"train\"\nn_vocabulary = 300";
const CORPUS: &str = "held_out_share = 0.0\non_unreadable = \"drop\"\ndocument_tokens_max = 512";

/// Exit code and standard error.
fn outcome(arguments: &[&str]) -> (Option<i32>, String) {
    let output = ra3(arguments).output().unwrap();
    (output.status.code(), text_of(&output))
}

fn output_of(arguments: &[&str]) -> String {
    let output = ra3(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_empty_corpus_ends_before_anything_is_written() {
    let none = "held_out_share = 0.999999\non_unreadable = \"drop\"\ndocument_tokens_max = 512";
    let short = "held_out_share = 0.0\non_unreadable = \"drop\"\ndocument_tokens_max = 16";
    let code = "{\"content\": \"def f(x):\\n    return x + 1\\n\"}\n";
    // Each digit is a token of its own.
    let digits = "{\"content\": \"x = 123456789012345678901\\n\"}\n";
    let cases = [
        ("", CORPUS, "read: json_lines 0; dropped: nothing"),
        (
            "{\"text\": \"x = 1\\n\"}\n",
            CORPUS,
            "read: json_lines 0; dropped: unreadable 1",
        ),
        (
            "{\"content\": \" \\n\"}\n",
            CORPUS,
            "read: json_lines 1; dropped: empty 1",
        ),
        (
            "{\"content\": \"def (:\\n\"}\n",
            CORPUS,
            "dropped: parse_error 1",
        ),
        (digits, short, "dropped: too_many_tokens 1"),
        (code, none, "dropped: nothing; held out: 1"),
    ];
    for (text, corpus, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        write(&data, text).unwrap();
        let source = format!(
            "kind = \"json_lines\"\npath = \"{}\"\ntext_key = \"content\"",
            data.display()
        );
        let path = run_file(folder.path(), &source, TRAIN, corpus);
        let (status, message) = outcome(&["run", &path]);
        assert_eq!(status, Some(1), "{message}");
        assert!(message.contains("the corpus is empty"), "{message}");
        assert!(
            message.contains(expected) && message.contains("data.jsonl"),
            "{message}"
        );
        assert!(!folder.path().join("run/corpus").exists());
        if corpus == CORPUS {
            // The same run goes on when the file has something in it.
            write(
                &data,
                code.repeat(2) + &code.replace("x + 1", "x * 2 - 7").repeat(2),
            )
            .unwrap();
            let (status, message) = outcome(&["run", &path]);
            assert_eq!(status, Some(0), "{message}");
        }
    }
}

#[test]
fn a_tokenizer_file_keeps_its_begin_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer_folder = folder.path().join("tokenizer");
    create_dir(&tokenizer_folder).unwrap();
    let text = read_to_string(root().join("assets/base/tokenizer.json")).unwrap();
    let text = text.replace("<|endoftext|>", "<|end_of_text|>");
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let begin = json!({
        "id": 2048, "content": "<|begin_of_text|>", "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
    });
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(begin);
    let piece = json!({"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}});
    tokenizer["post_processor"]["single"][0] = piece;
    tokenizer["post_processor"]["special_tokens"] = json!({"<|begin_of_text|>": {
        "id": "<|begin_of_text|>", "ids": [2048], "tokens": ["<|begin_of_text|>"],
    }});
    tokenizer["truncation"] = json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    });
    let path = tokenizer_folder.join("tokenizer.json");
    write(&path, tokenizer.to_string()).unwrap();
    let names = r#"{"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}"#;
    write(tokenizer_folder.join("tokenizer_config.json"), names).unwrap();
    let sources = folder.path().join("sources");
    create_dir(&sources).unwrap();
    write(sources.join("a.py"), "def f(x):\n    return x + 1\n").unwrap();
    let source = format!("kind = \"folder\"\npath = \"{}\"", sources.display());
    let file = format!("kind = \"file\"\npath = \"{}\"", path.display());
    let run = run_file(folder.path(), &source, &file, CORPUS);
    let (status, message) = outcome(&["run", &run]);
    assert_eq!(status, Some(0), "{message}");

    let model = folder.path().join("run/models/base");
    let json = |name: &str| -> Value {
        serde_json::from_str(&read_to_string(model.join(name)).unwrap()).unwrap()
    };
    let config = json("config.json");
    let found = [
        &config["eos_token_id"],
        &config["bos_token_id"],
        &config["vocab_size"],
    ];
    assert_eq!(found, [&json!(0), &json!(2048), &json!(2049)]);
    assert_eq!(
        read_to_string(model.join("tokenizer_config.json")).unwrap(),
        names
    );
    assert_eq!(json("tokenizer.json")["truncation"], Value::Null);
    let checkup = output_of(&["doctor", model.to_str().unwrap(), "--json"]);
    let checkup: Value = serde_json::from_str(&checkup).unwrap();
    assert_eq!(checkup["begin"], "<|begin_of_text|>");
    assert_eq!(checkup["ends"], json!(["<|end_of_text|>"]));
    let text = output_of(&["doctor", model.to_str().unwrap()]);
    assert!(
        text.contains("begins with    <|begin_of_text|>\n"),
        "{text}"
    );
    assert!(!text.contains("add_bos_token"), "{text}");
    let names = names.replace('{', r#"{"add_bos_token": false, "#);
    write(model.join("tokenizer_config.json"), names).unwrap();
    let text = output_of(&["doctor", model.to_str().unwrap()]);
    assert!(
        text.contains("add_bos_token = false, and the post_processor"),
        "{text}"
    );
}

#[test]
fn a_path_is_no_name_of_the_hub() {
    for path in [
        "./none",
        "assets/none",
        "runs/out/none",
        "/none",
        "assets/base/config.json",
    ] {
        for command in [
            &["doctor", path][..],
            &["sample", path, "--prompt", "x"],
            &["inspect", path, "README.md"],
        ] {
            let (status, message) = outcome(command);
            assert_eq!(status, Some(1), "{message}");
            assert!(
                message.contains("is a path, not a name on the Hub"),
                "{message}"
            );
        }
    }
}
