//! The state of one client connection: its session, its running statement, its COPY.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _};
use pgwire::api::store::PortalStore as _;
use pgwire::api::{ClientPortalStore as _, DEFAULT_NAME};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{NoticeResponse, TransactionStatus};

use super::message::Message;
use super::shared::{self, SharedStatement};
use super::socket::Client;
use crate::Frontend;
use crate::cancel::Slot;
use crate::handlers::{CopyIn, CopyJob, Reply};
use crate::limits::Limits;
use crate::parser::{Discard, Statement};
use crate::planner::Parameters;
use crate::session::Session;
use crate::sessions::{Registration, SessionState};
use tidemark_pg::error::{SqlError, error_info};
use tidemark_pg::memory::{Kept, SessionMemory};
use tidemark_pg::query_runtime::Running;
use tidemark_pg::sqlstate::SqlState;

/// Texts up to this size are parsed without spawning a task.
const SHORT_TEXT_BYTES: usize = 16 << 10;

/// One client connection.
pub struct Connection {
    pub(super) frontend: Arc<Frontend>,
    pub(super) session: tokio::sync::Mutex<Session>,
    copy: tokio::sync::Mutex<Option<CopyJob>>,
    registration: Registration,
    slot: Arc<Slot>,
    /// Counts what it keeps between its statements.
    pub(super) memory: Arc<SessionMemory>,
    /// Memory of each named prepared statement.
    prepared: Mutex<BTreeMap<String, Arc<Kept>>>,
}

impl Connection {
    pub fn new(
        frontend: Arc<Frontend>,
        session: Session,
        slot: Arc<Slot>,
        registration: Registration,
    ) -> Self {
        Self {
            memory: frontend.session_memory(),
            prepared: Mutex::default(),
            frontend,
            session: tokio::sync::Mutex::new(session),
            copy: tokio::sync::Mutex::new(None),
            registration,
            slot,
        }
    }

    /// Stops the running statement and those the client has sent without waiting.
    pub fn abandon(&self) {
        self.slot.abandon();
    }

    /// Releases everything the connection holds.
    pub async fn close(&self) {
        self.abandon();
        self.abandon_copy().await;
        // A portal may keep the connection alive a little longer, but must not keep the view pinned by the
        // transaction.
        self.session.lock().await.transaction = None;
    }

    /// Runs a statement; a panic becomes an error of the statement.
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

