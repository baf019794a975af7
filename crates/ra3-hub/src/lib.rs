//! A model's name as users write it → a folder with its files.
//!
//! A path of a folder is that folder; `org/name` or `org/name@revision` is a snapshot in the
//! Hugging Face cache, whose missing files are downloaded. The cache has the layout of the Python
//! client (`models--org--name/{blobs,refs,snapshots}`), so each finds what the other has fetched.
//! `hf-hub` knows that layout and the addresses; [`fetch`] moves the bytes, of models and of any
//! other file, because a download that breaks has to go on where it stopped and to be checked
//! before it gets its name.
//! What looks like a path is never asked for there.
//! Uploads, and files other than a causal language model's by name, are not here; no run either.

mod agent;
mod cache;
mod client;
mod error;
mod fetch;
mod form;
mod local;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::agent::agent;
use self::cache::Store;
use self::client::{Client, Meter};
pub use self::error::HubError;
pub use self::fetch::{FetchError, Remote, checksum, fetch};

/// Files fetched where the repository has them, in this order, before the weights.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
];
/// Files of [`SMALL_FILES`] that no model can be used without.
const REQUIRED_FILES: [&str; 2] = ["config.json", "tokenizer.json"];
/// Chat templates besides the usual one.
const TEMPLATE_FOLDER: &str = "additional_chat_templates/";
/// All weights in one file; preferred, as by transformers.
const WEIGHTS: &str = "model.safetensors";
/// Which tensor is in which shard.
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// Where models come from.
#[derive(Clone)]
pub struct HubSettings {
    /// Address of the Hub or a mirror, without a slash at its end.
    pub endpoint: String,
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// Sent to the endpoint, never to the hosts that it redirects to.
    pub token: Option<String>,
    /// A PEM file of the authorities to trust instead of Mozilla's, as behind a company's proxy.
    pub certificates: Option<PathBuf>,
    /// Use the cache alone.
    pub is_offline: bool,
    /// Attempts in a row that may bring no byte before a download is given up.
    pub n_attempts: u32,
    /// Pause before the next attempt; it doubles with each one in a row that brings no byte.
    pub retry_pause: Duration,
}

// Written out so that no log shows the token.
impl std::fmt::Debug for HubSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("is_offline", &self.is_offline)
            .finish_non_exhaustive()
    }
}

impl HubSettings {
    /// What the Python client would use: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, `SSL_CERT_FILE`, and the
    /// token file.
    pub fn from_environment() -> Self {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_true = |name: &str| {
            set(name).is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
            })
        };
        let caches = || ra3_files::cache_folder(|name| set(name).map(Into::into));
        let home = set("HF_HOME").map_or_else(|| caches().join("huggingface"), PathBuf::from);
        let cache = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| home.join("hub"), PathBuf::from);
        let token_path = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_path).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty() && !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            certificates: set("SSL_CERT_FILE").map(PathBuf::from),
            is_offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            n_attempts: 5,
            retry_pause: Duration::from_secs(1),
        }
    }
}

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The folder with `config.json`, `tokenizer.json` and the weights.
    pub folder: PathBuf,
    /// The commit on the Hub, if the model came from there.
    pub commit: Option<String>,
    /// Why the Hub could not be asked for the newest commit, if the cache stands in for it.
    pub unchecked: Option<String>,
}

/// Finds the folder of a model, downloading what the cache lacks.
///
/// `progress` gets the bytes that are there and the bytes of all files that were missing; the
/// second number grows once, when the index of a sharded model has been read.
///
/// # Errors
/// The name is a path where no folder is, or neither a folder nor `org/name`; the Hub does not
/// have or does not give the files; it cannot be reached, or may not be, and the cache is
/// incomplete; the cache cannot be written where it is needed.
pub fn resolve(
    name: &str,
    settings: &HubSettings,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Resolved, HubError> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Resolved {
            folder: path.to_owned(),
            commit: None,
            unchecked: None,
        });
    }
    if let Some(why) = local::why_a_path(name) {
        let name = name.to_owned();
        return Err(HubError::Path { name, why });
    }
    let model = ModelName::parse(name)?;
    let store = Store::new(&settings.cache, &model);
    if settings.is_offline {
        return cached(&store);
    }
    let client = Client::new(settings, &model)?;
    match client.listing() {
        Ok(listing) => download(&client, &store, &listing, progress),
        Err(error @ HubError::Unreachable { .. }) => match cached(&store) {
            Ok(found) => Ok(Resolved {
                unchecked: Some(error.to_string()),
                ..found
            }),
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// `org/name` and the revision after an `@`, `main` where none is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelName {
    repository: String,
    revision: String,
}

impl ModelName {
    fn parse(name: &str) -> Result<Self, HubError> {
        let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
        let is_part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            part.chars().all(plain) && part.contains(|c: char| c.is_ascii_alphanumeric())
        };
        let n_parts = repository.split('/').count();
        // A revision becomes a path below `refs` and a part of an address.
        let is_revision = revision.split('/').all(is_part);
        if n_parts != 2 || !repository.split('/').all(is_part) || !is_revision {
            return Err(HubError::Name(name.to_owned()));
        }
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.revision)
    }
}

