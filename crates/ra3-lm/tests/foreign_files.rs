//! Checkpoints as other programs and people leave them: read as transformers reads them, or refused
//! by name.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ra3::model::{Model, Saved};
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

const SETTINGS: TrainSettings = TrainSettings {
    weight_decay: 0.1,
    clip_norm: 1.0,
    n_tokens_micro: 4096,
    recompute: false,
    cache_bytes_max: 1 << 20,
    recorded_bytes_max: 1 << 28,
    compute: Precision::Float32,
    moments: Precision::Float32,
    frozen: Precision::Float32,
};
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 31];

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn tensors_of(folder: &Path) -> Tensors {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (String, TensorView<'_>)| {
        let shape = view.shape().to_vec();
        (name, (view.dtype(), shape, view.data().to_vec()))
    };
    file.tensors().into_iter().map(entry).collect()
}

fn write_tensors(folder: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

fn config_of(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

/// A golden model whose configuration and tensors are changed.
fn changed(
    name: &str,
    config: impl FnOnce(&mut Value),
    tensors: impl FnOnce(&mut Tensors),
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut json, mut weights) = (config_of(&golden(name)), tensors_of(&golden(name)));
    config(&mut json);
    tensors(&mut weights);
    std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    write_tensors(folder.path(), &weights);
    folder
}

fn load(folder: &Path) -> Result<Lm, String> {
    Lm::load(folder, SETTINGS).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    })
}

fn logits(folder: &Path) -> Vec<f32> {
    load(folder).unwrap().logits(&TOKENS).unwrap()
}

#[test]
fn a_head_of_its_own_is_used_whatever_the_configuration_says() {
    // An untied model whose configuration says that it is tied: its trained head counts.
    let untied = changed("llama", |_| (), |_| ());
    assert_eq!(config_of(untied.path())["tie_word_embeddings"], false);
    let mistaken = changed(
        "llama",
        |config| config["tie_word_embeddings"] = json!(true),
        |_| (),
    );
    assert_eq!(logits(mistaken.path()), logits(untied.path()));
    let lm = load(mistaken.path()).unwrap();
    assert!(!lm.config().tie_word_embeddings);
    let again = tempfile::tempdir().unwrap();
    lm.save(again.path(), Saved::Finished).unwrap();
    assert_eq!(config_of(again.path())["tie_word_embeddings"], false);
    assert_eq!(logits(again.path()), logits(untied.path()));
    let run = Lm::load_to_run(mistaken.path(), SETTINGS).unwrap();
    assert_eq!(run.logits(&TOKENS).unwrap(), logits(untied.path()));
}