    /// Boxed, as its future is large and is moved through several others.
    fn run_in_session(
        self: Arc<Self>,
        statement: SharedStatement,
        parameters: Parameters,
        running: Arc<Running>,
    ) -> BoxFuture<'static, Result<Reply, SqlError>> {
        let work = async move {
            let mut session = self.session.lock().await;
            let work = Box::pin(self.frontend.run(&mut session, &statement, &parameters));
            let mut outcome = running.until_over(unpanicked(work)).await;
            if let Ok(reply) = &mut outcome
                && !session.variables.sends_notices()
            {
                reply.notices.clear();
            }
            if outcome.is_err()
                && let Some(transaction) = &mut session.transaction
            {
                transaction.failed = true;
            }
            outcome
        };
        work.boxed()
    }

    /// Runs a part of a statement on its threads, within its limits.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        limits: &Limits,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let task = self.frontend.queries().spawn(&limits.running, work)?;
        unpanicked(limits.around_task(task)).await
    }

    /// Parses the statements of a text. A long text is parsed on a lane.
    pub(super) async fn parse(&self, text: &str) -> Result<Vec<SharedStatement>, SqlError> {
        let parsed = self.parse_text(text).await;
        // What is not supported is still a statement, which a failed transaction ignores.
        if parsed.as_ref().is_err_and(|error| error.sqlstate != SqlState::SYNTAX_ERROR) {
            self.session.lock().await.check_not_failed()?;
        }
        parsed
    }

    async fn parse_text(&self, text: &str) -> Result<Vec<SharedStatement>, SqlError> {
        let tokens_max = self.frontend.tokens_max();
        if text.len() <= SHORT_TEXT_BYTES {
            return shared::parse(text, tokens_max);
        }
        let limits = self.begin().await;
        let held = limits.running.inline(async { self.frontend.hold_for_parsing(text) }).await?;
        let text = text.to_owned();
        let parsed = async move {
            let parsed = shared::parse(&text, tokens_max);
            drop(held);
            parsed
        };
        self.work(&limits, parsed).await
    }

    /// Stores the memory of a prepared statement under its name.
    pub(super) fn remember_prepared(&self, name: &str, kept: &Arc<Kept>) {
        self.prepared().insert(name.to_owned(), Arc::clone(kept));
    }

    /// Drops a prepared statement, or all named ones.
    pub(super) fn forget_prepared(&self, client: &Client, name: Option<&str>) {
        let gone: Vec<String> = match name {
            Some(name) => vec![name.to_owned()],
            None => self.prepared().keys().cloned().collect(),
        };
        for name in gone {
            client.portal_store().rm_statement(&name);
            self.prepared().remove(&name);
        }
    }

    fn prepared(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Kept>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the prepared statements that an executed statement deallocates.
    pub(super) fn after(&self, client: &Client, statement: &Statement) {
        match statement {
            Statement::Deallocate { name } => self.forget_prepared(client, name.as_deref()),
            Statement::Discard(Discard::All) => self.forget_prepared(client, None),
            _ => {}
        }
    }

    /// Marks the transaction as failed after an error outside [`Self::run`]. If a statement still has the
    /// session, it was stopped and marks the transaction itself.
    pub(super) fn fail_transaction(&self) {
        if let Ok(mut session) = self.session.try_lock()
            && let Some(transaction) = &mut session.transaction
        {
            transaction.failed = true;
        }
    }

    /// Begins a statement.
    pub(super) async fn begin(&self) -> Limits {
        let timeout = self.session.lock().await.variables.statement_timeout();
        Limits::begin(Arc::clone(&self.slot), timeout)
    }

    /// Restarts the timer for a suspended statement that continues.
    pub(super) async fn start_timer(&self) {
        let timeout = self.session.lock().await.variables.statement_timeout();
        self.slot.start_timer(timeout);
    }

    /// Whether the current statement is stopped or out of time.
    pub(super) fn is_overdue(&self) -> bool {
        self.slot.is_overdue()
    }

    /// Resolves when a `COPY` that waits for its client has to stop.
    pub(super) async fn copy_overdue(&self) -> SqlError {
        self.slot.overdue().await
    }

    /// Resolves when the session has waited for its client longer than its idle timeout.
    pub(super) async fn idle_too_long(&self) -> SqlError {
        let (limit, sqlstate, what) = {
            let session = self.session.lock().await;
            let variables = &session.variables;
            match &session.transaction {
                Some(_) => (
                    variables.idle_in_transaction_session_timeout(),
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    "idle-in-transaction",
                ),
                None => (
                    variables.idle_session_timeout(),
                    SqlState::IDLE_SESSION_TIMEOUT,
                    "idle-session",
                ),
            }
        };
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
        SqlError::new(sqlstate, format!("terminating connection due to {what} timeout"))
    }

    /// Marks the session as active.
    pub(super) fn is_active(&self, message: &Message) {
        let query = match message {
            Message::Query(query) => Some(query.query.as_str()),
            Message::Parse(parse) => Some(parse.query.as_str()),
            _ => None,
        };
        self.registration.entry.is_active(query);
    }

    /// Marks the session as waiting for its client; returns its state.
    pub(super) async fn waits(&self) -> SessionState {
        let session = self.session.lock().await;
        let state = match &session.transaction {
            None => SessionState::Idle,
            Some(transaction) if transaction.failed => SessionState::IdleInFailedTransaction,
            Some(_) => SessionState::IdleInTransaction,
        };
        let application = session.variables.value("application_name").unwrap_or_default();
        self.registration.entry.waits(state, application);
        state
    }

    /// The transaction status for `ReadyForQuery`.
    pub(super) async fn transaction_status(&self) -> TransactionStatus {
        match &self.session.lock().await.transaction {
            None => TransactionStatus::Idle,
            Some(transaction) if transaction.failed => TransactionStatus::Error,
            Some(_) => TransactionStatus::Transaction,
        }
    }

    /// Starts a COPY. Returns the number of columns of its lines.
    pub(super) async fn start_copy(&self, copy: CopyIn, limits: Limits) -> Result<usize, SqlError> {
        let columns = copy.target.columns.len();
        *self.copy.lock().await = Some(self.frontend.start_copy(copy, limits)?);
        Ok(columns)
    }

    /// Takes a chunk of data from the client of a `COPY`.
    pub(super) async fn copy_data(&self, data: &[u8]) -> Result<(), SqlError> {
        let mut copy = self.copy.lock().await;
        let Some(job) = copy.as_mut() else { return Ok(()) };
        unpanicked(job.push(data)).await
    }

    /// Commits the rows of a `COPY`. Returns their number.
    pub(super) async fn copy_done(&self) -> Result<u64, SqlError> {
        match self.copy.lock().await.take() {
            Some(job) => unpanicked(job.finish()).await,
            None => Ok(0),
        }
    }

    /// Discards the rows of a `COPY` on `CopyFail`. Returns the resulting error.
    pub(super) async fn copy_fail(&self, reason: &str) -> SqlError {
        self.abandon_copy().await;
        let message = format!("COPY from stdin failed: {reason}");
        SqlError::new(SqlState::QUERY_CANCELED, message)
    }

    /// Discards the rows of a `COPY`, if there is one.
    pub(super) async fn abandon_copy(&self) {
        if let Some(job) = self.copy.lock().await.take() {
            job.abort().await;
        }
    }
}

/// Converts a panic to an error: one query's bug must not end the connection.
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

/// Converts an error of pgwire to the protocol's form, with PostgreSQL's messages.
pub(super) fn error_fields(error: PgWireError) -> ErrorInfo {
    let missing = |what: &str, name: &str, sqlstate: SqlState| {
        let message = match name {
            DEFAULT_NAME if what == "portal" => "portal \"\" does not exist".to_owned(),
            DEFAULT_NAME => format!("unnamed {what} does not exist"),
            name => format!("{what} \"{name}\" does not exist"),
        };
        error_info(SqlError::new(sqlstate, message), "ERROR")
    };
    match error {
        PgWireError::StatementNotFound(name) => {
            missing("prepared statement", &name, SqlState::INVALID_SQL_STATEMENT_NAME)
        }
        PgWireError::PortalNotFound(name) => {
            missing("portal", &name, SqlState::INVALID_CURSOR_NAME)
        }
        other => other.into(),
    }
}

/// Sends notices to the client, before the outcome of their statement.
pub(super) async fn send_notices(client: &mut Client, notices: Vec<String>) -> PgWireResult<()> {
    for notice in notices {
        let info = ErrorInfo::new(
            "NOTICE".to_owned(),
            SqlState::SUCCESSFUL_COMPLETION.code().to_owned(),
            notice,
        );
        let message = PgWireBackendMessage::NoticeResponse(NoticeResponse::from(info));
        client.feed(message).await?;
    }
    Ok(())
}
