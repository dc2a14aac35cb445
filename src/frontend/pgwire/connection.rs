//! One client: its session, its running statement, its COPY.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Sink, SinkExt as _};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::copy::CopyHandler;
use pgwire::api::results::Tag;
use pgwire::api::{
    ClientInfo, METADATA_DATABASE, METADATA_USER, PgWireServerHandlers, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator, cancel, query,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::response::NoticeResponse;
use pgwire::messages::startup::SecretKey;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio_util::sync::CancellationToken;

use super::cancel::Cancellations;
use super::sqlstate::SqlState;
use crate::frontend::commitment::Commitment;
use crate::frontend::error::SqlError;
use crate::frontend::functions::POSTGRES_VERSION;
use crate::frontend::handlers::{CopyIn, CopyJob, Parameters, Reply};
use crate::frontend::parser::Statement;
use crate::frontend::session::Session;
use crate::frontend::{DATABASE, Frontend, USER};

const TIDEMARK_VERSION: &str = env!("CARGO_PKG_VERSION");

pub struct Connection {
    pub(super) frontend: Arc<Frontend>,
    pub(super) session: tokio::sync::Mutex<Session>,
    copy: tokio::sync::Mutex<Option<CopyJob>>,
    cancellations: Arc<Cancellations>,
    key: Mutex<Option<CancelKey>>,
    keys: RandomPidSecretKeyGenerator,
}

/// What a cancel request must show, and where the running statement is told of it.
struct CancelKey {
    pid: i32,
    secret: SecretKey,
    running: Arc<Mutex<CancellationToken>>,
}

/// When a running statement is to stop.
#[derive(Clone, Debug)]
pub struct Limits {
    pub cancel: CancellationToken,
    pub timeout: Option<Duration>,
}

impl Limits {
    /// Runs `work` until it is done, cancelled, or out of time. Once it commits, it is done first.
    pub async fn around<T>(
        &self,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        let commitment = Commitment::default();
        let mut work = std::pin::pin!(commitment.watch(work));
        let timeout = self.timeout.unwrap_or(Duration::MAX);
        let why = tokio::select! {
            biased;
            () = self.cancel.cancelled() => "user request",
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(timeout), if self.timeout.is_some() => "statement timeout",
        };
        if commitment.is_made() {
            return work.await;
        }
        let message = format!("canceling statement due to {why}");
        Err(SqlError::new(SqlState::QUERY_CANCELED, message))
    }
}

impl Connection {
    pub fn new(frontend: Arc<Frontend>, cancellations: Arc<Cancellations>) -> Self {
        Self {
            frontend,
            session: tokio::sync::Mutex::new(Session::new(USER.to_owned(), DATABASE.to_owned())),
            copy: tokio::sync::Mutex::new(None),
            cancellations,
            key: Mutex::new(None),
            keys: RandomPidSecretKeyGenerator::default(),
        }
    }

    /// Lets go of what the connection held.
    pub async fn close(&self) {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(key) = key {
            self.cancellations.forget(key.pid, &key.secret);
        }
        if let Some(job) = self.copy.lock().await.take() {
            job.abort().await;
        }
    }

    /// Runs a statement; a panic in it is an error of it.
    ///
    /// Boxed, as its future is large and moves up through several others.
    pub(super) fn run<'a>(
        &'a self,
        statement: &'a Statement,
        parameters: &'a Parameters,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<Reply, SqlError>> {
        let work = async move {
            let mut session = self.session.lock().await;
            let work = Box::pin(self.frontend.run(&mut session, statement, parameters));
            let outcome = limits.around(unpanicked(work)).await;
            if outcome.is_err()
                && let Some(transaction) = &mut session.transaction
            {
                transaction.failed = true;
            }
            outcome
        };
        work.boxed()
    }

    /// Marks the transaction failed by what went wrong outside [`Self::run`].
    pub(super) async fn fail_transaction(&self) {
        if let Some(transaction) = &mut self.session.lock().await.transaction {
            transaction.failed = true;
        }
    }

    /// Limits for the statement that begins now.
    pub(super) async fn begin(&self) -> Limits {
        let cancel = CancellationToken::new();
        if let Some(key) = &*self.key.lock().unwrap_or_else(PoisonError::into_inner) {
            *key.running.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        }
        let timeout = self.session.lock().await.variables.statement_timeout();
        Limits { cancel, timeout }
    }

    /// Begins a COPY. Returns how many columns its lines have.
    pub(super) async fn start_copy(&self, copy: CopyIn) -> Result<usize, SqlError> {
        let columns = copy.target.columns.len();
        *self.copy.lock().await = Some(self.frontend.start_copy(copy)?);
        Ok(columns)
    }
}

/// Turns a panic into an error: one query's bug must not take the connection with it.
pub(super) async fn unpanicked<T>(
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "no message".to_owned());
            tracing::error!(panic = %text, "a statement panicked");
            Err(SqlError::internal(format!("the statement failed inside the server: {text}"))
                .hint("This is a bug. The connection and the data are fine."))
        }
    }
}

/// An error as the protocol carries it.
pub(super) fn error_info(error: SqlError, severity: &str) -> ErrorInfo {
    let mut info =
        ErrorInfo::new(severity.to_owned(), error.sqlstate.code().to_owned(), error.message);
    info.severity_nonlocalized = Some(severity.to_owned());
    info.detail = error.detail;
    info.hint = error.hint;
    info.position = error.position.map(|position| position.to_string());
    info
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(Box::new(error_info(error, "ERROR")))
    }
}

