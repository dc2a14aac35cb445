//! One session per connection: its user, its variables, and where in time it reads.

use std::sync::Arc;

use super::pending::Pending;
use super::query_epoch::PastEpoch;
use super::read_view::ReadView;
use super::variables::Variables;
use tidemark_ledger::catalog::SYSTEM_SCHEMAS;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::SessionInfo;
use tidemark_pg::sqlstate::SqlState;

#[derive(Debug)]
pub struct Session {
    /// As clients know it, to cancel what it runs; 0 where there is no client.
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub variables: Variables,
    /// Set by `SET QUERY_EPOCH`: the whole session reads there, and writes nothing.
    pub past: Option<PastEpoch>,
    pub transaction: Option<Transaction>,
}

/// A transaction of several statements. It holds the view of its first one, and what it has written.
#[derive(Debug, Default)]
pub struct Transaction {
    /// No `BEGIN` began it: it ends with the text whose statements it holds together.
    pub implicit: bool,
    pub read_only: bool,
    pub view: Option<ReadView>,
    pub pending: Arc<Pending>,
    /// An error ended it; only its end is awaited.
    pub failed: bool,
}

impl Session {
    pub fn new(user: String, database: String) -> Self {
        let variables = Variables::default();
        Self { pid: 0, user, database, variables, past: None, transaction: None }
    }

    /// What the next statement sees. `latest` makes the newest view.
    pub fn view(&mut self, latest: impl FnOnce() -> ReadView) -> ReadView {
        if let Some(view) = self.transaction.as_ref().and_then(|t| t.view.as_ref()) {
            return view.clone();
        }
        let now = match &self.past {
            Some(past) => past.view(),
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

    /// Refuses a statement that changes anything, where the session may not.
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

    /// Refuses a statement that changes anything but rows, where the session may not: it takes effect
    /// at once, and no transaction could take it back.
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

    /// Schemas of names without one, as far as `view` has them.
    pub fn search_path(&self, view: &ReadView) -> Vec<String> {
        let mut path = self.variables.search_path(&self.user);
        path.retain(|name| {
            view.catalog.schema(name).is_some() || SYSTEM_SCHEMAS.contains(&name.as_str())
        });
        path
    }

    /// What functions like `current_schema()` answer. Where the search path leads nowhere, the schema
    /// is the empty name, which no schema has.
    pub fn info(&self, search_path: &[String]) -> SessionInfo {
        SessionInfo {
            pid: self.pid,
            user: self.user.clone(),
            database: self.database.clone(),
            schema: search_path.first().cloned().unwrap_or_default(),
            settings: Arc::clone(&self.variables.values()),
        }
    }
}
