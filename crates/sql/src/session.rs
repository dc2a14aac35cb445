//! The session of a connection: its user, variables, transaction, and the epoch it reads at.

use std::sync::Arc;

use super::pending::Pending;
use super::read_view::ReadView;
use super::variables::Variables;
use tidemark_ledger::catalog::SYSTEM_SCHEMAS;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::{Caller, SessionInfo};
use tidemark_pg::sqlstate::SqlState;

/// The state of a session.
#[derive(Debug)]
pub struct Session {
    /// Process id for cancel requests; 0 if there is no client.
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub variables: Variables,
    /// Set by `SET QUERY_EPOCH`: the whole session reads at that epoch and cannot write.
    pub past: Option<ReadView>,
    /// The view with which the client connected, if not that of the present.
    past_at_start: Option<ReadView>,
    pub transaction: Option<Transaction>,
}

/// A transaction of several statements. It has the view of its first statement and the writes so far.
#[derive(Debug, Default)]
pub struct Transaction {
    /// It was not begun by `BEGIN` but groups the statements of one query text, and ends with it.
    pub implicit: bool,
    pub read_only: bool,
    pub view: Option<ReadView>,
    pub pending: Arc<Pending>,
    /// After an error: only the end of the transaction is accepted.
    pub failed: bool,
}

impl Session {
    pub fn new(user: String, database: String) -> Self {
        let variables = Variables::default();
        Self {
            pid: 0,
            user,
            database,
            variables,
            past: None,
            past_at_start: None,
            transaction: None,
        }
    }

    /// Makes the settings of now those to which the session is reset.
    pub fn begin(&mut self) {
        self.variables.become_defaults();
        self.past_at_start = self.past.clone();
    }

    /// Resets what `SET` has changed.
    pub fn reset_all(&mut self) {
        self.variables.reset_all();
        self.reset_epoch();
    }

    /// Resets the epoch at which the session reads.
    pub fn reset_epoch(&mut self) {
        self.past = self.past_at_start.clone();
    }

    /// Returns the view of the next statement; `latest` creates the newest view.
    pub fn view(&mut self, latest: impl FnOnce() -> ReadView) -> ReadView {
        if let Some(view) = self.transaction.as_ref().and_then(|t| t.view.as_ref()) {
            return view.clone();
        }
        let now = match &self.past {
            Some(past) => past.clone(),
            None => latest(),
        };
        match &mut self.transaction {
            Some(transaction) => transaction.view.insert(now).clone(),
            None => now,
        }
    }

    pub fn in_implicit_transaction(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.implicit)
    }

    /// Fails if the transaction has failed, and only its end is accepted (25P02).
    pub fn check_not_failed(&self) -> Result<(), SqlError> {
        match &self.transaction {
            Some(transaction) if transaction.failed => Err(SqlError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a statement that writes if the session is read-only (25006).
    pub fn check_writable(&self, command: &str) -> Result<(), SqlError> {
        if let Some(past) = &self.past {
            return Err(SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {command} while QUERY_EPOCH is set"),
            )
            .detail(format!("The session reads the database as of epoch {}.", past.epoch))
            .hint("SET QUERY_EPOCH = 0 returns to the present."));
        }
        match &self.transaction {
            None => Ok(()),
            Some(transaction) if transaction.read_only => Err(SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {command} in a read-only transaction"),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Refuses a statement that changes anything but rows inside a transaction or a read-only session: it
    /// takes effect at once and cannot be rolled back.
    pub fn check_alone(&self, command: &str) -> Result<(), SqlError> {
        self.check_writable(command)?;
        match &self.transaction {
            None => Ok(()),
            Some(_) => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("{command} inside a transaction block is not supported"),
            )
            .hint("Run it outside BEGIN; there it commits by itself.")),
        }
    }

    /// The schemas of unqualified names that exist in `view`.
    pub fn search_path(&self, view: &ReadView) -> Arc<[String]> {
        let mut path = self.variables.search_path(&self.user);
        path.retain(|name| {
            view.catalog.schema(name).is_some() || SYSTEM_SCHEMAS.contains(&name.as_str())
        });
        path.into()
    }

    /// The results of functions like `current_schema()`. If no schema of the search path exists, the schema
    /// is the empty name, which no schema has.
    pub fn caller(&self, search_path: &[String], view: &ReadView) -> Arc<Caller> {
        let session = SessionInfo {
            pid: self.pid,
            user: self.user.clone(),
            database: self.database.clone(),
            schema: search_path.first().cloned().unwrap_or_default(),
            settings: Arc::clone(&self.variables.values()),
        };
        Arc::new(Caller { session, params: Arc::clone(&view.params) })
    }
}