#[test]
fn a_tied_head_may_be_stored_under_either_name_or_both() {
    let tied = golden("qwen2");
    assert_eq!(config_of(&tied)["tie_word_embeddings"], true);
    let copy = |tensors: &mut Tensors| {
        tensors.insert(HEAD.to_owned(), tensors[EMBEDDING].clone());
    };
    let both = changed("qwen2", |_| (), copy);
    let head_only = changed(
        "qwen2",
        |_| (),
        |tensors| {
            copy(tensors);
            tensors.remove(EMBEDDING);
        },
    );
    for folder in [both.path(), head_only.path()] {
        assert!(load(folder).unwrap().config().tie_word_embeddings);
        assert_eq!(logits(folder), logits(&tied));
    }
    let neither = changed(
        "qwen2",
        |_| (),
        |tensors| {
            tensors.remove(EMBEDDING);
        },
    );
    let message = load(neither.path()).unwrap_err();
    assert!(
        message.contains("embed_tokens.weight is missing"),
        "{message}"
    );
    let untied = changed(
        "qwen2",
        |config| config["tie_word_embeddings"] = json!(false),
        |_| (),
    );
    let message = load(untied.path()).unwrap_err();
    assert!(
        message.contains("lm_head.weight is missing: if the head"),
        "{message}"
    );
    let narrow = changed(
        "qwen2",
        |_| (),
        |tensors| {
            copy(tensors);
            let (_, shape, bytes) = tensors.get_mut(HEAD).unwrap();
            shape[0] -= 1;
            bytes.truncate(shape[0] * shape[1] * 4);
        },
    );
    let message = load(narrow.path()).unwrap_err();
    assert!(message.contains("lm_head.weight is ["), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn numbers_that_are_not_finite_name_their_tensor(
        model in prop::sample::select(vec!["qwen2", "llama", "qwen3"]),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        odd in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        precision in prop::sample::select(vec![
            Precision::Float32,
            Precision::Bfloat16,
            Precision::Float16,
        ]),
    ) {
        let sound = tempfile::tempdir().unwrap();
        let mut lm = load(&golden(model)).unwrap();
        lm.set_precision_on_disk(precision);
        lm.save(sound.path(), Saved::Finished).unwrap();
        let mut tensors = tensors_of(sound.path());
        let name = which.get(&tensors.keys().cloned().collect::<Vec<_>>()).clone();
        let bytes = &mut tensors.get_mut(&name).unwrap().2;
        let number = match precision {
            Precision::Float32 => odd.to_le_bytes().to_vec(),
            Precision::Bfloat16 => half::bf16::from_f32(odd).to_le_bytes().to_vec(),
            Precision::Float16 => half::f16::from_f32(odd).to_le_bytes().to_vec(),
        };
        let start = at.index(bytes.len() / number.len()) * number.len();
        bytes[start..start + number.len()].copy_from_slice(&number);
        write_tensors(sound.path(), &tensors);
        let trained = load(sound.path()).unwrap_err();
        let run = Lm::load_to_run(sound.path(), SETTINGS).unwrap_err().to_string();
        for message in [trained, run] {
            let expected = format!("tensor {name} has 1 of ");
            prop_assert!(message.contains(&expected), "{}", message);
            prop_assert!(message.contains("model.safetensors"), "{}", message);
        }
    }
}

#[test]
fn numbers_beyond_a_precision_are_not_written_in_it() {
    let large = changed(
        "llama",
        |_| (),
        |tensors| {
            let (_, _, bytes) = tensors.get_mut(HEAD).unwrap();
            bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
        },
    );
    let mut lm = load(large.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    lm.set_precision_on_disk(Precision::Float16);
    let message = lm
        .save(folder.path(), Saved::Finished)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("tensor lm_head.weight has numbers beyond float16"),
        "{message}"
    );
    assert!(!folder.path().join("config.json").exists());
    lm.set_precision_on_disk(Precision::Bfloat16);
    lm.save(folder.path(), Saved::Finished).unwrap();
    assert!(load(folder.path()).is_ok());
}

#[test]
fn other_forms_of_a_model_are_named_with_what_to_do() {
    let cases: [(&[File<'_>], &[&str]); 9] = [
        (
            &[("config.json", ""), ("pytorch_model.bin", "")],
            &["pytorch_model.bin", "save_pretrained"],
        ),
        (
            &[
                ("config.json", ""),
                ("pytorch_model.bin.index.json", ""),
                ("pytorch_model-00001-of-00002.bin", ""),
            ],
            &["pytorch_model", "save_pretrained"],
        ),
        (
            &[("params.json", ""), ("consolidated.00.pth", "")],
            &["config.json", "consolidated.00.pth"],
        ),
        (&[("model-q4.gguf", "")], &["model-q4.gguf", "llama.cpp"]),
        (
            &[("config.json", ""), ("model.fp16.safetensors", "")],
            &["model.fp16.safetensors"],
        ),
        (&[("config.json", "")], &["there are no weights"]),
        (&[], &["config.json", "there are no weights"]),
        (
            &[
                (
                    "adapter_config.json",
                    r#"{"base_model_name_or_path": "org/base"}"#,
                ),
                ("adapter_model.safetensors", ""),
            ],
            &["adapter (LoRA) of org/base", "merge_and_unload"],
        ),
        (
            &[
                ("config.json", ""),
                ("model.safetensors", ""),
                ("adapter_config.json", "{}"),
            ],
            &["adapter", "merge_and_unload"],
        ),
    ];
    for (files, parts) in cases {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            match *name {
                "config.json" => drop(std::fs::copy(golden("llama").join(name), path).unwrap()),
                _ => std::fs::write(path, text).unwrap(),
            }
        }
        let message = load(folder.path()).unwrap_err();
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{files:?}: {message}"
        );
    }
}

#[test]
fn weights_that_are_no_weights_are_named() {
    let pointer = changed("llama", |_| (), |_| ());
    let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    std::fs::write(pointer.path().join("model.safetensors"), text).unwrap();
    assert!(load(pointer.path()).unwrap_err().contains("git lfs pull"));
    std::fs::write(pointer.path().join("model.safetensors"), "").unwrap();
    assert!(load(pointer.path()).unwrap_err().contains("is damaged"));
    std::fs::remove_file(pointer.path().join("model.safetensors")).unwrap();
    let fifo = pointer.path().join("model.safetensors");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(fifo)
            .status()
            .unwrap()
            .success()
    );
    assert!(load(pointer.path()).unwrap_err().contains("no file"));
}

