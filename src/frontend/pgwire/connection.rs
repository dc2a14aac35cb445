//! One client: its session, its running statement, its COPY.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

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

use super::cancel::{Cancellations, Slot};
use super::limits::Limits;
use super::shared::{self, SharedStatement};
use super::sqlstate::SqlState;
use crate::frontend::error::SqlError;
use crate::frontend::functions::POSTGRES_VERSION;
use crate::frontend::handlers::{CopyIn, CopyJob, Parameters, Reply};
use crate::frontend::query_runtime::Running;
use crate::frontend::session::Session;
use crate::frontend::{DATABASE, Frontend, USER};

/// A text so short is read at once.
const SHORT_TEXT_BYTES: usize = 16 << 10;

const TIDEMARK_VERSION: &str = env!("CARGO_PKG_VERSION");

pub struct Connection {
    pub(super) frontend: Arc<Frontend>,
    pub(super) session: tokio::sync::Mutex<Session>,
    copy: tokio::sync::Mutex<Option<CopyJob>>,
    cancellations: Arc<Cancellations>,
    key: Mutex<Option<CancelKey>>,
    running: Arc<Slot>,
    keys: RandomPidSecretKeyGenerator,
}

/// What a cancel request must show.
struct CancelKey {
    pid: i32,
    secret: SecretKey,
}

impl Connection {
    pub fn new(frontend: Arc<Frontend>, cancellations: Arc<Cancellations>) -> Self {
        Self {
            frontend,
            session: tokio::sync::Mutex::new(Session::new(USER.to_owned(), DATABASE.to_owned())),
            copy: tokio::sync::Mutex::new(None),
            cancellations,
            key: Mutex::new(None),
            running: Arc::default(),
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
    pub(super) async fn run(
        self: &Arc<Self>,
        statement: SharedStatement,
        parameters: Parameters,
        limits: &Limits,
    ) -> Result<Reply, SqlError> {
        let is_light = statement.needs_no_threads();
        let running = &limits.running;
        let work = Arc::clone(self).run_in_session(statement, parameters, Arc::clone(running));
        if is_light {
            return limits.around(running.inline(work)).await;
        }
        self.work(limits, work).await
    }

    /// Boxed, as its future is large and moves up through several others.
    fn run_in_session(
        self: Arc<Self>,
        statement: SharedStatement,
        parameters: Parameters,
        running: Arc<Running>,
    ) -> BoxFuture<'static, Result<Reply, SqlError>> {
        let work = async move {
            let mut session = self.session.lock().await;
            let work = Box::pin(self.frontend.run(&mut session, &statement, &parameters));
            let outcome = running.until_over(unpanicked(work)).await;
            if outcome.is_err()
                && let Some(transaction) = &mut session.transaction
            {
                transaction.failed = true;
            }
            outcome
        };
        work.boxed()
    }

    /// Does a part of a statement on threads for statements, within its limits.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        limits: &Limits,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let task = self.frontend.queries().spawn(&limits.running, work)?;
        unpanicked(limits.around_task(task)).await
    }

    /// The statements of a text. A long one takes threads to read.
    pub(super) async fn parse(&self, text: &str) -> Result<Vec<SharedStatement>, SqlError> {
        let tokens_max = self.frontend.tokens_max();
        if text.len() <= SHORT_TEXT_BYTES {
            return shared::parse(text, tokens_max);
        }
        let (limits, text) = (self.begin().await, text.to_owned());
        self.work(&limits, async move { shared::parse(&text, tokens_max) }).await
    }

    /// Marks the transaction failed by what went wrong outside [`Self::run`]. Where a statement has the
    /// session, it was stopped, and marks it itself.
    pub(super) fn fail_transaction(&self) {
        if let Ok(mut session) = self.session.try_lock()
            && let Some(transaction) = &mut session.transaction
        {
            transaction.failed = true;
        }
    }

    /// Limits for the statement that begins now.
    pub(super) async fn begin(&self) -> Limits {
        let timeout = self.session.lock().await.variables.statement_timeout();
        Limits::new(self.running.begin(), timeout)
    }

    /// Stops what runs, and what the client has sent and not waited for.
    pub(super) fn abandon(&self) {
        self.running.abandon();
    }

    /// Begins a COPY. Returns how many columns its lines have.
    pub(super) async fn start_copy(&self, copy: CopyIn, limits: Limits) -> Result<usize, SqlError> {
        let columns = copy.target.columns.len();
        *self.copy.lock().await = Some(self.frontend.start_copy(copy, limits)?);
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
        self.cancellations.register(pid, &secret, &self.running);
        let key = CancelKey { pid, secret };
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
            self.fail_transaction();
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
                self.fail_transaction();
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
        self.fail_transaction();
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
