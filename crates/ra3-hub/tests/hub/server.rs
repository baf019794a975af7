//! A Hub on loopback: one repository, the paths and headers of the real one, and its misbehaviour.
//!
//! It keeps no connection open and knows nothing but GET and HEAD.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit of every revision.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// What the server holds and how it answers.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Token without which every answer is `refusal`.
    pub token: Option<String>,
    pub refusal: u16,
    /// Cut the connection after so many bytes of a weight file, so many times.
    pub cuts: Vec<usize>,
    /// Answer a range with the whole file.
    pub ignores_ranges: bool,
    /// The SHA-256 that is listed for large files, where it is a real one.
    pub sha256: Option<String>,
    /// List names alone, as some mirrors do.
    pub is_terse: bool,
    pub requests: Vec<Request>,
}

/// A server that lives as long as the process.
#[derive(Clone)]
pub struct Server {
    port: u16,
    pub state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let state = State {
            files: files.collect(),
            ..State::default()
        };
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(state)),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no failure of the server.
                let _ = serving.answer(&stream.unwrap());
            }
        });
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The paths asked for since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_head = line.starts_with("HEAD");
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let request = Request {
            path: path.clone(),
            range: headers.get("range").cloned(),
            token: headers.get("authorization").cloned(),
        };
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.clone());
        let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
        // Storage addresses are signed: they need no token.
        if wanted.is_some() && wanted != request.token && !path.starts_with("/storage/") {
            let status = state.refusal;
            return write(stream, status, &[], b"");
        }
        if let Some(rest) = path.strip_prefix("/api/models/org/tiny/revision/") {
            let revision = rest.split('?').next().unwrap_or_default();
            if revision == "gone" {
                return write(stream, 404, &[("x-error-code", "RevisionNotFound")], b"");
            }
            return write(stream, 200, &[], state.listing().to_string().as_bytes());
        }
        let resolved = format!("/org/tiny/resolve/{COMMIT}/");
        let name = path
            .strip_prefix(&resolved)
            .or_else(|| path.strip_prefix("/storage/"));
        let Some(bytes) = name.and_then(|name| state.files.get(name).cloned()) else {
            return write(stream, 404, &[("x-error-code", "EntryNotFound")], b"");
        };
        let name = name.unwrap_or_default().to_owned();
        let etag = format!("\"{}\"", etag(&name));
        let is_large = name.ends_with(".safetensors");
        if is_large && path.starts_with(&resolved) {
            // Another host, as far as names go.
            let location = format!("http://localhost:{}/storage/{name}", self.port);
            let size = bytes.len().to_string();
            let headers = [
                ("location", location.as_str()),
                ("x-repo-commit", COMMIT),
                ("x-linked-etag", etag.as_str()),
                ("x-linked-size", size.as_str()),
            ];
            return write(stream, 302, &headers, b"");
        }
        let headers = [("x-repo-commit", COMMIT), ("etag", etag.as_str())];
        let cut = (is_large && !state.cuts.is_empty()).then(|| state.cuts.remove(0));
        let range = request.range.filter(|_| !state.ignores_ranges);
        drop(state);
        send(stream, &bytes, range.as_deref(), &headers, cut, is_head)
    }
}

impl State {
    fn listing(&self) -> serde_json::Value {
        let describe = |(name, bytes): (&String, &Vec<u8>)| {
            if self.is_terse {
                serde_json::json!({"rfilename": name})
            } else if name.ends_with(".safetensors") {
                let sha256 = self.sha256.clone().unwrap_or_else(|| etag(name));
                let large = serde_json::json!({"sha256": sha256, "size": bytes.len(),
                    "pointerSize": 134});
                serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": "pointer",
                    "lfs": large})
            } else {
                serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": etag(name)})
            }
        };
        let siblings: Vec<_> = self.files.iter().map(describe).collect();
        serde_json::json!({"id": "org/tiny", "sha": COMMIT, "siblings": siblings})
    }
}

/// Stands for the hash of a file.
pub fn etag(name: &str) -> String {
    name.replace(['.', '/'], "_")
}

fn send(
    stream: &TcpStream,
    bytes: &[u8],
    range: Option<&str>,
    headers: &[(&str, &str)],
    cut: Option<usize>,
    is_head: bool,
) -> std::io::Result<()> {
    let span = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = span.unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    let last = last.parse().map_or(bytes.len(), |last: usize| last + 1);
    let body = &bytes[first..last.min(bytes.len())];
    // Of an empty file nothing is the last byte.
    let end = last.saturating_sub(1);
    let content_range = format!("bytes {first}-{end}/{}", bytes.len());
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    headers.push(("content-length", &length));
    if span.is_some() {
        headers.push(("content-range", &content_range));
    }
    let status = if span.is_some() { 206 } else { 200 };
    let sent = if is_head {
        0
    } else {
        cut.unwrap_or(body.len()).min(body.len())
    };
    write_head(stream, status, &headers)?;
    let mut stream = stream;
    stream.write_all(&body[..sent])
}

fn write(
    stream: &TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    headers.push(("content-length", &length));
    write_head(stream, status, &headers)?;
    let mut stream = stream;
    stream.write_all(body)
}

fn write_head(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(&str, &str)],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())
}
