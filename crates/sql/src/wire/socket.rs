//! The two halves of a client's socket: what comes in, cut into frames, and what goes out.

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

/// A silent client is asked whether it is there after this time, this often, and this many times: a host
/// that went away without a word is noticed within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;
/// How long what was sent may stay unacknowledged by the client's host.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

const READ_BYTES: usize = 16 << 10;
/// What is read while a statement runs, so that the end of the connection is seen.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// What a connection that ends unread may still bring before it is closed.
const DRAINED_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Answers on their way to a client, and what is known of it.
pub type Client = Framed<Outgoing, PgWireMessageServerCodec<Prepared>>;

/// Sets up a socket that was accepted.
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
    /// The client closed its side, or cannot be reached.
    Closed(io::Error),
    Violation(Violation),
}

/// What a client sends.
#[derive(Debug)]
pub struct Incoming {
    socket: OwnedReadHalf,
    framer: Framer,
}

impl Incoming {
    /// The next frame; `None` where the client ended the connection between two. Nothing is lost when the
    /// future is dropped.
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

    /// Bytes that are not cut into frames: those of the startup.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.framer.buffer
    }

    /// Reads more. Zero is the end of the connection.
    pub async fn read(&mut self) -> io::Result<usize> {
        self.framer.buffer.reserve(READ_BYTES);
        self.socket.read_buf(&mut self.framer.buffer).await
    }

    /// Resolves when the client is gone. Until then it reads ahead, within bounds.
    pub async fn gone(&mut self) {
        while self.framer.buffer.len() < READ_AHEAD_BYTES {
            if !self.read().await.is_ok_and(|read| read > 0) {
                return;
            }
        }
        // The end of the stream is behind what is not read yet; a connection that was reset is seen.
        while self.socket.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
    }

    /// Reads on, for a moment, what nothing is done with: closing a socket with unread bytes would take
    /// back the answers that the client has not read.
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
        // Whoever keeps on sending does not get the answer.
        drop(tokio::time::timeout(DRAIN_TIMEOUT, drained).await);
    }
}

/// The sending half, which knows whether the client takes what is sent.
#[derive(Debug)]
pub struct Outgoing {
    socket: OwnedWriteHalf,
    progress: Arc<Progress>,
}

/// What became of what was sent.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    blocked: AtomicBool,
}

impl Progress {
    /// Bytes that the system took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether what was sent last waits for the client to read.
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
