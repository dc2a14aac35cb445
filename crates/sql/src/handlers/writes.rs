//! Commits staged rows: old rows with the same keys die, conflicts are retried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;

use super::keys::{self, FewKeys};
use super::target::Target;
use crate::Frontend;
use crate::planner::Planner;
use crate::read_view::ReadView;
use tidemark_engine::meta::command::{TableWrite, Write, WrittenKeys};
use tidemark_engine::write::{self, Written};
use tidemark_ledger::catalog::{Relation, Table};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::meta_error::ErrorKind;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::params;
use tidemark_ledger::sst::{self, INLINE_BYTES_TOTAL, SstInfo};
use tidemark_ledger::sst_ids::Staging;
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::committing;
use tidemark_pg::sqlstate::SqlState;

/// Maximum number of attempts of a statement that loses races.
const ATTEMPTS_MAX: usize = 16;

/// Locks that serialize the writers of a table, so that they do not make each other start over. Writers of
/// many keys always take the lock, others only after a conflict.
#[derive(Debug, Default)]
pub struct TableLocks(Mutex<HashMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>);

impl TableLocks {
    /// The lock of a table.
    pub(super) fn turn(&self, table: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Drops the locks that only this map still references.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(table).or_default())
    }
}

/// Rows that were written but not committed. Vacuum keeps the files while this is held.
#[derive(Debug)]
pub struct Staged {
    pub files: Vec<Arc<SstInfo>>,
    /// Number of rows that arrived, including those whose key came again.
    pub rows: u64,
    /// The rows themselves, one per key, if they are few.
    pub few: Option<RecordBatch>,
    ids: Arc<Staging>,
}

impl Staged {
    /// Returns the guard to hold until the files are committed or dropped.
    pub fn ids(&self) -> Arc<Staging> {
        Arc::clone(&self.ids)
    }
}

impl Frontend {
    /// Stages rows of the table's schema.
    pub(super) async fn stage(
        &self,
        planner: &Planner,
        table_id: ObjectId,
        table: &Arc<Table>,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged, SqlError> {
        let ids = self.sst_ids.staging();
        let params = &planner.view.params;
        let target = sst::Target {
            storage: &self.engine.storage,
            data_directory: params.value(params::DATA_DIRECTORY),
            ids: &ids,
            sst_bytes_target: params.sst_bytes_target(),
            inline: planner.view.version.inline_bytes < INLINE_BYTES_TOTAL,
        };
        let staged = write::write_rows(&target, table_id, table, rows, &self.engine.tasks).await;
        let Written { files, arrived, few } = staged.map_err(hummock_error)?;
        Ok(Staged { files, rows: arrived, few, ids: Arc::new(ids) })
    }

    /// Commits staged rows; existing rows with the same keys die in the same epoch.
    pub(super) async fn commit_rows(
        &self,
        planner: &Planner,
        target: &Target,
        staged: &Staged,
    ) -> Result<(), SqlError> {
        let files = &staged.files;
        if files.is_empty() {
            return Ok(());
        }
        let (relation, table) = (&target.relation, &target.table);
        let keyed = !table.primary_key.is_empty();
        let few = FewKeys::of(table, staged.few.as_ref());
        let keys = keys::written_keys(table, few.as_ref());
        let turn = self.keyed_writes.turn(relation.id);
        // Writers of a few keys rarely conflict, and can share a commit with others.
        let alone = keys == WrittenKeys::Any && planner.pending.is_none();
        let mut held = if alone { Some(turn.lock().await) } else { None };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let planner = self.planner_now(planner);
            let mut write = TableWrite::to(relation);
            write.keys = keys.clone();
            write.born = files.clone();
            if keyed {
                write.dead_rows =
                    keys::overwritten(&planner, relation, table, files, few.as_ref()).await?;
            }
            match self.commit(&planner, vec![write], vec![staged.ids()]).await {
                Err(RpcError::Refused(refused))
                    if refused.kind == ErrorKind::Conflict
                        && attempts < ATTEMPTS_MAX
                        && self.still_defined(relation) =>
                {
                    self.catch_up().await?;
                    if held.is_none() && keyed {
                        held = Some(turn.lock().await);
                    }
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Commits, and waits until this session sees the result. In a transaction, only adds the writes to it.
    pub(super) async fn commit(
        &self,
        planner: &Planner,
        tables: Vec<TableWrite>,
        staged: Vec<Arc<Staging>>,
    ) -> Result<(), RpcError> {
        if let Some(pending) = &planner.pending {
            pending.add(tables, staged);
            return Ok(());
        }
        self.commit_at(planner.view.epoch, tables, staged).await
    }

    /// Commits writes that were computed as of `base_epoch`.
    pub(super) async fn commit_at(
        &self,
        base_epoch: Epoch,
        tables: Vec<TableWrite>,
        staged: Vec<Arc<Staging>>,
    ) -> Result<(), RpcError> {
        let write = self.writes.commit(Write { base_epoch, tables }, staged);
        let committed = committing(write).await?;
        self.replica.at_revision(committed.revision).await;
        Ok(())
    }

    /// Returns the planner over the newest view; in a transaction, over the transaction's view.
    pub(super) fn planner_now(&self, planner: &Planner) -> Planner {
        match planner.pending {
            Some(_) => planner.clone(),
            None => Planner { view: self.latest_view(), ..planner.clone() },
        }
    }

    /// Handles the outcome of an attempt: returns `None` to retry after a lost race, else the result.
    pub(super) async fn retry_after_conflict<T>(
        &self,
        attempt: usize,
        outcome: Result<T, SqlError>,
    ) -> Option<Result<T, SqlError>> {
        match outcome {
            Err(error)
                if error.sqlstate == SqlState::SERIALIZATION_FAILURE && attempt < ATTEMPTS_MAX =>
            {
                self.catch_up().await.err().map(Err)
            }
            outcome => Some(outcome),
        }
    }

    /// Waits until the replica has everything committed so far, including the write that won the race.
    async fn catch_up(&self) -> Result<(), SqlError> {
        let committed = self.meta.flush().await?;
        self.replica.at_revision(committed.revision).await;
        Ok(())
    }

    fn still_defined(&self, relation: &Relation) -> bool {
        let latest = ReadView::latest(&self.replica.state());
        let now = latest.catalog.relation_by_id(relation.id);
        now.is_some_and(|now| now.lifetime.born == relation.lifetime.born)
    }
}

/// Maps an error of the storage layer. An error raised by a query or a check is returned unchanged.
fn hummock_error(error: HummockError) -> SqlError {
    match error {
        HummockError::Rows(source) => match source.downcast::<DataFusionError>() {
            Ok(error) => (*error).into(),
            Err(other) => SqlError::internal(other.to_string()),
        },
        HummockError::Ids(source) => ids_error(source),
        other => tidemark_ledger::meta_error::MetaError::storage(&other).into(),
    }
}

/// Maps an error of reserving file ids.
fn ids_error(source: Box<dyn std::error::Error + Send + Sync>) -> SqlError {
    match source.downcast::<RpcError>() {
        Ok(rpc) => (*rpc).into(),
        Err(other) => SqlError::internal(other.to_string()),
    }
}
