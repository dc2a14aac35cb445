//! Logs in clients: refuses encryption, executes cancel requests, creates sessions.

use std::io;
use std::sync::Arc;

use futures::SinkExt as _;
use pgwire::api::auth::{DefaultServerParameterProvider, finish_authentication};
use pgwire::api::{
    ClientInfo as _, METADATA_USER, PidSecretKeyGenerator as _, RandomPidSecretKeyGenerator,
};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::NegotiateProtocolVersion;
use pgwire::messages::{PgWireBackendMessage, ProtocolVersion};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Connection, error_fields};
use super::message::violation;
use super::socket::{Client, Incoming};
use super::startup::{Asked, Encryption, InvalidStartupPacket, Packet, Startup, next_packet};
use crate::Frontend;
use crate::cancel::Slot;
use crate::session::Session;
use crate::variables::{APPLICATION_NAME, CLIENT_ENCODING, SEARCH_PATH, Variables};
use tidemark_pg::error::{SqlError, error_info};
use tidemark_pg::functions::POSTGRES_VERSION;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::{DATABASE, USER};

const TIDEMARK_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Newest supported minor version of protocol 3.
const NEWEST_MINOR: u16 = 2;

/// The server state that a login needs.
pub struct LoginContext {
    pub frontend: Arc<Frontend>,
    /// One permit per session, `seats_max` in total.
    pub seats: Arc<Semaphore>,
    pub seats_max: usize,
    pub secrets: RandomPidSecretKeyGenerator,
}

/// Why a connection ends without the client having ended it.
#[derive(Debug)]
pub enum Ended {
    /// The client is gone or unreachable.
    Lost(io::Error),
    /// The input is not a startup packet and gets no response.
    InvalidStartupPacket(InvalidStartupPacket),
    /// The error is sent to the client.
    Fatal(Box<ErrorInfo>),
}

impl From<SqlError> for Ended {
    fn from(error: SqlError) -> Self {
        Self::Fatal(Box::new(error_info(error, "FATAL")))
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<PgWireError> for Ended {
    fn from(error: PgWireError) -> Self {
        match error {
            PgWireError::IoError(error) => Self::Lost(error),
            other => Self::Fatal(Box::new(error_fields(other))),
        }
    }
}

/// A logged-in client. Releases its seat when dropped.
pub struct Seated {
    pub connection: Arc<Connection>,
    _seat: OwnedSemaphorePermit,
}

/// Logs a client in; returns `None` if it made a cancel request or disconnected.
pub async fn log_in(
    gate: &LoginContext,
    incoming: &mut Incoming,
    client: &mut Client,
) -> Result<Option<Seated>, Ended> {
    match first_packet(incoming, client).await? {
        None => Ok(None),
        Some(Packet::Startup(startup)) => seat(gate, client, startup).await.map(Some),
        Some(Packet::Cancel { pid, secret }) => {
            gate.frontend.sessions.cancel(pid, &secret);
            Ok(None)
        }
        Some(Packet::EncryptionRequest(_)) => Ok(None),
    }
}

/// Reads the startup packet of a client for which there is no seat: one that requested encryption expects the
/// response to that before any error. A cancel request needs no seat.
pub async fn turn_away(
    gate: &LoginContext,
    incoming: &mut Incoming,
    client: &mut Client,
) -> Result<(), Ended> {
    match first_packet(incoming, client).await? {
        Some(Packet::Startup(_)) => Err(too_many_clients(gate.seats_max).into()),
        Some(Packet::Cancel { pid, secret }) => {
            gate.frontend.sessions.cancel(pid, &secret);
            Ok(())
        }
        None | Some(Packet::EncryptionRequest(_)) => Ok(()),
    }
}

/// Returns the first packet that is not a request for encryption. Such requests are refused.
async fn first_packet(
    incoming: &mut Incoming,
    client: &mut Client,
) -> Result<Option<Packet>, Ended> {
    let mut asked = Asked::default();
    loop {
        let encryption =
            match next_packet(incoming.buffer(), asked).map_err(Ended::InvalidStartupPacket)? {
                None if incoming.read().await? == 0 => return Ok(None),
                None => continue,
                Some(packet) => match packet? {
                    Packet::EncryptionRequest(encryption) => encryption,
                    packet => return Ok(Some(packet)),
                },
            };
        // The client would treat these bytes as encrypted and trust them, though anyone on the network may
        // have sent them.
        if !incoming.buffer().is_empty() {
            return Err(unencrypted(encryption).into());
        }
        client.send(refusal(encryption)).await?;
        match encryption {
            Encryption::Ssl => asked.ssl = true,
            Encryption::Gss => asked.gss = true,
        }
    }
}

fn unencrypted(asked: Encryption) -> SqlError {
    let what = match asked {
        Encryption::Ssl => "SSL",
        Encryption::Gss => "GSSAPI encryption",
    };
    violation(format!("received unencrypted data after {what} request")).detail(
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    )
}

fn refusal(asked: Encryption) -> PgWireBackendMessage {
    match asked {
        Encryption::Ssl => PgWireBackendMessage::SslResponse(SslResponse::Refuse),
        Encryption::Gss => PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse),
    }
}

async fn seat(gate: &LoginContext, client: &mut Client, startup: Startup) -> Result<Seated, Ended> {
    negotiate(client, &startup).await?;
    let user = startup.parameters.get("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(nameless)?;
    let database = startup.parameters.get("database").filter(|name| !name.is_empty());
    check_login(user, database.unwrap_or(user))?;
    check_replication(&startup)?;
    let seat = Arc::clone(&gate.seats).try_acquire_owned();
    let seat = seat.map_err(|_| too_many_clients(gate.seats_max))?;
    let session = begin_session(gate, &startup).await?;
    let parameters = parameters(&session.variables)?;
    let connection = open_session(gate, client, session);
    client.metadata_mut().insert(METADATA_USER.to_owned(), user.clone());
    finish_authentication(client, &parameters).await?;
    Ok(Seated { connection, _seat: seat })
}

/// Negotiates the protocol version: the client's, if it is supported.
async fn negotiate(client: &mut Client, startup: &Startup) -> Result<(), Ended> {
    let unknown = startup.unknown_options();
    let version = match startup.minor {
        0 | 1 => ProtocolVersion::PROTOCOL3_0,
        _ => ProtocolVersion::PROTOCOL3_2,
    };
    if startup.minor > NEWEST_MINOR || !unknown.is_empty() {
        let answer = NegotiateProtocolVersion::new(version.into(), unknown);
        client.feed(PgWireBackendMessage::NegotiateProtocolVersion(answer)).await?;
    }
    client.set_protocol_version(version);
    Ok(())
}

fn nameless() -> SqlError {
    let message = "no PostgreSQL user name specified in startup packet";
    SqlError::new(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message)
        .hint(format!("Connect as {USER}: {}", psql_line()))
}

fn psql_line() -> String {
    format!("psql -d {DATABASE} -U {USER}")
}

/// There is one user and one database, and no password: the server listens on loopback.
fn check_login(user: &str, database: &str) -> Result<(), SqlError> {
    let line = psql_line();
    if user != USER {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            format!("role \"{user}\" does not exist"),
        )
        .hint(format!("Connect as {USER}: {line}")));
    }
    if database != DATABASE {
        return Err(SqlError::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{database}\" does not exist"),
        )
        .hint(format!("The database is {DATABASE}: {line}")));
    }
    Ok(())
}