fn config_with(edit: impl FnOnce(&mut Value)) -> Result<ModelConfig, String> {
    let folder = changed("llama", edit, |_| ());
    ModelConfig::load(&folder.path().join("config.json")).map_err(|error| error.to_string())
}

#[test]
fn dtype_goes_before_its_older_name_and_has_the_names_of_pytorch() {
    let both = |dtype: Value, older: Value| {
        config_with(|config| {
            config["dtype"] = dtype;
            config["torch_dtype"] = older;
        })
    };
    let config = both(json!("float32"), json!("bfloat16")).unwrap();
    assert_eq!(config.precision, Precision::Float32);
    assert_eq!(config.to_json()["torch_dtype"], "float32");
    let config = both(Value::Null, json!("bfloat16")).unwrap();
    assert_eq!(config.precision, Precision::Bfloat16);
    let names = [
        ("torch.bfloat16", Precision::Bfloat16),
        ("half", Precision::Float16),
        ("float", Precision::Float32),
    ];
    for (name, precision) in names {
        assert_eq!(
            both(json!(name), json!("float64")).unwrap().precision,
            precision
        );
    }
    for wrong in [json!("float64"), json!("int8"), json!(16)] {
        let message = both(wrong, json!("float32")).unwrap_err();
        assert!(
            message.contains("dtype") && message.contains("config.json"),
            "{message}"
        );
    }
}

#[test]
fn two_keys_for_the_rotation_must_agree() {
    let linear = |theta: f64, factor: f64| {
        let kind = "linear";
        json!({"rope_type": kind, "factor": factor, "rope_theta": theta})
    };
    let both = |newer: Value, older: Value, theta: Value| {
        config_with(|config| {
            config["rope_parameters"] = newer;
            config["rope_scaling"] = older;
            config["rope_theta"] = theta;
        })
    };
    let older = json!({"type": "linear", "factor": 4.0});
    let config = both(linear(5e5, 4.0), older.clone(), json!(5e5)).unwrap();
    assert_eq!(config.rope_theta, 5e5);
    assert_eq!(
        config,
        both(linear(5e5, 4.0), Value::Null, json!(5e5))
            .map(|mut only| {
                only.file.insert("rope_scaling".to_owned(), older.clone());
                only
            })
            .unwrap()
    );
    assert!(both(linear(5e5, 4.0), json!({}), Value::Null).is_ok());
    let different = [
        (linear(5e5, 2.0), older.clone(), json!(5e5)),
        // Without a base of its own, the older key's is that of the file, or 10,000.
        (linear(5e5, 4.0), older.clone(), Value::Null),
        (
            json!({"rope_type": "default", "rope_theta": 1e4}),
            older,
            Value::Null,
        ),
    ];
    for (newer, older, theta) in different {
        let message = both(newer, older, theta).unwrap_err();
        assert!(
            message.contains("rope_parameters and rope_scaling"),
            "{message}"
        );
    }
    let nested = json!({"full_attention": {"rope_type": "linear", "factor": 2.0}});
    let message = both(nested, Value::Null, Value::Null).unwrap_err();
    assert!(message.contains("by kind of layer"), "{message}");
}

