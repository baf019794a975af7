//! Repositories that hold a model in another form than is read here.

use super::HubError;
use super::client::Listing;

/// The beginning and the end of a file's name, and what to do where it is what there is.
const FORMS: [(&str, &str, &str); 6] = [
    (
        "adapter_config",
        ".json",
        "it is an adapter (LoRA): merge it into its base with peft's merge_and_unload, save that, \
         and pass the folder",
    ),
    ("pytorch_model", ".bin", SAVE),
    ("pytorch_model", ".bin.index.json", SAVE),
    (
        "",
        ".gguf",
        "it is for llama.cpp: take the model that it was made from",
    ),
    ("tokenizer", ".model", TOKENIZER),
    ("vocab", ".json", TOKENIZER),
];
const SAVE: &str = "load it with transformers, write it with save_pretrained, and pass the folder";
const TOKENIZER: &str =
    "write tokenizer.json with AutoTokenizer and save_pretrained, and pass the folder";

/// What a repository has instead of a file that a model needs.
pub(super) fn other_form(listing: &Listing, what: &str, missing: &'static str) -> Option<HubError> {
    let (found, advice) = FORMS.iter().find_map(|(start, end, advice)| {
        // A tokenizer in another form is no reason where weights are missing, nor they where it is.
        let is_about = (*advice == TOKENIZER) == (missing == "tokenizer.json");
        if !is_about && !start.starts_with("adapter") {
            return None;
        }
        let mut names = listing.names();
        let found = names.find(|name| name.starts_with(start) && name.ends_with(end))?;
        Some((found.to_owned(), *advice))
    })?;
    Some(HubError::OtherForm {
        what: what.to_owned(),
        missing,
        found,
        advice,
    })
}
