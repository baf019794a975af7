//! Folders that hold a model in another form: named, with what to do about it.

use std::path::Path;

/// Weights in other forms: the beginning and the end of a file's name, and what it is.
const FORMS: [(&str, &str, &str); 8] = [
    ("pytorch_model", ".bin", "PyTorch's pickles"),
    ("pytorch_model", ".bin.index.json", "PyTorch's pickles"),
    ("consolidated", ".pth", "Meta's checkpoints"),
    ("consolidated", ".safetensors", "Mistral's checkpoints"),
    ("", ".gguf", "llama.cpp's files"),
    ("tf_model", ".h5", "TensorFlow's files"),
    ("flax_model", ".msgpack", "Flax's files"),
    ("", ".safetensors", "safetensors under another name"),
];
const SAVE: &str = "load it with transformers and write it with \
                    model.save_pretrained(FOLDER, safe_serialization=True)";
/// What a file of Git LFS begins with until it is fetched.
const POINTER: &[u8] = b"version https://git-lfs";

/// An adapter changes a model that is somewhere else.
pub(crate) fn adapter(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).ok()?;
    let file: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let base = file["base_model_name_or_path"].as_str();
    let base = base.map_or(String::new(), |base| format!(" of {base}"));
    Some(format!(
        "this is an adapter (LoRA){base}, not a model: merge it with peft, \
         AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW), \
         and write its tokenizer beside it"
    ))
}

/// Why there is no `model.safetensors`, as far as the folder tells.
pub(crate) fn missing_weights(folder: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let is_own =
        |name: &String| name == "model.safetensors" || name == "model.safetensors.index.json";
    if names.iter().any(is_own) {
        return None;
    }
    let found = FORMS.iter().find_map(|(start, end, form)| {
        let is_one = |name: &&String| name.starts_with(start) && name.ends_with(end);
        names.iter().find(is_one).map(|name| (name, form))
    });
    Some(match found {
        Some((name, form)) => {
            format!("there is no model.safetensors, only {name}: {form} are not read; {SAVE}")
        }
        None => "there are no weights: model.safetensors, or its shards with \
                 model.safetensors.index.json, are missing"
            .to_owned(),
    })
}

/// A file that Git LFS has not fetched yet.
pub(super) fn pointer(bytes: &[u8]) -> Option<String> {
    bytes
        .starts_with(POINTER)
        .then(|| "this is a pointer of Git LFS and not the file: run `git lfs pull`".to_owned())
}
