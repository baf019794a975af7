//! Where a worker comes in: a socket that only this user's processes reach, or a port of this
//! machine, where who comes has to know a token.
//!
//! What goes over a port is not encrypted: it is for networks that one trusts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::stream::{Stream, Timed};
use crate::wire::{self, Kind};

/// How often a worker that starts is looked after.
const PAUSE: Duration = Duration::from_millis(10);
/// The time that a stranger has to say the token, and what it may say.
const TOKEN_WAIT: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: u64 = 1 << 12;
/// The token's variable, and that of the file that holds it.
const TOKEN: &str = "RA3_TOKEN";
pub(crate) const TOKEN_FILE: &str = "RA3_TOKEN_FILE";

/// A port that workers come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// `HOST:PORT`, as this machine has it.
    pub address: String,
    /// The file of the token, written where it is not there; `RA3_TOKEN` goes before it.
    pub token_file: PathBuf,
}

impl Port {
    /// What who comes has to know.
    pub(crate) fn token(&self) -> io::Result<String> {
        match std::env::var(TOKEN) {
            Ok(token) if !token.is_empty() => Ok(token),
            _ => token_of(&self.token_file),
        }
    }

    /// Its address as another machine has it: where it is on all of this one's, by its name.
    pub(crate) fn address_from_afar(&self) -> String {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match self.address.rsplit_once(':') {
            Some(("" | "0.0.0.0" | "[::]", port)) => format!("tcp://{}:{port}", name.trim()),
            _ => format!("tcp://{}", self.address),
        }
    }
}

/// A place that is listened at.
#[derive(Debug)]
pub(crate) enum Door {
    Near(UnixListener, TempDir),
    Far(TcpListener, String),
}

impl Door {
    /// A socket in a folder of its own: its path has to be short, and nobody else may connect.
    pub(crate) fn near() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self::Near(UnixListener::bind(socket_in(&folder))?, folder))
    }

    /// A port, and the token that it wants.
    pub(crate) fn far(port: &Port) -> io::Result<Self> {
        let listener = TcpListener::bind(&port.address)?;
        Ok(Self::Far(listener, port.token()?))
    }

    /// What a worker is told, to find it.
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Near(_, folder) => socket_in(folder).display().to_string(),
            Self::Far(listener, _) => format!("tcp://{}", listener.local_addr()?),
        })
    }

    /// Waits for a worker, until it is too late or `is_over`.
    pub(crate) fn accept(
        &self,
        until: Instant,
        mut is_over: impl FnMut() -> bool,
    ) -> io::Result<Stream> {
        match self {
            Self::Near(listener, ..) => listener.set_nonblocking(true)?,
            Self::Far(listener, _) => listener.set_nonblocking(true)?,
        }
        loop {
            match self.next() {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if is_over() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(_) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Who is there; `None` for a stranger.
    fn next(&self) -> io::Result<Option<Stream>> {
        Ok(match self {
            Self::Near(listener, ..) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Some(Stream::Near(stream))
            }
            Self::Far(listener, token) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                let stream = Stream::Far(stream);
                knows(&stream, token).then_some(stream)
            }
        })
    }
}

fn socket_in(folder: &TempDir) -> PathBuf {
    folder.path().join("worker")
}

fn knows(stream: &Stream, token: &str) -> bool {
    let until = Instant::now() + TOKEN_WAIT;
    let frame = wire::read(&mut Timed { stream, until }, TOKEN_BYTES_MAX);
    let said = frame.ok().filter(|frame| frame.kind == Kind::Hello as u16);
    let said = said.and_then(|mut frame| frame.answer.text().ok());
    // Hashes: how far two texts are alike does not show in the time that they are compared in.
    said.is_some_and(|said| Sha256::digest(said) == Sha256::digest(token))
}

/// The token of a file that only its owner can read, which is written where it is not there.
fn token_of(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(token) => return Ok(token.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let token = format!("{:032x}", u128::from_le_bytes(bytes));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::wire::{Column, encode};

    #[test]
    fn who_comes_to_a_port_has_to_know_the_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let token_file = folder.path().join("run/token");
        let address = "127.0.0.1:0".to_owned();
        let port = Port {
            address,
            token_file,
        };
        let door = Door::far(&port).expect("a port");
        let written = std::fs::read_to_string(&port.token_file).expect("a token");
        let mode = std::fs::metadata(&port.token_file).expect("a file");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert_eq!(token_of(&port.token_file).expect("a token"), written.trim());
        let address = door.address().expect("an address");
        let address = address.strip_prefix("tcp://").expect("a port").to_owned();
        let say = |bytes: Vec<u8>| {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            stream.write_all(&bytes).expect("what is said");
            stream
        };
        let hello = |text: &str| encode(1, 0, &[Column::Text(text.to_owned())]);
        let strangers = [
            hello("guessed"),
            hello(""),
            b"GET / HTTP/1.1\r\nHost: a.machine\r\n\r\n".to_vec(),
            encode(2, 0, &[Column::Text(written.trim().to_owned())]),
        ];
        let gone: Vec<TcpStream> = strangers.map(say).into();
        let mut known = say(hello(written.trim()));
        let until = Instant::now() + Duration::from_secs(20);
        let stream = door.accept(until, || false).expect("a worker");
        Timed {
            stream: &stream,
            until,
        }
        .write_all(b"!")
        .expect("an answer");
        let mut answer = [0];
        known.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"!");
        for mut stream in gone {
            // Closed, or closed with something unread.
            assert!(!matches!(stream.read(&mut answer), Ok(1)));
        }
    }
}