fn cached(store: &Store) -> Result<Resolved, HubError> {
    let commit = store.commit().ok_or_else(|| store.not_cached(&[]))?;
    let folder = store.snapshot(&commit);
    let missing = cache::missing_files(&folder)?;
    if missing.is_empty() {
        return Ok(Resolved {
            folder,
            commit: Some(commit),
            unchecked: None,
        });
    }
    Err(store.not_cached(&missing))
}

fn download(
    client: &Client,
    store: &Store,
    listing: &client::Listing,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Resolved, HubError> {
    let folder = store.snapshot(&listing.commit);
    if let Some(file) = REQUIRED_FILES.into_iter().find(|file| !listing.has(file)) {
        return Err(
            form::other_form(listing, store.what(), file).unwrap_or_else(|| client.absent(file))
        );
    }
    let mut names: Vec<String> = SMALL_FILES.map(str::to_owned).to_vec();
    names.retain(|name| listing.has(name));
    names.extend(listing.below(TEMPLATE_FOLDER).map(str::to_owned));
    let weights = [WEIGHTS, WEIGHTS_INDEX];
    let Some(weights) = weights.into_iter().find(|name| listing.has(name)) else {
        let other = form::other_form(listing, store.what(), WEIGHTS);
        return Err(other.unwrap_or_else(|| client.absent(WEIGHTS)));
    };
    names.push(weights.to_owned());
    let mut meter = Meter::new(progress);
    client.fetch(store, listing, &names, &mut meter)?;
    if weights == WEIGHTS_INDEX {
        let shards = cache::shards(&folder.join(WEIGHTS_INDEX))?;
        if let Some(file) = shards.iter().find(|file| !listing.has(file)) {
            return Err(client.absent(file));
        }
        client.fetch(store, listing, &shards, &mut meter)?;
    }
    // Last, so that a branch never points from a complete snapshot to one that is not.
    match store.point(&listing.commit) {
        // A cache that holds everything need not be written.
        Err(_) if meter.is_idle() => {}
        result => result?,
    }
    Ok(Resolved {
        folder,
        commit: Some(listing.commit.clone()),
        unchecked: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_means_what_it_means_to_the_python_client() {
        let bare = settings(&[("HOME", "/nowhere")]);
        assert_eq!(bare.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert_eq!(bare.endpoint, "https://huggingface.co");
        assert!(bare.token.is_none() && !bare.is_offline);

        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "from-file\n").unwrap();
        let home = home.path().to_str().unwrap();
        let found = settings(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/")]);
        assert_eq!(found.cache, Path::new(home).join("hub"));
        assert_eq!(found.token.as_deref(), Some("from-file"));
        assert_eq!(found.endpoint, "http://mirror");
        assert!(!format!("{found:?}").contains("from-file"));

        let found = settings(&[
            ("HF_HOME", home),
            ("HF_HUB_CACHE", "/c"),
            ("HF_TOKEN", " direct "),
            ("HF_HUB_OFFLINE", "yes"),
        ]);
        assert_eq!(found.cache, Path::new("/c"));
        assert_eq!(found.token.as_deref(), Some("direct"));
        assert!(found.is_offline);
    }

    #[test]
    fn names_are_org_slash_name_at_revision() {
        let name = ModelName::parse("Qwen/Qwen2.5-1.5B@refs/pr/3").unwrap();
        assert_eq!(name.to_string(), "Qwen/Qwen2.5-1.5B@refs/pr/3");
        assert_eq!(ModelName::parse("a/b").unwrap().revision, "main");
        for wrong in [
            "", "gpt2", "a/b/c", "../b", "a/..", "/a/b", "a/b@", "a/b@../x",
        ] {
            let message = ModelName::parse(wrong).unwrap_err().to_string();
            assert!(message.contains("folder"), "{wrong}: {message}");
        }
    }
}
