//! Finds the meta role: of the servers that may have it, only the one that has it listens.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::meta::MetaNode;

/// Timeout of a connection attempt to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The addresses at which the meta role may be.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Each is `host:port`.
    addrs: Arc<[String]>,
    next: Arc<AtomicUsize>,
}

/// A handle to the meta role of this process; empty while the process does not have it.
#[derive(Clone, Debug, Default)]
pub struct LocalMeta(Arc<Mutex<Option<Present>>>);

/// The meta role, while this process has it.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub connections: mpsc::Sender<DuplexStream>,
    pub node: Arc<MetaNode>,
    /// Disconnects followers.
    pub leaving: CancellationToken,
}

/// No connection was made, so no request was sent.
#[derive(Debug)]
pub struct NotConnected(io::Error);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for NotConnected {}

impl Dial {
    /// Parses `host:port` or `http://host:port`, or several of these separated by commas.
    pub fn parse(addrs: &str) -> Self {
        let bare = |addr: &str| {
            let addr = addr.trim();
            addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/').to_owned()
        };
        Self { addrs: addrs.split(',').map(bare).collect(), next: Arc::default() }
    }

    /// Connects to the first address that listens. The next call starts with another one, since a
    /// server that is paused still accepts connections but never replies.
    pub async fn connect(&self) -> Result<TcpStream, NotConnected> {
        let from = self.next.load(Ordering::Relaxed);
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for at in (from..from + self.addrs.len()).map(|n| n % self.addrs.len()) {
            match connect_to(&self.addrs[at]).await {
                Ok(stream) => {
                    self.next.store(at + 1, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(NotConnected(failure))
    }
}

async fn connect_to(addr: &str) -> io::Result<TcpStream> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr));
    let stream = stream.await.map_err(timed_out)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl LocalMeta {
    pub(super) fn set(&self, present: Option<Present>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = present;
    }

    pub(super) fn present(&self) -> Option<Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects without a socket.
    pub(super) async fn connect(&self, buffer_bytes: usize) -> Result<DuplexStream, NotConnected> {
        let away = |_| NotConnected(io::Error::other("it is not in this process at present"));
        let present = self.present().ok_or(()).map_err(away)?;
        let (near, far) = tokio::io::duplex(buffer_bytes);
        present.connections.send(far).await.map_err(|_| away(()))?;
        Ok(near)
    }
}
