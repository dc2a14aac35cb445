//! Accepts connections and runs each in a task of its own.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use pgwire::tokio::process_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::cancel::Cancellations;
use super::connection::{Connection, Handler};
use super::departure;
use crate::frontend::Frontend;
use crate::metrics;

/// How long to wait before accepting again when that failed, for example for want of descriptors.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A running SQL server.
#[derive(Debug)]
pub struct SqlServer {
    pub addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl SqlServer {
    /// Stops accepting and ends every connection.
    pub async fn stop(self) {
        self.stop.cancel();
        drop(self.task.await);
    }

    /// Resolves when the server ends by itself, which it never should.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(()) => "the SQL server ended".to_owned(),
            Err(error) => format!("the SQL server failed: {error}"),
        }
    }
}

/// Serves SQL on a bound listener.
pub fn serve(listener: TcpListener, frontend: Arc<Frontend>) -> std::io::Result<SqlServer> {
    let addr = listener.local_addr()?;
    let stop = CancellationToken::new();
    let task = tokio::spawn(accept(listener, frontend, stop.clone()));
    Ok(SqlServer { addr, stop, task })
}

/// Counts a connection as long as it is there.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::CONNECTIONS.inc();
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::CONNECTIONS.dec();
    }
}

async fn accept(listener: TcpListener, frontend: Arc<Frontend>, stop: CancellationToken) {
    let cancellations = Arc::new(Cancellations::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            // Ended connections are forgotten as they end.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let connection =
                    Arc::new(Connection::new(Arc::clone(&frontend), Arc::clone(&cancellations)));
                connections.spawn(serve_one(socket, peer, connection));
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

/// Serves a client until it leaves.
async fn serve_one(socket: TcpStream, peer: SocketAddr, connection: Arc<Connection>) {
    let _counted = Counted::new();
    let served = async {
        let (socket, watched) = departure::watched(socket)?;
        let served = process_socket(socket, None, Handler(Arc::clone(&connection)));
        let watching = async {
            departure::gone(&watched).await;
            connection.abandon();
            std::future::pending::<std::io::Result<()>>().await
        };
        tokio::select! {
            served = served => served,
            never = watching => never,
        }
    };
    // What a client sends may be no protocol at all; the decoder panics at some of it.
    match AssertUnwindSafe(served).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "connection"),
        Err(_) => warn!(%peer, "a connection was closed: its messages make no sense"),
    }
    connection.close().await;
}
