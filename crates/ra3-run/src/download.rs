//! A file from an address, continued where it broke off, and kept only if its checksum is right.
//!
//! Not done here: models, which have a cache of their own (`hub`), and where benchmarks live
//! (`benchmark_data`).

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::hub::HubSettings;
use crate::hub::agent::agent;

/// What a download has come to.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Fetches a file. With a checksum (SHA-256 in hexadecimal) another content is refused; what there
/// was before stays until the new file is whole. The checksum of what is there now.
///
/// # Errors
/// The address cannot be reached or has no such file, the content is another, or the file cannot
/// be written.
pub(crate) fn fetch(
    address: &str,
    path: &Path,
    sha256: Option<&str>,
    settings: &HubSettings,
    progress: Progress<'_>,
) -> Result<String> {
    ensure!(
        !settings.is_offline,
        "offline (HF_HUB_OFFLINE): {address} is not asked for"
    );
    let folder = path.parent().context("the file has a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".incomplete");
    let part = Path::new(&name);
    let mut n_failures = 0;
    loop {
        let before = length(part);
        match fetch_part(address, part, settings, progress) {
            Ok(()) => break,
            Err(Broken::For(error)) => return Err(error),
            Err(Broken::Off(reason)) => {
                n_failures = if length(part) > before {
                    0
                } else {
                    n_failures + 1
                };
                if n_failures >= settings.n_attempts {
                    bail!("cannot fetch {address}: {reason}; run again to continue");
                }
                std::thread::sleep(settings.retry_pause * 2u32.pow(n_failures));
            }
        }
    }
    let found = checksum(part)?;
    if let Some(wanted) = sha256.filter(|wanted| *wanted != found) {
        std::fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))?;
        bail!("{address} has the SHA-256 {found}, and {wanted} is wanted: it is not kept");
    }
    std::fs::rename(part, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(found)
}

/// The SHA-256 of a file in hexadecimal.
pub(crate) fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut digest = Sha256::new();
    std::io::copy(&mut file, &mut digest)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", digest.finalize()))
}

/// Why an attempt did not end with a whole file.
enum Broken {
    /// It may go on.
    Off(String),
    /// It will not.
    For(anyhow::Error),
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn fetch_part(
    address: &str,
    path: &Path,
    settings: &HubSettings,
    progress: Progress<'_>,
) -> Result<(), Broken> {
    let off = |error: String| Broken::Off(error);
    let agent = agent(settings).map_err(|error| Broken::For(error.into()))?;
    let start = length(path);
    let mut request = agent
        .get(address)
        // A compressed answer has no position to continue from.
        .header("Accept-Encoding", "identity");
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
    }
    let response = request.call().map_err(|error| off(error.to_string()))?;
    let status = response.status().as_u16();
    let is_continued = match status {
        200 => false,
        206 => true,
        // All of it is there.
        416 if start > 0 => return Ok(()),
        500..=599 => return Err(off(format!("status {status}"))),
        _ => {
            let text = format!("{address} answers with status {status}; is it still there?");
            return Err(Broken::For(anyhow::anyhow!(text)));
        }
    };
    let header = response.headers().get("content-length");
    let n_coming: Option<u64> = header.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(!is_continued)
        .append(is_continued)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Broken::For)?;
    let base = if is_continued { start } else { 0 };
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0u8; 1 << 16];
    let mut n_come = 0;
    loop {
        let n = body
            .read(&mut buffer)
            .map_err(|error| off(error.to_string()))?;
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n])
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(Broken::For)?;
        n_come += n as u64;
        progress(base + n_come, n_coming.map(|n_coming| base + n_coming));
    }
    if n_coming.is_some_and(|n_coming| n_come < n_coming) {
        return Err(off("the connection ended early".to_owned()));
    }
    file.sync_all()
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Broken::For)
}