/// Refuses replication clients, which use a different protocol after login.
fn check_replication(startup: &Startup) -> Result<(), SqlError> {
    match startup.parameters.get("replication").map(String::as_str) {
        None | Some("" | "0" | "f" | "n" | "no" | "off" | "false") => Ok(()),
        Some(_) => Err(SqlError::unsupported("a replication connection")
            .hint("BACKUP takes snapshots; connect without \"replication\".")),
    }
}

/// The error for a client when all seats are taken.
pub fn too_many_clients(seats_max: usize) -> SqlError {
    SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .detail(format!("This server takes {seats_max} sessions at a time."))
        .hint("End sessions that pg_stat_activity shows idle, or start it with a larger --max-connections.")
}

/// A session with the settings that the client asks for.
async fn begin_session(gate: &LoginContext, startup: &Startup) -> Result<Session, SqlError> {
    let mut session = Session::new(USER.to_owned(), DATABASE.to_owned());
    gate.frontend.begin_session(&mut session, &startup.settings()?).await?;
    Ok(session)
}

fn open_session(gate: &LoginContext, client: &mut Client, mut session: Session) -> Arc<Connection> {
    let sessions = &gate.frontend.sessions;
    let pid = sessions.free_pid();
    let (_, secret) = gate.secrets.generate(&*client);
    client.set_pid_and_secret_key(pid, secret.clone());
    let application = session.variables.value(APPLICATION_NAME).unwrap_or_default();
    let peer = client.socket_addr();
    let slot = Arc::new(Slot::default());
    let secret = secret.to_bytes().to_vec();
    let registration = sessions.register(pid, secret, peer, application, Arc::clone(&slot));
    session.pid = pid;
    Arc::new(Connection::new(Arc::clone(&gate.frontend), session, slot, registration))
}

/// The server parameters sent to the client.
fn parameters(variables: &Variables) -> Result<DefaultServerParameterProvider, SqlError> {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = format!("{POSTGRES_VERSION} (Tidemark {TIDEMARK_VERSION})");
    parameters.search_path = variables.value(SEARCH_PATH)?.to_owned();
    parameters.client_encoding = Some(variables.value(CLIENT_ENCODING)?.to_owned());
    parameters.time_zone = "UTC".to_owned();
    parameters.application_name = Some(variables.value(APPLICATION_NAME)?.to_owned());
    Ok(parameters)
}

/// Sends the final error and closes the connection; nothing more is read from the client.
pub async fn say_farewell(client: &mut Client, error: ErrorInfo) -> io::Result<()> {
    client.feed(PgWireBackendMessage::ErrorResponse(error.into())).await?;
    futures::SinkExt::<PgWireBackendMessage>::close(client).await
}