/// Shows notices to the client, before the outcome of their statement.
pub(super) async fn send_notices<C>(client: &mut C, notices: Vec<String>) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    PgWireError: From<C::Error>,
{
    for notice in notices {
        let info = ErrorInfo::new("NOTICE".to_owned(), "00000".to_owned(), notice);
        let message = PgWireBackendMessage::NoticeResponse(NoticeResponse::from(info));
        client.feed(message).await?;
    }
    Ok(())
}

#[async_trait]
impl StartupHandler for Connection {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = &message else { return Ok(()) };
        protocol_negotiation(client, startup).await?;
        save_startup_parameters_to_metadata(client, startup);
        let metadata = client.metadata();
        let user = metadata.get(METADATA_USER).cloned().unwrap_or_default();
        let database = metadata.get(METADATA_DATABASE).cloned().unwrap_or_else(|| user.clone());
        let application = metadata.get("application_name").cloned();
        check_login(&user, &database)
            .map_err(|error| PgWireError::UserError(Box::new(error_info(error, "FATAL"))))?;
        if let Some(application) = application {
            let mut session = self.session.lock().await;
            session.variables.keep("application_name", application);
        }
        let (pid, secret) = self.keys.generate(client);
        client.set_pid_and_secret_key(pid, secret.clone());
        let running = self.cancellations.register(pid, &secret);
        let key = CancelKey { pid, secret, running };
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = format!("{POSTGRES_VERSION} (Tidemark {TIDEMARK_VERSION})");
        parameters.search_path = "\"$user\", public".to_owned();
        parameters.time_zone = "UTC".to_owned();
        finish_authentication(client, &parameters).await
    }
}

/// There is one user and one database, and no password yet: the server listens on loopback.
fn check_login(user: &str, database: &str) -> Result<(), SqlError> {
    let line = format!("psql -d {DATABASE} -U {USER}");
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

#[async_trait]
impl CopyHandler for Connection {
    async fn on_copy_data<C>(&self, _client: &mut C, data: CopyData) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut copy = self.copy.lock().await;
        let Some(job) = copy.as_mut() else { return Ok(()) };
        if let Err(error) = unpanicked(job.push(&data.data)).await {
            if let Some(job) = copy.take() {
                job.abort().await;
            }
            self.fail_transaction().await;
            return Err(error.into());
        }
        Ok(())
    }

    async fn on_copy_done<C>(&self, client: &mut C, _done: CopyDone) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some(job) = self.copy.lock().await.take() else { return Ok(()) };
        let rows = match unpanicked(job.finish()).await {
            Ok(rows) => rows,
            Err(error) => {
                self.fail_transaction().await;
                return Err(error.into());
            }
        };
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let tag = Tag::new("COPY").with_rows(rows);
        client.send(PgWireBackendMessage::CommandComplete(tag.into())).await?;
        Ok(())
    }

    async fn on_copy_fail<C>(&self, _client: &mut C, fail: CopyFail) -> PgWireError
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Some(job) = self.copy.lock().await.take() {
            job.abort().await;
        }
        self.fail_transaction().await;
        let message = format!("COPY from stdin failed: {}", fail.message);
        SqlError::new(SqlState::QUERY_CANCELED, message).into()
    }
}

impl PgWireServerHandlers for Handler {
    fn simple_query_handler(&self) -> Arc<impl query::SimpleQueryHandler> {
        Arc::new(self.clone())
    }

    fn extended_query_handler(&self) -> Arc<impl query::ExtendedQueryHandler> {
        Arc::new(self.clone())
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.0)
    }

    fn copy_handler(&self) -> Arc<impl CopyHandler> {
        Arc::clone(&self.0)
    }

    fn cancel_handler(&self) -> Arc<impl cancel::CancelHandler> {
        Arc::clone(&self.0.cancellations)
    }
}

/// A connection as pgwire takes it.
#[derive(Clone)]
pub struct Handler(pub Arc<Connection>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::commitment;

    fn limits() -> Limits {
        Limits { cancel: CancellationToken::new(), timeout: Some(Duration::from_millis(20)) }
    }

    async fn slow(outcome: Result<u32, SqlError>) -> Result<u32, SqlError> {
        tokio::time::sleep(Duration::from_millis(60)).await;
        outcome
    }

    #[tokio::test]
    async fn what_commits_is_neither_cancelled_nor_out_of_time() {
        let refused = || SqlError::internal("refused");
        let stopped = limits().around(slow(Ok(1))).await;
        assert_eq!(stopped.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
        assert_eq!(limits().around(commitment::of(slow(Ok(2)))).await.unwrap(), 2);
        let outcome = limits().around(commitment::of(slow(Err(refused())))).await;
        assert_eq!(outcome.unwrap_err().sqlstate, refused().sqlstate);
        let cancelled = limits();
        cancelled.cancel.cancel();
        assert!(cancelled.around(commitment::of(slow(Ok(3)))).await.is_err(), "it had not begun");
        // Tried again after it was refused, it may be stopped until it commits again.
        let again = async {
            commitment::of(async { Err::<u32, _>(refused()) }).await.unwrap_err();
            slow(Ok(4)).await
        };
        assert_eq!(limits().around(again).await.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
    }
}
