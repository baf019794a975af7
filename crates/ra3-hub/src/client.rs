//! What a repository holds, and its files over HTTP into the cache. `hf-hub` knows the addresses,
//! `fetch` moves the bytes.

use std::io::ErrorKind;
use std::path::Path;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::TlsConfig;

use super::agent::{CONNECT_TIMEOUT, READ_TIMEOUT, agent, trust};
use super::cache::{Store, failure, is_inside};
use super::fetch::{FetchError, Remote, fetch};
use super::{HubError, HubSettings, ModelName};

/// The bytes of all files of a call, for the caller's bars.
pub(super) struct Meter<'a> {
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self {
            progress,
            done: 0,
            total: 0,
        }
    }

    /// True if no file was missing.
    pub(super) fn is_idle(&self) -> bool {
        self.total == 0
    }

    fn set(&mut self, done: u64) {
        self.done = done;
        (self.progress)(self.done, self.total);
    }
}

/// What the Hub says about a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    siblings: Vec<Sibling>,
}

impl Listing {
    pub(super) fn has(&self, name: &str) -> bool {
        self.siblings.iter().any(|file| file.name == name)
    }

    /// The names of all files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.siblings.iter().map(|file| file.name.as_str())
    }

    /// The files below a folder, given with its slash.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &str> {
        self.names().filter(move |name| name.starts_with(folder))
    }
}

/// A file of a repository; mirrors may leave out all but its name.
#[derive(Debug, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: String,
}

/// A file to fetch.
struct Wanted<'a> {
    name: &'a str,
    etag: String,
    n_bytes: u64,
}

