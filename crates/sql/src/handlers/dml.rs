//! The path of every statement that changes rows of a table: plan over a view, find what to write, commit, and
//! after a lost race start over with a newer view.
//!
//! A statement takes part with its [`RowChange`]. In a transaction there are no races: the writes are added to
//! those of the transaction, and its commit may fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::OwnedMutexGuard;

use super::returning::Answer;
use super::{Outcome, Reply};
use crate::Frontend;
use crate::planner::Planner;
use crate::read_view::ReadView;
use tidemark_engine::meta::command::TableWrite;
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::meta_error::{ErrorKind, RpcError};
use tidemark_ledger::sst_ids::Staging;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Maximum number of attempts of a statement that loses races.
const ATTEMPTS_MAX: usize = 16;

/// A statement that changes rows of one table.
pub trait RowChange: Send {
    /// Finds what to write over the view of `planner`.
    fn attempt<'a>(
        &'a mut self,
        frontend: &'a Frontend,
        planner: &'a Planner,
    ) -> BoxFuture<'a, Result<Changes, SqlError>>;

    /// Whether it takes the table's lock before the first attempt, because it would make other writers start
    /// over.
    fn locks_first(&self) -> bool {
        false
    }

    /// Whether all attempts write the files that were staged before the first.
    fn keeps_files(&self) -> bool {
        false
    }

    /// Whether a further attempt may succeed in the newest view.
    fn may_succeed_in(&self, _newest: &ReadView) -> bool {
        true
    }
}

/// What one attempt writes, and what the client gets for it.
pub struct Changes {
    pub write: TableWrite,
    /// Guards of the files in `write`.
    pub staged: Vec<Arc<Staging>>,
    pub changed: Changed,
}

/// The result of a statement that changed rows.
pub struct Changed {
    /// The number of rows inserted, updated or deleted.
    pub count: u64,
    /// The rows of the `RETURNING` clause, if the statement has one.
    pub answer: Option<Answer>,
}

impl Changed {
    /// The reply of the finished statement.
    pub fn reply(self, tag: &'static str) -> Result<Reply, SqlError> {
        let outcome = match self.answer {
            Some(answer) => Outcome::Rows { rows: answer.rows()?, tag },
            None => Outcome::Done(format!("{tag} {}", self.count)),
        };
        Ok(outcome.into())
    }
}

/// Locks that serialize the writers of a table, so that they do not make each other start over. Writers of
/// many keys always take the lock, others only after a conflict.
#[derive(Debug, Default)]
pub struct TableLocks(Mutex<HashMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>);

impl TableLocks {
    /// Takes the lock of a table, until the returned value is dropped.
    async fn take(&self, table: ObjectId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Drops the locks that only this map still references.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(table).or_default())
        };
        lock.lock_owned().await
    }
}

/// Why an attempt failed.
struct Failed {
    error: SqlError,
    /// Whether another writer was first, so that a further attempt may succeed.
    lost_race: bool,
}

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self { lost_race: error.sqlstate == SqlState::SERIALIZATION_FAILURE, error }
    }
}

impl Failed {
    /// A refused commit. Where the staged files may be gone, a further attempt with the same files is futile.
    fn commit(error: RpcError, keeps_files: bool) -> Self {
        let files_gone = matches!(&error, RpcError::Refused(e) if e.kind == ErrorKind::GivenUp);
        let failed = Self::from(SqlError::from(error));
        Self { lost_race: failed.lost_race && !(files_gone && keeps_files), ..failed }
    }
}

impl Frontend {
    /// Attempts a change of rows of `table` until it is committed.
    pub(super) async fn change_rows(
        &self,
        planner: &Planner,
        table: ObjectId,
        change: &mut dyn RowChange,
    ) -> Result<Changed, SqlError> {
        let mut held = None;
        if change.locks_first() && planner.pending.is_none() {
            held = Some(self.table_locks.take(table).await);
        }
        let mut planner = self.planner_now(planner);
        let mut attempts = 1;
        loop {
            match self.try_change(&planner, change).await {
                Err(Failed { lost_race: true, .. })
                    if attempts < ATTEMPTS_MAX
                        && change.may_succeed_in(&ReadView::latest(&self.replica.state())) =>
                {
                    self.catch_up().await?;
                    if held.is_none() {
                        held = Some(self.table_locks.take(table).await);
                    }
                }
                outcome => return outcome.map_err(|failed| failed.error),
            }
            attempts += 1;
            // What an attempt charges is counted until its memory is dropped.
            let memory = self.engine.budget.begin();
            planner = Planner { memory, ..self.planner_now(&planner) };
        }
    }

    async fn try_change(
        &self,
        planner: &Planner,
        change: &mut dyn RowChange,
    ) -> Result<Changed, Failed> {
        let Changes { write, staged, changed } = change.attempt(self, planner).await?;
        if !write.born.is_empty() || !write.dead_rows.is_empty() {
            let committed = self.commit(planner, vec![write], staged).await;
            committed.map_err(|error| Failed::commit(error, change.keeps_files()))?;
        }
        Ok(changed)
    }

    /// Returns the planner over the newest view; in a transaction, over the transaction's view.
    fn planner_now(&self, planner: &Planner) -> Planner {
        match planner.pending {
            Some(_) => planner.clone(),
            None => planner.over(planner.views.latest()),
        }
    }

    /// Waits until the replica has everything committed so far, including the write that won the race.
    async fn catch_up(&self) -> Result<(), SqlError> {
        let committed = self.meta.flush().await?;
        self.replica.at_revision(committed.revision).await;
        Ok(())
    }
}
