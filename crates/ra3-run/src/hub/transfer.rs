//! What a repository holds, and its files over HTTP into the cache.
//!
//! Bytes land in `blobs/ETAG.incomplete`; a connection that breaks is opened again with a `Range`
//! from there on, in this call or a later one. Only a file of the announced size gets its name.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use ureq::http::{HeaderMap, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::agent::{CONNECT_TIMEOUT, READ_TIMEOUT, agent, trust};
use super::cache::{Store, create_parent, failure, is_inside};
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
        let mut path = blob.as_os_str().to_owned();
        path.push(".incomplete");
        let path = Path::new(&path);
        create_parent(path)?;
        let mut part = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| failure(path, source))?;
        let base = meter.done;
        let mut n_failures = 0;
        loop {
            let before = length(&part, path)?;
            if before == file.n_bytes {
                break;
            }
            if before > file.n_bytes {
                part.set_len(0).map_err(|source| failure(path, source))?;
                continue;
            }
            meter.set(base + before);
            match self.fetch_part(listing, file, (&mut part, path), meter) {
                Err(error @ HubError::Unreachable { .. }) => {
                    let has_grown = length(&part, path)? > before;
                    n_failures = if has_grown { 0 } else { n_failures + 1 };
                    if n_failures >= self.settings.n_attempts {
                        return Err(error);
                    }
                    std::thread::sleep(self.settings.retry_pause * 2u32.pow(n_failures));
                }
                result => result?,
            }
        }
        part.sync_all()
            .and_then(|()| std::fs::rename(path, blob))
            .map_err(|source| failure(path, source))
    }

    /// One connection's worth of a file, behind the bytes that are there.
    fn fetch_part(
        &self,
        listing: &Listing,
        file: &Wanted<'_>,
        (part, path): (&mut File, &Path),
        meter: &mut Meter<'_>,
    ) -> Result<(), HubError> {
        let what = self.file(file.name);
        let broken = |reason: String| self.unreachable(&what, reason);
        let start = length(part, path)?;
        let mut request = self
            .agent
            .get(self.address(listing, file.name))
            // A compressed answer has no position to continue from.
            .header("Accept-Encoding", "identity")
            .header("Range", format!("bytes={start}-"));
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| broken(error.to_string()))?;
        let announced = match response.status().as_u16() {
            200 => {
                // The server has sent the whole file in spite of the range.
                part.set_len(0).map_err(|source| failure(path, source))?;
                meter.set(meter.done - start);
                number(response.headers(), "content-length").or(Some(file.n_bytes))
            }
            206 => range_total(response.headers(), start),
            404 => return Err(self.absent(file.name)),
            status => return Err(self.status(&what, status)),
        };
        if announced.is_none_or(|n_bytes| n_bytes != file.n_bytes) {
            let listed = file.n_bytes;
            let reason = format!("{listed} bytes are listed, and it sends {announced:?}");
            return Err(self.answer(&what, reason));
        }
        self.copy(response, file, (part, path), meter)
    }

    fn copy(
        &self,
        response: Response<Body>,
        file: &Wanted<'_>,
        (part, path): (&mut File, &Path),
        meter: &mut Meter<'_>,
    ) -> Result<(), HubError> {
        let broken = |reason: String| self.unreachable(&self.file(file.name), reason);
        let mut rest = file.n_bytes - length(part, path)?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        while rest > 0 {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return Err(broken(format!("cut off {rest} bytes before its end"))),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error.to_string())),
            };
            let n = n.min(usize::try_from(rest).unwrap_or(n));
            part.write_all(&buffer[..n])
                .map_err(|source| write_error(path, file.n_bytes, source))?;
            rest -= n as u64;
            meter.set(meter.done + n as u64);
        }
        Ok(())
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
        return HubError::DiskFull { path, n_bytes };
    }
    failure(path, source)
}

fn length(file: &File, path: &Path) -> Result<u64, HubError> {
    let metadata = file.metadata().map_err(|source| failure(path, source))?;
    Ok(metadata.len())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The size of the whole file, if the range starts where it was asked to.
fn range_total(headers: &HeaderMap, start: u64) -> Option<u64> {
    let range = headers.get("content-range")?.to_str().ok()?;
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = span.split_once('-')?;
    (first.parse() == Ok(start)).then_some(total.parse().ok()?)
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

    #[test]
    fn a_range_counts_only_from_the_byte_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert("content-range", "bytes 5-9/10".parse().unwrap());
        assert_eq!(range_total(&headers, 5), Some(10));
        assert_eq!(range_total(&headers, 4), None);
    }
}