/// One repository at one revision, asked over HTTP.
pub(super) struct Client<'a> {
    settings: &'a HubSettings,
    model: &'a ModelName,
    api: Api,
    agent: Agent,
    trust: TlsConfig,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a HubSettings, model: &'a ModelName) -> Result<Self, HubError> {
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| HubError::Answer {
                endpoint: settings.endpoint.clone(),
                what: model.to_string(),
                reason: error.to_string(),
            })?;
        let trust = trust(settings)?;
        let agent = agent(settings)?;
        Ok(Self {
            settings,
            model,
            api,
            agent,
            trust,
        })
    }

    /// The commit of the revision and its files.
    pub(super) fn listing(&self) -> Result<Listing, HubError> {
        let what = self.model.to_string();
        let ModelName {
            repository,
            revision,
        } = self.model;
        let repo = Repo::with_revision(repository.clone(), RepoType::Model, revision.clone());
        let mut response = self
            .api
            .repo(repo)
            .info_request()
            .query("blobs", "true")
            .config()
            .tls_config(self.trust.clone())
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .build()
            .call()
            .map_err(|error| self.unreachable(&what, error.to_string()))?;
        match response.status().as_u16() {
            200 => {}
            404 => {
                return Err(HubError::NotFound {
                    endpoint: self.settings.endpoint.clone(),
                    what,
                });
            }
            status => return Err(self.status(&what, status)),
        }
        let listing: Listing = match response.body_mut().read_json() {
            Ok(listing) => listing,
            Err(ureq::Error::Json(error)) => return Err(self.answer(&what, error.to_string())),
            Err(error) => return Err(self.unreachable(&what, error.to_string())),
        };
        if !is_file_name(&listing.commit) {
            return Err(self.answer(&what, format!("commit `{}`", listing.commit)));
        }
        Ok(listing)
    }

    /// Fetches the files that the snapshot lacks.
    pub(super) fn fetch(
        &self,
        store: &Store,
        listing: &Listing,
        names: &[String],
        meter: &mut Meter<'_>,
    ) -> Result<(), HubError> {
        let folder = store.snapshot(&listing.commit);
        let mut wanted = Vec::new();
        for name in names.iter().filter(|name| !folder.join(name).exists()) {
            wanted.push(self.describe(listing, name)?);
        }
        meter.total += wanted.iter().map(|file| file.n_bytes).sum::<u64>();
        for file in &wanted {
            let (before, blob) = (meter.done, store.blob(&file.etag));
            let _lock = store.lock(&file.etag)?;
            let is_whole = |metadata: std::fs::Metadata| metadata.len() == file.n_bytes;
            if !blob.metadata().is_ok_and(is_whole) {
                self.fetch_blob(listing, file, &blob, meter)?;
            }
            store.link(&file.etag, &listing.commit, file.name)?;
            meter.set(before + file.n_bytes);
        }
        Ok(())
    }

    /// The error of a file that the repository should have.
    pub(super) fn absent(&self, name: &str) -> HubError {
        HubError::NoFile {
            endpoint: self.settings.endpoint.clone(),
            what: self.file(name),
        }
    }

    /// Size and tag of a file, from the listing or else from the headers of its address.
    fn describe<'b>(&self, listing: &Listing, name: &'b str) -> Result<Wanted<'b>, HubError> {
        let sibling = listing.siblings.iter().find(|file| file.name == name);
        let sibling = sibling.expect("only listed files are fetched");
        let sha256 = sibling.lfs.as_ref().map(|large| &large.sha256);
        let listed = sha256.or(sibling.blob_id.as_ref()).cloned();
        let (etag, n_bytes) = listed
            .zip(sibling.size)
            .map_or_else(|| self.ask_for_headers(listing, name), Ok)?;
        if !is_file_name(&etag) || !is_inside(name) {
            return Err(self.answer(&self.file(name), format!("etag `{etag}`")));
        }
        Ok(Wanted {
            name,
            etag,
            n_bytes,
        })
    }

    fn ask_for_headers(&self, listing: &Listing, name: &str) -> Result<(String, u64), HubError> {
        let metadata = self
            .api
            .metadata(&self.address(listing, name))
            .map_err(|error| self.metadata_error(&self.file(name), &error))?;
        // A mirror's proxy may have marked the tag as weak.
        let etag = metadata.etag().trim_start_matches("W/").to_owned();
        Ok((etag, metadata.size() as u64))
    }

    fn fetch_blob(
        &self,
        listing: &Listing,
        file: &Wanted<'_>,
        blob: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<(), HubError> {
        let is_sha256 = file.etag.len() == 64 && file.etag.chars().all(|c| c.is_ascii_hexdigit());
        let remote = Remote {
            address: &self.address(listing, file.name),
            token: self.settings.token.as_deref(),
            n_bytes: Some(file.n_bytes),
            // Large files are named by it, small ones by a hash of their own.
            sha256: is_sha256.then_some(&file.etag),
        };
        let base = meter.done;
        let mut progress = |n_bytes| meter.set(base + n_bytes);
        fetch(remote, blob, &self.agent, self.settings, &mut progress)
            .map_err(|error| self.fetch_error(file, error))
    }

    fn fetch_error(&self, file: &Wanted<'_>, error: FetchError) -> HubError {
        let what = self.file(file.name);
        match error {
            FetchError::Status(404) => self.absent(file.name),
            FetchError::Status(status) => self.status(&what, status),
            FetchError::Broken(reason) => self.unreachable(&what, reason),
            FetchError::Other { found, wanted } => {
                self.answer(&what, format!("it sends {found}, and listed is {wanted}"))
            }
            FetchError::Write(error) => write_error(&error.path, file.n_bytes, error.source),
        }
    }

    fn address(&self, listing: &Listing, name: &str) -> String {
        // The commit, not the branch, so that all files are of one state of the repository.
        let (id, commit) = (self.model.repository.clone(), listing.commit.clone());
        let repo = Repo::with_revision(id, RepoType::Model, commit);
        self.api.repo(repo).url(name)
    }

    fn file(&self, name: &str) -> String {
        format!("{name} of {}", self.model)
    }

    fn metadata_error(&self, what: &str, error: &ApiError) -> HubError {
        match error {
            ApiError::RequestError(inner) => match **inner {
                ureq::Error::StatusCode(status) => self.status(what, status),
                _ => self.unreachable(what, inner.to_string()),
            },
            _ => self.answer(what, error.to_string()),
        }
    }

    /// The error of a status; those that pass by themselves count as a broken connection.
    fn status(&self, what: &str, status: u16) -> HubError {
        let advice = match (status, &self.settings.token) {
            (401, None) => "it does not exist or is not public; set HF_TOKEN to see the latter",
            (401, Some(_)) => "the token is not valid; set HF_TOKEN to another one",
            (403, None) => "it is gated; accept its terms on its page and set HF_TOKEN",
            (403, Some(_)) => {
                "the token may not read it; accept its terms on its page, or set HF_TOKEN to a \
                 token that may"
            }
            (408 | 416 | 429 | 500.., _) => {
                return self.unreachable(what, format!("status {status}"));
            }
            _ => return self.answer(what, format!("status {status}")),
        };
        HubError::Refused {
            endpoint: self.settings.endpoint.clone(),
            what: what.to_owned(),
            status,
            advice,
        }
    }

    fn unreachable(&self, what: &str, reason: String) -> HubError {
        HubError::Unreachable {
            endpoint: self.settings.endpoint.clone(),
            what: what.to_owned(),
            reason,
        }
    }

    fn answer(&self, what: &str, reason: String) -> HubError {
        HubError::Answer {
            endpoint: self.settings.endpoint.clone(),
            what: what.to_owned(),
            reason,
        }
    }
}

fn write_error(path: &Path, n_bytes: u64, source: std::io::Error) -> HubError {
    if matches!(
        source.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ) {
        let path = path.to_owned();
        return HubError::DiskFull(path, n_bytes);
    }
    failure(path, source)
}

/// True for hashes and the like: what a server sends must not lead out of the cache.
fn is_file_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = std::io::Error::from(ErrorKind::StorageFull);
        let message = write_error(Path::new("/c/blobs/x"), 7, full).to_string();
        assert!(
            message.contains("/c/blobs/x (7 bytes)") && message.contains("HF_HOME"),
            "{message}"
        );
    }
}
