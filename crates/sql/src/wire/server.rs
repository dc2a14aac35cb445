//! Accepts connections up to a limit, and runs each one in a separate task.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use pgwire::api::store::PortalStore as _;
use pgwire::api::{ClientPortalStore as _, RandomPidSecretKeyGenerator};
use pgwire::error::ErrorInfo;
use pgwire::messages::Message as _;
use pgwire::messages::response::ErrorResponse;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::conversation::Conversation;
use super::descriptors;
use super::intake::Intake;
use super::log_limiter::LogLimiter;
use super::login::{self, Ended, LoginContext, log_in, say_farewell, too_many_clients};
use super::socket::{self, Client, Incoming};
use crate::Frontend;
use crate::settings::ConnectionSettings;
use tidemark_ledger::metrics;
use tidemark_pg::error::error_info;

/// Pause after a failed accept, for example for lack of descriptors; doubles with each failure up to the
/// maximum.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Sockets per session: clients that are logging in and cancel requests need one too.
const SOCKETS_PER_SEAT: usize = 2;
/// Share of the sockets for clients that are turned away, the maximum number of these, and how long each may
/// take to send its startup packet.
const TURNED_AWAY_PART: usize = 16;
const TURNED_AWAY_MAX: usize = 64;
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for sending the final error to a client.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of the query memory that incoming messages may take together.
const INTAKE_PART: usize = 8;
const INTAKE_BYTES_MIN: usize = 64 << 20;

/// A running SQL server.
#[derive(Debug)]
pub struct SqlServer {
    pub addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl SqlServer {
    /// Stops accepting, and ends every connection.
    pub async fn stop(self) {
        self.stop.cancel();
        drop(self.task.await);
    }

    /// Resolves when the server ends unexpectedly, with the reason.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(()) => "the SQL server ended".to_owned(),
            Err(error) => format!("the SQL server failed: {error}"),
        }
    }
}

/// Serves SQL on a bound listener.
pub fn serve(
    listener: TcpListener,
    frontend: Arc<Frontend>,
    settings: &ConnectionSettings,
) -> io::Result<SqlServer> {
    let addr = listener.local_addr()?;
    let stop = CancellationToken::new();
    let house = Arc::new(ServerState::new(frontend, settings));
    let task = tokio::spawn(accept(listener, house, stop.clone()));
    Ok(SqlServer { addr, stop, task })
}

/// Counts a connection while it lives.
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

/// The state that all connections share.
struct ServerState {
    gate: LoginContext,
    sockets: Arc<Semaphore>,
    /// Sockets for clients that are turned away.
    turned_away: Arc<Semaphore>,
    intake: Intake,
    login_timeout: Duration,
    quiet: LogLimiter,
}

impl ServerState {
    fn new(frontend: Arc<Frontend>, settings: &ConnectionSettings) -> Self {
        let Room { seats, sockets, turned_away } =
            room(settings.connections_max, descriptors::free());
        if seats < settings.connections_max {
            let wanted = settings.connections_max;
            warn!(seats, wanted, "too few file descriptors for --max-connections: see ulimit -n");
        }
        let memory = frontend.memory_bytes();
        let gate = LoginContext {
            frontend,
            seats: Arc::new(Semaphore::new(seats)),
            seats_max: seats,
            secrets: RandomPidSecretKeyGenerator::default(),
        };
        Self {
            gate,
            sockets: Arc::new(Semaphore::new(sockets)),
            turned_away: Arc::new(Semaphore::new(turned_away)),
            intake: Intake::new((memory / INTAKE_PART).max(INTAKE_BYTES_MIN)),
            login_timeout: settings.authentication_timeout,
            quiet: LogLimiter::default(),
        }
    }

    fn tell_refusal(&self, peer: SocketAddr) {
        self.quiet.say(|unsaid| {
            warn!(%peer, unsaid, "a connection was refused: too many clients");
        });
    }
}

/// The number of sessions, of sockets for their clients and for logins, and of sockets for clients that are
/// turned away.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    seats: usize,
    sockets: usize,
    turned_away: usize,
}

/// Computes these numbers from the number of free descriptors.
fn room(seats_max: usize, free: usize) -> Room {
    // Some descriptors are for files of queries, and one socket is for refusing clients that cannot even be
    // turned away.
    let for_sockets = free.saturating_sub(descriptors::KEPT);
    let turned_away = (for_sockets / TURNED_AWAY_PART).min(TURNED_AWAY_MAX);
    let for_sockets = (for_sockets - turned_away).max(SOCKETS_PER_SEAT);
    let sockets = for_sockets.min(seats_max.saturating_mul(SOCKETS_PER_SEAT));
    Room { seats: seats_max.min(sockets - sockets / 4).max(1), sockets, turned_away }
}

