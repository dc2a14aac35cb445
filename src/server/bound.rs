//! Reserves a listen address before anything else is touched; starts listening when ready.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::StartError;

/// Maximum number of connections waiting to be accepted.
const BACKLOG: u32 = 1024;

/// A bound socket that does not listen yet: connections are refused, and clients try another address or
/// retry.
#[derive(Debug)]
pub struct Bound {
    socket: TcpSocket,
    pub addr: SocketAddr,
}

impl Bound {
    /// Binds the address. `what` names its purpose in error messages.
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
    // Connections of an earlier server may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let addr = socket.local_addr()?;
    Ok(Bound { socket, addr })
}
