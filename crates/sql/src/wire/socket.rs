//! The two halves of a client's socket: input cut into frames, and output.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use pgwire::api::DefaultClient;
use pgwire::messages::PgWireBackendMessage;
use pgwire::tokio::server::PgWireMessageServerCodec;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{Framed, FramedParts};

use super::framing::{Framer, Received, Violation};
use super::intake::Intake;
use super::prepared::Prepared;

/// TCP keepalive: idle time, interval and number of probes. A host that disappears silently is noticed within
/// two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;
/// How long sent data may stay unacknowledged by the client's host.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

const READ_BYTES: usize = 16 << 10;
/// Bytes read ahead while a statement runs, to notice the end of the connection.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Limits on the input that is read and discarded before a connection is closed.
const DRAINED_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The output to a client, with pgwire's state of the client.
pub type Client = Framed<Outgoing, PgWireMessageServerCodec<Prepared>>;

/// Configures and splits an accepted socket.
pub fn split(socket: TcpStream, intake: Intake) -> io::Result<(Incoming, Client)> {
    let peer = socket.peer_addr()?;
    socket.set_nodelay(true)?;
    keep_alive(&socket)?;
    let (read, write) = socket.into_split();
    let outgoing = Outgoing { socket: write, progress: Arc::default() };
    let codec = PgWireMessageServerCodec::new(DefaultClient::new(peer, false));
    let parts = FramedParts::new::<PgWireBackendMessage>(outgoing, codec);
    Ok((Incoming { socket: read, framer: Framer::new(intake) }, Framed::from_parts(parts)))
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

/// Why there is no next frame.
#[derive(Debug)]
pub enum Unread {
    /// The client closed its side or is unreachable.
    Closed(io::Error),
    Violation(Violation),
}

/// The input from a client.
#[derive(Debug)]
pub struct Incoming {
    socket: OwnedReadHalf,
    framer: Framer,
}

impl Incoming {
    /// Returns the next frame; `None` if the client closed the connection between frames. Cancel-safe.
    pub async fn frame(&mut self) -> Result<Option<Received>, Unread> {
        loop {
            if let Some(received) = self.framer.next_frame().map_err(Unread::Violation)? {
                return Ok(Some(received));
            }
            if self.read().await.map_err(Unread::Closed)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Bytes that are not yet cut into frames, such as startup packets.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.framer.buffer
    }

    /// Reads more bytes; returns 0 at the end of the connection.
    pub async fn read(&mut self) -> io::Result<usize> {
        self.framer.buffer.reserve(READ_BYTES);
        self.socket.read_buf(&mut self.framer.buffer).await
    }

    /// Resolves when the client is gone. Reads ahead up to a limit.
    pub async fn gone(&mut self) {
        while self.framer.buffer.len() < READ_AHEAD_BYTES {
            if !self.read().await.is_ok_and(|read| read > 0) {
                return;
            }
        }
        // Beyond the limit, unread data hides the end of the stream, but a connection reset is still noticed.
        while self.socket.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
    }

    /// Reads and discards input for a moment: closing a socket with unread bytes would also discard the
    /// responses that the client has not read.
    pub async fn drain(&mut self) {
        let drained = async {
            let mut left = DRAINED_BYTES_MAX;
            while left > 0 {
                self.framer.buffer.clear();
                match self.read().await {
                    Ok(read) if read > 0 => left = left.saturating_sub(read),
                    _ => break,
                }
            }
        };
        // A client that keeps sending does not get the response.
        drop(tokio::time::timeout(DRAIN_TIMEOUT, drained).await);
    }
}

/// The output half, which tracks whether the client reads.
#[derive(Debug)]
pub struct Outgoing {
    socket: OwnedWriteHalf,
    progress: Arc<Progress>,
}

/// The progress of the output.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    blocked: AtomicBool,
}

impl Progress {
    /// Bytes that the operating system accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the last write is waiting for the client to read.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }
}

impl Outgoing {
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.progress.blocked.store(written.is_pending(), Ordering::Relaxed);
        let written = ready!(written)?;
        self.progress.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
