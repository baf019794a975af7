//! A checkpoint from elsewhere goes through a run and comes out as one.

use std::fs::{copy, read_to_string, write};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{finish, root, start};

/// The committed base as somebody else's: without the markers of RA3, with files of its own.
fn foreign_base(folder: &Path) {
    let base = root().join("assets/base");
    for file in ["config.json", "model.safetensors"] {
        copy(base.join(file), folder.join(file)).unwrap();
    }
    let mut tokenizer = read_to_string(base.join("tokenizer.json")).unwrap();
    for marker in ["<act>", "<think>", "</think>"] {
        let other = format!("<|{}|>", marker.trim_matches(['<', '>', '/']).len());
        let other = other.replace(
            "|>",
            if marker.starts_with("</") {
                "c|>"
            } else {
                "|>"
            },
        );
        tokenizer = tokenizer.replace(&format!("\"{marker}\""), &format!("\"{other}\""));
    }
    write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let tokenizer_config = json!({"eos_token": "<|endoftext|>", "model_max_length": 77});
    write(
        folder.join("tokenizer_config.json"),
        tokenizer_config.to_string(),
    )
    .unwrap();
    write(
        folder.join("generation_config.json"),
        "{\"eos_token_id\": [0, 7]}",
    )
    .unwrap();
    write(
        folder.join("chat_template.jinja"),
        "{{ messages[0].content }}",
    )
    .unwrap();
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&read_to_string(path).unwrap()).unwrap()
}

#[test]
fn it_gets_its_markers_and_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (base, directory) = (folder.path().join("base"), folder.path().join("run"));
    std::fs::create_dir(&base).unwrap();
    foreign_base(&base);
    let overrides = [
        "tokenizer={kind='base'}".to_owned(),
        format!(
            "base={{kind='checkpoint', path='{}', vocabulary_multiple=64}}",
            base.display()
        ),
    ];
    // The base has two million parameters: as little is done with it as there can be.
    let few = [
        "ra3.e_updates=1",
        "ra3.annotate_documents=8",
        "ra3.m_updates=1",
        "arms=[{name='base', rlvr=false}, {name='ntp', method='ntp', rlvr=false, \
         budget={corpus_tokens_of='ra3'}}, {name='ra3', method='ra3'}]",
        "held_out={n_documents=2, iwae=[]}",
        "corpus.testbed.n_held_out_problems=2",
        "evaluate.decision_table=false",
        "evaluate.program_tokens_max=32",
        "rlvr.n_updates=1",
        "rlvr.program_tokens_max=32",
        "training.moment_precision=bfloat16",
    ];
    let overrides = overrides.iter().map(String::as_str);
    let overrides: Vec<&str> = overrides.chain(few).collect();
    let (ok, text) = finish(start(&directory, &overrides));
    assert!(ok, "{text}");
    for arm in ["base", "ra3", "ntp", "rlvr-ra3"] {
        let model = directory.join("models").join(arm);
        // 2048 rows and three markers, in multiples of 64.
        assert_eq!(json_of(&model.join("config.json"))["vocab_size"], 2112);
        for file in [
            "generation_config.json",
            "chat_template.jinja",
            "tokenizer_config.json",
        ] {
            let (ours, theirs) = (model.join(file), base.join(file));
            assert_eq!(
                read_to_string(ours).unwrap(),
                read_to_string(theirs).unwrap()
            );
        }
        let tokenizer = read_to_string(model.join("tokenizer.json")).unwrap();
        assert!(tokenizer.contains("\"<act>\"") && tokenizer.contains("\"<|3|>\""));
        let card = read_to_string(model.join("README.md")).unwrap();
        assert!(
            card.starts_with("---\nlibrary_name: transformers\n"),
            "{card}"
        );
        assert!(
            card.contains("n_updates = 1") && !card.contains("directory ="),
            "{card}"
        );
    }
    let card = read_to_string(directory.join("models/ra3/README.md")).unwrap();
    assert!(
        card.contains("testbed, held-out problems, 0-shot | plain"),
        "{card}"
    );
}
