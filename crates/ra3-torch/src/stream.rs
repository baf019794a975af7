//! The connection to a worker, and an instant by which reading and writing have to be done.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// To a process of this machine.
    Near(UnixStream),
    /// To one that may be elsewhere.
    Far(TcpStream),
}

impl Stream {
    /// Nothing goes over it any more: who is at the other end notices.
    pub(crate) fn close(&self) {
        // It may be closed from there already.
        let _ = match self {
            Self::Near(stream) => stream.shutdown(Shutdown::Both),
            Self::Far(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A connection that has to be done by an instant.
pub(crate) struct Timed<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        match self.stream {
            Stream::Near(stream) => {
                stream.set_read_timeout(left)?;
                (&mut &*stream).read(buffer)
            }
            Stream::Far(stream) => {
                stream.set_read_timeout(left)?;
                (&mut &*stream).read(buffer)
            }
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        match self.stream {
            Stream::Near(stream) => {
                stream.set_write_timeout(left)?;
                (&mut &*stream).write(bytes)
            }
            Stream::Far(stream) => {
                stream.set_write_timeout(left)?;
                (&mut &*stream).write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True for what has taken too long.
pub(crate) fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
