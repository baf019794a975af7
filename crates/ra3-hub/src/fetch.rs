//! A file from an address, continued where it broke off, and kept only if it is what is wanted.
//!
//! Bytes land in `PATH.incomplete`; a connection that breaks is opened again with a `Range` from
//! there on, in this call or a later one. Only a file of the right size and checksum gets its name.
//! `hf-hub` has a download too, but it puts a whole answer behind what is there, and looks at no
//! checksum.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ra3_files::{WriteError, at};
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::HubSettings;

/// A file somewhere else, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// Where it is.
    pub address: &'a str,
    /// Sent to the address, never to the hosts that it redirects to.
    pub token: Option<&'a str>,
    /// Its size; another one is refused.
    pub n_bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal; another content is refused.
    pub sha256: Option<&'a str>,
}

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A status that no further attempt changes.
    #[error("it answers with status {0}; is it still there?")]
    Status(u16),
    /// No connection, or one that broke again and again.
    #[error("{0}; run again to continue")]
    Broken(String),
    /// It is another file.
    #[error("it has {found}, and {wanted} is wanted: it is not kept")]
    Other {
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The bytes that are there.
struct Part {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

/// Fetches a file; what there was before stays until the new file is whole. `progress` gets the
/// bytes that are there.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    remote: Remote<'_>,
    path: &Path,
    agent: &Agent,
    settings: &HubSettings,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    let mut part = open(path).map_err(at(path))?;
    let fetched = fetch_parts(remote, &mut part, agent, settings, progress);
    if fetched.is_err() && part.n_bytes == 0 {
        // There is nothing to go on from.
        std::fs::remove_file(&part.path).map_err(at(path))?;
    }
    fetched?;
    if let Some(wanted) = remote.sha256 {
        let found = checksum(&part.path).map_err(at(path))?;
        if found != wanted {
            std::fs::remove_file(&part.path).map_err(at(&part.path))?;
            return Err(other(format!("the SHA-256 {found}"), wanted.to_owned()));
        }
    }
    let whole = part.file.sync_all();
    let named = whole.and_then(|()| std::fs::rename(&part.path, path));
    Ok(named.map_err(at(path))?)
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn checksum(path: &Path) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(format!("{:x}", digest.finalize()))
}

/// What an attempt before left, or nothing.
fn open(path: &Path) -> std::io::Result<Part> {
    let mut name = path.as_os_str().to_owned();
    name.push(".incomplete");
    let path = PathBuf::from(name);
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let file = OpenOptions::new().append(true).create(true).open(&path)?;
    let n_bytes = file.metadata()?.len();
    Ok(Part {
        path,
        file,
        n_bytes,
    })
}

fn clear(part: &mut Part) -> Result<(), WriteError> {
    part.n_bytes = 0;
    part.file.set_len(0).map_err(at(&part.path))
}

/// The rest of a file, by as many connections as it takes.
fn fetch_parts(
    remote: Remote<'_>,
    part: &mut Part,
    agent: &Agent,
    settings: &HubSettings,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    let mut n_failures = 0;
    while remote.n_bytes != Some(part.n_bytes) {
        if remote.n_bytes.is_some_and(|n_bytes| part.n_bytes > n_bytes) {
            clear(part)?;
        }
        let before = part.n_bytes;
        progress(before);
        match fetch_part(remote, part, agent, progress) {
            Ok(()) => return Ok(()),
            Err(FetchError::Broken(reason)) => {
                let has_grown = part.n_bytes > before;
                n_failures = if has_grown { 0 } else { n_failures + 1 };
                if n_failures >= settings.n_attempts {
                    return Err(FetchError::Broken(reason));
                }
                std::thread::sleep(settings.retry_pause * 2u32.pow(n_failures));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One connection's worth of a file, behind the bytes that are there.
fn fetch_part(
    remote: Remote<'_>,
    part: &mut Part,
    agent: &Agent,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    let start = part.n_bytes;
    let mut request = agent
        .get(remote.address)
        // A compressed answer has no position to continue from.
        .header("Accept-Encoding", "identity");
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
    }
    if let Some(token) = remote.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let response = request
        .call()
        .map_err(|error| FetchError::Broken(error.to_string()))?;
    let announced = match response.status().as_u16() {
        200 => {
            // The server has sent the whole file in spite of the range.
            clear(part)?;
            number(response.headers(), "content-length").or(remote.n_bytes)
        }
        206 => {
            let total = range_total(response.headers(), start);
            let other = || other("another range".to_owned(), format!("all from {start} on"));
            Some(total.ok_or_else(other)?)
        }
        // There is nothing behind what is there.
        416 if remote.n_bytes.is_none() && start > 0 => return Ok(()),
        status @ (408 | 416 | 429 | 500..) => {
            return Err(FetchError::Broken(format!("status {status}")));
        }
        status => return Err(FetchError::Status(status)),
    };
    if let (Some(wanted), Some(found)) = (remote.n_bytes, announced)
        && wanted != found
    {
        return Err(other(format!("{found} bytes"), format!("{wanted} bytes")));
    }
    copy(response, announced, part, progress)
}

/// Appends what comes: up to the announced size, or to the end where none is announced.
fn copy(
    response: Response<Body>,
    announced: Option<u64>,
    part: &mut Part,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let rest = announced.map_or(u64::MAX, |n_bytes| n_bytes.saturating_sub(part.n_bytes));
        if rest == 0 {
            return Ok(());
        }
        let n = match reader.read(&mut buffer) {
            Ok(0) if announced.is_none() => return Ok(()),
            Ok(0) => {
                let reason = format!("cut off {rest} bytes before its end");
                return Err(FetchError::Broken(reason));
            }
            Ok(n) => n.min(usize::try_from(rest).unwrap_or(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(FetchError::Broken(error.to_string())),
        };
        part.file.write_all(&buffer[..n]).map_err(at(&part.path))?;
        part.n_bytes += n as u64;
        progress(part.n_bytes);
    }
}

fn other(found: String, wanted: String) -> FetchError {
    FetchError::Other { found, wanted }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The size of the whole file, if the range starts where it was asked to, which a server that does
/// not say is believed to do.
fn range_total(headers: &HeaderMap, start: u64) -> Option<u64> {
    let Some(range) = headers.get("content-range") else {
        return Some(start + number(headers, "content-length")?);
    };
    let (span, total) = range
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let (first, _) = span.split_once('-')?;
    (first.parse() == Ok(start)).then_some(total.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_only_from_the_byte_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "5".parse().unwrap());
        assert_eq!(range_total(&headers, 4), Some(9));
        headers.insert("content-range", "bytes 5-9/10".parse().unwrap());
        assert_eq!(range_total(&headers, 5), Some(10));
        assert_eq!(range_total(&headers, 4), None);
    }
}