async fn accept(listener: TcpListener, house: Arc<ServerState>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut pause = ACCEPT_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            // Removes finished connections.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = ACCEPT_PAUSE;
                let room = Arc::clone(&house.sockets).try_acquire_owned();
                let room_to_refuse = || Arc::clone(&house.turned_away).try_acquire_owned();
                if let Ok(permit) = room {
                    drop(connections.spawn(host(Arc::clone(&house), socket, peer, permit)));
                } else if let Ok(permit) = room_to_refuse() {
                    drop(connections.spawn(turn_away(Arc::clone(&house), socket, peer, permit)));
                } else {
                    refuse_at_once(&house, socket, peer);
                }
            }
            Err(error) => {
                house.quiet.say(|unsaid| {
                    warn!(%error, unsaid, "could not accept a connection; trying again");
                });
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    connections.shutdown().await;
}

/// Tells a client that there is no room, after it has sent its startup packet or timed out.
async fn turn_away(
    house: Arc<ServerState>,
    socket: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let Ok((mut incoming, mut client)) = socket::split(socket, house.intake.clone()) else {
        return;
    };
    let heard = Box::pin(login::turn_away(&house.gate, &mut incoming, &mut client));
    let heard = tokio::time::timeout(TURN_AWAY_TIMEOUT, heard).await;
    let heard = heard.unwrap_or_else(|_| Err(too_many_clients(house.gate.seats_max).into()));
    if let Err(Ended::Fatal(error)) = heard {
        house.tell_refusal(peer);
        end(&mut incoming, &mut client, *error).await;
    }
}

/// Tells a client that there is no room, as far as its socket accepts the bytes at once.
fn refuse_at_once(house: &ServerState, socket: TcpStream, peer: SocketAddr) {
    let refused = too_many_clients(house.gate.seats_max);
    let info = error_info(refused, "FATAL");
    let mut bytes = bytes::BytesMut::new();
    // Uses the system call directly: tokio does not write before it was notified that the socket is ready.
    if ErrorResponse::from(info).encode(&mut bytes).is_ok()
        && let Ok(mut socket) = socket.into_std()
    {
        drop(io::Write::write_all(&mut socket, &bytes));
    }
    house.tell_refusal(peer);
}

/// Serves a connection from its first byte to its last.
async fn host(
    house: Arc<ServerState>,
    socket: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let _counted = Counted::new();
    let (mut incoming, mut client) = match socket::split(socket, house.intake.clone()) {
        Ok(halves) => halves,
        Err(error) => {
            debug!(%peer, %error, "a connection ended before it began");
            return;
        }
    };
    let served = Box::pin(serve_one(&house, &mut incoming, &mut client));
    match AssertUnwindSafe(served).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(Ended::Lost(error))) => debug!(%peer, %error, "a connection was lost"),
        Ok(Err(Ended::InvalidStartupPacket(error))) => {
            house.quiet.say(|unsaid| warn!(%peer, %error, unsaid, "a connection was closed"));
        }
        Ok(Err(Ended::Fatal(error))) => {
            let reason = error.message.clone();
            house.quiet.say(|unsaid| warn!(%peer, %reason, unsaid, "a connection was ended"));
            end(&mut incoming, &mut client, *error).await;
        }
        Err(_) => warn!(%peer, "a connection failed inside the server: this is a bug"),
    }
}

async fn serve_one(
    house: &ServerState,
    incoming: &mut Incoming,
    client: &mut Client,
) -> Result<(), Ended> {
    let login = log_in(&house.gate, incoming, client);
    // A client that has not logged in by this time is disconnected without an error, as in PostgreSQL.
    let Ok(login) = tokio::time::timeout(house.login_timeout, login).await else { return Ok(()) };
    let Some(seated) = login? else { return Ok(()) };
    let connection = Arc::clone(&seated.connection);
    let talk = async { Conversation::new(incoming, client, Arc::clone(&connection)).run().await };
    let ended = AssertUnwindSafe(talk).catch_unwind().await;
    client.portal_store().clear_portals();
    connection.close().await;
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sends the client the reason for the end of the connection, and closes it.
async fn end(incoming: &mut Incoming, client: &mut Client, error: ErrorInfo) {
    let farewell = async {
        if say_farewell(client, error).await.is_ok() {
            incoming.drain().await;
        }
    };
    // A client that does not read is not waited for.
    drop(tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_sessions_where_there_are_few_descriptors() {
        let room = |seats_max, free| {
            let Room { seats, sockets, turned_away } = room(seats_max, free);
            (seats, sockets, turned_away)
        };
        assert_eq!(room(1000, 1 << 20), (1000, 2000, 64));
        assert_eq!(room(1000, 1000), (687, 915, 61));
        assert_eq!(room(1000, 30), (5, 6, 0));
        assert_eq!(room(1000, 0), (2, 2, 0));
        assert_eq!(room(1, 1 << 20), (1, 2, 64));
    }
}
