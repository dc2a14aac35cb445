//! The connection to etcd: endpoints, credentials, timeouts, and what a failed call means.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tonic::Code;

use super::super::StoreError;

/// How long a call may take before it counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between pings. etcd closes the connection if they are more frequent.
const PING_PAUSE: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoints of etcd, and the credentials to use.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://host:port` or `https://host:port` each.
    pub endpoints: Vec<String>,
    pub user: Option<EtcdUser>,
    /// Files in PEM.
    pub tls: EtcdTls,
}

#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    pub name: String,
    pub password: String,
}

/// Certificates, as files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The certificate authority that must have signed the server's certificate.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Shows no credentials.
impl fmt::Display for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare =
            |url: &String| url.split_once("://").map_or(url.as_str(), |(_, host)| host).to_owned();
        let hosts: Vec<String> = self.endpoints.iter().map(bare).collect();
        write!(f, "etcd://{}", hosts.join(","))
    }
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of a call, and whether the call may have happened.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was refused: nothing happened, and nothing will.
    Refused(StoreError),
    /// It may have happened, or may happen yet.
    Unknown(StoreError),
}

impl CallError {
    pub fn into_store(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Unknown(error) => error,
        }
    }
}

/// Connects. A server must reply only if there are credentials, which are then checked.
pub(super) async fn connect(settings: &EtcdSettings) -> Result<Client, StoreError> {
    let name = settings.to_string();
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(CALL_TIMEOUT)
        .with_keep_alive(PING_PAUSE, PING_TIMEOUT)
        .with_keep_alive_while_idle(true);
    if let Some(user) = &settings.user {
        // Tokens expire after some minutes.
        options = options.with_user(&user.name, &user.password).with_auto_token_refresh(true);
    }
    if settings.endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
        options = options.with_tls(tls_options(&settings.tls, &name).await?);
    }
    call(&name, "connect", Client::connect(&settings.endpoints, Some(options)))
        .await
        .map_err(CallError::into_store)
}

async fn tls_options(tls: &EtcdTls, name: &str) -> Result<TlsOptions, StoreError> {
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|error| StoreError::Unreadable {
            store: name.to_owned(),
            reason: format!("{}: {error}", path.display()),
        })
    };
    let mut options = TlsOptions::new();
    if let Some(ca) = &tls.ca {
        options = options.ca_certificate(Certificate::from_pem(read(ca).await?));
    }
    if let Some((certificate, key)) = &tls.identity {
        options = options.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(options)
}

/// Runs a call with a timeout: a client whose endpoints are all gone would wait for ever.
///
/// Boxed, since the futures of the client's calls are large (`docs/hacking.md`, "Futures that are proven
/// once").
pub(super) fn call<'a, T: 'a>(
    store: &'a str,
    action: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, CallError>> {
    outcome(store, action, work).boxed()
}

async fn outcome<T>(
    store: &str,
    action: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, CallError> {
    let io = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Io {
        action,
        store: store.to_owned(),
        source,
    };
    match tokio::time::timeout(CALL_TIMEOUT, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if is_refusal(&error) => Err(CallError::Refused(io(told(&error).into()))),
        Ok(Err(error)) => Err(CallError::Unknown(io(told(&error).into()))),
        Err(_) => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(CallError::Unknown(io(format!("no answer within {seconds} seconds").into())))
        }
    }
}

/// Whether the server refused the call, so that no part of it can still be in flight.
fn is_refusal(error: &Error) -> bool {
    let refusals = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Unauthenticated,
    ];
    match error {
        Error::GRpcStatus(status) => refusals.contains(&status.code()) || is_full(status),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => true,
        _ => false,
    }
}

/// Whether etcd's space quota is used up. It refuses writes until an operator has made room.
fn is_full(status: &tonic::Status) -> bool {
    status.message().contains("database space exceeded")
}

/// Whether a read failed because its revision has been compacted.
pub(super) fn is_compacted(error: &CallError) -> bool {
    let (CallError::Refused(error) | CallError::Unknown(error)) = error;
    std::error::Error::source(error).is_some_and(|e| e.to_string().contains("has been compacted"))
}

/// The message of etcd itself, if there is one, else that of the deepest cause.
fn told(error: &Error) -> String {
    if let Error::GRpcStatus(status) = error
        && std::error::Error::source(status).is_none()
    {
        let hint = if is_full(status) {
            ": compact and defragment etcd, then disarm its alarm"
        } else {
            ""
        };
        return format!("{}{hint}", status.message());
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
