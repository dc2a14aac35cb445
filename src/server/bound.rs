//! An address that is taken before anything else is touched, and heard on once there is somebody to answer.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::StartError;

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// A bound socket on which nobody listens: who connects is refused, and tries elsewhere or later.
#[derive(Debug)]
pub struct Bound {
    socket: TcpSocket,
    pub addr: SocketAddr,
}

impl Bound {
    /// Takes the address. `what` is whose it is, for messages.
    pub async fn new(what: &'static str, addr: &str) -> Result<Self, StartError> {
        bind(addr).await.map_err(|error| StartError::listen(what, addr, &error))
    }

    pub fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)
    }
}

async fn bind(addr: &str) -> io::Result<Bound> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for addr in lookup_host(addr).await? {
        match bind_to(addr) {
            Ok(bound) => return Ok(bound),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_to(addr: SocketAddr) -> io::Result<Bound> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a server that was there before may still be winding down.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let addr = socket.local_addr()?;
    Ok(Bound { socket, addr })
}