#[test]
fn forms_of_a_configuration() {
    let model_type_only = config_with(|config| {
        config.as_object_mut().unwrap().remove("architectures");
    });
    let named = config_with(|_| ()).unwrap();
    assert_eq!(model_type_only.unwrap().architecture, named.architecture);
    let cases = [
        ("architectures", json!(["LlamaModel"]), "LlamaModel"),
        ("architectures", json!([]), ""),
        ("model_type", json!("qwen3"), "no model_type \"qwen3\""),
        (
            "partial_rotary_factor",
            json!(0.5),
            "partial_rotary_factor of 0.5",
        ),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "sliding_attention",
        ),
        (
            "quantization_config",
            json!({"quant_method": "gptq"}),
            "gptq",
        ),
        ("rope_scaling", json!("linear"), "rope_scaling is no object"),
        ("vocab_size", json!(1u64 << 60), "vocab_size is"),
        ("hidden_size", json!(0), "hidden_size is 0"),
        (
            "num_hidden_layers",
            json!(1_000_000),
            "num_hidden_layers is",
        ),
        (
            "max_position_embeddings",
            json!(1u64 << 40),
            "max_position_embeddings is",
        ),
        ("rms_norm_eps", json!(-1.0), "rms_norm_eps is -1"),
        (
            "rope_parameters",
            json!({"rope_theta": -1.0}),
            "rope_theta is -1",
        ),
    ];
    for (key, value, part) in cases {
        match config_with(|config| config[key] = value) {
            Ok(config) => assert_eq!((config.architecture, part), (named.architecture, "")),
            Err(message) => assert!(
                !part.is_empty() && message.contains(part),
                "{key}: {message}"
            ),
        }
    }
    let large = changed(
        "llama",
        |config| config["vocab_size"] = json!(1 << 24),
        |_| (),
    );
    let message = load(large.path()).unwrap_err();
    assert!(message.contains("embed_tokens.weight is ["), "{message}");
    let marked = changed("llama", |_| (), |_| ());
    let path = marked.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
    assert!(load(marked.path()).is_ok());
}

/// A name and its text.
type File<'a> = (&'a str, &'a str);

#[test]
fn ends_of_text_are_rows_of_the_vocabulary() {
    let with = |ends: Value| config_with(|file| file["eos_token_id"] = ends);
    assert_eq!(with(json!([2, 3])).unwrap().eos_token_ids, [2, 3]);
    assert_eq!(with(json!(1)).unwrap().eos_token_ids, [1]);
    assert!(with(Value::Null).unwrap().eos_token_ids.is_empty());
    for (ends, shown) in [
        (json!(-1), "eos_token_id is -1"),
        (json!([2, 99_999]), "eos_token_id is [2,99999]"),
        (json!("</s>"), "eos_token_id is \"</s>\""),
    ] {
        let message = with(ends).unwrap_err();
        assert!(message.contains(shown), "{message}");
    }
}

/// Weights that are there are not called another form of themselves.
#[test]
fn a_missing_configuration_is_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), "").unwrap();
    let path = folder.path().join("config.json");
    let message = ModelConfig::load(&path).unwrap_err().to_string();
    assert!(
        message.starts_with("cannot read") && message.contains("config.json"),
        "{message}"
    );
}
